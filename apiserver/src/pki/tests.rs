//! Tests of the authority on real files.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn server(names: &[&str]) -> Purpose {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    Purpose::Server {
        subject: "davit".into(),
        names,
    }
}

#[test]
fn a_second_start_finds_what_the_first_made() {
    let dir = tempfile::tempdir().unwrap();
    let first = Authority::load_or_create(dir.path()).unwrap();
    let leaf = first
        .leaf("apiserver", server(&["localhost", "10.96.0.1"]))
        .unwrap();
    let again = Authority::load_or_create(dir.path()).unwrap();
    assert_eq!(first.ca_pem(), again.ca_pem());
    assert_eq!(
        first.service_account_key().id,
        again.service_account_key().id
    );
    let same = again.leaf("apiserver", server(&["10.96.0.1"])).unwrap();
    assert_eq!(leaf.pem(), same.pem());
    let wider = again
        .leaf("apiserver", server(&["localhost", "example.org"]))
        .unwrap();
    assert_ne!(leaf.pem(), wider.pem());
}

#[test]
fn files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(&dir.path().join("pki")).unwrap();
    authority.leaf("apiserver", server(&["localhost"])).unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir.path().join("pki")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{entry:?}"
        );
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        ["apiserver.pem", "ca.crt", "ca.key", "service-account.key"]
    );
}

#[test]
fn a_damaged_key_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.key");
    std::fs::write(&path, "nonsense").unwrap();
    let error = Authority::load_or_create(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "nonsense");
}

#[test]
fn a_foreign_ca_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    drop(Authority::load_or_create(dir.path()).unwrap());
    drop(Authority::load_or_create(other.path()).unwrap());
    std::fs::copy(other.path().join("ca.crt"), dir.path().join("ca.crt")).unwrap();
    let error = Authority::load_or_create(dir.path()).unwrap_err();
    assert!(
        error.to_string().contains("does not belong to ca.key"),
        "{error}"
    );
}

#[test]
fn renewal_replaces_leaf_and_ca_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let leaf = authority.leaf("apiserver", server(&["localhost"])).unwrap();
    let (before, ca) = (leaf.pem(), authority.ca_pem());
    authority
        .keep_kubeconfig(
            dir.path().join("kubeconfig"),
            "https://[::1]:1".into(),
            leaf.clone(),
        )
        .unwrap();
    let now = time::OffsetDateTime::now_utc();
    authority
        .renew_due(now + time::Duration::days(200))
        .unwrap();
    assert_eq!(leaf.pem(), before);
    authority
        .renew_due(now + time::Duration::days(300))
        .unwrap();
    assert_ne!(leaf.pem(), before);
    assert_eq!(authority.ca_pem(), ca);
    authority
        .renew_due(now + time::Duration::days(3000))
        .unwrap();
    assert_ne!(authority.ca_pem(), ca);
    let text = std::fs::read_to_string(dir.path().join("kubeconfig")).unwrap();
    let read: kube::config::Kubeconfig = serde_saphyr::from_str(&text).unwrap();
    let cluster = read.clusters[0].cluster.as_ref().unwrap();
    assert_eq!(cluster.server.as_deref(), Some("https://[::1]:1"));
}

#[tokio::test]
async fn certificates_are_judged_after_the_handshake() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let stranger = Authority::load_or_create(other.path()).unwrap();
    let client = |authority: &Authority| {
        authority
            .leaf(
                "bob",
                Purpose::Client {
                    user: "bob".into(),
                    group: "dev".into(),
                },
            )
            .unwrap()
    };
    match handshake(&authority, client(&authority)).await {
        Some(Peer::Verified { user, .. }) => {
            assert_eq!(user.name, "bob");
            assert_eq!(user.groups, ["dev", "system:authenticated"]);
        }
        other => panic!("{other:?}"),
    }
    let judged = handshake(&authority, client(&stranger)).await;
    assert!(matches!(judged, Some(Peer::Rejected { .. })), "{judged:?}");
    let not_a_client = authority.leaf("apiserver", server(&["localhost"])).unwrap();
    let judged = handshake(&authority, not_a_client).await;
    assert!(matches!(judged, Some(Peer::Rejected { .. })), "{judged:?}");
    assert_eq!(authority.judge_peer(None), None);
}

/// Connects with `identity` to a server of `authority` and tells what the server thinks of it.
async fn handshake(authority: &Authority, identity: std::sync::Arc<Leaf>) -> Option<Peer> {
    let serving = authority.leaf("serving", server(&["localhost"])).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(authority.server_config(serving).unwrap());
    let config = authority.client_config(identity).unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let (near, far) = tokio::io::duplex(1 << 16);
    let (accepted, connected) = tokio::join!(
        acceptor.accept(far),
        connector.connect("localhost".try_into().unwrap(), near)
    );
    connected.unwrap();
    authority.judge_peer(accepted.unwrap().get_ref().1.peer_certificates())
}
