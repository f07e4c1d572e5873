//! Several objects in one write.

use serde_json::json;

use super::*;

const PATH: &str = "/apis/davit.dev/v1alpha1/transactions?fieldManager=t";

fn item(action: &str, mut object: Value) -> Value {
    object["metadata"]["namespace"] = "default".into();
    json!({ "action": action, "object": object })
}

fn items(items: &[Value]) -> Value {
    json!({ "kind": "Transaction", "apiVersion": "davit.dev/v1alpha1", "items": items })
}

#[tokio::test]
async fn all_objects_are_written_at_one_revision() {
    let rig = Rig::new().await;
    rig.make(CONFIG_MAPS, config_map("old", "1")).await;
    rig.make(CONFIG_MAPS, config_map("gone", "1")).await;
    let before = rig.server.store.revision();
    let wanted = items(&[
        item("Create", config_map("new", "1")),
        item("Apply", config_map("old", "2")),
        item("Delete", config_map("gone", "")),
        item("Create", pod("web")),
    ]);
    let answer = rig.post(&format!("{PATH}&force=true"), wanted).await.ok();
    assert_eq!(rig.server.store.revision(), before + 1);
    let revision = (before + 1).to_string();
    assert_eq!(answer["metadata"]["resourceVersion"], revision);
    for at in [0, 1, 3] {
        assert_eq!(
            answer["items"][at]["metadata"]["resourceVersion"], revision,
            "{at}"
        );
    }
    let old = rig.get(&format!("{CONFIG_MAPS}/old")).await.ok();
    assert_eq!(
        (&old["data"]["key"], &old["metadata"]["resourceVersion"]),
        (&json!("2"), &json!(revision))
    );
    rig.get(&format!("{CONFIG_MAPS}/gone"))
        .await
        .refused(404, "not found");
    rig.get(&format!("{PODS}/web")).await.ok();
}

#[tokio::test]
async fn items_see_what_earlier_ones_make() {
    let rig = Rig::new().await;
    let namespace = json!({"action": "Create", "object": {
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}});
    let within = |mut object: Value| {
        object["metadata"]["namespace"] = "shop".into();
        json!({"action": "Create", "object": object})
    };
    let service = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "NodePort", "ports": [{"port": 80}]}})
    };
    let content = [
        within(config_map("settings", "1")),
        within(pod("web")),
        within(service("one")),
        within(service("two")),
    ];
    // The other way round, the namespace is not there yet.
    let reversed: Vec<Value> = content.iter().cloned().chain([namespace.clone()]).collect();
    rig.post(PATH, items(&reversed))
        .await
        .refused(404, "namespaces \"shop\" not found");
    let missing = within(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other"},
        "spec": {"serviceAccountName": "none", "containers": [{"name": "c", "image": "i"}]}}),
    );
    rig.post(PATH, items(&[namespace.clone(), missing]))
        .await
        .refused(403, "error looking up service account shop/none");
    rig.get("/api/v1/namespaces/shop")
        .await
        .refused(404, "not found");
    let whole: Vec<Value> = [namespace].into_iter().chain(content).collect();
    let answer = rig.post(PATH, items(&whole)).await.ok();
    let revision = answer["metadata"]["resourceVersion"].as_str().unwrap();
    for item in answer["items"].as_array().unwrap() {
        assert_eq!(item["metadata"]["resourceVersion"], revision, "{item}");
    }
    assert_eq!(answer["items"][2]["spec"]["serviceAccountName"], "default");
    let ports = [3, 4].map(|at| &answer["items"][at]["spec"]["ports"][0]["nodePort"]);
    assert_ne!(ports[0], ports[1]);
    rig.get("/api/v1/namespaces/shop/pods/web").await.ok();
}

#[tokio::test]
async fn one_that_is_refused_keeps_all_from_being_written() {
    let rig = Rig::new().await;
    rig.make(CONFIG_MAPS, config_map("there", "1")).await;
    let stored = async || {
        let kinds = [rig.get(CONFIG_MAPS).await.ok(), rig.get(PODS).await.ok()];
        kinds.map(|list| list["items"].clone())
    };
    let before = stored().await;
    let mut bad = pod("bad");
    bad["spec"]["containers"][0]["image"] = "".into();
    let cases = [
        (item("Create", bad), 422, "spec.containers[0].image"),
        (
            item("Create", config_map("there", "2")),
            409,
            "already exists",
        ),
        (item("Update", config_map("none", "2")), 404, "not found"),
        (item("Create", config_map("a", "2")), 400, "two items"),
        (
            item("Create", json!({"kind": "Nothing", "apiVersion": "v1"})),
            400,
            "no matches for kind",
        ),
        (
            json!({"action": "Create", "object": config_map("x", "1")}),
            400,
            "needs a namespace",
        ),
    ];
    for (second, code, message) in cases {
        let wanted = items(&[item("Create", config_map("a", "1")), second]);
        rig.post(PATH, wanted).await.refused(code, message);
    }
    rig.post(PATH, items(&[]))
        .await
        .refused(400, "1 to 1024 items");
    assert_eq!(stored().await, before);
    let dry = items(&[item("Create", config_map("a", "1"))]);
    rig.post(&format!("{PATH}&dryRun=All"), dry).await.ok();
    assert_eq!(stored().await, before);
}

#[tokio::test]
async fn every_item_needs_the_right_to_it() {
    let rig = Rig::new().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({ "metadata": { "name": "writer" }, "rules": [
        { "verbs": ["create"], "apiGroups": ["davit.dev"], "resources": ["transactions"] },
        { "verbs": ["create"], "apiGroups": [""], "resources": ["configmaps"] },
    ]});
    let binding = json!({ "metadata": { "name": "writer" },
        "roleRef": { "kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": "writer" },
        "subjects": [{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob" }] });
    let bob = || Some(UserInfo::new("bob", Vec::<String>::new()));
    let post = async |wanted: Value| {
        rig.send_as(bob(), "POST", PATH, &[], wanted.to_string())
            .await
    };
    let both = items(&[
        item("Create", config_map("a", "1")),
        item("Create", pod("web")),
    ]);
    post(both.clone())
        .await
        .refused(403, "transactions.davit.dev is forbidden");
    rig.make(&format!("{rbac}/clusterroles"), role).await;
    rig.make(&format!("{rbac}/clusterrolebindings"), binding)
        .await;
    post(both).await.refused(403, "pods is forbidden");
    rig.get(&format!("{CONFIG_MAPS}/a"))
        .await
        .refused(404, "not found");
    post(items(&[item("Create", config_map("a", "1"))]))
        .await
        .ok();
}
