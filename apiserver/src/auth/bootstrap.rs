//! The objects every cluster has from its first start: roles, bindings, namespaces, priority classes.
//!
//! [`objects`] says what there should be, [`plan`] compares one of them with what there is. The server
//! applies the plan at every start, so new versions of davit extend the roles of old clusters; whoever
//! sets the annotation `rbac.authorization.kubernetes.io/autoupdate` to `false` keeps their own.

mod certificates;
mod roles;
mod table;

use serde_json::{Map, Value, json};

pub use table::objects;

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const BOOTSTRAPPING: &str = "kubernetes.io/bootstrapping";
const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// An object that has to exist.
#[derive(Clone, Debug)]
pub struct BootstrapObject {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Plural name.
    pub plural: &'static str,
    /// The object as it is created.
    pub object: Value,
}

/// What to write so that `wanted` exists: the object itself when there is none, the present object with
/// what it lacks, or `None` when nothing is to be done.
///
/// Only roles and bindings are extended, and never narrowed: rules, subjects and labels somebody added
/// stay.
pub fn plan(wanted: &Value, present: Option<&Value>) -> Option<Value> {
    let Some(present) = present else {
        return Some(wanted.clone());
    };
    let annotation = present["metadata"]["annotations"][AUTO_UPDATE].as_str();
    if annotation != Some("true") {
        return None;
    }
    let mut result = present.clone();
    add_missing_keys(&mut result, wanted, "/metadata/labels");
    for list in ["rules", "subjects"] {
        add_missing_items(&mut result, wanted, list);
    }
    if wanted.get("aggregationRule").is_some() && present.get("aggregationRule").is_none() {
        result["aggregationRule"] = wanted["aggregationRule"].clone();
    }
    (result != *present).then_some(result)
}

fn add_missing_keys(result: &mut Value, wanted: &Value, pointer: &str) {
    let Some(Value::Object(keys)) = wanted.pointer(pointer) else {
        return;
    };
    let Some(labels) = result.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let labels = labels.entry("labels").or_insert_with(|| Map::new().into());
    for (key, value) in keys {
        if labels.get(key).is_none() {
            labels[key] = value.clone();
        }
    }
}

fn add_missing_items(result: &mut Value, wanted: &Value, list: &str) {
    let Some(items) = wanted.get(list).and_then(Value::as_array) else {
        return;
    };
    let mut have = result
        .get(list)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let missing: Vec<_> = items
        .iter()
        .filter(|item| !have.contains(item))
        .cloned()
        .collect();
    if !missing.is_empty() {
        have.extend(missing);
        result[list] = have.into();
    }
}

/// Metadata of an object that is kept current.
fn kept(name: &str) -> Value {
    json!({
        "name": name,
        "labels": {BOOTSTRAPPING: "rbac-defaults"},
        "annotations": {AUTO_UPDATE: "true"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::memory::Memory;
    use crate::auth::{Attributes, Authorizer, Kind, ResourceAttributes, UserInfo};

    #[test]
    fn plans_add_and_never_remove() {
        let rule = |verb: &str| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]});
        let role = |auto: &str, rules: &[Value]| {
            let mut metadata = kept("r");
            metadata["annotations"][AUTO_UPDATE] = auto.into();
            json!({"metadata": metadata, "rules": rules})
        };
        let wanted = role("true", &[rule("get"), rule("list")]);
        assert_eq!(plan(&wanted, None), Some(wanted.clone()));
        assert_eq!(plan(&wanted, Some(&wanted)), None);
        let present = role("true", &[rule("delete"), rule("get")]);
        let extended = role("true", &[rule("delete"), rule("get"), rule("list")]);
        assert_eq!(plan(&wanted, Some(&present)), Some(extended));
        assert_eq!(plan(&wanted, Some(&role("false", &[]))), None);
        assert_eq!(
            plan(&wanted, Some(&json!({"metadata": {"name": "r"}}))),
            None
        );
    }

    #[test]
    fn objects_are_unique_and_bindings_have_their_role() {
        let objects = objects();
        let mut seen = std::collections::HashSet::new();
        let name = |object: &Value, field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        for BootstrapObject { plural, object, .. } in &objects {
            let key = (*plural, name(object, "namespace"), name(object, "name"));
            assert!(seen.insert(key.clone()), "{key:?} is there twice");
        }
        for BootstrapObject { plural, object, .. } in &objects {
            let Some(role) = object["roleRef"]["name"].as_str() else {
                continue;
            };
            let of_cluster = object["roleRef"]["kind"] == "ClusterRole";
            let kind = if of_cluster { "clusterroles" } else { "roles" };
            let namespace = if of_cluster {
                String::new()
            } else {
                name(object, "namespace")
            };
            assert!(
                seen.contains(&(kind, namespace, role.to_owned())),
                "{plural} {object}"
            );
        }
    }

    #[tokio::test]
    async fn the_roles_grant_what_their_names_promise() {
        let kind = |plural: &str| {
            [
                Kind::CLUSTER_ROLES,
                Kind::CLUSTER_ROLE_BINDINGS,
                Kind::ROLES,
                Kind::ROLE_BINDINGS,
            ]
            .into_iter()
            .find(|kind| kind.plural == plural)
        };
        let objects = objects().into_iter();
        let source =
            Memory::with(objects.filter_map(|object| Some((kind(object.plural)?, object.object))));
        for role in ["admin", "edit", "view"] {
            source.put(
                Kind::ROLE_BINDINGS,
                &json!({
                    "metadata": {"namespace": "a", "name": role},
                    "roleRef": {"kind": "ClusterRole", "name": role},
                    "subjects": [{"kind": "User", "name": role}],
                }),
            );
        }
        let authorizer = Authorizer::new(source);
        let cases = [
            ("view", "list", "", "pods", true),
            ("view", "get", "", "secrets", false),
            ("view", "create", "", "pods", false),
            ("edit", "get", "", "secrets", true),
            ("edit", "delete", "apps", "deployments", true),
            ("edit", "list", "batch", "cronjobs", true),
            (
                "edit",
                "create",
                "rbac.authorization.k8s.io",
                "roles",
                false,
            ),
            (
                "admin",
                "create",
                "rbac.authorization.k8s.io",
                "rolebindings",
                true,
            ),
            (
                "admin",
                "create",
                "authorization.k8s.io",
                "localsubjectaccessreviews",
                true,
            ),
            ("admin", "delete", "", "namespaces", false),
            ("system:kube-scheduler", "create", "", "pods", false),
            ("nobody", "list", "", "pods", false),
        ];
        for (user, verb, group, resource, expected) in cases {
            let target = ResourceAttributes {
                group,
                version: "v1",
                resource,
                namespace: "a",
                ..Default::default()
            };
            let user = UserInfo::new(user, Vec::<String>::new());
            let decision = authorizer
                .authorize(&user, &Attributes::resource(verb, target))
                .await;
            assert_eq!(
                decision.is_allowed(),
                expected,
                "{} {verb} {resource}",
                user.name
            );
        }
        let paths = [
            ("/version", UserInfo::anonymous(), true),
            ("/api", UserInfo::anonymous(), false),
            ("/api", UserInfo::new("bob", Vec::<String>::new()), true),
            (
                "/openapi/v3/apis/apps/v1",
                UserInfo::new("bob", Vec::<String>::new()),
                true,
            ),
            (
                "/metrics",
                UserInfo::new("bob", Vec::<String>::new()),
                false,
            ),
        ];
        for (path, user, expected) in paths {
            let decision = authorizer
                .authorize(&user, &Attributes::path("get", path))
                .await;
            assert_eq!(decision.is_allowed(), expected, "{} {path}", user.name);
        }
    }
}
