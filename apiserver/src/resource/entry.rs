//! What one line of the table of built-in kinds says, and how it becomes a [`Resource`].

use std::sync::{Arc, OnceLock};

use super::field::Selectable;
use super::{Companion, Field, Resource, ScalePaths, Subresource, Verb, Verbs};
use crate::convert::{self, Conversion};
use crate::table::{self, Column, PrinterColumn};

/// Kinds that are answered at once and never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Review {
    /// Access and token reviews.
    Answered,
    /// The old top-level form of `pods/binding`.
    Binding,
    /// Read only, and made when they are asked for.
    Computed,
}

/// Subresources without run-time data, so that entries can be constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sub {
    Status,
    /// With the path of the label selector.
    Scale(&'static str),
    Binding,
    Eviction,
    EphemeralContainers,
    Resize,
    Log,
    Exec,
    Attach,
    PortForward,
    Proxy,
    Token,
    Finalize,
    Approval,
}

impl Sub {
    fn resolve(self) -> Subresource {
        match self {
            Self::Status => Subresource::Status,
            Self::Scale(selector) => Subresource::Scale(ScalePaths {
                spec_replicas: "spec.replicas".into(),
                status_replicas: "status.replicas".into(),
                selector: Some(selector.into()),
            }),
            Self::Binding => Subresource::Binding,
            Self::Eviction => Subresource::Eviction,
            Self::EphemeralContainers => Subresource::EphemeralContainers,
            Self::Resize => Subresource::Resize,
            Self::Log => Subresource::Log,
            Self::Exec => Subresource::Exec,
            Self::Attach => Subresource::Attach,
            Self::PortForward => Subresource::PortForward,
            Self::Proxy => Subresource::Proxy,
            Self::Token => Subresource::Token,
            Self::Finalize => Subresource::Finalize,
            Self::Approval => Subresource::Approval,
        }
    }
}

/// Another kind under which the objects are stored, with the way there and back.
#[derive(Clone, Copy)]
pub(crate) struct StoredAs {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) conversion: fn() -> Arc<dyn Conversion>,
}

/// One built-in kind.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) namespaced: bool,
    pub(crate) verbs: Verbs,
    pub(crate) subresources: &'static [Sub],
    pub(crate) columns: &'static [Column],
    pub(crate) fields: &'static [Selectable],
    pub(crate) stored_as: Option<StoredAs>,
    pub(crate) review: Option<Review>,
    pub(crate) companion: Option<&'static dyn Companion>,
    pub(crate) returns_deleted: bool,
    pub(crate) orphans: bool,
}

impl Entry {
    /// A namespaced kind with every verb and nothing special.
    pub(crate) const fn namespaced(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Self {
        Self {
            group,
            version,
            kind,
            plural,
            short_names: &[],
            categories: &[],
            namespaced: true,
            verbs: Verbs::ALL,
            subresources: &[],
            columns: table::DEFAULT,
            fields: &[],
            stored_as: None,
            review: None,
            companion: None,
            returns_deleted: false,
            orphans: false,
        }
    }

    /// A cluster-scoped kind with every verb and nothing special.
    pub(crate) const fn cluster(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Self {
        Self {
            namespaced: false,
            ..Self::namespaced(group, version, kind, plural)
        }
    }

    /// A cluster-scoped, create-only kind that is answered and not stored.
    pub(crate) const fn review(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Self {
        let entry = Self::cluster(group, version, kind, plural);
        Self {
            verbs: Verbs::CREATE,
            review: Some(Review::Answered),
            ..entry
        }
    }

    pub(crate) const fn short(self, short_names: &'static [&'static str]) -> Self {
        Self {
            short_names,
            ..self
        }
    }

    /// In `kubectl get all`.
    pub(crate) const fn in_all(self) -> Self {
        Self {
            categories: &["all"],
            ..self
        }
    }

    pub(crate) const fn categories(self, categories: &'static [&'static str]) -> Self {
        Self { categories, ..self }
    }

    pub(crate) const fn sub(self, subresources: &'static [Sub]) -> Self {
        Self {
            subresources,
            ..self
        }
    }

    pub(crate) const fn columns(self, columns: &'static [Column]) -> Self {
        Self { columns, ..self }
    }

    /// Fields that selectors may name, besides those every kind has.
    pub(crate) const fn fields(self, fields: &'static [Selectable]) -> Self {
        Self { fields, ..self }
    }

    /// A deletion is answered with the object instead of a `Status`.
    pub(crate) const fn returns_deleted(self) -> Self {
        Self {
            returns_deleted: true,
            ..self
        }
    }

    /// Dependents are kept unless a deletion says otherwise.
    pub(crate) const fn orphans(self) -> Self {
        Self {
            orphans: true,
            ..self
        }
    }

    pub(crate) const fn local(self) -> Self {
        Self {
            namespaced: true,
            ..self
        }
    }

    pub(crate) const fn without(self, verbs: &'static [Verb]) -> Self {
        Self {
            verbs: self.verbs.minus(Verbs::of(verbs)),
            ..self
        }
    }

    pub(crate) const fn stored_as(self, stored_as: StoredAs) -> Self {
        Self {
            stored_as: Some(stored_as),
            ..self
        }
    }

    /// What the server itself decides and writes along with these objects.
    pub(crate) const fn companion(self, companion: &'static dyn Companion) -> Self {
        Self {
            companion: Some(companion),
            ..self
        }
    }

    /// The resource this entry describes.
    pub(crate) fn resource(&self) -> Resource {
        let (group, version, plural) = match &self.stored_as {
            Some(other) => (other.group, other.version, other.plural),
            None => (self.group, self.version, self.plural),
        };
        Resource {
            group: self.group.into(),
            version: self.version.into(),
            kind: self.kind.into(),
            list_kind: format!("{}List", self.kind).into(),
            plural: self.plural.into(),
            singular: self.kind.to_ascii_lowercase().into(),
            short_names: self
                .short_names
                .iter()
                .map(|name| Arc::from(*name))
                .collect(),
            categories: self
                .categories
                .iter()
                .map(|name| Arc::from(*name))
                .collect(),
            namespaced: self.namespaced,
            verbs: self.verbs,
            subresources: self.subresources.iter().map(|sub| sub.resolve()).collect(),
            columns: self.columns.iter().map(PrinterColumn::from).collect(),
            fields: self.fields.iter().map(Field::from).collect(),
            prefix: super::registry::prefix(group, plural),
            conversion: self.stored_as.map(|other| (other.conversion)()),
            stored: format!("{group}/{version}").into(),
            review: self.review,
            companion: self.companion,
            returns_deleted: self.returns_deleted,
            orphans: self.orphans,
            custom: None,
            strategy: OnceLock::new(),
            schema: OnceLock::new(),
        }
    }
}

/// `events.k8s.io` events are core events under other field names.
pub(super) const AS_CORE_EVENT: StoredAs = StoredAs {
    group: "",
    version: "v1",
    plural: "events",
    conversion: convert::core_event,
};

/// `autoscaling/v1` is a narrower view of `autoscaling/v2`, which is stored.
pub(super) const AS_AUTOSCALER_V2: StoredAs = StoredAs {
    group: "autoscaling",
    version: "v2",
    plural: "horizontalpodautoscalers",
    conversion: convert::autoscaler_v1,
};
