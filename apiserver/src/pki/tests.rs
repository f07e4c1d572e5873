//! Tests of the authority on real files.

use super::*;
use crate::clock::Clock;
use std::os::unix::fs::PermissionsExt;

use rustls::pki_types::pem::PemObject;

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
    let first = Authority::load_or_create(dir.path(), Clock::default()).unwrap();
    let leaf = first
        .leaf("apiserver", server(&["localhost", "10.96.0.1"]))
        .unwrap();
    let again = Authority::load_or_create(dir.path(), Clock::default()).unwrap();
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
    let authority = Authority::load_or_create(&dir.path().join("pki"), Clock::default()).unwrap();
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
    let error = Authority::load_or_create(dir.path(), Clock::default()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "nonsense");
}

/// What the message says is followed to the letter, one file after the other: other files stay, also those that seal the store.
#[test]
fn remedies_lose_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Authority::load_or_create(dir.path(), Clock::default());
    let file = |name: &str| dir.path().join(name);
    let first = open().unwrap();
    let leaf = first
        .leaf("apiserver", server(&["localhost"]))
        .unwrap()
        .pem();
    std::fs::write(file("encryption.keys"), "all the secrets").unwrap();
    let (ca, signing) = (first.ca_pem(), first.service_account_key().id.clone());
    for (damaged, said, moved) in [
        ("ca.crt", "move this one file", &["ca.crt"][..]),
        (
            "service-account.key",
            "move this one file",
            &["service-account.key"],
        ),
        (
            "ca.key",
            "move this file and ca.crt, and nothing else",
            &["ca.key", "ca.crt"],
        ),
    ] {
        for bytes in [&b"\xff\xfe no text"[..], b"", b"-----BEGIN nonsense"] {
            std::fs::write(file(damaged), bytes).unwrap();
            let error = open().unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("remove"), "{error}");
        }
        for name in moved {
            let aside = tempfile::tempdir().unwrap();
            std::fs::rename(file(name), aside.path().join(name)).unwrap();
        }
        let again = open().unwrap();
        let same = again.leaf("apiserver", server(&["localhost"])).unwrap();
        let kept = std::fs::read_to_string(file("encryption.keys")).unwrap();
        assert_eq!(kept, "all the secrets");
        // Only a new authority issues anew.
        assert_eq!(same.pem() == leaf, damaged != "ca.key", "{damaged}");
        assert_eq!(
            again.service_account_key().id == signing,
            damaged == "ca.crt"
        );
    }
    assert_ne!(open().unwrap().ca_pem(), ca);
}

#[test]
fn a_damaged_leaf_is_issued_anew() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path(), Clock::default()).unwrap();
    let issued = |authority: &Authority| authority.leaf("a", server(&["localhost"])).unwrap().pem();
    let mut before = issued(&authority);
    let path = dir.path().join("a.pem");
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(issued(&authority), before);
    // A letter of the signature, at the end of the certificate; the rest still reads well.
    let mut signature = whole.clone();
    let at = whole.len() - 40;
    signature[at] = if signature[at] == b'A' { b'B' } else { b'A' };
    for bytes in [
        &signature[..],
        b"",
        b"\xff\xff",
        &whole[..whole.len() / 2],
        b"nonsense",
    ] {
        std::fs::write(&path, bytes).unwrap();
        let now = issued(&authority);
        assert_ne!(now, before);
        assert_eq!(issued(&authority), now);
        before = now;
    }
}

fn clock_at(days: i64) -> Clock {
    Clock::reading(move || {
        let hours = jiff::SignedDuration::from_hours(24 * days);
        crate::clock::Reading {
            wall: (jiff::Timestamp::now() + hours).into(),
            running: std::time::Duration::ZERO,
        }
    })
}

#[test]
fn a_wrong_clock_replaces_and_refuses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |days: i64| {
        let clock = clock_at(days);
        clock.start(dir.path(), None);
        let authority = Authority::load_or_create(dir.path(), clock).unwrap();
        let purpose = Purpose::Client {
            user: "bob".into(),
            group: "dev".into(),
        };
        let leaf = authority.leaf("bob", purpose).unwrap();
        authority.renew_due(authority.clock().now().into()).unwrap();
        let chain =
            rustls::pki_types::CertificateDer::from_pem_slice(leaf.pem().certificate.as_bytes());
        let peer = authority.judge_peer(Some(&[chain.unwrap()]));
        (
            authority.ca_pem(),
            leaf.pem(),
            peer,
            authority.clock().wrong().is_some(),
        )
    };
    let (ca, leaf, peer, wrong) = at(0);
    assert!(matches!(peer, Some(Peer::Verified { .. })) && !wrong);
    for days in [3650, -365, -20_000, 150, -2] {
        let (ca_then, leaf_then, peer, wrong) = at(days);
        assert!(
            matches!(peer, Some(Peer::Verified { .. })),
            "{days}: {peer:?}"
        );
        assert!(ca_then == ca && leaf_then == leaf && wrong, "{days}");
        let (ca_after, leaf_after, _, wrong) = at(0);
        assert!(
            ca_after == ca && leaf_after == leaf && !wrong,
            "after {days}"
        );
    }
}

/// What was made by a clock that was a month ahead and then set right is made anew.
#[test]
fn what_is_not_valid_yet_is_issued_anew() {
    let dir = tempfile::tempdir().unwrap();
    let open = |days| Authority::load_or_create(dir.path(), clock_at(days)).unwrap();
    let (ahead, right) = (open(30), open(0));
    assert_ne!(ahead.ca_pem(), right.ca_pem());
    let early = ahead.leaf("a", server(&["localhost"])).unwrap().pem();
    assert_ne!(
        right.leaf("a", server(&["localhost"])).unwrap().pem(),
        early
    );
}

#[test]
fn a_foreign_ca_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    drop(Authority::load_or_create(dir.path(), Clock::default()).unwrap());
    drop(Authority::load_or_create(other.path(), Clock::default()).unwrap());
    std::fs::copy(other.path().join("ca.crt"), dir.path().join("ca.crt")).unwrap();
    let error = Authority::load_or_create(dir.path(), Clock::default()).unwrap_err();
    assert!(
        error.to_string().contains("does not belong to ca.key"),
        "{error}"
    );
}

#[test]
fn renewal_replaces_leaf_and_ca_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path(), Clock::default()).unwrap();
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
    let authority = Authority::load_or_create(dir.path(), Clock::default()).unwrap();
    let stranger = Authority::load_or_create(other.path(), Clock::default()).unwrap();
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
