//! A running API server: its parts, how it starts, and its client inside the process.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::ResolvesClientCert;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::aggregation::{self, Aggregation};
use crate::audit::Auditor;
use crate::auth::{
    Authenticator, AuthenticatorConfig, Authorizer, InProcessUser, ObjectSource, Reviews, UserInfo,
    groups, users,
};
use crate::cache::Cache;
use crate::callout::{Callouts, Reach};
use crate::clock::Clock;
use crate::components::Components;
use crate::fairness::Fairness;
use crate::health::{Health, Part};
use crate::metrics::Metrics;
use crate::paths::OpenApiCache;
use crate::pki::{Authority, Leaf, NameFacts, Purpose, server_names};
use crate::request::Lean;
use crate::resource::Registry;
use crate::storage::{Keyring, Store};
use crate::{
    Config, Error, StoreKind, addresses, admission, auth, bootstrap, certificates, crd, expiry,
    fairness, handler, reload, sealing,
};

/// The API server of one process.
pub struct ApiServer {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    /// What seals confidential values on disk; none in memory.
    pub(crate) keyring: Option<Arc<Keyring>>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) reviews: Reviews,
    pub(crate) admission: admission::Chain,
    /// Calls nodes with the server's own identity.
    pub(crate) node_client: Client<HttpsConnector<HttpConnector>, Body>,
    pub(crate) aggregation: Aggregation,
    /// Calls servers that users configure.
    pub(crate) callouts: Arc<Callouts>,
    pub(crate) metrics: Metrics,
    pub(crate) fairness: Fairness,
    pub(crate) auditor: Option<Arc<Auditor>>,
    pub(crate) openapi: OpenApiCache,
    pub(crate) definitions: crd::Served,
    /// Ends watches and tasks.
    pub(crate) shutdown: CancellationToken,
    pub(crate) health: Arc<Health>,
    pub(crate) components: Components,
    /// An IPAddress was written through the API.
    pub(crate) address_written: Notify,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Opens store and keys, loads every object, and makes what every cluster has. When it returns, the server
    /// answers in-process clients and is ready to [`serve`](Self::serve).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn open(config: Config) -> Result<Arc<Self>, Error> {
        Self::open_with(config, Registry::builtin()).await
    }

    /// The same with another table of built-in kinds.
    pub(crate) async fn open_with(config: Config, registry: Registry) -> Result<Arc<Self>, Error> {
        let (store, keyring) = sealing::open_store(&config).map_err(Error::Store)?;
        let pki = config.data_dir.join("pki");
        let clock = config.store_options.clock.clone();
        if config.store == StoreKind::Sled {
            clock.start(&config.data_dir, store.status().newest_time);
        }
        let authority = Authority::load_or_create(&pki, clock).map_err(Error::Pki)?;
        let registry = Arc::new(registry);
        let cache = Cache::load(store.clone(), registry.clone())
            .await
            .map_err(Error::Store)?;
        let mut server = Self::assemble(config, store, registry, cache, authority)?;
        server.keyring = keyring;
        let server = Arc::new(server);
        crd::sync(&server);
        server.start_tasks();
        if let Err(error) = bootstrap::run(&server).await {
            server.stop_streams();
            return Err(error);
        }
        server.health.up(Part::Objects);
        reload::start(&server)?;
        fairness::settle(&server).await;
        let health = &server.health;
        health.run(Part::Fairness, fairness::maintain(server.clone()));
        health.run(Part::Addresses, addresses::follow(server.clone()));
        tokio::spawn(certificates::run(server.clone()));
        Ok(server)
    }

    /// Starts what runs until [`ApiServer::stop_streams`].
    fn start_tasks(self: &Arc<Self>) {
        let (cache, shutdown) = (self.cache.clone(), self.shutdown.clone());
        let (aging, stop) = (cache.clone(), shutdown.clone());
        tokio::spawn(async move { stop.run_until_cancelled(aging.age()).await });
        let (authority, stop) = (self.authority.clone(), shutdown.clone());
        let health = &self.health;
        // The chain reads its configuration from the cache as it goes.
        health.up(Part::Admission);
        health.run(Part::Cache, async move {
            shutdown.run_until_cancelled(cache.run()).await;
        });
        health.run(Part::Definitions, crd::follow(self.clone()));
        health.run(Part::Aggregation, aggregation::follow(self.clone()));
        health.run(Part::Certificates, authority.maintain(stop));
        tokio::spawn(expiry::run(self.clone()));
        tokio::spawn(sealing::run(self.clone()));
        tokio::spawn(self.clock().clone().keep(self.shutdown.clone()));
    }

    fn assemble(
        config: Config,
        store: Arc<dyn Store>,
        registry: Arc<Registry>,
        cache: Arc<Cache>,
        authority: Arc<Authority>,
    ) -> Result<Self, Error> {
        let source: Arc<dyn ObjectSource> = cache.clone();
        let issuer = format!("https://kubernetes.default.svc.{}", config.cluster_domain);
        let identity: Arc<dyn ResolvesClientCert> = front_proxy(&authority)?;
        let callouts = Arc::new(Callouts::new(
            source.clone(),
            Some(identity),
            Reach::beyond(&config.callout_ranges),
        ));
        let authenticator = Authenticator::new(
            AuthenticatorConfig {
                issuer,
                static_tokens: config.static_tokens.clone(),
                ..AuthenticatorConfig::default()
            },
            &authority,
            source.clone(),
        );
        let authenticator = others(&config, authenticator, &callouts).map_err(Error::Auth)?;
        let authenticator = Arc::new(authenticator);
        let steps = config.authorization.as_deref();
        let steps = steps.map(|path| auth::load_steps(path, &callouts));
        let authorizer = Arc::new(match steps.transpose().map_err(Error::Auth)? {
            Some(steps) => Authorizer::with(source.clone(), steps),
            None => Authorizer::new(source.clone()),
        });
        let node_client = node_client(&authority)?;
        Ok(Self {
            reviews: Reviews::new(authenticator.clone(), authorizer.clone()),
            admission: admission::Chain::standard(
                source,
                authorizer.clone(),
                registry.clone(),
                callouts.clone(),
                known_addresses(&config),
            ),
            aggregation: Aggregation::default(),
            callouts,
            metrics: Metrics::default(),
            auditor: config
                .audit
                .as_ref()
                .map(Auditor::open)
                .transpose()
                .map_err(Error::Audit)?,
            fairness: Fairness::new(config.max_requests, &*cache),
            openapi: OpenApiCache::default(),
            definitions: crd::Served::default(),
            shutdown: CancellationToken::new(),
            health: Arc::default(),
            components: Components::default(),
            address_written: Notify::new(),
            config,
            store,
            keyring: None,
            registry,
            cache,
            authority,
            authenticator,
            authorizer,
            node_client,
        })
    }

    /// The server as an axum router. Who a request comes from is read from its `Authorization` header, and from
    /// the extensions that only code of this process can set.
    pub fn router(self: &Arc<Self>) -> Router {
        async fn any(
            State(server): State<Arc<ApiServer>>,
            request: Request<Body>,
        ) -> Response<Body> {
            handler::serve(server, request).await
        }
        Router::new().fallback(any).with_state(self.clone())
    }

    /// A client inside the process, acting as `user`; no socket is involved. Its lists and watches come without `managedFields`,
    /// which would be half of what controllers read.
    pub fn client(self: &Arc<Self>, user: UserInfo) -> kube::Client {
        let server = self.clone();
        let user = InProcessUser(Arc::new(user));
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (server, user) = (server.clone(), user.clone());
            async move {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(user);
                request.extensions_mut().insert(Lean);
                Ok::<_, Infallible>(handler::serve(server, request).await)
            }
        });
        kube::Client::new(service, "default")
    }

    /// Where the objects are; for the parts of the process that keep reading them.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// The store beneath the cache.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The time that decides what is due.
    pub fn clock(&self) -> &Clock {
        &self.config.store_options.clock
    }

    /// The certificate authority of the cluster.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// The kinds served now.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Whether everything that has to exist exists, and what has to run runs.
    pub fn is_ready(&self) -> bool {
        self.health.all_up()
    }

    /// Ends watches and background tasks. [`serve`](Self::serve) does so by itself at its end.
    pub fn stop_streams(&self) {
        self.shutdown.cancel();
    }

    pub(crate) fn tls_config(&self) -> Result<Arc<rustls::ServerConfig>, Error> {
        let service = addresses::nth(self.config.service_cidr, 1);
        let (domain, extra) = (&self.config.cluster_domain, &self.config.tls_names);
        let facts = NameFacts::of_this_machine(service, domain, extra);
        let names = server_names(&facts);
        let purpose = Purpose::Server {
            subject: "kube-apiserver".to_owned(),
            names,
        };
        let leaf = self
            .authority
            .leaf("apiserver", purpose)
            .map_err(Error::Pki)?;
        self.authority.server_config(leaf).map_err(Error::Pki)
    }

    /// One request to itself, with all rights; the answer's JSON.
    pub(crate) async fn request(
        self: &Arc<Self>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let kind = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let bytes = body.map(ToString::to_string).unwrap_or_default();
        let user = UserInfo::new(users::API_SERVER, [groups::MASTERS]);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, kind)
            .header(header::USER_AGENT, "davit-apiserver")
            .extension(InProcessUser(Arc::new(user)))
            .body(Body::from(bytes));
        let request = match request {
            Ok(request) => request,
            Err(error) => return (StatusCode::BAD_REQUEST, error.to_string().into()),
        };
        let response = handler::serve(self.clone(), request).await;
        let code = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map(|body| body.to_bytes());
        let value = body
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        (code, value.unwrap_or_default())
    }
}

/// What the settings say of addresses that Services must not take, and may.
fn known_addresses(config: &Config) -> admission::Known {
    let listens = Some(config.listen.ip()).filter(|ip| !ip.is_unspecified());
    let first = addresses::nth(config.service_cidr, 1);
    admission::Known {
        open: config.external_ips.clone(),
        services: Some(config.service_cidr.trunc()),
        own: config
            .advertise
            .into_iter()
            .chain(listens)
            .chain(first)
            .collect(),
    }
}

/// The identity in which requests are handed to extension API servers; they know it by its name.
fn front_proxy(authority: &Authority) -> Result<Arc<Leaf>, Error> {
    let purpose = Purpose::Client {
        user: users::FRONT_PROXY.to_owned(),
        group: "davit:front-proxy".to_owned(),
    };
    let leaf = authority.leaf("front-proxy-client", purpose);
    leaf.map_err(Error::Pki)
}

/// The authenticator with the issuers and the webhook that files name.
fn others(
    config: &Config,
    authenticator: Authenticator,
    callouts: &Arc<Callouts>,
) -> Result<Authenticator, auth::ConfigError> {
    let issuers = config.authentication.as_deref();
    let issuers = issuers.map(|path| auth::Issuers::load(path, callouts));
    let webhook = config.token_webhook.as_ref();
    let webhook = webhook.map(|(path, ttl)| auth::TokenWebhook::load(path, *ttl, callouts.clone()));
    Ok(authenticator.with_others(
        issuers.transpose()?.unwrap_or_default(),
        webhook.transpose()?,
    ))
}

/// A client for the nodes' own API, with a certificate that every node accepts and that gives no rights elsewhere: where a node
/// is called, and whom that leads to, is what the node says.
fn node_client(
    authority: &Authority,
) -> Result<Client<HttpsConnector<HttpConnector>, Body>, Error> {
    let purpose = Purpose::Client {
        user: users::API_SERVER.to_owned(),
        group: groups::NODE_CLIENTS.to_owned(),
    };
    let leaf = authority
        .leaf("apiserver-node-client", purpose)
        .map_err(Error::Pki)?;
    let tls = authority.client_config(leaf).map_err(Error::Pki)?;
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

#[cfg(test)]
mod tests;
