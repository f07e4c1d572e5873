//! Reviews answered by a server on loopback.

use std::path::PathBuf;

use serde_json::json;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::auth::memory::Memory;
use crate::auth::{Attributes, Authorizer, Decision, ResourceAttributes, UserInfo};
use crate::callout::Reach;
use crate::callout::testing::{Asked, Server};

fn callouts() -> Arc<Callouts> {
    Arc::new(Callouts::new(Memory::with([]), None, Reach::default()))
}

/// A kubeconfig for a server.
fn kubeconfig(dir: &Path, server: &Server) -> PathBuf {
    let path = dir.join("webhook.kubeconfig");
    let config = json!({
        "kind": "Config", "apiVersion": "v1", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": server.url("/ask"), "certificate-authority-data": server.bundle()}}],
        "users": [{"name": "u", "user": {"token": "mine"}}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

async fn server(answer: impl Fn(&Asked) -> Value + Send + Sync + 'static) -> Server {
    Server::start(&["localhost"], move |asked| {
        let status = answer(asked);
        let code = if status == "broken" { 500 } else { 200 };
        (
            code,
            Vec::new(),
            json!({"status": status, "spec": {}, "metadata": {}}).to_string(),
        )
    })
    .await
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_only_for_its_audiences() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(
        |asked| match asked.body["spec"]["token"].as_str().unwrap() {
            "good" => {
                json!({"authenticated": true, "user": {"username": "bob", "groups": ["dev"]}})
            }
            "other" => {
                json!({"authenticated": true, "audiences": ["x"], "user": {"username": "bob"}})
            }
            "broken" => json!("broken"),
            _ => json!({"authenticated": false}),
        },
    )
    .await;
    let file = kubeconfig(dir.path(), &server);
    let webhook = TokenWebhook::load(&file, Duration::from_secs(60), callouts()).unwrap();
    let own = ["davit".to_owned()];
    let ask = async |token: &str| webhook.authenticate(token, &own, &own).await;
    for _ in 0..2 {
        let (user, audiences) = ask("good").await.unwrap();
        assert_eq!(
            (&*user, audiences),
            (&UserInfo::new("bob", ["dev"]), own.to_vec())
        );
        assert!(ask("bad").await.unwrap_err().contains("does not know"));
        assert!(ask("other").await.unwrap_err().contains("audiences"));
    }
    assert_eq!(server.asked().len(), 3);
    assert_eq!(server.asked()[0].headers["authorization"], "Bearer mine");
    // Failures are not remembered.
    for _ in 0..2 {
        assert!(ask("broken").await.unwrap_err().contains("500"));
    }
    assert_eq!(server.asked().len(), 5);
}

fn configuration(dir: &Path, file: &Path, policy: &str) -> PathBuf {
    let path = dir.join("authorization.yaml");
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
        "authorizers": [
            {"type": "Webhook", "name": "w", "webhook": {
                "timeout": "3s", "subjectAccessReviewVersion": "v1",
                "matchConditionSubjectAccessReviewVersion": "v1", "failurePolicy": policy,
                "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": file},
                "matchConditions": [{"expression": "!('system:nodes' in request.groups)"}, {"expression": "has(request.resourceAttributes)"}],
            }},
            {"type": "RBAC", "name": "r"},
        ],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[tokio::test]
async fn rights_are_asked_for_where_the_conditions_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(|asked| {
        match asked.body["spec"]["resourceAttributes"]["resource"]
            .as_str()
            .unwrap()
        {
            "pods" => json!({"allowed": true, "reason": "because"}),
            "nodes" => json!({"allowed": false, "denied": true, "reason": "never"}),
            "events" => json!("broken"),
            _ => json!({"allowed": false}),
        }
    })
    .await;
    let file = kubeconfig(dir.path(), &server);
    let path = configuration(dir.path(), &file, "Deny");
    let steps = load_steps(&path, &callouts()).unwrap();
    let authorizer = Authorizer::with(Memory::with([]), steps);
    let bob = UserInfo::new("bob", ["dev"]);
    let of = |resource| {
        Attributes::resource(
            "get",
            ResourceAttributes {
                resource,
                version: "v1",
                ..Default::default()
            },
        )
    };
    for _ in 0..2 {
        let decision = authorizer.authorize(&bob, &of("pods")).await;
        assert_eq!(
            decision,
            Decision::Allow {
                reason: "because".into()
            }
        );
        let decision = authorizer.authorize(&bob, &of("nodes")).await;
        assert_eq!(
            decision,
            Decision::Deny {
                reason: "never".into()
            }
        );
        let decision = authorizer.authorize(&bob, &of("secrets")).await;
        assert_eq!(
            decision,
            Decision::NoOpinion {
                reason: String::new()
            }
        );
    }
    assert_eq!(server.asked().len(), 3);
    assert!(matches!(
        authorizer.authorize(&bob, &of("events")).await,
        Decision::Deny { .. }
    ));
    let asked = server.asked().len();
    let node = UserInfo::node("n");
    assert!(!authorizer.authorize(&node, &of("pods")).await.is_allowed());
    assert!(
        !authorizer
            .authorize(&bob, &Attributes::path("get", "/metrics"))
            .await
            .is_allowed()
    );
    assert_eq!(server.asked().len(), asked);
    assert_eq!(
        server.asked()[0].body["spec"],
        json!({"user": "bob", "groups": bob.groups,
        "resourceAttributes": {"verb": "get", "version": "v1", "resource": "pods"}})
    );
}

#[test]
fn files_that_cannot_be_followed_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n";
    let cases = [
        (format!("{head}authorizers: []"), "at least one"),
        (
            format!("{head}authorizers: [{{type: RBAC, name: a}}, {{type: RBAC, name: b}}]"),
            "Duplicate value",
        ),
        (
            format!("{head}authorizers: [{{type: RBAC}}]"),
            "name: Required",
        ),
        (
            format!("{head}authorizers: [{{type: ABAC, name: a}}]"),
            "must be Node, RBAC or Webhook",
        ),
        (
            format!("{head}authorizers: [{{type: Webhook, name: a}}]"),
            "webhook: Required",
        ),
        (
            "kind: X\napiVersion: y\nauthorizers: []".to_owned(),
            "is not apiserver.config",
        ),
    ];
    for (text, expected) in cases {
        std::fs::write(&path, &text).unwrap();
        let error = load_steps(&path, &callouts()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(load_steps(&dir.path().join("none"), &callouts()).is_err());
    let kubeconfig = "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\nclusters: [{name: k, cluster: {server: 'http://a'}}]";
    std::fs::write(&path, kubeconfig).unwrap();
    let error = Remote::load(&path, callouts()).unwrap_err().to_string();
    assert!(error.contains("https"), "{error}");
}

/// A kubeconfig whose user is this.
fn kubeconfig_of(dir: &Path, server: &Server, user: Value) -> PathBuf {
    let path = kubeconfig(dir, server);
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["users"][0]["user"] = user;
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[tokio::test]
async fn what_is_shown_follows_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(|_| json!({"authenticated": false})).await;
    std::fs::write(dir.path().join("token"), "first\n").unwrap();
    let file = kubeconfig_of(dir.path(), &server, json!({"tokenFile": "token"}));
    let remote = Remote::load(&file, callouts()).unwrap();
    let shown = async || {
        let asked = remote.ask(&json!({}), Duration::from_secs(10)).await;
        asked.unwrap();
        server.asked().last().unwrap().headers["authorization"].clone()
    };
    assert_eq!(shown().await, "Bearer first");
    let becomes = async |wanted: &str| {
        let reached = async {
            while shown().await != wanted {
                tokio::task::yield_now().await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(30), reached).await;
        assert!(reached.is_ok(), "never {wanted}");
    };
    std::fs::write(dir.path().join("token"), "second").unwrap();
    becomes("Bearer second").await;
    // Broken files change nothing.
    std::fs::write(&file, "users: [").unwrap();
    assert_eq!(shown().await, "Bearer second");
    kubeconfig_of(
        dir.path(),
        &server,
        json!({"username": "me", "password": "p"}),
    );
    becomes("Basic bWU6cA==").await;
}

#[test]
fn users_of_kubeconfigs_are_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["me".to_owned()]).unwrap();
    let certificate = STANDARD.encode(certificate.self_signed(&key).unwrap().pem());
    std::fs::write(dir.path().join("me.key"), key.serialize_pem()).unwrap();
    let path = dir.path().join("kubeconfig");
    let read = |user: Value| {
        let config = json!({
            "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": "https://localhost:1"}}],
            "users": [{"name": "u", "user": user}],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        Access::read(&path)
    };
    let full = json!({"client-certificate-data": certificate, "client-key": "me.key"});
    let access = read(full).unwrap();
    assert!(access.target.trust.credential.is_some() && access.authorization.is_none());
    assert_eq!(access.files.len(), 2);
    let shown = format!("{:?}", access.target);
    assert!(!shown.contains("45, 45"), "{shown}");
    for (user, why) in [
        (
            json!({"client-certificate-data": certificate}),
            "belong together",
        ),
        (
            json!({"client-certificate-data": "AAAA", "client-key": "me.key"}),
            "not PEM",
        ),
        (
            json!({"client-certificate-data": certificate, "client-key": "no.key"}),
            "no.key",
        ),
        (json!({"token": "t", "username": "u"}), "not both"),
        (json!({"token": "a\nb"}), "no header"),
        (json!({"exec": {"command": "x"}}), "exec is not supported"),
    ] {
        let error = read(user).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}
