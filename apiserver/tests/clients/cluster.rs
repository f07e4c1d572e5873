//! The cluster under test, and bare requests to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use davit_apiserver::pki::Purpose;
use davit_apiserver::{ApiServer, Config, Patience, StoreKind};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// A cluster and its administrator. One started here goes away when this is dropped.
pub(crate) struct Cluster {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) client: kube::Client,
    kubeconfig: PathBuf,
    stop: CancellationToken,
    _server: Option<Arc<ApiServer>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An administrator's files, PEM.
pub(crate) struct Identity {
    pub(crate) authority: Vec<u8>,
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.code < 300, "{} {}", self.code, self.body);
        self.body
    }

    /// The body of a refusal with this code whose message contains `message`.
    #[track_caller]
    pub(crate) fn refused(self, code: u16, message: &str) -> Value {
        assert_eq!(self.code, code, "{}", self.body);
        let found = self.body["message"].as_str().unwrap_or_default();
        assert!(
            found.contains(message),
            "{found:?} does not say {message:?}"
        );
        self.body
    }
}

impl Cluster {
    /// The cluster of `DAVIT_TEST_KUBECONFIG`, or a new server.
    pub(crate) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (kubeconfig, server) = match std::env::var_os("DAVIT_TEST_KUBECONFIG") {
            Some(path) => (PathBuf::from(path), None),
            None => {
                let (path, server) = serve(dir.path(), stop.clone(), Patience::default()).await;
                (path, Some(server))
            }
        };
        let client = kube::Client::try_from(config(&kubeconfig).await).unwrap();
        Self {
            dir,
            client,
            kubeconfig,
            stop,
            _server: server,
        }
    }

    /// A new server that soon loses its patience with slow clients.
    pub(crate) async fn impatient() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let patience = Patience {
            handshake: Duration::from_secs(2),
            headers: Duration::from_secs(1),
            ..Patience::default()
        };
        let (kubeconfig, server) = serve(dir.path(), stop.clone(), patience).await;
        let client = kube::Client::try_from(config(&kubeconfig).await).unwrap();
        Self {
            dir,
            client,
            kubeconfig,
            stop,
            _server: Some(server),
        }
    }

    /// Where the server listens, and what its administrator shows.
    pub(crate) fn identity(&self) -> (SocketAddr, Identity) {
        let file = serde_json::to_value(Kubeconfig::read_from(&self.kubeconfig).unwrap()).unwrap();
        let (cluster, user) = (&file["clusters"][0]["cluster"], &file["users"][0]["user"]);
        let decoded = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        let identity = Identity {
            authority: decoded(&cluster["certificate-authority-data"]),
            certificate: decoded(&user["client-certificate-data"]),
            key: decoded(&user["client-key-data"]),
        };
        let url = cluster["server"].as_str().unwrap();
        let address = url.trim_start_matches("https://");
        (address.parse().unwrap(), identity)
    }

    /// Tells the server to stop.
    pub(crate) fn end(&self) {
        self.stop.cancel();
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client that shows nothing, or this bearer token.
    pub(crate) async fn stranger(&self, token: Option<&str>) -> kube::Client {
        let mut config = config(&self.kubeconfig).await;
        config.auth_info = kube::config::AuthInfo::default();
        config.auth_info.token = token.map(|token| token.to_owned().into());
        kube::Client::try_from(config).unwrap()
    }

    /// A namespace with the account that pods need, as a controller makes it.
    pub(crate) async fn namespace(&self, name: &str) {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.send("POST", "/api/v1/namespaces", &object).await.ok();
        let account = json!({"metadata": {"name": "default"}});
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
        let reply = self.send("POST", &path, &account).await;
        assert!(matches!(reply.code, 201 | 409), "{}", reply.body);
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send("PUT", path, body).await
    }

    /// A merge patch.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send("PATCH", path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &Value::Null).await
    }

    /// A request of the administrator; patches are merge patches.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        self.send_with(method, path, &[("content-type", kind)], body)
            .await
    }

    pub(crate) async fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Reply {
        request(&self.client, method, path, headers, body).await
    }
}

/// One request; `Null` is no body. An answer that is not JSON is text.
pub(crate) async fn request(
    client: &kube::Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Reply {
    let method: Method = method.parse().unwrap();
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = match body {
        Value::Null => Vec::new(),
        Value::String(text) => text.clone().into_bytes(),
        body => body.to_string().into_bytes(),
    };
    let response = client.send(request.body(body.into()).unwrap()).await;
    let (parts, body) = response.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = || String::from_utf8_lossy(&bytes).into_owned().into();
    Reply {
        code: parts.status.as_u16(),
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()),
    }
}

async fn config(kubeconfig: &Path) -> kube::Config {
    let read = Kubeconfig::read_from(kubeconfig).unwrap();
    kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .unwrap()
}

/// A server on loopback, and the kubeconfig of its administrator.
async fn serve(
    dir: &Path,
    stop: CancellationToken,
    patience: Patience,
) -> (PathBuf, Arc<ApiServer>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = Config::new(dir.to_owned(), address);
    config.store = StoreKind::Memory;
    config.patience = patience;
    let server = ApiServer::open(config).await.unwrap();
    let purpose = Purpose::Client {
        user: "admin".into(),
        group: "system:masters".into(),
    };
    let leaf = server.authority().leaf("admin", purpose).unwrap();
    let kubeconfig = dir.join("kubeconfig");
    let url = format!("https://{address}");
    server
        .authority()
        .keep_kubeconfig(kubeconfig.clone(), url, leaf)
        .unwrap();
    tokio::spawn(server.clone().serve(listener, stop));
    (kubeconfig, server)
}
