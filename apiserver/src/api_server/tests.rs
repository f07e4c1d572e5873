//! Whole requests through the server, in process.

mod aggregation;
mod audit;
mod builtin_admission;
mod conversion;
mod custom;
mod deletion;
mod fairness;
mod objects;
mod optional_fields;
mod output;
mod past;
mod policies;
mod quota;
mod reading;
mod reloading;
mod rights;
mod services;
mod table_entry;
mod token_secrets;
mod transactions;
mod webhooks;

use http::HeaderMap;

use super::*;
use crate::StoreKind;

/// A server over a memory store that goes away with the test.
pub(super) struct Rig {
    pub(super) server: Arc<ApiServer>,
    _dir: tempfile::TempDir,
}

/// An answer, taken apart.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) code: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Rig {
    pub(super) async fn new() -> Self {
        Self::with(Registry::builtin()).await
    }

    pub(super) async fn with(registry: Registry) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = "127.0.0.1:6443".parse().unwrap();
        let mut config = Config::new(dir.path().to_owned(), listen);
        config.store = StoreKind::Memory;
        // The servers of these tests are on this machine.
        config.callout_ranges = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        Self::open(dir, config, registry).await
    }

    pub(super) async fn open(dir: tempfile::TempDir, config: Config, registry: Registry) -> Self {
        let server = ApiServer::open_with(config, registry).await.unwrap();
        let rig = Self { server, _dir: dir };
        // What a controller does for every namespace.
        let account = serde_json::json!({"metadata": {"name": "default"}});
        rig.make("/api/v1/namespaces/default/serviceaccounts", account)
            .await;
        rig
    }

    /// A request with all rights, for tasks of their own.
    pub(super) async fn send_to(
        server: Arc<ApiServer>,
        method: &str,
        path: &str,
        body: impl Into<Body>,
    ) -> Reply {
        let user = UserInfo::new("tester", [groups::MASTERS]);
        let request = Request::builder().method(method).uri(path);
        let request = request.extension(InProcessUser(Arc::new(user)));
        let request = request.body(body.into()).unwrap();
        Reply::of(handler::serve(server, request).await).await
    }

    /// A request with all rights.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        let user = UserInfo::new("tester", [groups::MASTERS]);
        self.send_as(Some(user), method, path, headers, body).await
    }

    pub(super) async fn send_as(
        &self,
        user: Option<UserInfo>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(user) = user {
            request = request.extension(InProcessUser(Arc::new(user)));
        }
        self.answer(request.body(body.into()).unwrap()).await
    }

    /// A request that comes over a connection with a user's certificate.
    pub(super) async fn peer_send(
        &self,
        user: Option<UserInfo>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(user) = user {
            request = request.extension(crate::pki::Peer::Verified {
                user: Arc::new(user),
                not_after: i64::MAX,
            });
        }
        self.answer(request.body(body.into()).unwrap()).await
    }

    async fn answer(&self, request: Request<Body>) -> Reply {
        let response = handler::serve(self.server.clone(), request).await;
        Reply::of(response).await
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], Body::empty()).await
    }

    pub(super) async fn post(&self, path: &str, object: Value) -> Reply {
        self.send("POST", path, &[], object.to_string()).await
    }

    pub(super) async fn put(&self, path: &str, object: Value) -> Reply {
        self.send("PUT", path, &[], object.to_string()).await
    }

    pub(super) async fn patch(&self, path: &str, kind: &str, patch: Value) -> Reply {
        let kind = format!("application/{kind}");
        self.send("PATCH", path, &[("content-type", &kind)], patch.to_string())
            .await
    }

    pub(super) async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], Body::empty()).await
    }

    /// Creates an object that must be accepted.
    pub(super) async fn make(&self, path: &str, object: Value) -> Value {
        let reply = self.post(path, object).await;
        assert_eq!(reply.code, 201, "{}", reply.body);
        reply.body
    }
}

impl Reply {
    async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = || String::from_utf8_lossy(&bytes).into_owned().into();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        Self {
            code: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    #[track_caller]
    pub(super) fn ok(self) -> Value {
        assert!(self.code < 300, "{} {}", self.code, self.body);
        self.body
    }

    #[track_caller]
    pub(super) fn refused(self, code: u16, message: &str) -> Value {
        assert_eq!(self.code, code, "{}", self.body);
        let found = self.body["message"].as_str().unwrap_or_default();
        assert!(
            found.contains(message),
            "{found:?} does not say {message:?}"
        );
        self.body
    }
}

pub(super) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(super) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub(super) fn pod(name: &str) -> Value {
    serde_json::json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    })
}

pub(super) fn config_map(name: &str, value: &str) -> Value {
    serde_json::json!({
        "kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name},
        "data": {"key": value},
    })
}
