//! Which requests a webhook or a policy is about: rules, scope, namespaces and labels.

use std::sync::{Arc, OnceLock};

use davit_api::LabelSelector;
use k8s_openapi::api::admissionregistration::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::Value;

use super::{Error, Operation, Request};
use crate::auth::{Kind, ObjectSource};
use crate::resource::{Registry, Resource};

/// The kinds that decide about admission are themselves never subject to it, or a mistake could not be undone.
const EXEMPT: &[&str] = &[
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
];

/// Whether webhooks and policies have no say in a request.
pub(super) fn is_exempt(request: &Request<'_>) -> bool {
    request.group == "admissionregistration.k8s.io" && EXEMPT.contains(&request.resource)
}

/// One rule: operations, and what they are done to.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
    /// Empty for all.
    names: Vec<String>,
}

impl From<&api::RuleWithOperations> for Rule {
    fn from(rule: &api::RuleWithOperations) -> Self {
        Self {
            operations: rule.operations.clone().unwrap_or_default(),
            groups: rule.api_groups.clone().unwrap_or_default(),
            versions: rule.api_versions.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            scope: rule.scope.clone().unwrap_or_default(),
            names: Vec::new(),
        }
    }
}

impl From<&api::NamedRuleWithOperations> for Rule {
    fn from(rule: &api::NamedRuleWithOperations) -> Self {
        Self {
            operations: rule.operations.clone().unwrap_or_default(),
            groups: rule.api_groups.clone().unwrap_or_default(),
            versions: rule.api_versions.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            scope: rule.scope.clone().unwrap_or_default(),
            names: rule.resource_names.clone().unwrap_or_default(),
        }
    }
}

fn names(list: &[String], wanted: &str) -> bool {
    list.iter().any(|have| have == "*" || have == wanted)
}

impl Rule {
    /// Whether the rule names this request, were it for `group` and `version`.
    fn matches(&self, request: &Request<'_>, group: &str, version: &str, resource: &str) -> bool {
        names(&self.operations, request.operation.as_str())
            && names(&self.groups, group)
            && names(&self.versions, version)
            && self.names_resource(resource, request.subresource)
            && self.in_scope(request)
            && (self.names.is_empty() || self.names.iter().any(|name| name == request.name))
    }

    /// `pods`, `pods/status`, `pods/*`, `*`, `*/scale`, `*/*`.
    fn names_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|have| {
            let (wanted, sub) = have.split_once('/').unwrap_or((have, ""));
            (wanted == "*" || wanted == resource) && (sub == "*" || sub == subresource)
        })
    }

    fn in_scope(&self, request: &Request<'_>) -> bool {
        let namespaced = !request.namespace.is_empty() && request.resource != "namespaces";
        match &*self.scope {
            "Namespaced" => namespaced,
            "Cluster" => !namespaced,
            _ => true,
        }
    }
}

/// Everything that narrows the requests a hook is about.
#[derive(Debug, Default)]
pub(super) struct Matcher {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// A request for another version of the same objects counts too.
    equivalent: bool,
    /// Without rules everything matches, as for the bindings of policies.
    open: bool,
    namespaces: Option<LabelSelector>,
    objects: Option<LabelSelector>,
}

/// How a request was matched.
#[derive(Debug, Clone)]
pub(super) enum Hit {
    /// As it came.
    Own,
    /// As a request for this version of the same objects.
    As(Arc<Resource>),
}

fn selector(selector: Option<&meta::LabelSelector>) -> Result<Option<LabelSelector>, String> {
    match selector {
        None => Ok(None),
        Some(selector) => {
            let parsed = LabelSelector::try_from(selector).map_err(|error| error.to_string())?;
            Ok(Some(parsed).filter(|selector| !selector.is_empty()))
        }
    }
}

impl Matcher {
    /// Of a webhook.
    pub(super) fn of_webhook(
        rules: &[api::RuleWithOperations],
        policy: Option<&str>,
        namespaces: Option<&meta::LabelSelector>,
        objects: Option<&meta::LabelSelector>,
    ) -> Result<Self, String> {
        Ok(Self {
            rules: rules.iter().map(Rule::from).collect(),
            equivalent: policy != Some("Exact"),
            namespaces: selector(namespaces)?,
            objects: selector(objects)?,
            ..Self::default()
        })
    }

    /// Of a policy or (with no rules: everything) of a binding.
    pub(super) fn of_policy(matching: Option<&api::MatchResources>) -> Result<Self, String> {
        let Some(matching) = matching else {
            return Ok(Self {
                open: true,
                ..Self::default()
            });
        };
        let rules = |rules: &Option<Vec<api::NamedRuleWithOperations>>| -> Vec<Rule> {
            rules.iter().flatten().map(Rule::from).collect()
        };
        let included = rules(&matching.resource_rules);
        Ok(Self {
            open: included.is_empty(),
            rules: included,
            excluded: rules(&matching.exclude_resource_rules),
            equivalent: matching.match_policy.as_deref() != Some("Exact"),
            namespaces: selector(matching.namespace_selector.as_ref())?,
            objects: selector(matching.object_selector.as_ref())?,
        })
    }

    /// Whether the hook is about the request, and as what.
    ///
    /// # Errors
    /// When the namespace's labels are asked for and the namespace is not there.
    pub(super) fn find(&self, scene: &Scene<'_>, object: &Value) -> Result<Option<Hit>, Error> {
        let Some(hit) = self
            .hit(&self.rules, scene)
            .or(self.open.then_some(Hit::Own))
        else {
            return Ok(None);
        };
        if !self.excluded.is_empty() && self.hit(&self.excluded, scene).is_some() {
            return Ok(None);
        }
        let selected = self.selects_namespace(scene, object)? && self.selects(scene, object);
        Ok(selected.then_some(hit))
    }

    fn hit(&self, rules: &[Rule], scene: &Scene<'_>) -> Option<Hit> {
        let request = scene.request;
        let own =
            |rule: &Rule| rule.matches(request, request.group, request.version, request.resource);
        if rules.iter().any(own) {
            return Some(Hit::Own);
        }
        if !self.equivalent || rules.is_empty() {
            return None;
        }
        let other = scene.others().iter().find(|other| {
            let named =
                |rule: &Rule| rule.matches(request, &other.group, &other.version, &other.plural);
            rules.iter().any(named)
        });
        other.map(|other| Hit::As(other.clone()))
    }

    fn selects_namespace(&self, scene: &Scene<'_>, object: &Value) -> Result<bool, Error> {
        let Some(selector) = &self.namespaces else {
            return Ok(true);
        };
        let request = scene.request;
        let is_namespace = request.is("", "namespaces");
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if is_namespace && writes {
            return Ok(has_labels(selector, object));
        }
        let name = match (is_namespace, request.namespace) {
            (true, "") => request.name,
            (false, "") => return Ok(true),
            (_, namespace) => namespace,
        };
        let namespace = scene.namespace(name)?;
        Ok(has_labels(selector, namespace))
    }

    /// Either version of the object having the labels is enough.
    fn selects(&self, scene: &Scene<'_>, object: &Value) -> bool {
        let Some(selector) = &self.objects else {
            return true;
        };
        let has = |object: &Value| object.is_object() && has_labels(selector, object);
        has(object) || scene.request.old.is_some_and(has)
    }
}

pub(super) fn has_labels(selector: &LabelSelector, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    selector.matches_with(|key| labels[key].as_str())
}

/// A request with what is looked up for it at most once, whatever the number of hooks.
pub(super) struct Scene<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) source: &'a dyn ObjectSource,
    registry: &'a Registry,
    others: OnceLock<Vec<Arc<Resource>>>,
    namespace: OnceLock<Option<Value>>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        request: &'a Request<'a>,
        source: &'a dyn ObjectSource,
        registry: &'a Registry,
    ) -> Self {
        Self {
            request,
            source,
            registry,
            others: OnceLock::new(),
            namespace: OnceLock::new(),
        }
    }

    /// The resource of the request itself.
    pub(super) fn own(&self) -> Option<Arc<Resource>> {
        let Request {
            group,
            version,
            resource,
            ..
        } = *self.request;
        self.registry.snapshot().find(group, version, resource)
    }

    /// The same objects under other versions or groups.
    fn others(&self) -> &[Arc<Resource>] {
        self.others.get_or_init(|| {
            let Some(own) = self.own() else {
                return Vec::new();
            };
            let snapshot = self.registry.snapshot();
            let same = snapshot.iter().filter(|other| {
                other.prefix == own.prefix && other.review.is_none() && !Arc::ptr_eq(other, &own)
            });
            same.cloned().collect()
        })
    }

    /// The namespace of the request.
    ///
    /// # Errors
    /// 404 when it does not exist.
    pub(super) fn namespace(&self, name: &str) -> Result<&Value, Error> {
        let found = self.namespace.get_or_init(|| {
            let bytes = self.source.get(Kind::NAMESPACES, "", name)?;
            serde_json::from_slice(&bytes).ok()
        });
        found.as_ref().ok_or_else(|| Error::NotFound {
            group: String::new(),
            resource: "namespaces".to_owned(),
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
