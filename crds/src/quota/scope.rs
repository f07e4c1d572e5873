//! Scopes: which objects a quota is about at all.

use serde::Deserialize;

use super::usage::Counted;

/// One requirement of `scopes` or of `scopeSelector`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Requirement {
    scope_name: String,
    operator: String,
    values: Option<Vec<String>>,
}

/// What an object is, as far as scopes ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// What a pod is; `None` for other kinds.
    pub(super) pod: Option<PodFacts>,
    /// The volume attributes classes a claim names; `None` for other kinds.
    pub(super) attribute_classes: Option<Vec<String>>,
}

/// What a pod is, as far as scopes ask.
#[derive(Clone, Debug, Default)]
pub(super) struct PodFacts {
    /// It has a deadline.
    pub(super) terminating: bool,
    /// It asks for no cpu and no memory.
    pub(super) best_effort: bool,
    /// Its priority class; may be empty.
    pub(super) priority_class: String,
    /// Its affinity looks into other namespaces.
    pub(super) crosses_namespaces: bool,
}

impl Requirement {
    /// That of an entry of `scopes`.
    pub(super) fn exists(scope_name: String) -> Self {
        Self {
            scope_name,
            operator: "Exists".to_owned(),
            values: None,
        }
    }

    pub(super) fn matches(&self, counted: &Counted) -> bool {
        let facts = &counted.facts;
        if let Some(classes) = &facts.attribute_classes {
            return self.scope_name == "VolumeAttributesClass" && self.selects(classes);
        }
        let Some(pod) = &facts.pod else {
            return false;
        };
        match self.scope_name.as_str() {
            "Terminating" => pod.terminating,
            "NotTerminating" => !pod.terminating,
            "BestEffort" => pod.best_effort,
            "NotBestEffort" => !pod.best_effort,
            "CrossNamespacePodAffinity" => pod.crosses_namespaces,
            "PriorityClass" if pod.priority_class.is_empty() => self.selects(&[]),
            "PriorityClass" => self.selects(std::slice::from_ref(&pod.priority_class)),
            _ => false,
        }
    }

    /// Whether the operator holds for one of the names; with no name it is asked about an absent one.
    fn selects(&self, names: &[String]) -> bool {
        let listed = |name: &String| self.values.iter().flatten().any(|value| value == name);
        match self.operator.as_str() {
            "Exists" => !names.is_empty(),
            "DoesNotExist" => names.is_empty(),
            "In" => names.iter().any(listed),
            "NotIn" => names.is_empty() || names.iter().any(|name| !listed(name)),
            _ => false,
        }
    }
}
