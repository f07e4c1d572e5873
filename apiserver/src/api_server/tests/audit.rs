//! The audit log of whole requests.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::audit::Settings;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- level: None
  users: ['davit:apiserver', tester]
- level: Metadata
  resources: [{resources: [secrets]}]
- level: RequestResponse
  omitStages: [RequestReceived]
";

async fn rig() -> (Rig, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (policy, log) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
    std::fs::write(&policy, POLICY).unwrap();
    let mut config = Config::new(dir.path().to_owned(), "127.0.0.1:6443".parse().unwrap());
    config.store = StoreKind::Memory;
    config.audit = Some(Settings::new(policy, log.clone()));
    (Rig::open(dir, config, Registry::builtin()).await, log)
}

/// The log's events once there are `count`; the thread that writes needs a moment.
async fn events(log: &Path, count: usize) -> Vec<Value> {
    let read = async {
        loop {
            let text = std::fs::read_to_string(log).unwrap();
            let whole = text.ends_with('\n') && text.lines().count() >= count;
            if whole {
                return text
                    .lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect();
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), read)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_write_is_logged_with_its_objects_and_its_author() {
    let (rig, log) = rig().await;
    let admin = || Some(UserInfo::new("root", [groups::MASTERS]));
    let headers = [
        ("impersonate-user", "bob"),
        ("impersonate-group", groups::MASTERS),
        ("audit-id", "one"),
        ("user-agent", "x/1"),
    ];
    let body = config_map("a", "1").to_string();
    let reply = rig
        .peer_send(
            admin(),
            "POST",
            &format!("{CONFIG_MAPS}?x=y"),
            &headers,
            body,
        )
        .await;
    assert_eq!(
        (reply.code, reply.headers["audit-id"].to_str().unwrap()),
        (201, "one")
    );
    let event = &events(&log, 1).await[0];
    let expected = json!({
        "level": "RequestResponse", "stage": "ResponseComplete", "verb": "create", "auditID": "one",
        "requestURI": format!("{CONFIG_MAPS}?x=y"), "userAgent": "x/1",
        "objectRef": {"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 201},
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&event[key], value, "{key}");
    }
    assert_eq!(event["user"]["username"], "root");
    assert_eq!(event["impersonatedUser"]["username"], "bob");
    assert_eq!(
        event["annotations"]["authorization.k8s.io/decision"],
        "allow"
    );
    assert_eq!(event["requestObject"]["data"]["key"], "1");
    let answered = &event["responseObject"]["metadata"];
    assert!(answered["uid"].is_string() && answered.get("managedFields").is_none());
}

#[tokio::test]
async fn refusals_secrets_and_watches_are_logged_as_the_policy_says() {
    let (rig, log) = rig().await;
    let bob = || Some(UserInfo::new("bob", Vec::<String>::new()));
    let reply = rig.peer_send(bob(), "GET", PODS, &[], "").await;
    assert_eq!(reply.code, 403);
    let reply = rig
        .peer_send(None, "GET", PODS, &[("authorization", "Bearer no")], "")
        .await;
    assert_eq!(reply.code, 401);
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "hidden"}}).to_string();
    let admin = Some(UserInfo::new("root", [groups::MASTERS]));
    let reply = rig
        .peer_send(
            admin,
            "POST",
            "/api/v1/namespaces/default/secrets",
            &[],
            secret,
        )
        .await;
    assert_eq!(reply.code, 201);
    let admin = Some(UserInfo::new("root", [groups::MASTERS]));
    let path = format!("{PODS}?watch=1&timeoutSeconds=1");
    rig.peer_send(admin, "GET", &path, &[], "").await;
    let events = events(&log, 6).await;
    let seen: Vec<_> = events
        .iter()
        .map(|event| {
            (
                event["stage"].as_str().unwrap(),
                event["verb"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("ResponseComplete", "list"),
            ("ResponseStarted", "list"),
            ("RequestReceived", "create"),
            ("ResponseComplete", "create"),
            ("ResponseStarted", "watch"),
            ("ResponseComplete", "watch"),
        ]
    );
    assert_eq!(
        events[0]["annotations"]["authorization.k8s.io/decision"],
        "forbid"
    );
    assert_eq!(events[0]["responseStatus"]["reason"], "Forbidden");
    assert_eq!(events[1]["responseStatus"]["code"], 401);
    assert!(!events[3].to_string().contains("hidden"));
    assert_eq!(events[3]["objectRef"]["name"], "s");
}
