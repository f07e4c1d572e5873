//! Field errors and field paths, worded as Kubernetes words them.

use std::fmt;

use serde_json::Value;

/// What is wrong with a field; decides the wording and the cause's reason in a `Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// The field must be set.
    Required,
    /// The value breaks a rule which the detail explains.
    Invalid,
    /// The value is not one of a closed list.
    NotSupported,
    /// The value occurs already in a list that must be unique.
    Duplicate,
    /// The field may not be set here, or may not be changed.
    Forbidden,
    /// The value is longer than allowed.
    TooLong,
    /// The list holds more items than allowed.
    TooMany,
    /// The value names something that does not exist.
    NotFound,
    /// The value has another JSON type than the schema says.
    TypeInvalid,
    /// The server failed while checking.
    Internal,
}

impl FieldErrorKind {
    /// The `reason` of a `StatusCause`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
            Self::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(
            self,
            Self::Required | Self::Forbidden | Self::TooLong | Self::Internal
        )
    }
}

/// One complaint about one field. `Display` gives `path: what: detail`, as in a `Status` message.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Dotted path with indexes and keys, such as `spec.containers[0].image`.
    pub path: String,
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// The offending value; `None` is shown as `null` where a value is shown.
    pub value: Option<Value>,
    /// Why, and what would be right.
    pub detail: String,
}

impl FieldError {
    /// The field must be set.
    pub fn required(path: impl ToString, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Required, None, detail)
    }

    /// The value breaks a rule.
    pub fn invalid(
        path: impl ToString,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(path, FieldErrorKind::Invalid, Some(value.into()), detail)
    }

    /// The value is not one of `supported`, which are listed in the order given.
    pub fn not_supported(path: impl ToString, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| quote(s)).collect();
        let detail = format!("supported values: {}", quoted.join(", "));
        Self::new(
            path,
            FieldErrorKind::NotSupported,
            Some(value.into()),
            detail,
        )
    }

    /// The value occurs twice.
    pub fn duplicate(path: impl ToString, value: impl Into<Value>) -> Self {
        Self::new(path, FieldErrorKind::Duplicate, Some(value.into()), "")
    }

    /// The field may not be set or changed.
    pub fn forbidden(path: impl ToString, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Forbidden, None, detail)
    }

    /// The value has more than `max` bytes.
    pub fn too_long(path: impl ToString, max: usize) -> Self {
        let detail = format!("may not be more than {max} bytes");
        Self::new(path, FieldErrorKind::TooLong, None, detail)
    }

    /// The list has `actual` items and may have `max`.
    pub fn too_many(path: impl ToString, actual: usize, max: usize) -> Self {
        let plural = if max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max} {plural}");
        Self::new(path, FieldErrorKind::TooMany, Some(actual.into()), detail)
    }

    /// The value names something that is not there.
    pub fn not_found(path: impl ToString, value: impl Into<Value>) -> Self {
        Self::new(path, FieldErrorKind::NotFound, Some(value.into()), "")
    }

    fn new(
        path: impl ToString,
        kind: FieldErrorKind,
        value: Option<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            path: path.to_string(),
            kind,
            value,
            detail: detail.into(),
        }
    }

    /// The wrong JSON type for the field.
    pub fn type_invalid(
        path: impl ToString,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(
            path,
            FieldErrorKind::TypeInvalid,
            Some(value.into()),
            detail,
        )
    }

    /// The `reason` of the `StatusCause` for this error.
    pub fn reason(&self) -> &'static str {
        self.kind.reason()
    }

    /// The message without the path, as `StatusCause.message` holds it.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        if self.kind.shows_value() {
            text.push_str(": ");
            text.push_str(&show(self.value.as_ref()));
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}",
            if self.path.is_empty() {
                "<nil>"
            } else {
                &self.path
            },
            self.body()
        )
    }
}

fn show(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "null".to_owned(),
        Some(Value::String(text)) => quote(text),
        Some(other) => other.to_string(),
    }
}

/// Quotes a text as Go's `%q` does for the characters that occur in objects.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A path to a field, built on the stack while walking and printed only when an error is found.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The object itself.
    pub const ROOT: Path<'static> = Path {
        parent: None,
        step: Step::Root,
    };

    /// A field at the top of the object.
    pub fn new(name: &'a str) -> Path<'a> {
        Path {
            parent: None,
            step: Step::Field(name),
        }
    }

    /// `self.name`
    pub fn field(&'a self, name: &'a str) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Field(name),
        }
    }

    /// `self[index]`
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// `self[key]`, for the entries of maps.
    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Key(key),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps = Vec::with_capacity(8);
        let mut at = Some(self);
        while let Some(path) = at {
            steps.push(path.step);
            at = path.parent;
        }
        let mut first = true;
        for step in steps.into_iter().rev() {
            match step {
                Step::Root => continue,
                Step::Field(name) if first => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => write!(f, "[{key}]")?,
            }
            first = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_read_as_kubernetes_writes_them() {
        let spec = Path::new("spec");
        let containers = spec.field("containers");
        let image = containers.index(0);
        let image = image.field("image");
        let table = [
            (
                FieldError::required(image, ""),
                "spec.containers[0].image: Required value",
            ),
            (
                FieldError::not_supported("spec.type", "Foo", &["A", "B"]),
                "spec.type: Unsupported value: \"Foo\": supported values: \"A\", \"B\"",
            ),
            (
                FieldError::invalid(spec.key("a/b"), json!(-1), "must be positive"),
                "spec[a/b]: Invalid value: -1: must be positive",
            ),
            (
                FieldError::too_many("x", 4, 3),
                "x: Too many: 4: must have at most 3 items",
            ),
            (
                FieldError::too_long("x", 63),
                "x: Too long: may not be more than 63 bytes",
            ),
            (FieldError::forbidden("x", "no"), "x: Forbidden: no"),
            (
                FieldError::duplicate("x[1]", "a\nb"),
                "x[1]: Duplicate value: \"a\\nb\"",
            ),
        ];
        for (error, text) in table {
            assert_eq!(error.to_string(), text);
        }
    }
}
