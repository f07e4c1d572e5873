//! Nobody grants more than they have: checks on roles and bindings.
//!
//! Kubernetes does this in the storage of these kinds. Writing a role needs all its rules, or the verb
//! `escalate` on it; writing a binding needs all rules of its role, or the verb `bind` on the role.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::{Error, Operation, Plugin, Request};
use crate::auth::rbac::{PolicyRule, RoleRef, uncovered};
use crate::auth::{Attributes, Authorizer, ResourceAttributes};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) struct RbacEscalation {
    authorizer: Arc<Authorizer>,
}

impl RbacEscalation {
    pub(super) fn new(authorizer: Arc<Authorizer>) -> Self {
        Self { authorizer }
    }

    async fn check_role(&self, request: &Request<'_>, role: &Value) -> Result<(), Error> {
        let unchanged = |field: &str| {
            request
                .old
                .is_some_and(|old| old.get(field) == role.get(field))
        };
        if unchanged("rules") && unchanged("aggregationRule") {
            return Ok(());
        }
        let target = ResourceAttributes {
            group: GROUP,
            version: "v1",
            resource: request.resource,
            namespace: request.namespace,
            name: request.name,
            ..ResourceAttributes::default()
        };
        if self.may(request, "escalate", target).await {
            return Ok(());
        }
        let mut rules = rules_of(role)?;
        // Whoever collects the rules of other roles may grant anything those will ever say.
        if role
            .get("aggregationRule")
            .is_some_and(|rule| !rule.is_null())
        {
            rules.push(everything());
        }
        self.require_all(request, &rules)
    }

    async fn check_binding(&self, request: &Request<'_>, binding: &Value) -> Result<(), Error> {
        let unchanged = request.old.is_some_and(|old| {
            ["roleRef", "subjects"]
                .iter()
                .all(|field| old.get(field) == binding.get(field))
        });
        if unchanged {
            return Ok(());
        }
        let role: RoleRef = serde_json::from_value(binding["roleRef"].clone())
            .map_err(|error| Error::forbidden(format!("roleRef: {error}")))?;
        let target = ResourceAttributes {
            group: GROUP,
            version: "v1",
            resource: if role.kind == "ClusterRole" {
                "clusterroles"
            } else {
                "roles"
            },
            namespace: request.namespace,
            name: &role.name,
            ..ResourceAttributes::default()
        };
        if self.may(request, "bind", target).await {
            return Ok(());
        }
        match self.authorizer.role_rules(&role, request.namespace) {
            Some(rules) => self.require_all(request, &rules),
            None => Err(Error::NotFound {
                group: GROUP.into(),
                resource: target.resource.into(),
                name: role.name,
            }),
        }
    }

    async fn may(&self, request: &Request<'_>, verb: &str, target: ResourceAttributes<'_>) -> bool {
        let attributes = Attributes::resource(verb, target);
        self.authorizer
            .authorize(request.user, &attributes)
            .await
            .is_allowed()
    }

    fn require_all(&self, request: &Request<'_>, rules: &[PolicyRule]) -> Result<(), Error> {
        let (owned, _) = self.authorizer.rules_for(request.user, request.namespace);
        uncovered(&owned, rules).map_err(|refusal| {
            Error::forbidden(format!(
                "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
                request.user.name,
                request.user.groups,
                refusal.missing.join("\n"),
            ))
        })
    }
}

fn rules_of(role: &Value) -> Result<Vec<PolicyRule>, Error> {
    match role.get("rules") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(rules) => serde_json::from_value(rules.clone())
            .map_err(|error| Error::forbidden(format!("rules: {error}"))),
    }
}

fn everything() -> PolicyRule {
    let all = || vec!["*".to_owned()];
    PolicyRule {
        verbs: all(),
        api_groups: all(),
        resources: all(),
        ..PolicyRule::default()
    }
}

#[async_trait]
impl Plugin for RbacEscalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.group == GROUP
            && request.subresource.is_empty()
            && matches!(request.operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        match request.resource {
            "roles" | "clusterroles" => self.check_role(request, object).await,
            "rolebindings" | "clusterrolebindings" => self.check_binding(request, object).await,
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Notes;
    use crate::admission::testing::request;
    use crate::auth::memory::Memory;
    use crate::auth::{Kind, UserInfo, groups};
    use serde_json::json;

    fn get(resource: &str) -> Value {
        json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]})
    }

    fn plugin() -> RbacEscalation {
        let bind = json!({"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["lent"]});
        let role = |name: &str, rules: &[Value]| {
            (
                Kind::CLUSTER_ROLES,
                json!({"metadata": {"name": name}, "rules": rules}),
            )
        };
        RbacEscalation::new(Arc::new(Authorizer::new(Memory::with([
            role("own", &[get("pods"), bind]),
            role("lent", &[get("secrets")]),
            role("other", &[get("secrets")]),
            (
                Kind::CLUSTER_ROLE_BINDINGS,
                json!({
                    "metadata": {"name": "own"},
                    "roleRef": {"kind": "ClusterRole", "name": "own"},
                    "subjects": [{"kind": "User", "name": "bob"}],
                }),
            ),
        ]))))
    }

    #[tokio::test]
    async fn grants_are_limited_to_what_one_has() {
        let (roles, bindings) = (
            "rbac.authorization.k8s.io/roles",
            "rbac.authorization.k8s.io/rolebindings",
        );
        let to =
            |name: &str| json!({"roleRef": {"kind": "ClusterRole", "name": name}, "subjects": []});
        let bob = UserInfo::new("bob", Vec::<String>::new());
        let admin = UserInfo::new("admin", [groups::MASTERS]);
        let collecting = json!({"aggregationRule": {"clusterRoleSelectors": []}});
        let cases = [
            (&bob, roles, json!({"rules": [get("pods")]}), Ok(())),
            (&bob, roles, json!({"rules": null}), Ok(())),
            (
                &bob,
                roles,
                json!({"rules": [get("secrets")]}),
                Err("not currently held"),
            ),
            (&bob, roles, collecting.clone(), Err("not currently held")),
            (&bob, bindings, to("own"), Ok(())),
            (&bob, bindings, to("lent"), Ok(())),
            (&bob, bindings, to("other"), Err("not currently held")),
            (&bob, bindings, to("gone"), Err("not found")),
            (&admin, roles, json!({"rules": [get("secrets")]}), Ok(())),
            (&admin, roles, collecting, Ok(())),
            (&admin, bindings, to("gone"), Ok(())),
        ];
        let plugin = plugin();
        for (user, resource, object, expected) in cases {
            let notes = Notes::default();
            let request = request(user, &notes, Operation::Create, resource, "a");
            assert!(plugin.handles(&request));
            match (plugin.validate(&request, &object).await, expected) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(part)) if error.to_string().contains(part) => {}
                (got, _) => panic!("{} {object}: {got:?}", user.name),
            }
        }
    }

    #[tokio::test]
    async fn an_update_that_grants_nothing_new_passes() {
        let bob = UserInfo::new("bob", Vec::<String>::new());
        let old = json!({"metadata": {}, "rules": [get("secrets")]});
        let new = json!({"metadata": {"labels": {"a": "b"}}, "rules": [get("secrets")]});
        let resource = "rbac.authorization.k8s.io/roles";
        let notes = Notes::default();
        let request = Request {
            old: Some(&old),
            ..request(&bob, &notes, Operation::Update, resource, "a")
        };
        assert!(plugin().validate(&request, &new).await.is_ok());
    }
}
