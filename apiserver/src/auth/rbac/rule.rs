//! Rules, roles and bindings as far as decisions need them.

use serde::{Deserialize, Serialize};

use crate::auth::{Attributes, ResourceAttributes, Target};

/// One thing that is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PolicyRule {
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub(crate) verbs: Vec<String>,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub(crate) api_groups: Vec<String>,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub(crate) resources: Vec<String>,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub(crate) resource_names: Vec<String>,
    #[serde(
        rename = "nonResourceURLs",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub(crate) non_resource_urls: Vec<String>,
}

/// Go clients write empty lists as null.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl PolicyRule {
    /// Whether the rule allows the action.
    pub(crate) fn allows(&self, attributes: &Attributes<'_>) -> bool {
        has(&self.verbs, attributes.verb)
            && match attributes.target {
                Target::Path(path) => self
                    .non_resource_urls
                    .iter()
                    .any(|pattern| path_matches(pattern, path)),
                Target::Resource(target) => self.covers(&target),
            }
    }

    fn covers(&self, target: &ResourceAttributes<'_>) -> bool {
        has(&self.api_groups, target.group)
            && self
                .resources
                .iter()
                .any(|rule| resource_matches(rule, target))
            && (self.resource_names.is_empty()
                || self.resource_names.iter().any(|name| name == target.name))
    }
}

/// Whether `list` holds `wanted` or the wildcard.
pub(super) fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

/// Whether a path is meant by a rule's `*`, `/prefix/*` or exact path.
pub(super) fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

/// Whether `rule` (`*`, `pods`, `pods/log` or `*/scale`) means the resource.
fn resource_matches(rule: &str, target: &ResourceAttributes<'_>) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => target.subresource.is_empty() && rule == target.resource,
        Some((resource, subresource)) => {
            !target.subresource.is_empty()
                && subresource == target.subresource
                && (resource == "*" || resource == target.resource)
        }
    }
}

/// A `Role` or `ClusterRole`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Role {
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) rules: Option<Vec<PolicyRule>>,
    pub(super) aggregation_rule: Option<AggregationRule>,
}

/// Which ClusterRoles lend their rules to an aggregated one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AggregationRule {
    #[serde(default)]
    pub(super) cluster_role_selectors: Vec<serde_json::Value>,
}

/// A `RoleBinding` or `ClusterRoleBinding`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Binding {
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) subjects: Option<Vec<Subject>>,
    pub(super) role_ref: RoleRef,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) labels: Option<std::collections::BTreeMap<String, String>>,
}

/// Who is granted the role.
#[derive(Debug, Deserialize)]
pub(super) struct Subject {
    pub(super) kind: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: String,
}

/// The role a binding grants.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct RoleRef {
    pub(crate) kind: String,
    pub(crate) name: String,
}
