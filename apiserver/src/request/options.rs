//! The query parameters that the verbs understand (meta/v1 GetOptions, ListOptions, CreateOptions, …).

use super::rules;
use crate::error::StatusError;
use crate::schema::{FieldError, FieldValidation};
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
    /// The API's word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Orphan => "Orphan",
            Self::Background => "Background",
            Self::Foreground => "Foreground",
        }
    }

    /// Reads the API's word for it.
    pub(crate) fn parse(text: &str) -> Result<Self, FieldError> {
        match text {
            "Orphan" => Ok(Self::Orphan),
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            _ => Err(FieldError::not_supported(
                "propagationPolicy",
                text,
                &["Foreground", "Background", "Orphan", "nil"],
            )),
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
    pub(crate) force: Option<bool>,
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) orphan_dependents: Option<bool>,
    /// Values that make no sense. Whether that matters depends on the verb ([`Options::check`]).
    pub(crate) faults: Vec<FieldError>,
}

impl Options {
    /// Reads a query. Unknown parameters are ignored, as Kubernetes does.
    ///
    /// # Errors
    /// 400 for what should be a number and is none.
    pub(crate) fn parse(query: &str) -> Result<Self, StatusError> {
        let mut options = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            options.set(&key, &value)?;
        }
        if options.orphan_dependents.is_some()
            && let Some(policy) = options.propagation
        {
            options.faults.push(rules::exclusive(policy.name()));
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
            "limit" => self.limit = count(value)?.unwrap_or(0),
            "continue" => value.clone_into(&mut self.continue_token),
            "resourceVersion" if !value.is_empty() => {
                self.resource_version = Some(value.to_owned());
            }
            "resourceVersionMatch" if !value.is_empty() => {
                let read = version_match(value);
                self.version_match = self.sound(read);
            }
            "watch" => self.watch = flag(value),
            "allowWatchBookmarks" => self.bookmarks = flag(value),
            "sendInitialEvents" => self.send_initial_events = Some(flag(value)),
            "timeoutSeconds" => self.timeout_seconds = count(value)?,
            "includeObject" => {
                let read = include(value);
                self.include = self.sound(read).unwrap_or_default();
            }
            "fieldManager" if !value.is_empty() => {
                let read = manager(value);
                self.field_manager = self.sound(read);
            }
            "dryRun" => {
                let read = dry_run(value);
                // What may have been meant as a dry run is never carried out.
                self.dry_run |= self.sound(read).unwrap_or(true);
            }
            "fieldValidation" if !value.is_empty() => {
                let read = field_validation(value);
                self.field_validation = self.sound(read);
            }
            "force" => self.force = Some(flag(value)),
            "gracePeriodSeconds" => self.grace_seconds = number(value)?,
            "propagationPolicy" if !value.is_empty() => {
                let read = Propagation::parse(value);
                self.propagation = self.sound(read);
            }
            "orphanDependents" => self.orphan_dependents = Some(flag(value)),
            _ => {}
        }
        Ok(())
    }

    /// The value, or none and one more fault.
    fn sound<T>(&mut self, read: Result<T, FieldError>) -> Option<T> {
        read.map_err(|fault| self.faults.push(fault)).ok()
    }

    /// What is wrong with the value of a parameter.
    pub(crate) fn fault(&self, name: &str) -> Option<&FieldError> {
        self.faults.iter().find(|fault| fault.path == name)
    }
}

/// A parameter that is there means yes, unless it says no.
fn flag(value: &str) -> bool {
    value != "0" && !value.eq_ignore_ascii_case("false")
}

fn number(value: &str) -> Result<Option<i64>, StatusError> {
    if value.is_empty() {
        return Ok(None);
    }
    let wrong = |error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        StatusError::bad_request(format!("strconv.ParseInt: parsing {value:?}: {why}"))
    };
    value.parse().map(Some).map_err(wrong)
}

/// A number below zero counts as zero, which means no limit.
fn count<T: TryFrom<i64> + Default>(value: &str) -> Result<Option<T>, StatusError> {
    Ok(number(value)?.map(|number| T::try_from(number).unwrap_or_default()))
}

fn version_match(value: &str) -> Result<Match, FieldError> {
    match value {
        "Exact" => Ok(Match::Exact),
        "NotOlderThan" => Ok(Match::NotOlderThan),
        _ => Err(FieldError::not_supported(
            "resourceVersionMatch",
            value,
            &["Exact", "NotOlderThan", ""],
        )),
    }
}

fn include(value: &str) -> Result<Include, FieldError> {
    match value {
        "" | "Metadata" => Ok(Include::Metadata),
        "None" => Ok(Include::None),
        "Object" => Ok(Include::Object),
        _ => {
            let detail = "must be 'Metadata', 'Object', 'None', or empty";
            Err(FieldError::invalid("includeObject", value, detail))
        }
    }
}

fn manager(value: &str) -> Result<String, FieldError> {
    if value.len() > 128 {
        return Err(FieldError::too_long("fieldManager", 128));
    }
    match value.char_indices().find(|(_, c)| c.is_control()) {
        None => Ok(value.to_owned()),
        Some((at, wrong)) => {
            let code = u32::from(wrong);
            let detail = format!("invalid character U+{code:04X} (at position {at})");
            Err(FieldError::invalid("fieldManager", value, detail))
        }
    }
}

/// One value of `dryRun`.
pub(crate) fn dry_run(value: &str) -> Result<bool, FieldError> {
    if value == "All" {
        return Ok(true);
    }
    let values = serde_json::json!([value]);
    Err(FieldError::not_supported("dryRun", values, &["All"]))
}

fn field_validation(value: &str) -> Result<FieldValidation, FieldError> {
    match value {
        "Ignore" => Ok(FieldValidation::Ignore),
        "Warn" => Ok(FieldValidation::Warn),
        "Strict" => Ok(FieldValidation::Strict),
        _ => Err(FieldError::not_supported(
            "fieldValidation",
            value,
            &["", "Ignore", "Strict", "Warn"],
        )),
    }
}
