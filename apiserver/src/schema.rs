//! Schemas of built-in and custom kinds: decoding, pruning, defaulting and validation of objects.
//!
//! A [`Schema`] is compiled once and shared; every operation walks a `serde_json::Value` beside the
//! compiled nodes, so that no request builds typed structures or compiles a pattern.

mod before;
mod builtin;
pub(crate) mod cel;
pub(crate) mod checks;
mod crd;
mod decode;
pub(crate) mod defaults;
pub mod field;
pub(crate) mod formats;
mod kinds;
mod lists;
pub(crate) mod node;
pub mod openapi;
mod pattern;
mod quantity;
mod rules;
mod sound;
mod structural;
pub(crate) mod tables;
mod validate;

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use decode::Report;
pub use field::{FieldError, FieldErrorKind, Path};
use node::NodeRef;
pub(crate) use node::{Node, Zero};

/// How an unknown or duplicate field in a request is treated (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped, and reported in `Warning` headers.
    #[default]
    Warn,
    /// The request fails.
    Strict,
}

/// The syntax of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
}

/// An object as it came in: known fields only, nulls removed where Kubernetes removes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object.
    pub value: Value,
    /// Texts for `Warning` headers, such as `unknown field "spec.foo"`.
    pub warnings: Vec<String>,
}

/// Why a body was refused. Every variant is the client's fault: answer 400 `BadRequest` with the
/// `Display` text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The text is not JSON or YAML, or is nested, aliased or sized beyond the limits.
    #[error("the object provided is unrecognized (must be of type {kind}): {detail}")]
    Malformed {
        /// The kind that was expected.
        kind: String,
        /// What is wrong with the text, and where.
        detail: String,
    },
    /// A value has the wrong type.
    #[error("{kind} in version {version:?} cannot be handled as a {kind}: {detail}")]
    WrongType {
        /// The kind of the object.
        kind: String,
        /// `v1`
        version: String,
        /// The field, what was found and what was expected.
        detail: String,
    },
    /// Unknown or duplicate fields under [`FieldValidation::Strict`].
    #[error(
        "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {}",
        .fields.join(", ")
    )]
    Strict {
        /// The kind of the object.
        kind: String,
        /// `v1`
        version: String,
        /// `unknown field "spec.foo"` and the like.
        fields: Vec<String>,
    },
}

/// Parses JSON that no schema describes, such as a patch; with the fields that occur twice, of which the last
/// counts.
///
/// # Errors
/// The text is not JSON, or nested beyond the limit.
pub(crate) fn parse_open(body: &[u8]) -> Result<(Value, Vec<String>), String> {
    let report = RefCell::new(Report::default());
    let value = decode::json(Node::any(), body, &report)?;
    Ok((value.unwrap_or_default(), report.into_inner().strict))
}

/// A compiled schema of one version of one kind. Cheap to clone by `Arc`; immutable.
#[derive(Debug)]
pub struct Schema {
    kind: String,
    group: String,
    version: String,
    root: NodeRef,
}

impl Schema {
    pub(crate) fn new(kind: &str, group: &str, version: &str, root: NodeRef) -> Self {
        let (kind, group, version) = (kind.to_owned(), group.to_owned(), version.to_owned());
        Self {
            kind,
            group,
            version,
            root,
        }
    }

    /// The schema of a built-in kind, compiled at its first use and shared afterwards. `group` is
    /// empty for the core group.
    pub fn builtin(group: &str, version: &str, kind: &str) -> Option<Arc<Schema>> {
        builtin::schema(group, version, kind)
    }

    /// Compiles one version's `openAPIV3Schema` of a CustomResourceDefinition. A null schema keeps
    /// everything.
    ///
    /// # Errors
    /// Every reason why the schema is not structural, with paths under `at`.
    pub fn from_crd(
        group: &str,
        version: &str,
        kind: &str,
        schema: &Value,
        at: &Path<'_>,
    ) -> Result<Arc<Schema>, Vec<FieldError>> {
        let root = if schema.is_null() {
            crd::open()
        } else {
            crd::compile(schema, at)?
        };
        Ok(Arc::new(Schema::new(kind, group, version, root)))
    }

    /// Why the `x-kubernetes-validations` of a new custom schema are refused: their types do not fit the schema,
    /// or they could cost too much. Definitions that are stored already are served whatever this says, so expressions
    /// that are `known` from one are not looked at again.
    pub fn rule_faults(&self, known: &HashSet<String>, at: &Path<'_>) -> Vec<FieldError> {
        let mut faults = Vec::new();
        cel::budget::check(&self.root, known, at, &mut faults);
        faults
    }

    /// A schema that keeps everything and checks metadata only.
    pub fn open(group: &str, version: &str, kind: &str) -> Arc<Schema> {
        Arc::new(Schema::new(kind, group, version, crd::open()))
    }

    /// The type of the whole object.
    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    /// `v1` or `apps/v1`
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Parses a body and checks its fields and types against the schema.
    ///
    /// # Errors
    /// The text is malformed or over the limits, a built-in field has the wrong type, or a field
    /// is unknown or duplicate under [`FieldValidation::Strict`].
    pub fn decode_checked(
        &self,
        body: &[u8],
        media: Media,
        validation: FieldValidation,
    ) -> Result<Decoded, DecodeError> {
        let report = RefCell::new(Report::default());
        let parsed = match media {
            Media::Json => decode::json(&self.root, body, &report),
            Media::Yaml => decode::yaml(&self.root, body, &report),
        };
        self.finish(parsed, report.into_inner(), validation)
    }

    /// Checks a value that is in memory already (the outcome of a patch) as
    /// [`Schema::decode_checked`] does, in place; returns the warnings.
    ///
    /// # Errors
    /// As [`Schema::decode_checked`]; the value is then undefined.
    pub fn check(
        &self,
        value: &mut Value,
        validation: FieldValidation,
    ) -> Result<Vec<String>, DecodeError> {
        if value.is_object() && sound::is_sound(&self.root, value) {
            return Ok(Vec::new());
        }
        let report = RefCell::new(Report::default());
        let parsed = decode::decode(&self.root, value.take(), &report).map_err(|e| e.to_string());
        let decoded = self.finish(parsed, report.into_inner(), validation)?;
        *value = decoded.value;
        Ok(decoded.warnings)
    }

    fn finish(
        &self,
        parsed: Result<Option<Value>, String>,
        report: Report,
        validation: FieldValidation,
    ) -> Result<Decoded, DecodeError> {
        let (kind, version) = (self.kind.clone(), self.version.clone());
        if let Some(detail) = report.wrong_type {
            return Err(DecodeError::WrongType {
                kind,
                version,
                detail,
            });
        }
        let value = match parsed {
            Ok(Some(value)) if value.is_object() => value,
            Ok(_) => {
                let detail = "the body is not an object".to_owned();
                return Err(DecodeError::Malformed { kind, detail });
            }
            Err(detail) => return Err(DecodeError::Malformed { kind, detail }),
        };
        match validation {
            FieldValidation::Strict if !report.strict.is_empty() => Err(DecodeError::Strict {
                kind,
                version,
                fields: report.strict,
            }),
            FieldValidation::Warn => Ok(Decoded {
                value,
                warnings: report.strict,
            }),
            _ => Ok(Decoded {
                value,
                warnings: Vec::new(),
            }),
        }
    }

    /// Removes what the schema does not know. Values of wrong types stay as they are.
    pub fn prune(&self, value: &mut Value) {
        let report = RefCell::new(Report::default());
        if let Ok(Some(pruned)) = decode::decode(&self.root, &*value, &report) {
            *value = pruned;
        }
    }

    /// The object with what a built-in kind has even when nobody set it.
    pub fn shown(&self, value: &Value) -> Value {
        let mut shown = value.clone();
        defaults::show(&self.root, &mut shown);
        shown
    }

    /// Fills in what was left out, at every depth.
    pub fn default(&self, value: &mut Value) {
        defaults::apply(&self.root, value);
    }

    /// Checks the constraints of a custom schema, or the per-field checks of a built-in kind. With
    /// `old`, unchanged parts of custom objects may stay invalid (ratcheting) and transition rules
    /// apply.
    pub fn validate(&self, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
        if self.root.typed {
            let mut errors = Vec::new();
            checks::walk(&self.root, value, &Path::ROOT, &mut errors);
            return errors;
        }
        let errors = validate::validate(&self.root, value, old);
        // Rules may rely on what the schema promises.
        if errors.is_empty() {
            cel::validate(&self.root, value, old)
        } else {
            errors
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use {kinds::KINDS, tests::any_json, tests::definitions_of};
