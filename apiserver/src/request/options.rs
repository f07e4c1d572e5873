//! The query parameters that the verbs understand (meta/v1 GetOptions, ListOptions, CreateOptions, …).

use crate::error::StatusError;
use crate::schema::FieldValidation;
use crate::table::Include;

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    Exact,
    NotOlderThan,
}

/// `propagationPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Orphan,
    Background,
    Foreground,
}

impl Propagation {
    /// Reads the API's word for it.
    pub(crate) fn parse(text: &str) -> Result<Self, StatusError> {
        match text {
            "Orphan" => Ok(Self::Orphan),
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            _ => Err(StatusError::bad_request(format!(
                "invalid propagationPolicy {text:?}: one of Orphan, Background, Foreground"
            ))),
        }
    }
}

/// All parameters; each verb uses its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) limit: usize,
    pub(crate) continue_token: String,
    pub(crate) resource_version: Option<String>,
    pub(crate) version_match: Option<Match>,
    pub(crate) watch: bool,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) include: Include,
    pub(crate) field_manager: Option<String>,
    pub(crate) dry_run: bool,
    pub(crate) field_validation: Option<FieldValidation>,
    pub(crate) force: bool,
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) orphan_dependents: Option<bool>,
}

impl Options {
    /// Reads a query. Unknown parameters are ignored, as Kubernetes does.
    ///
    /// # Errors
    /// 400 naming the parameter whose value makes no sense.
    pub(crate) fn parse(query: &str) -> Result<Self, StatusError> {
        let mut options = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            options.set(&key, &value)?;
        }
        Ok(options)
    }

    /// The one name a list or watch is limited to by its field selector: rules that name objects, and nodes
    /// that may read single ones, cover such a request.
    pub(crate) fn pinned_name(&self, verb: &str) -> Option<String> {
        if !matches!(verb, "list" | "watch") || self.field_selector.is_empty() {
            return None;
        }
        let selector: davit_api::FieldSelector = self.field_selector.parse().ok()?;
        selector
            .exact("metadata.name")
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), StatusError> {
        match key {
            "labelSelector" => value.clone_into(&mut self.label_selector),
            "fieldSelector" => value.clone_into(&mut self.field_selector),
            "limit" => self.limit = number(key, value)?.unwrap_or(0),
            "continue" => value.clone_into(&mut self.continue_token),
            "resourceVersion" if !value.is_empty() => {
                self.resource_version = Some(value.to_owned());
            }
            "resourceVersionMatch" => self.version_match = version_match(value)?,
            "watch" => self.watch = flag(value),
            "allowWatchBookmarks" => self.bookmarks = flag(value),
            "sendInitialEvents" if !value.is_empty() => {
                self.send_initial_events = Some(flag(value));
            }
            "timeoutSeconds" => self.timeout_seconds = number(key, value)?,
            "includeObject" => self.include = include(value)?,
            "fieldManager" if !value.is_empty() => self.field_manager = Some(manager(value)?),
            "dryRun" if !value.is_empty() => self.dry_run = dry_run(value)?,
            "fieldValidation" => self.field_validation = field_validation(value)?,
            "force" => self.force = flag(value),
            "gracePeriodSeconds" => self.grace_seconds = number(key, value)?,
            "propagationPolicy" if !value.is_empty() => {
                self.propagation = Some(Propagation::parse(value)?);
            }
            "orphanDependents" if !value.is_empty() => self.orphan_dependents = Some(flag(value)),
            _ => {}
        }
        Ok(())
    }
}

fn flag(value: &str) -> bool {
    !matches!(value, "" | "0" | "false" | "False" | "FALSE" | "f" | "F")
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<Option<T>, StatusError> {
    if value.is_empty() {
        return Ok(None);
    }
    let invalid = |_| StatusError::bad_request(format!("invalid {key} {value:?}: not a number"));
    value.parse().map(Some).map_err(invalid)
}

fn version_match(value: &str) -> Result<Option<Match>, StatusError> {
    match value {
        "" => Ok(None),
        "Exact" => Ok(Some(Match::Exact)),
        "NotOlderThan" => Ok(Some(Match::NotOlderThan)),
        _ => Err(StatusError::bad_request(format!(
            "resourceVersionMatch: Unsupported value: {value:?}: supported values: \"Exact\", \
             \"NotOlderThan\""
        ))),
    }
}

fn include(value: &str) -> Result<Include, StatusError> {
    match value {
        "" | "Metadata" => Ok(Include::Metadata),
        "None" => Ok(Include::None),
        "Object" => Ok(Include::Object),
        _ => Err(StatusError::bad_request(format!(
            "unrecognized includeObject value: {value:?}"
        ))),
    }
}

fn manager(value: &str) -> Result<String, StatusError> {
    if value.chars().count() > 128 || value.chars().any(char::is_control) {
        return Err(StatusError::bad_request(
            "fieldManager: Invalid value: must be at most 128 printable characters",
        ));
    }
    Ok(value.to_owned())
}

pub(crate) fn dry_run(value: &str) -> Result<bool, StatusError> {
    if value == "All" {
        return Ok(true);
    }
    Err(StatusError::bad_request(format!(
        "dryRun: Unsupported value: {value:?}: supported values: \"All\""
    )))
}

fn field_validation(value: &str) -> Result<Option<FieldValidation>, StatusError> {
    match value {
        "" => Ok(None),
        "Ignore" => Ok(Some(FieldValidation::Ignore)),
        "Warn" => Ok(Some(FieldValidation::Warn)),
        "Strict" => Ok(Some(FieldValidation::Strict)),
        _ => Err(StatusError::bad_request(format!(
            "fieldValidation: Unsupported value: {value:?}: supported values: \"Ignore\", \
             \"Warn\", \"Strict\""
        ))),
    }
}
