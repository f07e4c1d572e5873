//! Tables of rules, bindings and decisions.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::auth::memory::Memory;
use crate::auth::{Attributes, Kind, ResourceAttributes, UserInfo};

fn rule(value: Value) -> PolicyRule {
    serde_json::from_value(value).unwrap()
}

fn on<'a>(
    group: &'a str,
    resource: &'a str,
    namespace: &'a str,
    name: &'a str,
) -> ResourceAttributes<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    ResourceAttributes {
        group,
        version: "v1",
        resource,
        subresource,
        namespace,
        name,
        ..Default::default()
    }
}

#[test]
fn rules_match_as_in_kubernetes() {
    let pods = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
    let named = json!({"verbs": ["*"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"]});
    let any_scale = json!({"verbs": ["update"], "apiGroups": ["*"], "resources": ["*/scale"]});
    let all =
        json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": null});
    let cases = [
        (&pods, "get", on("", "pods", "x", "a"), true),
        (&pods, "get", on("", "pods/log", "x", "a"), false),
        (&pods, "list", on("", "pods", "x", ""), false),
        (&pods, "get", on("apps", "pods", "x", "a"), false),
        (&named, "delete", on("", "configmaps", "x", "a"), true),
        (&named, "delete", on("", "configmaps", "x", "b"), false),
        (&named, "list", on("", "configmaps", "x", ""), false),
        (
            &any_scale,
            "update",
            on("apps", "deployments/scale", "x", "a"),
            true,
        ),
        (
            &any_scale,
            "update",
            on("apps", "deployments", "x", "a"),
            false,
        ),
        (&any_scale, "update", on("apps", "scale", "x", "a"), false),
        (&all, "impersonate", on("x.io", "a/b", "", ""), true),
    ];
    for (value, verb, target, expected) in cases {
        let allowed = rule(value.clone()).allows(&Attributes::resource(verb, target));
        assert_eq!(allowed, expected, "{value} {verb} {target:?}");
    }
    let paths = json!({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/api/*"]});
    let cases = [
        ("/metrics", true),
        ("/metrics/x", false),
        ("/api/v1", true),
        ("/apis", false),
    ];
    for (path, expected) in cases {
        assert_eq!(
            rule(paths.clone()).allows(&Attributes::path("get", path)),
            expected,
            "{path}"
        );
    }
    assert!(!rule(all).allows(&Attributes::path("get", "/metrics")));
}

fn cluster() -> Arc<Memory> {
    let read =
        |resource: &str| json!([{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]);
    Memory::with([
        (
            Kind::CLUSTER_ROLES,
            json!({"metadata": {"name": "view", "labels": {"to": "edit"}}, "rules": read("pods")}),
        ),
        (
            Kind::CLUSTER_ROLES,
            json!({
                "metadata": {"name": "edit", "labels": {"to": "admin"}},
                "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "edit"}}]},
                "rules": read("ignored"),
            }),
        ),
        (
            Kind::CLUSTER_ROLES,
            json!({
                "metadata": {"name": "admin"},
                "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "admin"}}]},
            }),
        ),
        (
            Kind::ROLES,
            json!({"metadata": {"namespace": "a", "name": "local"}, "rules": read("secrets")}),
        ),
        (
            Kind::CLUSTER_ROLE_BINDINGS,
            json!({
                "metadata": {"name": "ops"},
                "roleRef": {"kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "Group", "name": "ops"}],
            }),
        ),
        (
            Kind::ROLE_BINDINGS,
            json!({
                "metadata": {"namespace": "a", "name": "web"},
                "roleRef": {"kind": "Role", "name": "local"},
                "subjects": [{"kind": "ServiceAccount", "name": "web", "namespace": "b"}, {"kind": "Robot", "name": "x"}],
            }),
        ),
        (
            Kind::ROLE_BINDINGS,
            json!({
                "metadata": {"namespace": "a", "name": "boss"},
                "roleRef": {"kind": "ClusterRole", "name": "admin"},
                "subjects": [{"kind": "User", "name": "eve"}],
            }),
        ),
        (
            Kind::ROLE_BINDINGS,
            json!({
                "metadata": {"namespace": "a", "name": "dangling"},
                "roleRef": {"kind": "Role", "name": "gone"},
                "subjects": [{"kind": "User", "name": "eve"}],
            }),
        ),
    ])
}

#[test]
fn bindings_grant_where_they_are() {
    let rbac = Rbac::new(cluster());
    let user = |name: &str, groups: &[&str]| UserInfo::new(name, groups.iter().copied());
    let web = UserInfo::service_account("b", "web");
    let (ops, eve) = (user("o", &["ops"]), user("eve", &[]));
    let cases = [
        (
            &ops,
            on("", "pods", "any", "p"),
            Some(
                r#"RBAC: allowed by ClusterRoleBinding "ops" of ClusterRole "view" to Group "ops""#,
            ),
        ),
        (
            &ops,
            on("", "pods", "", "p"),
            Some(
                r#"RBAC: allowed by ClusterRoleBinding "ops" of ClusterRole "view" to Group "ops""#,
            ),
        ),
        (&ops, on("", "secrets", "a", "p"), None),
        (
            &web,
            on("", "secrets", "a", "p"),
            Some(
                r#"RBAC: allowed by RoleBinding "web/a" of Role "local" to ServiceAccount "web/b""#,
            ),
        ),
        (&web, on("", "secrets", "b", "p"), None),
        (
            &eve,
            on("", "pods", "a", "p"),
            Some(r#"RBAC: allowed by RoleBinding "boss/a" of ClusterRole "admin" to User "eve""#),
        ),
        (&eve, on("", "pods", "b", "p"), None),
        (&eve, on("", "ignored", "a", "p"), None),
    ];
    for (user, target, expected) in cases {
        let reason = rbac.allow(user, &Attributes::resource("get", target));
        assert_eq!(reason.as_deref(), expected, "{} {target:?}", user.name);
    }
}

#[test]
fn a_change_is_seen_by_the_next_decision() {
    let source = cluster();
    let rbac = Rbac::new(source.clone());
    let ops = UserInfo::new("o", ["ops"]);
    let get = |namespace| Attributes::resource("get", on("", "pods", namespace, "p"));
    assert!(rbac.allow(&ops, &get("a")).is_some());
    source.remove(Kind::CLUSTER_ROLE_BINDINGS, "", "ops");
    assert!(rbac.allow(&ops, &get("a")).is_none());
    let broken = json!({"metadata": {"name": "broken"}, "roleRef": 7});
    source.put(Kind::CLUSTER_ROLE_BINDINGS, &broken);
    let eve = UserInfo::new("eve", Vec::<String>::new());
    assert!(rbac.allow(&eve, &get("a")).is_some());
}

#[test]
fn only_what_one_has_can_be_granted() {
    let owned = [
        rule(
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/status"]}),
        ),
        rule(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}),
        ),
        rule(json!({"verbs": ["get"], "nonResourceURLs": ["/healthz/*"]})),
    ];
    let cases = [
        (
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "nodes/status"]}),
            vec![],
        ),
        (
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}),
            vec![],
        ),
        (
            json!({"verbs": ["get"], "nonResourceURLs": ["/healthz/ping"]}),
            vec![],
        ),
        (
            json!({"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]}),
            vec![r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}"#],
        ),
        (
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}),
            vec![r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#],
        ),
        (
            json!({"verbs": ["*"], "nonResourceURLs": ["/"]}),
            vec![r#"{NonResourceURLs:["/"], Verbs:["*"]}"#],
        ),
    ];
    for (wanted, missing) in cases {
        let refusal = uncovered(&owned, &[rule(wanted.clone())]).err();
        let got = refusal.map(|refusal| refusal.missing).unwrap_or_default();
        assert_eq!(got, missing, "{wanted}");
    }
}
