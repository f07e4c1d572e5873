//! Configuration files that change while the server runs.

use std::time::Duration;

use serde_json::json;

use super::*;

fn authorizers(kinds: &[&str]) -> String {
    let list: Vec<Value> = kinds
        .iter()
        .map(|kind| json!({"type": kind, "name": kind.to_lowercase()}))
        .collect();
    json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
        "authorizers": list})
    .to_string()
}

/// Waits until a reader's request is answered with this code.
async fn reaches(rig: &Rig, code: u16) {
    let mut last = 0;
    for _ in 0..600 {
        let reader = UserInfo::new("reader", ["readers"]);
        let reply = rig
            .peer_send(Some(reader), "GET", CONFIG_MAPS, &[], Body::empty())
            .await;
        last = reply.code;
        if last == code {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{last} instead of {code}");
}

#[tokio::test]
async fn who_is_asked_for_rights_changes_with_the_file_and_a_broken_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("authorization.yaml");
    std::fs::write(&file, authorizers(&["Node", "RBAC"])).unwrap();
    let listen = "127.0.0.1:6443".parse().unwrap();
    let mut config = Config::new(dir.path().to_owned(), listen);
    config.store = StoreKind::Memory;
    config.authorization = Some(file.clone());
    let rig = Rig::open(dir, config, Registry::builtin()).await;
    let binding = json!({"metadata": {"name": "readers"},
        "subjects": [{"kind": "Group", "name": "readers", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    rig.make(bindings, binding).await;
    reaches(&rig, 200).await;
    std::fs::write(&file, authorizers(&["Node"])).unwrap();
    reaches(&rig, 403).await;
    std::fs::write(&file, "no such thing").unwrap();
    let next = file.with_extension("next");
    std::fs::write(&next, authorizers(&["RBAC"])).unwrap();
    reaches(&rig, 403).await;
    std::fs::rename(&next, &file).unwrap();
    reaches(&rig, 200).await;
}
