//! Fields that a field selector may name.

use std::sync::Arc;

/// A selectable field of a kind, beside `metadata.name` and `metadata.namespace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// What the selector says, such as `spec.nodeName`.
    pub label: Arc<str>,
    /// Dotted path in the stored object.
    pub path: Arc<str>,
    /// What an absent field reads as.
    pub default: Arc<str>,
    /// Path of another selectable field that is read where this one is absent.
    pub or: Option<Arc<str>>,
}

/// [`Field`] as a constant in the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selectable {
    label: &'static str,
    path: &'static str,
    default: &'static str,
    or: Option<&'static str>,
}

impl Selectable {
    /// Reads another selectable field, named by its path, where this one is absent.
    pub(crate) const fn or(mut self, path: &'static str) -> Self {
        self.or = Some(path);
        self
    }
}

/// A string field, selected by its own path.
pub(crate) const fn text(path: &'static str) -> Selectable {
    Selectable {
        label: path,
        path,
        default: "",
        or: None,
    }
}

/// A boolean that is false when absent.
pub(crate) const fn flag(path: &'static str) -> Selectable {
    Selectable {
        label: path,
        path,
        default: "false",
        or: None,
    }
}

/// A number that is zero when absent.
pub(crate) const fn number(label: &'static str, path: &'static str) -> Selectable {
    Selectable {
        label,
        path,
        default: "0",
        or: None,
    }
}

/// A string field, selected by another name.
pub(crate) const fn alias(label: &'static str, path: &'static str) -> Selectable {
    Selectable {
        label,
        path,
        default: "",
        or: None,
    }
}

impl From<&Selectable> for Field {
    fn from(constant: &Selectable) -> Self {
        Self {
            label: constant.label.into(),
            path: constant.path.into(),
            default: constant.default.into(),
            or: constant.or.map(Into::into),
        }
    }
}
