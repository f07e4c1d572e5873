//! The node API over real TLS, and what `kubectl logs` can ask of it.
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::agent::ServingIdentity;
use crate::agent::dispatch::LivePod;
use crate::pod::observed::{Hook, ImageId, Observed, Phase, Running};

/// A cluster's authority, and what it certifies.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Certificate and key of a user in a group.
    fn certify(&self, group: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A running node API with one pod, whose container `a` runs for the second time.
struct Served {
    address: SocketAddr,
    authority: Authority,
    seen: watch::Sender<Arc<Observed>>,
    shutdown: CancellationToken,
    logs: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

fn observed(running: bool) -> Observed {
    let mut seen = Observed::default();
    let known = seen.known_mut("a");
    known.attempts = 2;
    if running {
        known.phase = Phase::Running(Running {
            id: "1".into(),
            pid: 1,
            started_at: Timestamp::now(),
            image: ImageId::default(),
            spec_image: String::new(),
            post_start: Hook::Done,
            stop: None,
            probes: Default::default(),
            limits: None,
            outgrown: false,
        });
    }
    seen
}

impl Served {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "ns", "uid": "u" },
            "spec": { "containers": [{ "name": "a" }, { "name": "b" }] },
        }))
        .unwrap();
        let (seen, receiver) = watch::channel(Arc::new(observed(true)));
        let pods = Pods::default();
        pods.write().insert(
            "u".into(),
            LivePod {
                pod: Arc::new(pod),
                seen: receiver,
            },
        );
        let logs = dir.path().join("u/logs/a");
        std::fs::create_dir_all(&logs).unwrap();
        std::fs::write(
            logs.join("0.log"),
            "2026-01-01T00:00:00.000000000Z stdout F before\n",
        )
        .unwrap();
        let now = "2026-01-01T00:00:01.000000000Z stdout F one\n2026-01-01T00:00:02.000000000Z stderr F two\n";
        std::fs::write(logs.join("1.log"), now).unwrap();
        let authority = Authority::new();
        let (certificate_pem, key_pem) = authority.certify("system:nodes");
        let ca = authority.pem.clone();
        let identity = ServingIdentity::from_pem(&certificate_pem, &key_pem, ca).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let api = NodeApi {
            pods,
            runtime: crate::pod::double::Double::new(dir.path().to_owned()),
            pods_dir: dir.path().to_owned(),
            shutdown: shutdown.clone(),
        };
        tokio::spawn(serve(
            listener,
            tls(&identity).unwrap(),
            router(api),
            shutdown.clone(),
        ));
        Self {
            address,
            authority,
            seen,
            shutdown,
            logs,
            _dir: dir,
        }
    }

    async fn dial(
        &self,
        identity: Option<(String, String)>,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
            .map_err(|e| e.to_string())
    }

    async fn get(
        &self,
        identity: Option<(String, String)>,
        path: &str,
    ) -> Result<(u16, String), String> {
        let stream = self.dial(identity).await?;
        let text = |error: &dyn std::error::Error| error.to_string();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| text(&e))?;
        tokio::spawn(connection);
        let request = Request::get(path)
            .header("host", "localhost")
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.map_err(|e| text(&e))?;
        let status = response.status().as_u16();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|e| text(&e))?
            .to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// The head of the answer to an upgrade, and the frames behind it up to the end, as their first bytes and contents.
    async fn websocket(&self, path: &str, protocol: &str) -> (String, Vec<(u8, String)>) {
        let identity = Some(self.authority.certify("system:masters"));
        let mut stream = self.dial(identity).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let mut frames = Vec::new();
        loop {
            let first = stream.read_u8().await.unwrap();
            let mut body = vec![0; stream.read_u8().await.unwrap().into()];
            stream.read_exact(&mut body).await.unwrap();
            if first == 0x88 {
                return (String::from_utf8(head).unwrap(), frames);
            }
            frames.push((first, String::from_utf8(body).unwrap()));
        }
    }

    async fn trusted(&self, path: &str) -> (u16, String) {
        self.get(Some(self.authority.certify("davit:node-clients")), path)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn only_the_cluster_is_let_in() {
    let served = Served::new();
    assert_eq!(served.trusted("/healthz").await, (200, "ok".to_owned()));
    let administrator = Some(served.authority.certify("system:masters"));
    assert_eq!(served.get(administrator, "/healthz").await.unwrap().0, 200);
    let other_user = Some(served.authority.certify("system:nodes"));
    assert_eq!(served.get(other_user, "/healthz").await.unwrap().0, 403);
    assert!(
        served.get(None, "/healthz").await.is_err(),
        "no certificate"
    );
    let stranger = Some(Authority::new().certify("system:masters"));
    assert!(
        served.get(stranger, "/healthz").await.is_err(),
        "another authority's certificate"
    );
    let (status, pods) = served.trusted("/pods").await;
    assert!(
        status == 200 && pods.contains("\"kind\":\"PodList\""),
        "{pods}"
    );
}

#[tokio::test]
async fn logs_are_read_as_asked() {
    let served = Served::new();
    let cases = [
        ("", 200, "one\ntwo\n"),
        ("?tailLines=1", 200, "two\n"),
        ("?tailLines=0", 200, ""),
        ("?previous=true", 200, "before\n"),
        ("?stream=Stderr", 200, "two\n"),
        ("?sinceTime=2026-01-01T00:00:02Z", 200, "two\n"),
        ("?limitBytes=3", 200, "one"),
    ];
    for (query, status, body) in cases {
        assert_eq!(
            served
                .trusted(&format!("/containerLogs/ns/p/a{query}"))
                .await,
            (status, body.to_owned()),
            "{query}"
        );
    }
    let refused = [
        (
            "/containerLogs/ns/p/a?tailLines=-1",
            400,
            "tailLines must be at least 0",
        ),
        (
            "/containerLogs/ns/p/a?sinceTime=x",
            400,
            "is no RFC 3339 time",
        ),
        (
            "/containerLogs/ns/p/b",
            400,
            "container \"b\" in pod \"p\" is waiting to start: ContainerCreating",
        ),
        (
            "/containerLogs/ns/p/c",
            400,
            "container c is not valid for pod p",
        ),
        ("/containerLogs/ns/q/a", 404, "is not on this node"),
    ];
    for (path, status, message) in refused {
        let (got, body) = served.trusted(path).await;
        assert!(
            got == status && body.contains(message),
            "{path}: {got} {body}"
        );
    }
}

#[tokio::test]
async fn logs_are_read_over_websockets() {
    let served = Served::new();
    let whole = |frames: &[(u8, String)]| -> String {
        frames.iter().map(|(_, text)| text.as_str()).collect()
    };
    for (protocol, named) in [
        ("", ""),
        ("sec-websocket-protocol: binary.k8s.io\r\n", "binary.k8s.io"),
    ] {
        let (head, frames) = served.websocket("/containerLogs/ns/p/a", protocol).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains(named), "{head}");
        assert_eq!(frames[0], (0x82, String::new()));
        assert!(frames.iter().all(|(first, _)| *first == 0x82));
        assert_eq!(whole(&frames), "one\ntwo\n");
    }
    let protocol = "sec-websocket-protocol: base64.binary.k8s.io\r\n";
    let (_, frames) = served
        .websocket("/containerLogs/ns/p/a?tailLines=1", protocol)
        .await;
    assert_eq!(whole(&frames), "dHdvCg==");
    assert!(frames.iter().all(|(first, _)| *first == 0x81));
}

#[tokio::test]
async fn following_ends_with_the_container() {
    let served = Arc::new(Served::new());
    let follower = Arc::clone(&served);
    let reading = tokio::spawn(async move {
        follower
            .trusted("/containerLogs/ns/p/a?follow=true&tailLines=1")
            .await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut log = std::fs::File::options()
        .append(true)
        .open(served.logs.join("1.log"))
        .unwrap();
    std::io::Write::write_all(&mut log, b"2026-01-01T00:00:03.000000000Z stdout F three\n")
        .unwrap();
    served.seen.send_replace(Arc::new(observed(false)));
    let (status, body) = tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((status, body.as_str()), (200, "two\nthree\n"));
}

#[tokio::test]
async fn shutdown_ends_followers() {
    let served = Arc::new(Served::new());
    let follower = Arc::clone(&served);
    let reading =
        tokio::spawn(async move { follower.trusted("/containerLogs/ns/p/a?follow=true").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .unwrap()
        .unwrap();
}
