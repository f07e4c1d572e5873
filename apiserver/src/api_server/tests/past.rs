//! Who may read what was: names mean what has them now.

use serde_json::json;

use super::*;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const SECRETS: &str = "/api/v1/namespaces/a/secrets";

/// A namespace with what a controller makes in it.
async fn namespace(rig: &Rig) {
    rig.make("/api/v1/namespaces", json!({"metadata": {"name": "a"}}))
        .await;
}

async fn remove_namespace(rig: &Rig) {
    rig.delete("/api/v1/namespaces/a").await.ok();
    let empty = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {"finalizers": []}});
    rig.put("/api/v1/namespaces/a/finalize", empty).await.ok();
    rig.get("/api/v1/namespaces/a")
        .await
        .refused(404, "not found");
}

fn secret(value: &str) -> Value {
    json!({"metadata": {"name": "s"}, "stringData": {"key": value}})
}

/// Binds `user` to rules on secrets, in the namespace or everywhere.
async fn grant(rig: &Rig, user: &str, everywhere: bool, rules: Value) {
    let group = "rbac.authorization.k8s.io";
    let (place, prefix) = if everywhere {
        (RBAC.to_owned(), "Cluster")
    } else {
        (format!("{RBAC}/namespaces/a"), "")
    };
    let prefix_path = prefix.to_lowercase();
    let role = json!({"metadata": {"name": user}, "rules": rules});
    rig.make(&format!("{place}/{prefix_path}roles"), role).await;
    let binding = json!({
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": format!("{prefix}Role"), "name": user},
        "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
    });
    rig.make(&format!("{place}/{prefix_path}rolebindings"), binding)
        .await;
}

fn reading(names: Value) -> Value {
    let mut rule =
        json!({"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["secrets"]});
    if !names.is_null() {
        rule["resourceNames"] = names;
    }
    json!([rule])
}

async fn get(rig: &Rig, user: &str, path: &str) -> Reply {
    let user = UserInfo::new(user, Vec::<String>::new());
    rig.send_as(Some(user), "GET", path, &[], Body::empty())
        .await
}

fn text(reply: &Reply) -> String {
    reply
        .body
        .as_str()
        .map_or_else(|| reply.body.to_string(), str::to_owned)
}

#[tokio::test]
async fn the_next_owner_of_a_namespace_does_not_see_what_was_in_it() {
    let rig = Rig::new().await;
    namespace(&rig).await;
    for name in ["s", "t"] {
        let mut object = secret("b2xk");
        object["metadata"]["name"] = name.into();
        rig.make(SECRETS, object).await;
    }
    let then = rig.server.store.revision();
    let exact = format!("resourceVersion={then}&resourceVersionMatch=Exact");
    // A list that began when the namespace was another's.
    let page = rig.get(&format!("{SECRETS}?limit=1")).await.ok();
    let token = page["metadata"]["continue"].as_str().unwrap().to_owned();
    for name in ["s", "t"] {
        rig.delete(&format!("{SECRETS}/{name}")).await.ok();
    }
    remove_namespace(&rig).await;
    namespace(&rig).await;
    grant(&rig, "next", false, reading(Value::Null)).await;
    grant(&rig, "auditor", true, reading(Value::Null)).await;
    let one = format!("{SECRETS}/s?{exact}");
    let pinned = format!("{SECRETS}?fieldSelector=metadata.name%3Ds&{exact}");
    let all = format!("{SECRETS}?{exact}");
    for path in [&one, &pinned, &all] {
        get(&rig, "next", path).await.refused(403, "secrets");
        let seen = get(&rig, "auditor", path).await;
        assert!(
            seen.code == 200 && text(&seen).contains("YjJ4aw=="),
            "{path}: {}",
            seen.body
        );
    }
    let rest = format!("{SECRETS}?limit=1&continue={token}");
    get(&rig, "next", &rest).await.refused(410, "");
    assert!(text(&get(&rig, "auditor", &rest).await).contains("YjJ4aw=="));
    let watch = format!("{SECRETS}?watch=true&timeoutSeconds=1&resourceVersion={then}");
    let events = text(&get(&rig, "next", &watch).await);
    assert!(
        events.contains("\"ERROR\"") && events.contains("410") && !events.contains("YjJ4aw=="),
        "{events}"
    );
    let events = text(&get(&rig, "auditor", &watch).await);
    assert!(
        events.contains("\"DELETED\"") && events.contains("YjJ4aw=="),
        "{events}"
    );
    // What is there now, and was since, is read as ever.
    rig.make(SECRETS, secret("bmV3")).await;
    let now = rig.server.store.revision();
    let exact = format!("resourceVersion={now}&resourceVersionMatch=Exact");
    for path in [
        SECRETS.to_owned(),
        format!("{SECRETS}?{exact}"),
        format!("{SECRETS}/s?{exact}"),
        format!("{SECRETS}?watch=true&timeoutSeconds=1&resourceVersion={now}"),
    ] {
        let seen = get(&rig, "next", &path).await;
        assert_eq!(seen.code, 200, "{path}: {}", seen.body);
    }
}

#[tokio::test]
async fn a_right_to_a_name_is_not_one_to_what_had_it_before() {
    let rig = Rig::new().await;
    namespace(&rig).await;
    rig.make(SECRETS, secret("b2xk")).await;
    let then = rig.server.store.revision();
    rig.delete(&format!("{SECRETS}/s")).await.ok();
    rig.make(SECRETS, secret("bmV3")).await;
    let made = rig.server.store.revision();
    rig.patch(
        &format!("{SECRETS}/s"),
        "merge-patch+json",
        json!({"stringData": {"key": "bGF0ZXI="}}),
    )
    .await
    .ok();
    grant(&rig, "named", false, reading(json!(["s"]))).await;
    grant(&rig, "reader", false, reading(Value::Null)).await;
    let at = |revision: u64| format!("resourceVersion={revision}&resourceVersionMatch=Exact");
    let one = |revision| format!("{SECRETS}/s?{}", at(revision));
    let pinned = |revision| format!("{SECRETS}?fieldSelector=metadata.name%3Ds&{}", at(revision));
    for path in [one(then), pinned(then)] {
        get(&rig, "named", &path).await.refused(403, "secrets");
        get(&rig, "reader", &path).await.ok();
    }
    for path in [one(made), pinned(made)] {
        get(&rig, "named", &path).await.ok();
    }
    let watch = |revision: u64| {
        format!(
            "{SECRETS}?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Ds&resourceVersion={revision}"
        )
    };
    let events = text(&get(&rig, "named", &watch(then)).await);
    assert!(
        events.contains("\"ERROR\"") && !events.contains("\"DELETED\""),
        "{events}"
    );
    let events = text(&get(&rig, "named", &watch(made)).await);
    assert!(events.contains("\"MODIFIED\""), "{events}");
    let events = text(&get(&rig, "reader", &watch(then)).await);
    assert!(
        events.contains("\"DELETED\"") && events.contains("\"MODIFIED\""),
        "{events}"
    );
    // Once it is gone, nobody has the name.
    rig.delete(&format!("{SECRETS}/s")).await.ok();
    get(&rig, "named", &one(made)).await.refused(403, "secrets");
    get(&rig, "reader", &one(made)).await.ok();
    let events = text(&get(&rig, "named", &watch(rig.server.store.revision())).await);
    assert!(!events.contains("\"ERROR\""), "{events}");
}
