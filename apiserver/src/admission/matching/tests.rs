//! Tables of rules and requests.

use serde_json::json;

use super::*;
use crate::admission::Notes;
use crate::admission::testing::request;
use crate::auth::UserInfo;
use crate::auth::memory::Memory;

fn rules(rule: Value) -> Vec<api::RuleWithOperations> {
    serde_json::from_value(json!([rule])).unwrap()
}

fn hook(rule: Value, policy: &str) -> Matcher {
    Matcher::of_webhook(&rules(rule), Some(policy), None, None).unwrap()
}

fn rule(operations: &[&str], group: &str, version: &str, resource: &str) -> Value {
    json!({"operations": operations, "apiGroups": [group], "apiVersions": [version], "resources": [resource]})
}

#[test]
fn rules_name_requests() {
    let (user, notes) = (UserInfo::anonymous(), Notes::default());
    let (registry, source) = (Registry::builtin(), Memory::with([]));
    let all = &["*"][..];
    // resource/subresource of the request, operation, the rule, whether it matches
    let table = [
        (
            "pods",
            "",
            Operation::Create,
            rule(&["CREATE"], "", "v1", "pods"),
            true,
        ),
        (
            "pods",
            "",
            Operation::Update,
            rule(&["CREATE"], "", "v1", "pods"),
            false,
        ),
        (
            "pods",
            "",
            Operation::Delete,
            rule(all, "", "v1", "pods"),
            true,
        ),
        (
            "pods",
            "status",
            Operation::Update,
            rule(all, "", "v1", "pods"),
            false,
        ),
        (
            "pods",
            "status",
            Operation::Update,
            rule(all, "", "v1", "pods/status"),
            true,
        ),
        (
            "pods",
            "status",
            Operation::Update,
            rule(all, "", "v1", "pods/*"),
            true,
        ),
        (
            "pods",
            "",
            Operation::Update,
            rule(all, "", "v1", "pods/*"),
            true,
        ),
        (
            "pods",
            "status",
            Operation::Update,
            rule(all, "", "v1", "*"),
            false,
        ),
        (
            "pods",
            "status",
            Operation::Update,
            rule(all, "*", "*", "*/*"),
            true,
        ),
        (
            "pods",
            "exec",
            Operation::Connect,
            rule(&["CONNECT"], "", "*", "*/exec"),
            true,
        ),
        (
            "pods",
            "",
            Operation::Create,
            rule(all, "apps", "*", "*"),
            false,
        ),
        (
            "apps/deployments",
            "",
            Operation::Create,
            rule(all, "apps", "v1", "*"),
            true,
        ),
        (
            "apps/deployments",
            "",
            Operation::Create,
            rule(all, "*", "v2", "*"),
            false,
        ),
    ];
    for (resource, subresource, operation, rule, matches) in table {
        let request = Request {
            subresource,
            ..request(&user, &notes, operation, resource, "a")
        };
        let scene = Scene::new(&request, &*source, &registry);
        let hit = hook(rule.clone(), "Exact")
            .find(&scene, &json!({}))
            .unwrap();
        assert_eq!(hit.is_some(), matches, "{resource}/{subresource} {rule}");
    }
}

#[test]
fn scope_and_names_narrow() {
    let (user, notes) = (UserInfo::anonymous(), Notes::default());
    let (registry, source) = (Registry::builtin(), Memory::with([]));
    let table = [
        ("nodes", "", "Cluster", true),
        ("nodes", "", "Namespaced", false),
        ("pods", "a", "Namespaced", true),
        ("pods", "a", "Cluster", false),
        ("pods", "a", "*", true),
        ("namespaces", "x", "Cluster", true),
        ("namespaces", "x", "Namespaced", false),
    ];
    for (resource, namespace, scope, matches) in table {
        let mut rule = rule(&["*"], "*", "*", "*");
        rule["scope"] = scope.into();
        let request = request(&user, &notes, Operation::Create, resource, namespace);
        let scene = Scene::new(&request, &*source, &registry);
        let hit = hook(rule, "Exact").find(&scene, &json!({})).unwrap();
        assert_eq!(hit.is_some(), matches, "{resource} {scope}");
    }
    for (names, matches) in [
        (json!(["x"]), true),
        (json!(["y"]), false),
        (json!([]), true),
    ] {
        let mut rule = rule(&["*"], "*", "*", "*");
        rule["resourceNames"] = names;
        let matching = serde_json::from_value(json!({"resourceRules": [rule]})).unwrap();
        let request = request(&user, &notes, Operation::Create, "pods", "a");
        let scene = Scene::new(&request, &*source, &registry);
        let policy = Matcher::of_policy(Some(&matching)).unwrap();
        assert_eq!(policy.find(&scene, &json!({})).unwrap().is_some(), matches);
    }
}

#[test]
fn an_equivalent_version_counts_unless_the_match_is_exact() {
    let (user, notes) = (UserInfo::anonymous(), Notes::default());
    let (registry, source) = (Registry::builtin(), Memory::with([]));
    let rule = rule(&["*"], "autoscaling", "v2", "horizontalpodautoscalers");
    let request = request(
        &user,
        &notes,
        Operation::Create,
        "autoscaling/horizontalpodautoscalers",
        "a",
    );
    let scene = Scene::new(&request, &*source, &registry);
    let object = json!({});
    let hit = hook(rule.clone(), "Equivalent")
        .find(&scene, &object)
        .unwrap();
    assert!(matches!(hit, Some(Hit::As(resource)) if &*resource.version == "v2"));
    assert!(hook(rule, "Exact").find(&scene, &object).unwrap().is_none());
}

#[test]
fn exclusions_win_and_bindings_without_rules_take_everything() {
    let (user, notes) = (UserInfo::anonymous(), Notes::default());
    let (registry, source) = (Registry::builtin(), Memory::with([]));
    let all = rule(&["*"], "*", "*", "*");
    let matching =
        json!({"resourceRules": [all], "excludeResourceRules": [rule(&["*"], "", "v1", "pods")]});
    let matching = serde_json::from_value(matching).unwrap();
    let policy = Matcher::of_policy(Some(&matching)).unwrap();
    for (resource, matches) in [("pods", false), ("secrets", true)] {
        let request = request(&user, &notes, Operation::Create, resource, "a");
        let scene = Scene::new(&request, &*source, &registry);
        assert_eq!(policy.find(&scene, &json!({})).unwrap().is_some(), matches);
        let open = Matcher::of_policy(None).unwrap();
        assert!(open.find(&scene, &json!({})).unwrap().is_some());
    }
}

#[test]
fn labels_of_namespaces_and_objects_select() {
    let (user, notes) = (UserInfo::anonymous(), Notes::default());
    let registry = Registry::builtin();
    let source = Memory::with([(
        Kind::NAMESPACES,
        json!({"metadata": {"name": "a", "labels": {"team": "x"}}}),
    )]);
    let labels = |key: &str, value: &str| -> meta::LabelSelector {
        serde_json::from_value(json!({"matchLabels": {key: value}})).unwrap()
    };
    let all = rules(rule(&["*"], "*", "*", "*"));
    let find = |matcher: &Matcher, resource, namespace, object: Value, old: Option<&Value>| {
        let request = Request {
            old,
            ..request(&user, &notes, Operation::Create, resource, namespace)
        };
        let scene = Scene::new(&request, &*source, &registry);
        matcher.find(&scene, &object).map(|hit| hit.is_some())
    };
    let x = labels("team", "x");
    let by_namespace = Matcher::of_webhook(&all, None, Some(&x), None).unwrap();
    let y = labels("team", "y");
    let by_other = Matcher::of_webhook(&all, None, Some(&y), None).unwrap();
    assert!(find(&by_namespace, "pods", "a", json!({}), None).unwrap());
    assert!(!find(&by_other, "pods", "a", json!({}), None).unwrap());
    assert!(find(&by_other, "nodes", "", json!({}), None).unwrap());
    assert!(find(&by_namespace, "pods", "gone", json!({}), None).is_err());
    let labelled = json!({"metadata": {"labels": {"team": "x"}}});
    assert!(find(&by_namespace, "namespaces", "n", labelled.clone(), None).unwrap());
    let by_object = Matcher::of_webhook(&all, None, None, Some(&x)).unwrap();
    assert!(find(&by_object, "pods", "a", labelled.clone(), None).unwrap());
    assert!(find(&by_object, "pods", "a", Value::Null, Some(&labelled)).unwrap());
    assert!(!find(&by_object, "pods", "a", json!({}), None).unwrap());
}
