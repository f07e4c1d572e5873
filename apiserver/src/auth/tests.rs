//! Every path and verb of a server with bad and weak credentials: refused, and never with data.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::token::{Claims, Kubernetes, Reference};
use crate::{ApiServer, Config, StoreKind};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// What every authenticated user may read, to find out what there is.
const DISCOVERY: &[&str] = &[
    "/api",
    "/apis",
    "/api/v1",
    "/apis/apps/v1",
    "/openapi/v2",
    "/openapi/v3",
];

struct Cluster {
    server: Arc<ApiServer>,
    router: Router,
    /// UID of the account `default/weak`, which is granted nothing.
    account: String,
    _dir: tempfile::TempDir,
}

async fn cluster() -> Cluster {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path().to_owned(), "127.0.0.1:6443".parse().unwrap());
    config.store = StoreKind::Memory;
    let server = ApiServer::open(config).await.unwrap();
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "weak", "namespace": "default"},
    });
    let path = "/api/v1/namespaces/default/serviceaccounts";
    let (status, account) = server.request(Method::POST, path, Some(&account)).await;
    assert_eq!(status, StatusCode::CREATED, "{account}");
    Cluster {
        router: server.router(),
        server,
        account: account["metadata"]["uid"].as_str().unwrap().to_owned(),
        _dir: dir,
    }
}

impl Cluster {
    /// A token of `default/weak`.
    fn token(&self, audience: &str, lifetime: i64, uid: &str) -> String {
        let now = jiff::Timestamp::now().as_second();
        let claims = Claims {
            aud: vec![audience.to_owned()],
            exp: now + lifetime,
            iat: now - 3600,
            nbf: now - 3600,
            iss: ISSUER.into(),
            jti: "test".into(),
            sub: "system:serviceaccount:default:weak".into(),
            kubernetes: Kubernetes {
                namespace: "default".into(),
                serviceaccount: Reference {
                    name: "weak".into(),
                    uid: uid.to_owned(),
                },
                pod: None,
                secret: None,
                node: None,
            },
        };
        self.server
            .authenticator
            .token_issuer()
            .sign(&claims)
            .unwrap()
    }

    async fn ask(&self, method: &Method, path: &str, token: Option<&str>) -> (StatusCode, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Body::from("{}")).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Method and path of every verb of every resource, and of the other paths that hold data.
    async fn surface(&self) -> Vec<(Method, String)> {
        let others = DISCOVERY.iter().chain(&["/", "/metrics", "/nothing"]);
        let mut surface: Vec<_> = others
            .map(|path| (Method::GET, (*path).to_owned()))
            .collect();
        for resource in self.server.registry.snapshot().iter() {
            let root = match &*resource.group {
                "" => format!("/api/{}", resource.version),
                group => format!("/apis/{group}/{}", resource.version),
            };
            let scope = if resource.namespaced {
                "/namespaces/default"
            } else {
                ""
            };
            let collection = format!("{root}{scope}/{}", resource.plural);
            let subresources = resource
                .subresources
                .iter()
                .map(|sub| format!("{collection}/x/{}", sub.name()));
            let objects: Vec<_> = std::iter::once(format!("{collection}/x"))
                .chain(subresources)
                .collect();
            for method in [Method::GET, Method::POST, Method::DELETE] {
                surface.push((method, collection.clone()));
            }
            surface.push((Method::GET, format!("{collection}?watch=true")));
            for path in objects {
                for method in [
                    Method::GET,
                    Method::PUT,
                    Method::PATCH,
                    Method::DELETE,
                    Method::POST,
                ] {
                    surface.push((method, path.clone()));
                }
            }
        }
        surface
    }
}

#[tokio::test]
async fn bad_credentials_open_nothing() {
    let cluster = cluster().await;
    let expired = cluster.token(ISSUER, -1, &cluster.account);
    let audience = cluster.token("vault", 600, &cluster.account);
    let recreated = cluster.token(ISSUER, 600, "another-uid");
    let bad = [
        None,
        Some("nonsense"),
        Some(&*expired),
        Some(&*audience),
        Some(&*recreated),
    ];
    let surface = cluster.surface().await;
    assert!(surface.len() > 200, "only {} paths", surface.len());
    for (method, path) in &surface {
        for token in bad {
            let (status, body) = cluster.ask(method, path, token).await;
            assert_eq!(
                status,
                StatusCode::UNAUTHORIZED,
                "{method} {path} {token:?}"
            );
            assert_eq!(body["message"], "Unauthorized", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn an_account_without_rights_is_refused_everywhere() {
    let cluster = cluster().await;
    let weak = cluster.token(ISSUER, 600, &cluster.account);
    for (method, path) in cluster.surface().await {
        let (status, body) = cluster.ask(&method, &path, Some(&weak)).await;
        let own = path.contains("selfsubject") && method == Method::POST;
        if own || DISCOVERY.contains(&&*path) {
            continue;
        }
        // A method no verb belongs to has nothing to be allowed or refused.
        let refused = [StatusCode::FORBIDDEN, StatusCode::METHOD_NOT_ALLOWED];
        assert!(
            refused.contains(&status),
            "{method} {path}: {status} {body}"
        );
        assert_eq!(body["kind"], "Status", "{method} {path}: {body}");
    }
}

#[tokio::test]
async fn health_and_version_are_for_everybody() {
    let cluster = cluster().await;
    for path in ["/livez", "/readyz", "/healthz", "/version"] {
        let (status, _) = cluster.ask(&Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        // Bad credentials are an error even where none are needed.
        let (status, _) = cluster.ask(&Method::GET, path, Some("nonsense")).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
}
