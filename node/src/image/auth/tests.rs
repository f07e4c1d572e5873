//! Which credentials fit which image.
use super::*;

fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic {
        username: username.to_owned(),
        password: password.to_owned(),
    }
}

fn keyring(auths: serde_json::Value) -> Keyring {
    let mut keyring = Keyring::new();
    let config = serde_json::json!({ "auths": auths, "credsStore": "desktop" });
    keyring
        .add_docker_config(config.to_string().as_bytes())
        .unwrap();
    keyring
}

fn users(keyring: &Keyring, image: &str) -> Vec<String> {
    let found = keyring.lookup(&Reference::parse(image).unwrap());
    found
        .into_iter()
        .map(|credentials| match credentials {
            Credentials::Basic { username, .. } => username,
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn the_most_specific_key_comes_first() {
    let ring = keyring(serde_json::json!({
        "quay.io": { "username": "any", "password": "x" },
        "quay.io/team": { "username": "team", "password": "x" },
        "https://quay.io/team/app": { "username": "app", "password": "x" },
        "https://index.docker.io/v1/": { "username": "hub", "password": "x" },
        "*.example.com:5000": { "username": "star", "password": "x" },
        "empty.io": {},
    }));
    assert_eq!(users(&ring, "quay.io/team/app"), ["app", "team", "any"]);
    assert_eq!(users(&ring, "quay.io/team/application"), ["team", "any"]);
    assert_eq!(users(&ring, "quay.io/teams/x"), ["any"]);
    assert_eq!(users(&ring, "busybox"), ["hub"]);
    assert_eq!(users(&ring, "a.example.com:5000/x"), ["star"]);
    assert!(users(&ring, "a.b.example.com:5000/x").is_empty());
    assert!(users(&ring, "a.example.com/x").is_empty());
    assert!(users(&ring, "empty.io/x").is_empty());
    assert!(users(&ring, "evil-quay.io/team/app").is_empty());
}

#[test]
fn reads_all_forms_of_auth() {
    let ring = keyring(serde_json::json!({
        "a.io": { "auth": STANDARD.encode("u:p:q") },
        "b.io": { "auth": STANDARD_NO_PAD.encode("user:pw") },
        "c.io": { "identitytoken": "refresh", "auth": STANDARD.encode("u:p") },
        "d.io": { "registrytoken": "bearer" },
    }));
    let look = |image: &str| ring.lookup(&Reference::parse(image).unwrap());
    assert_eq!(look("a.io/x"), [basic("u", "p:q")]);
    assert_eq!(look("b.io/x"), [basic("user", "pw")]);
    assert_eq!(look("c.io/x"), [Credentials::Identity("refresh".into())]);
    assert_eq!(look("d.io/x"), [Credentials::Registry("bearer".into())]);
}

#[test]
fn reads_both_types_of_secret_and_tells_no_secret() {
    let secret = |kind: &str, key: &str, text: &str| {
        serde_json::from_value::<Secret>(serde_json::json!({
            "metadata": { "name": "pull" }, "type": kind, "data": { key: STANDARD.encode(text) },
        }))
        .unwrap()
    };
    let auths = r#"{"r.io":{"username":"u","password":"hunter2"}}"#;
    let mut ring = Keyring::new();
    ring.add_secret(&secret(SECRET_LEGACY, ".dockercfg", auths))
        .unwrap();
    ring.add_secret(&secret(
        SECRET_JSON,
        ".dockerconfigjson",
        &format!("{{\"auths\":{auths}}}"),
    ))
    .unwrap();
    assert_eq!(users(&ring, "r.io/x"), ["u"]);
    assert!(!format!("{ring:?}").contains("hunter2"));

    let broken = secret(SECRET_JSON, ".dockerconfigjson", r#"{"auths":"hunter2"}"#);
    let error = ring.add_secret(&broken).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let kind = ring
        .add_secret(&secret("Opaque", "x", "y"))
        .unwrap_err()
        .to_string();
    assert!(kind.contains("kubernetes.io/dockerconfigjson"), "{kind}");
    let key = ring
        .add_secret(&secret(SECRET_JSON, "x", "y"))
        .unwrap_err()
        .to_string();
    assert_eq!(key, "secret pull has no key \".dockerconfigjson\"");
    let auth = br#"{"auths":{"r.io":{"auth":"aHVudGVyMg=="}}}"#;
    let error = ring.add_docker_config(auth).unwrap_err();
    assert_eq!(
        error,
        CredentialsError::Auth {
            host: "r.io".into()
        }
    );
}
