//! Requests through the server, from a key to a certificate; cleaning as a table.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::*;
use crate::auth::{UserInfo, groups};
use crate::clock::Clock;
use crate::pki::{Authority, Peer};

fn csr(name: &str, organization: &str, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn object(signer: &str, pem: &str, usages: &[&str]) -> Value {
    json!({
        "kind": "CertificateSigningRequest", "apiVersion": "certificates.k8s.io/v1",
        "metadata": { "name": "r" },
        "spec": { "signerName": signer, "request": STANDARD.encode(pem), "usages": usages,
            "expirationSeconds": 7200 },
    })
}

fn authority() -> (Arc<Authority>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (
        Authority::load_or_create(dir.path(), Clock::default()).unwrap(),
        dir,
    )
}

#[test]
fn a_client_certificate_says_who_asked_and_ends_when_asked() {
    let (authority, _dir) = authority();
    let object = object(
        CLIENT,
        &csr("bob", "dev", &[]),
        &["client auth", "digital signature"],
    );
    let pem = sign::plan(&authority, &object).unwrap().unwrap();
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let Some(Peer::Verified { user, not_after }) = authority.judge_peer(Some(&[der])) else {
        panic!("not verified");
    };
    assert_eq!(*user, UserInfo::new("bob", ["dev"]));
    let left = not_after - Timestamp::now().as_second();
    assert!((7000..=7200).contains(&left), "{left}");
}

#[test]
fn all_organizations_of_the_subject_are_kept() {
    // O=dev, O=ops, CN=bob; made by hand because rcgen writes one organization only.
    let part = |kind: u8, text: &str| {
        let mut oid = vec![0x06, 3, 0x55, 4, kind, 0x0c, text.len() as u8];
        oid.extend(text.as_bytes());
        let inner = [&[0x30, oid.len() as u8][..], &oid].concat();
        [&[0x31, inner.len() as u8][..], &inner].concat()
    };
    let name = [part(10, "dev"), part(10, "ops"), part(3, "bob")].concat();
    let name = [&[0x30, name.len() as u8][..], &name].concat();
    let (authority, _dir) = authority();
    let mut request = CertificateRequest::parse(csr("x", "y", &[]).as_bytes()).unwrap();
    request.set_subject(name);
    let usages = ["client auth".to_owned()];
    let pem = authority
        .sign_request(&request, &usages, Duration::from_secs(600))
        .unwrap();
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let Some(Peer::Verified { user, .. }) = authority.judge_peer(Some(&[der])) else {
        panic!("not verified");
    };
    assert_eq!(*user, UserInfo::new("bob", ["dev", "ops"]));
}

#[test]
fn signers_refuse_what_they_do_not_stand_for() {
    let (authority, _dir) = authority();
    let client = ["client auth", "digital signature"];
    let server = ["server auth", "digital signature"];
    let node = csr("system:node:n", "system:nodes", &[]);
    let named = csr("system:node:n", "system:nodes", &["n", "10.0.0.1"]);
    let cases: [(&str, &str, &[&str], &str); 9] = [
        (CLIENT, &node, &server, "invalid usage"),
        (NODE_CLIENT, &node, &client, ""),
        (
            NODE_CLIENT,
            &named,
            &client,
            "DNS subjectAltNames are not allowed",
        ),
        (
            NODE_CLIENT,
            &csr("bob", "system:nodes", &[]),
            &client,
            "common name",
        ),
        (
            NODE_CLIENT,
            &csr("system:node:n", "dev", &[]),
            &client,
            "organization",
        ),
        (NODE_SERVING, &named, &server, ""),
        (
            NODE_SERVING,
            &node,
            &server,
            "DNS or IP subjectAltName is required",
        ),
        (NODE_SERVING, &named, &client, "usages did not match"),
        (CLIENT, "garbage", &client, "PEM block type"),
    ];
    for (signer, pem, usages, expected) in cases {
        let result = sign::plan(&authority, &object(signer, pem, usages)).unwrap();
        let error = result.err().unwrap_or_default();
        assert_eq!(error.is_empty(), expected.is_empty(), "{signer}: {error}");
        assert!(error.contains(expected), "{signer}: {error}");
    }
    for signer in ["kubernetes.io/legacy-unknown", "example.com/x"] {
        assert!(sign::plan(&authority, &object(signer, &node, &client)).is_none());
    }
}

#[test]
fn requests_are_kept_as_long_as_somebody_may_want_them() {
    let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
    let with = |conditions: Value, certificate: &str| {
        json!({ "metadata": { "creationTimestamp": "2026-01-01T12:00:00Z" },
            "status": { "conditions": conditions, "certificate": certificate } })
    };
    let at = |kind: &str, time: &str| json!([{ "type": kind, "lastUpdateTime": time }]);
    let early = "2026-01-01T23:00:00Z";
    let cases = [
        (with(json!([]), ""), 12 * 3600),
        (with(at("Denied", "2026-01-01T23:30:00Z"), ""), 1800),
        (with(at("Failed", early), ""), 0),
        (with(at("Approved", early), ""), 12 * 3600),
        (with(at("Approved", early), "eA=="), 0),
    ];
    for (object, seconds) in cases {
        assert_eq!(
            clean::time_left(&object, now),
            Duration::from_secs(seconds),
            "{object}"
        );
    }
}

async fn server() -> (Arc<ApiServer>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = crate::Config::new(dir.path().to_owned(), ([127, 0, 0, 1], 6443).into());
    config.store = crate::StoreKind::Memory;
    (ApiServer::open(config).await.unwrap(), dir)
}

async fn send(
    server: &Arc<ApiServer>,
    user: &UserInfo,
    method: Method,
    path: &str,
    body: &Value,
) -> (u16, Value) {
    use http_body_util::BodyExt;
    let request = http::Request::builder()
        .method(method.clone())
        .uri(path)
        .header(
            "content-type",
            if method == Method::PATCH {
                "application/merge-patch+json"
            } else {
                "application/json"
            },
        )
        .extension(crate::auth::InProcessUser(Arc::new(user.clone())))
        .body(axum::body::Body::from(body.to_string()))
        .unwrap();
    let response = crate::handler::serve(server.clone(), request).await;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap())
}

/// The request once it satisfies `done`.
async fn settled(server: &Arc<ApiServer>, done: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let seen = server.cache.version(REQUESTS);
            let (_, object) = server
                .request(Method::GET, &format!("{COLLECTION}/r"), None)
                .await;
            if done(&object) {
                return object;
            }
            server.cache.changed(REQUESTS, seen).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_node_renews_its_certificate_by_itself() {
    let (server, _dir) = server().await;
    let node = UserInfo::node("n");
    let pem = csr("system:node:n", "system:nodes", &[]);
    let wanted = object(NODE_CLIENT, &pem, &["client auth", "digital signature"]);
    let (code, answer) = send(&server, &node, Method::POST, COLLECTION, &wanted).await;
    assert_eq!(
        (code, &answer["spec"]["username"]),
        (201, &json!("system:node:n")),
        "{answer}"
    );
    let object = settled(&server, |object| {
        object["status"]["certificate"].is_string()
    })
    .await;
    assert_eq!(conditions(&object)[0]["reason"], "AutoApproved");
}

#[tokio::test]
async fn an_administrator_approves_and_others_may_not() {
    let (server, _dir) = server().await;
    let (admin, bob) = (
        UserInfo::new("root", [groups::MASTERS]),
        UserInfo::new("bob", ["dev"]),
    );
    let usages = ["client auth", "digital signature"];
    let mut wanted = object(CLIENT, &csr("bob", "dev", &[]), &usages);
    wanted["spec"]["username"] = "root".into();
    let (code, answer) = send(&server, &admin, Method::POST, COLLECTION, &wanted).await;
    assert_eq!((code, &answer["spec"]["username"]), (201, &json!("root")));
    let role = json!({ "metadata": { "name": "updater" }, "rules": [{
        "verbs": ["update", "patch"], "apiGroups": ["certificates.k8s.io"],
        "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"],
    }]});
    let binding = json!({ "metadata": { "name": "updater" }, "subjects": [{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob" }],
        "roleRef": { "kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": "updater" }});
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    send(
        &server,
        &admin,
        Method::POST,
        &format!("{rbac}/clusterroles"),
        &role,
    )
    .await;
    send(
        &server,
        &admin,
        Method::POST,
        &format!("{rbac}/clusterrolebindings"),
        &binding,
    )
    .await;
    let approval = format!("{COLLECTION}/r/approval");
    let approve = json!({ "status": { "conditions": [condition("Approved", "x", "y")] } });
    let (code, answer) = send(&server, &bob, Method::PATCH, &approval, &approve).await;
    assert_eq!(code, 403, "{answer}");
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("user not permitted to approve requests with signerName"),
        "{message}"
    );
    // Approving through the status does nothing.
    let (code, answer) = send(
        &server,
        &admin,
        Method::PATCH,
        &format!("{COLLECTION}/r/status"),
        &approve,
    )
    .await;
    assert_eq!((code, conditions(&answer).len()), (200, 0), "{answer}");
    let (code, _) = send(&server, &admin, Method::PATCH, &approval, &approve).await;
    assert_eq!(code, 200);
    let object = settled(&server, |object| {
        object["status"]["certificate"].is_string()
    })
    .await;
    let denied =
        json!({ "status": { "conditions": with(&object, condition("Denied", "x", "y")) } });
    let (code, answer) = send(&server, &admin, Method::PATCH, &approval, &denied).await;
    assert_eq!(code, 422, "{answer}");
    let masters = super::tests::object(CLIENT, &csr("eve", "system:masters", &[]), &usages);
    let (code, answer) = send(&server, &admin, Method::POST, COLLECTION, &masters).await;
    assert_eq!(code, 403, "{answer}");
}
