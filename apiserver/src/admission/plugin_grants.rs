//! Nobody gives a driver rights on hosts without the right to: checks on `Plugin` objects.
//!
//! Writing `spec.grants` needs the verb `grant` on the `Plugin`, as writing roles needs `escalate`. So does giving
//! grants to other code: whoever names the file of a driver that has rights uses them.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::{Error, Operation, Plugin, Request};
use crate::auth::{Attributes, Authorizer, ResourceAttributes};

const RESOURCE: &str = "plugins";

pub(super) struct PluginGrants {
    authorizer: Arc<Authorizer>,
}

impl PluginGrants {
    pub(super) fn new(authorizer: Arc<Authorizer>) -> Self {
        Self { authorizer }
    }
}

/// What of a write needs the right to grant, if anything does.
fn granting<'a>(old: Option<&Value>, new: &'a Value) -> Option<&'a str> {
    let (grants, source) = (&new["spec"]["grants"], &new["spec"]["source"]);
    if is_nothing(grants) {
        return None;
    }
    let same = |field: &str| old.is_some_and(|old| old["spec"][field] == new["spec"][field]);
    if !same("grants") {
        return Some("spec.grants");
    }
    (!same("source") && !source.is_null()).then_some("spec.source of a Plugin that has grants")
}

/// Nothing is granted by what is absent, empty, or made of such parts. Limits alone are no right.
fn is_nothing(grants: &Value) -> bool {
    match grants {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields
            .iter()
            .all(|(field, value)| field == "limits" || is_nothing(value)),
        _ => false,
    }
}

#[async_trait]
impl Plugin for PluginGrants {
    fn name(&self) -> &'static str {
        "PluginGrants"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.group == davit_api::GROUP
            && request.resource == RESOURCE
            && request.subresource.is_empty()
            && matches!(request.operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        let Some(what) = granting(request.old, object) else {
            return Ok(());
        };
        let target = ResourceAttributes {
            group: davit_api::GROUP,
            version: davit_api::VERSION,
            resource: RESOURCE,
            name: request.name,
            ..ResourceAttributes::default()
        };
        let attributes = Attributes::resource("grant", target);
        if self
            .authorizer
            .authorize(request.user, &attributes)
            .await
            .is_allowed()
        {
            return Ok(());
        }
        Err(Error::forbidden(format!(
            "user {:?} (groups={:?}) is attempting to write {what} without the verb \"grant\" on {RESOURCE}.{}",
            request.user.name,
            request.user.groups,
            davit_api::GROUP,
        )))
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

    fn object(grants: Value, file: &str) -> Value {
        json!({"spec": {"source": {"file": file}, "grants": grants}})
    }

    fn some() -> Value {
        json!({"links": {"create": ["dv*"]}})
    }

    #[test]
    fn only_what_gives_rights_needs_the_right_to() {
        let had = object(some(), "/a.wasm");
        let other = json!({"links": {"create": ["*"]}});
        let nothing =
            json!({"links": {"create": []}, "nft": {"filter": false}, "limits": {"cpu": "2s"}});
        let grants = Some("spec.grants");
        for (old, new, expected) in [
            (None, object(some(), "/a.wasm"), grants),
            (None, object(Value::Null, "/a.wasm"), None),
            (None, object(nothing.clone(), "/a.wasm"), None),
            (
                None,
                object(json!({"subjectMetadata": true}), "/a.wasm"),
                grants,
            ),
            (None, object(json!({"hostPorts": "any"}), "/a.wasm"), grants),
            (Some(&had), object(other, "/a.wasm"), grants),
            (Some(&had), object(nothing, "/b.wasm"), None),
            (Some(&had), object(some(), "/a.wasm"), None),
            (
                Some(&had),
                object(some(), "/b.wasm"),
                Some("spec.source of a Plugin that has grants"),
            ),
        ] {
            assert_eq!(granting(old, &new), expected, "{new}");
        }
    }

    #[tokio::test]
    async fn the_verb_is_grant_on_the_plugin() {
        let rule = |verbs: &[&str], names: &[&str]| json!({"verbs": verbs, "apiGroups": [davit_api::GROUP], "resources": [RESOURCE], "resourceNames": names});
        let bound = |name: &str, rules: Value| {
            [
                (
                    Kind::CLUSTER_ROLES,
                    json!({"metadata": {"name": name}, "rules": rules}),
                ),
                (
                    Kind::CLUSTER_ROLE_BINDINGS,
                    json!({
                        "metadata": {"name": name},
                        "roleRef": {"kind": "ClusterRole", "name": name},
                        "subjects": [{"kind": "User", "name": name}],
                    }),
                ),
            ]
        };
        let all = ["get", "create", "update", "patch", "delete"];
        let [one, two] = bound("writer", json!([rule(&all, &[])]));
        let [three, four] = bound("granter", json!([rule(&["grant"], &["lan"])]));
        let authorizer = Authorizer::new(Memory::with([one, two, three, four]));
        let plugin = PluginGrants::new(Arc::new(authorizer));
        let resource = format!("{}/{RESOURCE}", davit_api::GROUP);
        for (user, groups, name, allowed) in [
            ("writer", vec![], "lan", false),
            ("granter", vec![], "lan", true),
            ("granter", vec![], "wan", false),
            ("admin", vec![groups::MASTERS.to_owned()], "wan", true),
        ] {
            let user = UserInfo::new(user, groups);
            let notes = Notes::default();
            let request = Request {
                name,
                ..request(&user, &notes, Operation::Create, &resource, "")
            };
            assert!(plugin.handles(&request));
            let answer = plugin.validate(&request, &object(some(), "/a.wasm")).await;
            assert_eq!(answer.is_ok(), allowed, "{} {name}: {answer:?}", user.name);
            let free = object(Value::Null, "/a.wasm");
            assert!(plugin.validate(&request, &free).await.is_ok());
        }
    }
}
