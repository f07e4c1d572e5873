//! Tables of good and bad tokens.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::auth::memory::Memory;
use crate::auth::{Error, Kind};
use crate::clock::Clock;
use crate::pki::Authority;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn cluster() -> Arc<Memory> {
    Memory::with([
        (
            Kind::SERVICE_ACCOUNTS,
            json!({"metadata": {"namespace": "default", "name": "web", "uid": "sa-1"}}),
        ),
        (
            Kind::PODS,
            json!({
                "metadata": {"namespace": "default", "name": "web-0", "uid": "pod-1"},
                "spec": {"serviceAccountName": "web", "nodeName": "n1"},
            }),
        ),
        (
            Kind::NODES,
            json!({"metadata": {"name": "n1", "uid": "node-1"}}),
        ),
    ])
}

fn issuer() -> (TokenIssuer, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path(), Clock::default()).unwrap();
    (
        TokenIssuer::new(
            ISSUER.into(),
            authority.service_account_key(),
            Clock::default(),
        ),
        dir,
    )
}

fn ask(issuer: &TokenIssuer, source: &Memory, spec: Value) -> Result<Value, Error> {
    request_token(
        issuer,
        source,
        &[ISSUER.into()],
        "default",
        "web",
        json!({"spec": spec}),
    )
}

fn pod_spec(uid: &str) -> Value {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": uid});
    json!({"audiences": [], "boundObjectRef": pod})
}

#[test]
fn a_token_bound_to_a_pod_names_all_it_is_bound_to() {
    let (issuer, _dir) = issuer();
    let source = cluster();
    let answer = ask(&issuer, &source, pod_spec("pod-1")).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    assert_eq!(answer["metadata"]["name"], "web");
    let claims = issuer.verify(token).unwrap().unwrap();
    let user = check_binding(&claims, &[ISSUER.into()], claims.iat, &*source).unwrap();
    assert_eq!(user.name, "system:serviceaccount:default:web");
    assert_eq!(user.uid, "sa-1");
    assert_eq!(
        user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ]
    );
    assert_eq!(
        user.extra["authentication.kubernetes.io/pod-name"],
        ["web-0"]
    );
    assert_eq!(
        user.extra["authentication.kubernetes.io/node-uid"],
        ["node-1"]
    );
}

#[test]
fn a_token_dies_with_what_it_is_bound_to() {
    let (issuer, _dir) = issuer();
    let source = cluster();
    let answer = ask(&issuer, &source, pod_spec("pod-1")).unwrap();
    let claims = issuer
        .verify(answer["status"]["token"].as_str().unwrap())
        .unwrap()
        .unwrap();
    let check = |audience: &str, at: i64| {
        check_binding(&claims, &[audience.to_owned()], at, &*source).map(|_| ())
    };
    let now = claims.iat;
    assert_eq!(check(ISSUER, now), Ok(()));
    assert!(check(ISSUER, claims.exp).unwrap_err().contains("expired"));
    assert!(
        check(ISSUER, now - 1)
            .unwrap_err()
            .contains("not valid yet")
    );
    assert!(check("vault", now).unwrap_err().contains("audiences"));
    let mut pod = json!({"metadata": {"namespace": "default", "name": "web-0", "uid": "pod-2"}});
    source.put(Kind::PODS, &pod);
    assert!(check(ISSUER, now).unwrap_err().contains("made again"));
    pod["metadata"]["uid"] = "pod-1".into();
    pod["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z".into();
    source.put(Kind::PODS, &pod);
    assert!(check(ISSUER, now).unwrap_err().contains("being deleted"));
    source.remove(Kind::PODS, "default", "web-0");
    assert!(check(ISSUER, now).unwrap_err().contains("no longer exists"));
}

#[test]
fn forged_tokens_are_refused_and_foreign_ones_passed_by() {
    let (issuer, _dir) = issuer();
    let (other, _other_dir) = self::issuer();
    let source = cluster();
    let answer = ask(&other, &source, json!({"audiences": []})).unwrap();
    let forged = answer["status"]["token"].as_str().unwrap();
    assert!(issuer.verify(forged).is_err());
    for foreign in ["", "abc", "a.b.c", "abcdef.0123456789abcdef"] {
        assert_eq!(issuer.verify(foreign), Ok(None), "{foreign:?}");
    }
    let good = ask(&issuer, &source, json!({"audiences": []})).unwrap();
    let mut parts: Vec<_> = good["status"]["token"]
        .as_str()
        .unwrap()
        .split('.')
        .collect();
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
    assert!(issuer.verify(&unsigned).is_err());
    parts[2] = "AAAA";
    assert!(issuer.verify(&parts.join(".")).is_err());
}

#[test]
fn bad_requests_say_what_is_wrong() {
    let (issuer, _dir) = issuer();
    let source = cluster();
    let bound = |kind: &str, name: &str| json!({"audiences": [], "boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name}});
    source.put(
        Kind::PODS,
        &json!({"metadata": {"namespace": "default", "name": "db", "uid": "p"}, "spec": {"serviceAccountName": "db"}}),
    );
    let cases = [
        (
            json!({"audiences": [], "expirationSeconds": 599}),
            "less than 10 minutes",
        ),
        (
            json!({"audiences": [], "expirationSeconds": (1_i64 << 32) + 1}),
            "larger than 2^32",
        ),
        (pod_spec("pod-9"), "does not match the UID in record"),
        (bound("Pod", "gone"), "pods \"gone\" not found"),
        (bound("Pod", "db"), "different serviceaccount name"),
        (
            bound("ConfigMap", "x"),
            "cannot bind token to object of type v1, Kind=ConfigMap",
        ),
    ];
    for (spec, expected) in cases {
        let error = ask(&issuer, &source, spec).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_published_key_checks_the_tokens() {
    let (issuer, _dir) = issuer();
    let answer = ask(&issuer, &cluster(), json!({"audiences": []})).unwrap();
    let key: jsonwebtoken::jwk::Jwk =
        serde_json::from_value(issuer.key_set()["keys"][0].clone()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&[ISSUER]);
    validation.set_issuer(&[ISSUER]);
    let decoded = jsonwebtoken::decode::<Claims>(
        answer["status"]["token"].as_str().unwrap(),
        &jsonwebtoken::DecodingKey::from_jwk(&key).unwrap(),
        &validation,
    );
    assert_eq!(
        decoded.unwrap().claims.sub,
        "system:serviceaccount:default:web"
    );
}
