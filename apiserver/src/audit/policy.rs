//! The policy: the first rule that matches a request says how much of it is logged.

use std::path::Path;

use serde::Deserialize;

use super::Error;
use crate::auth::{Attributes, ResourceAttributes, Target, UserInfo};

/// How much of a request is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// A moment of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// What a policy says about one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) level: Level,
    pub(super) omitted: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

/// A policy file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Policy {
    api_version: String,
    kind: String,
    #[serde(default)]
    #[expect(dead_code, reason = "a policy may have a name; nothing depends on it")]
    metadata: serde_json::Value,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

impl Policy {
    /// Reads a file.
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|reason| Error::Policy {
            path: path.to_owned(),
            reason,
        })
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            let (version, kind) = (&policy.api_version, &policy.kind);
            return Err(format!("{version} {kind} is not audit.k8s.io/v1 Policy"));
        }
        if policy.rules.is_empty() {
            return Err("it has no rules".to_owned());
        }
        for (number, rule) in policy.rules.iter().enumerate() {
            rule.check()
                .map_err(|what| format!("rules[{number}]: {what}"))?;
        }
        Ok(policy)
    }

    /// What is logged of a request; `None` is nothing.
    pub(super) fn choose(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Option<Choice> {
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.matches(user, attributes))?;
        if rule.level == Level::None {
            return None;
        }
        let omitted = self.omit_stages.iter().chain(&rule.omit_stages);
        Some(Choice {
            level: rule.level,
            omitted: omitted.copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        })
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if resources && !self.non_resource_urls.is_empty() {
            return Err(
                "rules cannot apply to both regular resources and non-resource URLs".into(),
            );
        }
        for url in &self.non_resource_urls {
            let stem = url.strip_suffix('*').unwrap_or(url);
            if stem.contains('*') || (!url.starts_with('/') && url != "*") {
                return Err(format!(
                    "nonResourceURLs: {url:?} must begin with / and may end with *"
                ));
            }
        }
        for resources in &self.resources {
            if resources.group.contains('/') {
                let group = &resources.group;
                return Err(format!("{group:?} must be a group without its version"));
            }
            if !resources.resource_names.is_empty() && resources.resources.is_empty() {
                return Err("using resourceNames requires at least one resource".into());
            }
        }
        Ok(())
    }

    fn matches(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        let groups = &self.user_groups;
        let for_user = (self.users.is_empty() || self.users.contains(&user.name))
            && (groups.is_empty() || user.groups.iter().any(|group| groups.contains(group)));
        let for_verb =
            self.verbs.is_empty() || self.verbs.iter().any(|verb| verb == attributes.verb);
        for_user && for_verb && self.reaches(attributes)
    }

    fn reaches(&self, attributes: &Attributes<'_>) -> bool {
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return match attributes.target {
                Target::Resource(target) => self.covers(&target),
                Target::Path(_) => false,
            };
        }
        match attributes.target {
            _ if self.non_resource_urls.is_empty() => true,
            Target::Path(path) => self.non_resource_urls.iter().any(|pattern| {
                let prefix = pattern.strip_suffix('*');
                pattern == path || prefix.is_some_and(|prefix| path.starts_with(prefix))
            }),
            Target::Resource(_) => false,
        }
    }

    fn covers(&self, target: &ResourceAttributes<'_>) -> bool {
        let here = self.namespaces.is_empty()
            || self.namespaces.iter().any(|have| have == target.namespace);
        here && (self.resources.is_empty() || self.resources.iter().any(|r| r.cover(target)))
    }
}

impl Resources {
    fn cover(&self, target: &ResourceAttributes<'_>) -> bool {
        if self.group != target.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty()
            || self.resource_names.iter().any(|name| name == target.name);
        let whole = target.qualified();
        named
            && self.resources.iter().any(|pattern| {
                let sub = pattern.strip_prefix("*/");
                let of = pattern.strip_suffix("/*");
                pattern == "*"
                    || *pattern == *whole
                    || sub.is_some_and(|sub| !sub.is_empty() && sub == target.subresource)
                    || of.is_some_and(|of| of == target.resource)
            })
    }
}
