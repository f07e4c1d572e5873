//! The rules of the options of each verb (meta/v1 validation, internalversion validation), told as Kubernetes tells them.

use super::options::{Match, Options};
use crate::error::StatusError;
use crate::schema::FieldError;

/// The options of which a verb makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Create,
    Update,
    /// Any patch but apply.
    Patch,
    Apply,
    Delete,
    List,
    Watch,
}

impl Verb {
    fn options(self) -> &'static str {
        match self {
            Self::Create => "CreateOptions",
            Self::Update => "UpdateOptions",
            Self::Patch | Self::Apply => "PatchOptions",
            Self::Delete => "DeleteOptions",
            Self::List | Self::Watch => "ListOptions",
        }
    }

    /// The parameters whose values matter.
    fn values(self) -> &'static [&'static str] {
        match self {
            Self::Create | Self::Update | Self::Patch | Self::Apply => {
                &["fieldManager", "dryRun", "fieldValidation"]
            }
            Self::Delete => &["propagationPolicy", "dryRun"],
            Self::List => &["resourceVersionMatch"],
            Self::Watch => &[],
        }
    }
}

impl Options {
    /// Whether a verb can be carried out with these.
    ///
    /// # Errors
    /// 422 with every fault.
    pub(crate) fn check(&self, verb: Verb) -> Result<(), StatusError> {
        let mut faults = Vec::new();
        match verb {
            Verb::Patch if self.force.is_some() => {
                let detail = "may not be specified for non-apply patch";
                faults.push(FieldError::forbidden("force", detail));
            }
            Verb::Apply if self.manager_missing() => {
                let detail = "is required for apply patch";
                faults.push(FieldError::required("fieldManager", detail));
            }
            Verb::List => self.check_list(&mut faults),
            Verb::Watch => self.check_watch(&mut faults),
            _ => {}
        }
        for name in verb.values() {
            faults.extend(self.faults.iter().filter(|f| f.path == *name).cloned());
        }
        refuse(verb, &faults)
    }

    fn manager_missing(&self) -> bool {
        self.field_manager.is_none() && !self.faults.iter().any(|f| f.path == "fieldManager")
    }

    fn matched(&self) -> bool {
        let wrong = |fault: &FieldError| fault.path == "resourceVersionMatch";
        self.version_match.is_some() || self.faults.iter().any(wrong)
    }

    fn check_list(&self, faults: &mut Vec<FieldError>) {
        let mut forbidden = |path, detail| faults.push(FieldError::forbidden(path, detail));
        let path = "resourceVersionMatch";
        if self.matched() {
            if self.resource_version.is_none() {
                let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                forbidden(path, detail);
            }
            if !self.continue_token.is_empty() {
                let detail = "resourceVersionMatch is forbidden when continue is provided";
                forbidden(path, detail);
            }
            let zero = self.resource_version.as_deref() == Some("0");
            if self.version_match == Some(Match::Exact) && zero {
                let detail =
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                forbidden(path, detail);
            }
        }
        if self.send_initial_events.is_some() {
            let detail = "sendInitialEvents is forbidden for list";
            forbidden("sendInitialEvents", detail);
        }
    }

    fn check_watch(&self, faults: &mut Vec<FieldError>) {
        let path = "resourceVersionMatch";
        let matching = self.version_match == Some(Match::NotOlderThan);
        if self.send_initial_events.is_some() && !matching {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            faults.push(FieldError::forbidden(path, detail));
        }
        if !self.matched() {
            return;
        }
        if self.send_initial_events.is_none() {
            let detail =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            faults.push(FieldError::forbidden(path, detail));
        }
        if !matching {
            let wrong = self.faults.iter().find(|fault| fault.path == path);
            let value = wrong.and_then(|fault| fault.value.clone());
            let value = value.unwrap_or_else(|| "Exact".into());
            faults.push(FieldError::not_supported(path, value, &["NotOlderThan"]));
        }
        if !self.continue_token.is_empty() {
            let detail = "resourceVersionMatch is forbidden when continue is provided";
            faults.push(FieldError::forbidden(path, detail));
        }
    }
}

/// The two ways to say what becomes of dependents exclude each other.
pub(crate) fn exclusive(policy: &str) -> FieldError {
    let detail = "orphanDependents and deletionPropagation cannot be both set";
    FieldError::invalid("propagationPolicy", policy, detail)
}

/// 422 with these faults, if there are any.
pub(crate) fn refuse(verb: Verb, faults: &[FieldError]) -> Result<(), StatusError> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(StatusError::invalid_options(verb.options(), faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(verb: Verb, query: &str) -> String {
        let checked = Options::parse(query).and_then(|options| options.check(verb));
        checked.map_or_else(|error| error.message().to_owned(), |()| String::new())
    }

    #[test]
    fn faults_are_told_in_kubernetes_words() {
        let list = "ListOptions.meta.k8s.io \"\" is invalid: ";
        let matching = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden ";
        let cases = [
            (
                Verb::Create,
                "fieldValidation=Maybe",
                "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \
                 \"Maybe\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
                    .to_owned(),
            ),
            (
                Verb::Update,
                "dryRun=Some&fieldManager=a%01",
                "UpdateOptions.meta.k8s.io \"\" is invalid: [fieldManager: Invalid value: \
                 \"a\\x01\": invalid character U+0001 (at position 1), dryRun: Unsupported value: \
                 [\"Some\"]: supported values: \"All\"]"
                    .to_owned(),
            ),
            (
                Verb::Patch,
                "force=false",
                "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified \
                 for non-apply patch"
                    .to_owned(),
            ),
            (
                Verb::Apply,
                "force=true",
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is \
                 required for apply patch"
                    .to_owned(),
            ),
            (
                Verb::Delete,
                "propagationPolicy=Sideways",
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \
                 \"Sideways\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                    .to_owned(),
            ),
            (
                Verb::Delete,
                "propagationPolicy=Orphan&orphanDependents=true",
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \
                 \"Orphan\": orphanDependents and deletionPropagation cannot be both set"
                    .to_owned(),
            ),
            (
                Verb::List,
                "resourceVersionMatch=Exact",
                format!("{list}{matching}unless resourceVersion is provided"),
            ),
            (
                Verb::List,
                "resourceVersionMatch=Some&resourceVersion=3",
                format!(
                    "{list}resourceVersionMatch: Unsupported value: \"Some\": supported values: \
                     \"Exact\", \"NotOlderThan\", \"\""
                ),
            ),
            (
                Verb::List,
                "sendInitialEvents=false",
                format!(
                    "{list}sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"
                ),
            ),
            (
                Verb::Watch,
                "resourceVersionMatch=NotOlderThan",
                format!("{list}{matching}for watch unless sendInitialEvents is provided"),
            ),
        ];
        for (verb, query, message) in cases {
            assert_eq!(told(verb, query), message, "{query}");
        }
    }

    #[test]
    fn a_verb_minds_its_own_options_only() {
        let cases = [
            (Verb::List, "dryRun=Some&fieldValidation=x"),
            (Verb::Create, "propagationPolicy=Sideways"),
            (Verb::Delete, "fieldValidation=x&gracePeriodSeconds=-1"),
            (
                Verb::Watch,
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
            ),
            (Verb::Apply, "fieldManager=me&force"),
        ];
        for (verb, query) in cases {
            assert_eq!(told(verb, query), "", "{query}");
        }
    }

    #[test]
    fn every_fault_is_a_cause() {
        let options = Options::parse("dryRun=x&fieldValidation=y").unwrap();
        let error = options.check(Verb::Create).unwrap_err();
        let status: serde_json::Value = serde_json::from_slice(&error.to_json()).unwrap();
        assert_eq!(
            (&status["code"], &status["reason"]),
            (&422.into(), &"Invalid".into())
        );
        let details = &status["details"];
        assert_eq!(details["group"], "meta.k8s.io");
        assert_eq!(details["kind"], "CreateOptions");
        assert_eq!(details["causes"][0]["reason"], "FieldValueNotSupported");
        assert_eq!(details["causes"][1]["field"], "fieldValidation");
    }
}
