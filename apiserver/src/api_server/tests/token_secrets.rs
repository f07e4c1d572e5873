//! Secrets that hold a token of a service account.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

fn secret(account: &str) -> Value {
    json!({"metadata": {"name": "t", "annotations": {"kubernetes.io/service-account.name": account}},
        "type": "kubernetes.io/service-account-token"})
}

/// Who a token is, as `kubectl auth whoami` asks; nobody when it is refused.
async fn who(rig: &Rig, token: &str) -> Option<String> {
    let bearer = format!("Bearer {token}");
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let headers = [("authorization", &*bearer)];
    let reply = rig.peer_send(None, "POST", path, &headers, "{}").await;
    let name = reply.body["status"]["userInfo"]["username"].as_str();
    name.filter(|_| reply.code == 201).map(str::to_owned)
}

#[tokio::test]
async fn a_token_is_filled_in_and_lasts_as_long_as_its_secret() {
    let rig = Rig::new().await;
    let made = rig.make(SECRETS, secret("default")).await;
    let text = |key: &str| {
        STANDARD
            .decode(made["data"][key].as_str().unwrap())
            .unwrap()
    };
    assert_eq!(text("namespace"), b"default");
    assert!(text("ca.crt").starts_with(b"-----BEGIN CERTIFICATE"));
    let token = String::from_utf8(text("token")).unwrap();
    let name = Some("system:serviceaccount:default:default".to_owned());
    assert_eq!(who(&rig, &token).await, name);
    let account = rig
        .get("/api/v1/namespaces/default/serviceaccounts/default")
        .await
        .ok();
    let owner = &made["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], account["metadata"]["uid"]);
    let path = format!("{SECRETS}/t");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let changed = rig.patch(&path, "merge-patch+json", label).await.ok();
    assert_eq!(changed["data"], made["data"]);
    rig.delete(&path).await.ok();
    assert_eq!(who(&rig, &token).await, None);
}

#[tokio::test]
async fn without_its_account_a_secret_stays_empty_until_it_is_written_again() {
    let rig = Rig::new().await;
    let made = rig.make(SECRETS, secret("later")).await;
    assert!(made["data"].is_null());
    let account = json!({"metadata": {"name": "later"}});
    rig.make("/api/v1/namespaces/default/serviceaccounts", account)
        .await;
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let path = format!("{SECRETS}/t");
    let filled = rig.patch(&path, "merge-patch+json", label).await.ok();
    assert!(filled["data"]["token"].is_string());
    let annotations = &filled["metadata"]["annotations"];
    assert!(annotations["kubernetes.io/service-account.uid"].is_string());
}
