//! Roles and bindings.

use serde_json::{Map, Value};

use super::access::{Fields, default, same};
use super::{Context, Errors, labels};
use crate::schema::{FieldError, Path};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The API group of a subject follows from its kind.
pub(super) fn subject_defaults(subject: &mut Map<String, Value>) {
    if matches!(
        subject.get("kind").and_then(Value::as_str),
        Some("User" | "Group")
    ) {
        default(subject, "apiGroup", GROUP);
    }
}

fn rules(rules: &[Value], namespaced: bool, out: &mut Errors) {
    let at_rules = Path::new("rules");
    for (index, rule) in rules.iter().enumerate() {
        let at = at_rules.index(index);
        if rule.items("verbs").is_empty() {
            let detail = "verbs must contain at least one value";
            out.push(FieldError::required(at.field("verbs"), detail));
        }
        let urls = rule.items("nonResourceURLs");
        let no_resources = rule.items("apiGroups").is_empty()
            && rule.items("resources").is_empty()
            && rule.items("resourceNames").is_empty();
        if !urls.is_empty() {
            let fault = match () {
                () if namespaced => Some("namespaced rules cannot apply to non-resource URLs"),
                () if !no_resources => {
                    Some("rules cannot apply to both regular resources and non-resource URLs")
                }
                () => None,
            };
            if let Some(fault) = fault {
                out.push(FieldError::invalid(
                    at.field("nonResourceURLs"),
                    Value::from(urls),
                    fault,
                ));
            }
            continue;
        }
        if rule.items("apiGroups").is_empty() {
            let detail = "resource rules must supply at least one api group";
            out.push(FieldError::required(at.field("apiGroups"), detail));
        }
        if rule.items("resources").is_empty() {
            let detail = "resource rules must supply at least one resource";
            out.push(FieldError::required(at.field("resources"), detail));
        }
    }
}

/// Checks a Role.
pub(super) fn role(_: &Context<'_>, role: &Value, out: &mut Errors) {
    rules(role.items("rules"), true, out);
}

/// Checks a ClusterRole.
pub(super) fn cluster_role(_: &Context<'_>, role: &Value, out: &mut Errors) {
    rules(role.items("rules"), false, out);
    if !role.has("aggregationRule") {
        return;
    }
    let root = Path::new("aggregationRule");
    let at = root.field("clusterRoleSelectors");
    let selectors = role.at("aggregationRule").items("clusterRoleSelectors");
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        out.push(FieldError::required(at, detail));
    }
    for (index, selector) in selectors.iter().enumerate() {
        labels::selector(selector, &at.index(index), out);
    }
}

fn binding(binding: &Value, kinds: &[&str], namespaced: bool, out: &mut Errors) {
    let kind = binding.at("roleRef").text("kind");
    if !kind.is_empty() && !kinds.contains(&kind) {
        out.push(FieldError::not_supported("roleRef.kind", kind, kinds));
    }
    let at_subjects = Path::new("subjects");
    for (index, subject) in binding.items("subjects").iter().enumerate() {
        let at = at_subjects.index(index);
        let group = subject.text("apiGroup");
        match subject.text("kind") {
            "ServiceAccount" => {
                let name = subject.text("name");
                if !name.is_empty()
                    && let Some(fault) = super::names::dns_subdomain(name)
                {
                    out.push(FieldError::invalid(at.field("name"), name, fault));
                }
                if !group.is_empty() {
                    out.push(FieldError::not_supported(
                        at.field("apiGroup"),
                        group,
                        &[""],
                    ));
                }
                if subject.text("namespace").is_empty() && !namespaced {
                    out.push(FieldError::required(at.field("namespace"), ""));
                }
            }
            "User" | "Group" if group != GROUP => {
                out.push(FieldError::not_supported(
                    at.field("apiGroup"),
                    group,
                    &[GROUP],
                ));
            }
            _ => {}
        }
    }
}

/// Checks a RoleBinding.
pub(super) fn role_binding(_: &Context<'_>, object: &Value, out: &mut Errors) {
    binding(object, &["ClusterRole", "Role"], true, out);
}

/// Checks a ClusterRoleBinding.
pub(super) fn cluster_role_binding(_: &Context<'_>, object: &Value, out: &mut Errors) {
    binding(object, &["ClusterRole"], false, out);
}

/// A binding is for one role; another role needs another binding.
pub(super) fn binding_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if !same(new.at("roleRef"), old.at("roleRef")) {
        let value = new.at("roleRef").clone();
        out.push(FieldError::invalid(
            "roleRef",
            value,
            "cannot change roleRef",
        ));
    }
}
