//! Tokens of an issuer on loopback, and mappings as tables.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

use super::config::AuthenticationConfiguration;
use super::*;
use crate::auth::memory::Memory;
use crate::callout::Reach;
use crate::callout::testing::Server;

const NOW: i64 = 1_800_000_000;

fn config(url: &str, ca: &str, more: &str) -> String {
    let ca = ca.replace('\n', "\\n");
    format!(
        "{{\"apiVersion\": \"apiserver.config.k8s.io/v1\", \"kind\": \"AuthenticationConfiguration\", \"jwt\": [{{
            \"issuer\": {{\"url\": \"{url}\", \"audiences\": [\"davit\", \"other\"], \"certificateAuthority\": \"{ca}\"}}, {more}}}]}}"
    )
}

const MAPPINGS: &str = r#""claimMappings": {
    "username": {"claim": "sub", "prefix": "oidc:"},
    "groups": {"expression": "claims.roles.map(r, 'x:' + r)"},
    "uid": {"claim": "oid"},
    "extra": [{"key": "example.com/team", "valueExpression": "claims.?team.orValue('')"}]},
  "claimValidationRules": [{"claim": "hd", "requiredValue": "example.com"}],
  "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"}]"#;

fn mapping(text: &str) -> Mapping {
    let config =
        AuthenticationConfiguration::parse(&config("https://a.example", "", text)).unwrap();
    Mapping::new(&config.jwt[0]).unwrap()
}

#[test]
fn claims_become_a_user() {
    let claims = json!({"sub": "bob", "oid": "7", "hd": "example.com", "roles": ["dev", "ops"], "team": "core"});
    let user = mapping(MAPPINGS).user(&claims).unwrap();
    let mut expected = UserInfo::new("oidc:bob", ["x:dev", "x:ops"]);
    expected.uid = "7".into();
    expected
        .extra
        .insert("example.com/team".into(), vec!["core".into()]);
    assert_eq!(user, expected);
}

#[test]
fn claims_that_make_no_user_say_why() {
    let good = json!({"sub": "bob", "oid": "7", "hd": "example.com", "roles": []});
    let cases = [
        (
            "hd",
            json!("evil.example"),
            "required claim hd value does not match",
        ),
        ("hd", Value::Null, "required claim hd"),
        ("sub", json!(["a", "b"]), "username must be one string"),
        ("sub", json!(7), "username must be a string"),
        ("roles", json!([1]), "error evaluating"),
        ("oid", Value::Null, "uid must be one string"),
    ];
    let mapping = mapping(MAPPINGS);
    assert!(mapping.user(&good).is_ok());
    for (claim, value, expected) in cases {
        let mut claims = good.clone();
        claims[claim] = value;
        let error = mapping.user(&claims).unwrap_err();
        assert!(error.contains(expected), "{claim}: {error}");
    }
    let plain = self::mapping(
        r#""claimMappings": {"username": {"claim": "email", "prefix": ""}},
        "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"}]"#,
    );
    let mail = |mail: &str, verified: bool| {
        plain.user(&json!({"email": mail, "email_verified": verified}))
    };
    assert!(mail("a@b", true).is_ok());
    assert_eq!(mail("a@b", false).unwrap_err(), "oidc: email not verified");
    assert!(
        mail("system:admin", true)
            .unwrap_err()
            .ends_with("failed: reserved")
    );
}

#[test]
fn configurations_that_cannot_be_followed_are_refused() {
    let user = r#""claimMappings": {"username": {"claim": "sub", "prefix": ""}}"#;
    let cases = [
        (
            config("http://a.example", "", user),
            "URL scheme must be https",
        ),
        (config("https://a.example?x", "", user), "must not contain"),
        (
            config(
                "https://a.example",
                "",
                r#""claimMappings": {"username": {"claim": "sub"}}"#,
            ),
            "prefix is required",
        ),
        (
            config(
                "https://a.example",
                "",
                r#""claimMappings": {"username": {}}"#,
            ),
            "claim or expression is required",
        ),
        (
            config(
                "https://a.example",
                "",
                r#""claimMappings": {"username": {"claim": "a", "prefix": "", "expression": "x"}}"#,
            ),
            "can't both be set",
        ),
        (
            config("https://a.example", "", user).replace("\"davit\", \"other\"", ""),
            "audiences is required",
        ),
        (
            config("https://a.example", "", user).replace("/v1\"", "/v1alpha1\""),
            "is not apiserver.config",
        ),
    ];
    for (text, expected) in cases {
        let error = AuthenticationConfiguration::parse(&text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let config = AuthenticationConfiguration::parse(&config(
        "https://a.example",
        "",
        r#""claimMappings": {"username": {"expression": "claims."}}"#,
    ));
    assert!(
        Mapping::new(&config.unwrap().jwt[0])
            .unwrap_err()
            .contains("username.expression")
    );
}

/// An issuer, its key, and the issuers that believe it.
async fn rig() -> (Server, EncodingKey, Issuers) {
    use base64::Engine as _;
    let pair = KeyPair::generate().unwrap();
    let point = pair.der_bytes().to_vec();
    let coordinate = |range: std::ops::Range<usize>| {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&point[range])
    };
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1",
        "x": coordinate(1..33), "y": coordinate(33..65)}]});
    let server = Server::start(&["localhost"], move |asked| {
        let host = asked.headers["host"].to_str().unwrap();
        let body = match asked.path.as_str() {
            "/.well-known/openid-configuration" => json!({
                "issuer": format!("https://{host}"), "jwks_uri": format!("https://{host}/keys"),
            }),
            _ => keys.clone(),
        };
        (200, Vec::new(), body.to_string())
    })
    .await;
    let callouts = Arc::new(Callouts::new(Memory::with([]), None, Reach::default()));
    let text = config(&server.url(""), &server.pem, MAPPINGS);
    let issuers = Issuers::parse(&text, &callouts).unwrap();
    (
        server,
        EncodingKey::from_ec_der(pair.serialized_der()),
        issuers,
    )
}

fn token(server: &Server, key: &EncodingKey, id: &str, changes: Value) -> String {
    let mut claims = json!({"iss": server.url(""), "aud": "davit", "exp": NOW + 60, "sub": "bob",
        "oid": "7", "hd": "example.com", "roles": []});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(id.to_owned());
    jsonwebtoken::encode(&header, &claims, key).unwrap()
}

#[tokio::test]
async fn tokens_of_an_issuer_are_believed_after_one_fetch_of_its_keys() {
    let (server, key, issuers) = rig().await;
    for _ in 0..3 {
        let token = token(&server, &key, "k1", json!({"aud": ["x", "other"]}));
        let user = issuers.authenticate(&token, NOW).await.unwrap().unwrap();
        assert_eq!(user.name, "oidc:bob");
    }
    assert_eq!(server.asked().len(), 2);
    let stranger = EncodingKey::from_ec_der(KeyPair::generate().unwrap().serialized_der());
    let cases = [
        (
            token(&server, &key, "k1", json!({"exp": NOW - 1})),
            "expired",
        ),
        (
            token(&server, &key, "k1", json!({"exp": null})),
            "no expiry",
        ),
        (
            token(&server, &key, "k1", json!({"nbf": NOW + 60})),
            "not valid yet",
        ),
        (
            token(&server, &key, "k1", json!({"aud": "elsewhere"})),
            "audience",
        ),
        (token(&server, &stranger, "k1", json!({})), "verify token"),
        (token(&server, &key, "k2", json!({})), "no key"),
    ];
    for (token, expected) in cases {
        let error = issuers
            .authenticate(&token, NOW)
            .await
            .unwrap()
            .unwrap_err();
        assert!(error.contains(expected), "{error} instead of {expected}");
    }
    // Strangers cannot make the server call the issuer again and again.
    assert_eq!(server.asked().len(), 2);
    let foreign = token(
        &server,
        &key,
        "k1",
        json!({"iss": "https://elsewhere.example"}),
    );
    assert!(issuers.authenticate(&foreign, NOW).await.is_none());
    assert!(issuers.authenticate("opaque", NOW).await.is_none());
}
