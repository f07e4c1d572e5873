//! Calls over real TLS.

use super::testing::{Answered, Server};
use super::*;
use crate::auth::Kind;
use crate::auth::memory::Memory;
use serde_json::{Value, json};

fn fine(text: &str) -> Answered {
    (200, Vec::new(), text.to_owned())
}

/// The servers of these tests are on this machine.
fn loopback() -> Reach {
    Reach::beyond(&["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()])
}

fn target(server: &Server, url: String) -> Target {
    Target {
        place: Place::Url(url),
        trust: Trust::bundle(server.pem.as_bytes()),
    }
}

async fn post(callouts: &Callouts, target: &Target, millis: u64) -> Result<Bytes, Error> {
    let timeout = Duration::from_millis(millis);
    callouts
        .post(target, "?timeout=1s", timeout, b"{}".to_vec())
        .await
}

#[tokio::test]
async fn answers_refusals_redirects_and_silence() {
    let server = Server::start(&["localhost"], |asked| match asked.path.as_str() {
        "/ok?timeout=1s" => fine("{\"a\":1}"),
        "/moved?timeout=1s" => (
            302,
            vec![("location", "https://localhost/ok".to_owned())],
            String::new(),
        ),
        "/bad?timeout=1s" => (500, Vec::new(), "boom".to_owned()),
        "/none?timeout=1s" => (404, Vec::new(), String::new()),
        _ => (0, Vec::new(), String::new()),
    })
    .await;
    let callouts = Callouts::new(Memory::with([]), None, loopback());
    let ask = async |path: &str, millis| {
        let target = target(&server, server.url(path));
        let answer = post(&callouts, &target, millis).await;
        answer.map_err(|error| error.to_string())
    };
    assert_eq!(ask("/ok", 5000).await.unwrap(), "{\"a\":1}");
    let table = [
        (
            "/moved",
            "the server responded with the status code 302 but did not return more information",
        ),
        (
            "/bad",
            "an error on the server (\"boom\") has prevented the request from succeeding",
        ),
        ("/none", "the server could not find the requested resource"),
    ];
    for (path, message) in table {
        assert_eq!(ask(path, 5000).await.unwrap_err(), message);
    }
    let silent = ask("/silent", 50).await.unwrap_err();
    assert!(silent.ends_with("context deadline exceeded"), "{silent}");
    assert_eq!(server.asked().len(), 5, "no redirect was followed");
}

#[tokio::test]
async fn the_wrong_certificate_or_name_is_refused() {
    let server = Server::start(&["other.example"], |_| fine("{}")).await;
    let stranger = Server::start(&["localhost"], |_| fine("{}")).await;
    let callouts = Callouts::new(Memory::with([]), None, loopback());
    let misnamed = target(&server, server.url("/"));
    let error = post(&callouts, &misnamed, 5000).await.unwrap_err();
    assert!(
        error.to_string().contains("failed to verify certificate"),
        "{error}"
    );
    let untrusted = target(&server, stranger.url("/"));
    let error = post(&callouts, &untrusted, 5000).await.unwrap_err();
    let expected = "x509: certificate signed by unknown authority";
    assert!(error.to_string().ends_with(expected), "{error}");
    let mut blind = untrusted.clone();
    blind.trust.blindly = true;
    post(&callouts, &blind, 5000).await.unwrap();
}

#[tokio::test]
async fn a_service_is_called_at_a_ready_endpoint_under_its_own_name() {
    let server = Server::start(&["hook.ops.svc"], |_| fine("{}")).await;
    let (services, slices) = (Kind::SERVICES, Kind::ENDPOINT_SLICES);
    let source = Memory::with([(
        services,
        json!({"metadata": {"namespace": "ops", "name": "hook"}, "spec": {"ports": [{"port": 443}]}}),
    )]);
    let callouts = Callouts::new(source.clone(), None, loopback());
    let service = json!({"service": {"namespace": "ops", "name": "hook", "path": "/x"}});
    let target = Target {
        place: Place::from_client_config(&service).unwrap(),
        trust: Trust::bundle(server.pem.as_bytes()),
    };
    let error = post(&callouts, &target, 5000).await.unwrap_err();
    let expected = "Post \"https://hook.ops.svc:443/x?timeout=1s\": no endpoints available for \
                    service \"hook\"";
    assert_eq!(error.to_string(), expected);
    let slice = json!({
        "metadata": {"namespace": "ops", "name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "ports": [{"name": "", "port": server.address.port()}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
    });
    source.put(slices, &slice);
    post(&callouts, &target, 5000).await.unwrap();
    assert_eq!(server.asked()[0].path, "/x?timeout=1s");
}

#[tokio::test]
async fn what_users_name_is_not_on_this_machine() {
    let server = Server::start(&["localhost", "hook.ops.svc", "127.0.0.1"], |_| fine("{}")).await;
    let port = server.address.port();
    let meta = json!({"namespace": "ops", "name": "hook"});
    let service = |spec: Value| json!({ "metadata": meta, "spec": spec });
    let slice = |address: &str| {
        json!({
            "metadata": {"namespace": "ops", "name": "s", "labels": {"kubernetes.io/service-name": "hook"}},
            "ports": [{"name": "", "port": port}], "endpoints": [{"addresses": [address]}],
        })
    };
    let ports = json!([{ "port": port }]);
    let name = json!({"type": "ExternalName", "externalName": "localhost", "ports": ports});
    let by_service = json!({"service": {"namespace": "ops", "name": "hook", "port": port}});
    let by_url = |host: &str| json!({ "url": format!("https://{host}:{port}/") });
    let cases = [
        (by_url("localhost"), None, None),
        (by_url("127.0.0.1"), None, None),
        (by_url("[::ffff:127.0.0.1]"), None, None),
        (by_url("0.0.0.0"), None, None),
        (
            by_service.clone(),
            Some(json!({ "ports": ports })),
            Some("127.0.0.1"),
        ),
        (
            by_service.clone(),
            Some(json!({ "ports": ports })),
            Some("::ffff:127.0.0.1"),
        ),
        (by_service, Some(name), None),
    ];
    for (config, spec, address) in cases {
        let source = Memory::with([]);
        if let Some(spec) = spec {
            source.put(Kind::SERVICES, &service(spec));
        }
        if let Some(address) = address {
            source.put(Kind::ENDPOINT_SLICES, &slice(address));
        }
        let callouts = Callouts::new(source, None, Reach::default());
        let mut trust = Trust::bundle(server.pem.as_bytes());
        trust.blindly = true;
        let place = Place::from_client_config(&config).unwrap();
        let target = Target { place, trust };
        let error = post(&callouts, &target, 5000).await.unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("address not allowed"),
            "{config} {address:?}: {said}"
        );
    }
    assert_eq!(server.asked().len(), 0, "somebody was called");
    // What the administrator wrote down is meant so.
    let callouts = Callouts::new(Memory::with([]), None, Reach::default());
    let target = Target {
        place: Place::configured(&server.url("/")).unwrap(),
        trust: Trust::bundle(server.pem.as_bytes()),
    };
    post(&callouts, &target, 5000).await.unwrap();
    let request = Request::get(format!("http://127.0.0.1:{port}/")).body(Body::empty());
    let error = callouts.send_anywhere(request.unwrap()).await.unwrap_err();
    assert!(error.contains("address not allowed"), "{error}");
    assert_eq!(server.asked().len(), 1);
}
