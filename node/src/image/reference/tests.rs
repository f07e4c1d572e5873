//! The grammar of references by table, and by property.
use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn means_what_docker_means() {
    let pinned = format!("docker.io/library/busybox:1@{DIGEST}");
    let by_digest = format!("quay.io/a/b@{DIGEST}");
    let table = [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("grafana/grafana", "docker.io/grafana/grafana:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        (
            "index.docker.io/library/busybox",
            "docker.io/library/busybox:latest",
        ),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x/y:t", "localhost:5000/x/y:t"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("ghcr.io/a/b/c:v1.0_x-y", "ghcr.io/a/b/c:v1.0_x-y"),
        ("FOO/bar", "FOO/bar:latest"),
        ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest"),
        ("x:5000", "docker.io/library/x:5000"),
        (by_digest.as_str(), by_digest.as_str()),
        (pinned.as_str(), pinned.as_str()),
    ];
    for (text, normalized) in table {
        assert_eq!(
            Reference::parse(text).unwrap().to_string(),
            normalized,
            "{text}"
        );
    }
}

#[test]
fn refuses_what_docker_refuses() {
    let identifier = "a".repeat(64);
    let long = format!("example.com/{}", "a".repeat(250));
    let tag = format!("x:{}", "t".repeat(129));
    for text in [
        "",
        "Busybox",
        "busybox:",
        "a//b",
        "/a",
        "a/",
        "a:b:c",
        "a@sha256:00",
        "a@b",
        "../etc",
        "a/../b",
        "-a/b",
        "a.-b",
        "x:.tag",
        "x:-tag",
        "a b",
        "a\0b",
        "exa_mple.com/x",
        "h:99999/x",
        "h:/x",
        "[::1/x",
        "[zz]:1/x",
        "[::1]x/y",
        "http://x/y",
        "a..b",
        "a___b",
        "a/B",
        "é",
        &identifier,
        &long,
        &tag,
    ] {
        assert!(Reference::parse(text).is_err(), "{text:?} was accepted");
    }
}

#[test]
fn tells_its_parts() {
    let reference = Reference::parse(&format!("busybox:1@{DIGEST}")).unwrap();
    assert_eq!(reference.manifest_key(), DIGEST);
    assert_eq!(reference.tag(), Some("1"));
    assert!(!reference.is_latest());
    assert_eq!(
        Reference::parse("grafana/loki:3").unwrap().familiar(),
        "grafana/loki:3"
    );
    assert_eq!(
        Reference::parse("busybox").unwrap().familiar(),
        "busybox:latest"
    );
    assert!(Reference::parse("busybox").unwrap().is_latest());
    let digest = DIGEST.parse().unwrap();
    let pinned = Reference::parse("busybox:1").unwrap().with_digest(digest);
    assert_eq!(
        pinned.to_string(),
        format!("docker.io/library/busybox@{DIGEST}")
    );
}

proptest! {
    #[test]
    fn the_normalized_form_parses_to_itself(text in "([a-zA-Z0-9.-]{1,9}(:[0-9]{1,5})?/)?[a-z0-9._/-]{1,20}(:[A-Za-z0-9._-]{1,9})?") {
        if let Ok(reference) = Reference::parse(&text) {
            let normalized = reference.to_string();
            prop_assert_eq!(Reference::parse(&normalized).unwrap(), reference);
        }
    }

    #[test]
    fn no_text_makes_it_panic_or_escape(text in "\\PC{0,80}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert!(!reference.repository().split('/').any(|part| part == ".." || part == "." || part.is_empty()));
        }
    }
}
