//! Thresholds, the choice of probes, and probes against real sockets.
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::pod::double::Double;
use crate::pod::observed::{Hook, ImageId, Phase, Running, Stop, StopStage, Why};

fn declared(value: Value) -> Probe {
    serde_json::from_value(value).unwrap()
}

#[test]
fn thresholds_are_counted_in_a_row() {
    let probe = declared(json!({ "successThreshold": 2, "failureThreshold": 3 }));
    let mut tally = Tally::new(&probe, ProbeKind::Readiness, None);
    let tries = [
        true, true, false, false, true, false, false, false, false, true, true,
    ];
    let verdicts: Vec<_> = tries
        .into_iter()
        .map(|passed| tally.record(passed))
        .collect();
    let (up, down) = (Some(true), Some(false));
    assert_eq!(
        verdicts,
        [None, up, None, None, None, None, None, down, None, None, up]
    );
}

#[test]
fn verdicts_start_as_kubernetes_has_them() {
    let probe = declared(json!({ "failureThreshold": 1 }));
    let cases = [
        (ProbeKind::Readiness, None, false, None),
        (ProbeKind::Readiness, Some(true), false, Some(false)),
        (ProbeKind::Liveness, None, true, None),
        (ProbeKind::Liveness, None, false, Some(false)),
        (ProbeKind::Startup, None, true, Some(true)),
        (ProbeKind::Startup, None, false, Some(false)),
    ];
    for (kind, known, passed, verdict) in cases {
        assert_eq!(
            Tally::new(&probe, kind, known).record(passed),
            verdict,
            "{kind:?} {known:?} {passed}"
        );
    }
}

fn observed(change: impl FnOnce(&mut Running)) -> Observed {
    let mut running = Running {
        id: "1".into(),
        pid: 1,
        started_at: Timestamp::UNIX_EPOCH,
        image: ImageId::default(),
        spec_image: String::new(),
        post_start: Hook::Done,
        stop: None,
        probes: std::collections::BTreeMap::new(),
        limits: None,
        outgrown: false,
    };
    change(&mut running);
    let mut seen = Observed::default();
    seen.known_mut("a").phase = Phase::Running(running);
    seen
}

#[test]
fn startup_holds_the_others_back_and_a_stop_ends_all_but_readiness() {
    let probe = json!({ "tcpSocket": { "port": 1 } });
    let container = json!({ "name": "a", "startupProbe": probe, "livenessProbe": probe, "readinessProbe": probe });
    let pod: Pod =
        serde_json::from_value(json!({ "spec": { "containers": [container] } })).unwrap();
    let kinds = |seen: &Observed| {
        desired(&pod, seen)
            .into_iter()
            .map(|key| key.kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(&observed(|_| {})), [ProbeKind::Startup]);
    let started = |running: &mut Running| {
        running.probes.insert(ProbeKind::Startup, true);
    };
    assert_eq!(
        kinds(&observed(started)),
        [ProbeKind::Liveness, ProbeKind::Readiness]
    );
    let stopping = observed(|running| {
        started(running);
        let now = Timestamp::UNIX_EPOCH;
        running.stop = Some(Stop {
            deadline: now,
            asked: now,
            stage: StopStage::Killed,
            why: Why::PodEnds,
        });
    });
    assert_eq!(kinds(&stopping), [ProbeKind::Readiness]);
    assert_eq!(
        kinds(&observed(|running| running.post_start = Hook::Running)),
        []
    );
}

fn target(ports: Value) -> Target {
    Target {
        ip: Ipv4Addr::LOCALHOST.into(),
        on_host: false,
        pod_uid: "u".into(),
        id: "1".into(),
        container: serde_json::from_value(json!({ "name": "a", "ports": ports })).unwrap(),
        runtime: Double::new(std::path::PathBuf::new()),
    }
}

/// Answers every connection with the next of these texts and keeps what was asked.
async fn server(answers: Vec<String>) -> (u16, Arc<parking_lot::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            kept.lock()
                .push(String::from_utf8_lossy(&request[..read]).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, asked)
}

fn answer(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: 2\r\n\r\nok")
}

#[tokio::test]
async fn http_statuses_decide() {
    for (status, passes) in [
        ("200 OK", true),
        ("399 X", true),
        ("404 Not Found", false),
        ("500 X", false),
    ] {
        let (port, asked) = server(vec![answer(status, "")]).await;
        let headers =
            json!([{ "name": "Host", "value": "example.com" }, { "name": "X-A", "value": "b" }]);
        let probe = declared(
            json!({ "httpGet": { "path": "/z?q", "port": "web", "httpHeaders": headers } }),
        );
        let verdict = check(
            &target(json!([{ "name": "web", "containerPort": port }])),
            &probe,
        )
        .await;
        assert_eq!(verdict == Verdict::Pass, passes, "{status}: {verdict:?}");
        let request = asked.lock()[0].to_ascii_lowercase();
        assert!(request.starts_with("get /z?q http/1.1\r\n"), "{request}");
        assert!(
            request.contains("host: example.com\r\n") && request.contains("x-a: b\r\n"),
            "{request}"
        );
    }
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host_only() {
    let (port, asked) = server(vec![
        answer("302 Found", "location: /there\r\n"),
        answer("500 X", ""),
    ])
    .await;
    let probe = declared(json!({ "httpGet": { "port": port } }));
    let verdict = check(&target(json!([])), &probe).await;
    assert_eq!(
        verdict,
        Verdict::Fail("HTTP probe failed with statuscode: 500".into())
    );
    assert!(asked.lock()[1].starts_with("GET /there "));
    let (port, _) = server(vec![answer(
        "302 Found",
        "location: http://169.254.169.254/x\r\n",
    )])
    .await;
    let probe = declared(json!({ "httpGet": { "port": port } }));
    assert_eq!(
        check(&target(json!([])), &probe).await,
        Verdict::Pass,
        "not followed, and a redirect is no failure"
    );
}

#[tokio::test]
async fn silent_and_closed_ports_fail_in_time() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = declared(json!({ "httpGet": { "port": port }, "timeoutSeconds": 1 }));
    assert!(
        matches!(check(&target(json!([])), &silent).await, Verdict::Fail(message) if message.contains("deadline"))
    );
    let open = declared(json!({ "tcpSocket": { "port": port } }));
    assert_eq!(check(&target(json!([])), &open).await, Verdict::Pass);
    drop(listener);
    assert!(
        matches!(check(&target(json!([])), &open).await, Verdict::Fail(message) if message.contains("refused"))
    );
    let unknown = declared(json!({ "tcpSocket": { "port": "nowhere" } }));
    assert_eq!(
        check(&target(json!([])), &unknown).await,
        Verdict::Error("couldn't find port: nowhere".into())
    );
}

#[tokio::test]
async fn grpc_health_is_asked_over_http2() {
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::body::Frame;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for status in [1u8, 2] {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(
                move |request: ::http::Request<hyper::body::Incoming>| async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let asked = request.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(&asked[..], [0, 0, 0, 0, 3, 0x0a, 1, b's']);
                    let data = Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]));
                    let trailers = ::http::HeaderMap::from_iter([(
                        "grpc-status".parse().unwrap(),
                        "0".parse().unwrap(),
                    )]);
                    let frames = [
                        Ok::<_, std::convert::Infallible>(data),
                        Ok(Frame::trailers(trailers)),
                    ];
                    Ok::<_, std::convert::Infallible>(::http::Response::new(StreamBody::new(
                        futures::stream::iter(frames),
                    )))
                },
            );
            let io = hyper_util::rt::TokioIo::new(stream);
            let http2 =
                hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            // The client goes away as soon as it has its answer.
            let _ = http2.serve_connection(io, service).await;
        }
    });
    let probe = declared(json!({ "grpc": { "port": port, "service": "s" } }));
    assert_eq!(check(&target(json!([])), &probe).await, Verdict::Pass);
    let verdict = check(&target(json!([])), &probe).await;
    assert_eq!(
        verdict,
        Verdict::Fail("service unhealthy (responded with \"NOT_SERVING\")".into())
    );
}

#[tokio::test]
async fn commands_decide_by_exit_code_and_cannot_write_to_terminals() {
    let double = Double::new(std::path::PathBuf::new());
    let target = Target {
        runtime: Arc::clone(&double) as _,
        ..target(json!([]))
    };
    let probe = declared(json!({ "exec": { "command": ["c"] } }));
    assert_eq!(check(&target, &probe).await, Verdict::Pass);
    double.fail("exec:c", "\u{1b}[31mred");
    assert_eq!(
        check(&target, &probe).await,
        Verdict::Fail("[31mred".into())
    );
}

#[tokio::test]
async fn a_host_that_a_pod_names_is_not_the_node_itself() {
    let (port, asked) = server(vec![answer("200 OK", ""); 4]).await;
    let probes = [
        json!({ "httpGet": { "host": "127.0.0.1", "port": port } }),
        json!({ "httpGet": { "host": "localhost", "port": port } }),
        json!({ "tcpSocket": { "host": "127.0.0.1", "port": port } }),
        json!({ "tcpSocket": { "host": "::ffff:127.0.0.1", "port": port } }),
    ];
    for probe in &probes {
        let verdict = check(&target(json!([])), &declared(probe.clone())).await;
        let refused = matches!(&verdict, Verdict::Fail(why) if why.contains("may not be in the loopback range"));
        assert!(refused, "{probe}: {verdict:?}");
    }
    assert_eq!(asked.lock().len(), 0);
    let own = Target {
        on_host: true,
        ..target(json!([]))
    };
    let verdict = check(&own, &declared(probes[0].clone())).await;
    assert_eq!(verdict, Verdict::Pass, "a pod of the node's network");
}
