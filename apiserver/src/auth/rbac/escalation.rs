//! Nobody may grant what they do not have: which parts of a set of rules another set does not cover.

use super::rule::{PolicyRule, has, path_matches};

/// Rules somebody tried to grant without having them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The missing rules, each one verb, group and resource, in Kubernetes' notation.
    pub(crate) missing: Vec<String>,
}

/// Which simple rules of `wanted` are not covered by `owned`; `Ok` when all are.
pub(crate) fn uncovered(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Result<(), Refusal> {
    let mut missing: Vec<String> = wanted
        .iter()
        .flat_map(simple_rules)
        .filter(|simple| !owned.iter().any(|rule| covers(rule, simple)))
        .map(|simple| describe(&simple))
        .collect();
    missing.sort();
    missing.dedup();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Refusal { missing })
    }
}

/// Splits a rule into ones with a single verb, group and resource, or a single verb and path.
fn simple_rules(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut simple = Vec::new();
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let names: Vec<Vec<String>> = if rule.resource_names.is_empty() {
                    vec![Vec::new()]
                } else {
                    rule.resource_names
                        .iter()
                        .map(|name| vec![name.clone()])
                        .collect()
                };
                simple.extend(names.into_iter().map(|resource_names| PolicyRule {
                    verbs: vec![verb.clone()],
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    resource_names,
                    non_resource_urls: Vec::new(),
                }));
            }
        }
        simple.extend(rule.non_resource_urls.iter().map(|path| PolicyRule {
            verbs: vec![verb.clone()],
            non_resource_urls: vec![path.clone()],
            ..PolicyRule::default()
        }));
    }
    simple
}

fn covers(owner: &PolicyRule, simple: &PolicyRule) -> bool {
    let all = |have: &[String], want: &[String]| want.iter().all(|item| has(have, item));
    all(&owner.verbs, &simple.verbs)
        && all(&owner.api_groups, &simple.api_groups)
        && simple
            .resources
            .iter()
            .all(|resource| resource_covered(&owner.resources, resource))
        && (owner.resource_names.is_empty()
            || (!simple.resource_names.is_empty()
                && simple
                    .resource_names
                    .iter()
                    .all(|name| owner.resource_names.contains(name))))
        && simple.non_resource_urls.iter().all(|path| {
            owner
                .non_resource_urls
                .iter()
                .any(|have| have == path || path_matches(have, path))
        })
}

fn resource_covered(have: &[String], wanted: &str) -> bool {
    if has(have, wanted) {
        return true;
    }
    match wanted.split_once('/') {
        Some((_, subresource)) => have
            .iter()
            .any(|item| item.strip_prefix("*/") == Some(subresource)),
        None => false,
    }
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
fn describe(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| format!("{name}:{values:?}"))
        .collect();
    format!("{{{}}}", parts.join(", "))
}
