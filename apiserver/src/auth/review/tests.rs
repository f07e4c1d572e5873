//! Questions and answers.

use super::*;
use crate::auth::memory::Memory;
use crate::auth::{AuthenticatorConfig, Kind};
use crate::clock::Clock;
use crate::pki::Authority;

fn reviews() -> (Reviews, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path(), Clock::default()).unwrap();
    let source = Memory::with([
        (
            Kind::ROLES,
            json!({
                "metadata": {"namespace": "a", "name": "r"},
                "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}],
            }),
        ),
        (
            Kind::ROLE_BINDINGS,
            json!({
                "metadata": {"namespace": "a", "name": "b"},
                "roleRef": {"kind": "Role", "name": "r"},
                "subjects": [{"kind": "User", "name": "bob"}],
            }),
        ),
        (
            Kind::SERVICE_ACCOUNTS,
            json!({"metadata": {"namespace": "a", "name": "web", "uid": "u1"}}),
        ),
    ]);
    let config = AuthenticatorConfig {
        issuer: "https://i".into(),
        ..Default::default()
    };
    let authenticator = Authenticator::new(config, &authority, source.clone());
    let authorizer = Authorizer::new(source);
    (
        Reviews::new(Arc::new(authenticator), Arc::new(authorizer)),
        dir,
    )
}

async fn ask(kind: &str, namespace: &str, spec: Value) -> Result<Value, Error> {
    let (reviews, _dir) = reviews();
    let bob = UserInfo::new("bob", Vec::<String>::new());
    let body = json!({"kind": kind, "spec": spec});
    reviews
        .answer(kind, namespace, &bob, body)
        .await
        .map(|mut answer| answer["status"].take())
}

fn pods(namespace: &str) -> Value {
    json!({"verb": "get", "resource": "pods", "namespace": namespace})
}

#[tokio::test]
async fn access_reviews_ask_the_authorizer() {
    let allowed = json!({
        "allowed": true,
        "reason": r#"RBAC: allowed by RoleBinding "b/a" of Role "r" to User "bob""#,
    });
    let other = json!({"user": "eve", "resourceAttributes": pods("a")});
    let same = json!({"user": "bob", "resourceAttributes": pods("a")});
    let own = json!({"resourceAttributes": pods("a")});
    let path = json!({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}});
    let no = json!({"allowed": false});
    let cases = [
        ("SubjectAccessReview", "", same.clone(), &allowed),
        ("SubjectAccessReview", "", other, &no),
        ("LocalSubjectAccessReview", "a", same, &allowed),
        ("SelfSubjectAccessReview", "", own, &allowed),
        ("SelfSubjectAccessReview", "", path, &no),
    ];
    for (kind, namespace, spec, expected) in cases {
        assert_eq!(
            &ask(kind, namespace, spec.clone()).await.unwrap(),
            expected,
            "{kind} {spec}"
        );
    }
}

#[tokio::test]
async fn senseless_questions_are_refused() {
    let both = json!({"resourceAttributes": {}, "nonResourceAttributes": {}});
    let local = json!({"user": "bob", "resourceAttributes": pods("b")});
    let cases = [
        (
            "SubjectAccessReview",
            json!({"resourceAttributes": pods("a")}),
            "at least one of user or group",
        ),
        ("SelfSubjectAccessReview", json!({}), "exactly one of"),
        ("SelfSubjectAccessReview", both, "in combination"),
        (
            "SelfSubjectRulesReview",
            json!({}),
            "no namespace on request",
        ),
        ("LocalSubjectAccessReview", local, "must match namespace"),
        ("TokenReview", json!({}), "token is required"),
        ("TokenReview", json!({"token": 7}), "invalid type"),
    ];
    for (kind, spec, expected) in cases {
        let error = ask(kind, "a", spec).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{kind}: {error}");
    }
}

#[tokio::test]
async fn rules_reviews_list_what_is_granted() {
    let status = ask("SelfSubjectRulesReview", "", json!({"namespace": "a"}))
        .await
        .unwrap();
    let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
    let expected = json!({"resourceRules": [rule], "nonResourceRules": [], "incomplete": false});
    assert_eq!(status, expected);
}

#[tokio::test]
async fn token_reviews_know_users_and_audiences() {
    let (reviews, _dir) = reviews();
    let issuer = reviews.authenticator.token_issuer();
    let claims = crate::auth::token::Claims {
        aud: vec!["vault".into()],
        exp: i64::MAX,
        iat: 0,
        nbf: 0,
        iss: "https://i".into(),
        jti: "j".into(),
        sub: "system:serviceaccount:a:web".into(),
        kubernetes: crate::auth::token::Kubernetes {
            namespace: "a".into(),
            serviceaccount: crate::auth::token::Reference {
                name: "web".into(),
                uid: "u1".into(),
            },
            pod: None,
            secret: None,
            node: None,
        },
    };
    let token = issuer.sign(&claims).unwrap();
    let user = UserInfo::anonymous();
    let ask = async |audiences: Value| {
        let body = json!({"spec": {"token": token, "audiences": audiences}});
        reviews
            .answer("TokenReview", "", &user, body)
            .await
            .unwrap()["status"]
            .take()
    };
    let good = ask(json!(["vault", "other"])).await;
    assert_eq!(good["authenticated"], true);
    assert_eq!(good["audiences"], json!(["vault"]));
    assert_eq!(good["user"]["username"], "system:serviceaccount:a:web");
    let bad = ask(json!([])).await;
    assert_eq!(bad.get("authenticated"), None);
    assert!(bad["error"].as_str().unwrap().contains("audiences"));
}

#[tokio::test]
async fn self_review_tells_who_one_is() {
    let status = ask("SelfSubjectReview", "", Value::Null).await.unwrap();
    assert_eq!(
        status["userInfo"],
        json!({"username": "bob", "groups": ["system:authenticated"]})
    );
}
