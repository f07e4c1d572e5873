//! `davit agent`: the node agent, in the foreground, with an API server in another process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_apiserver::clock::Clock;
use davit_apiserver::pki::{Authority, Leaf};
use davit_node::ServingIdentity;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::config::KubeConfigOptions;
use tokio_util::sync::CancellationToken;

use crate::agent::{self, Identities};
use crate::connect::{DEFAULT_DATA_DIR, kubeconfig_path};
use crate::fault::Fault;
use crate::lock::{self, Role};
use crate::output::Output;
use crate::parts::Parts;
use crate::shutdown;

/// What `davit agent` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where davit keeps its data; with the keys of a `davit server` of this machine, nothing else is needed
    #[arg(long, env = "DAVIT_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Kubeconfig with the identity of this node, for a server on another machine
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_key", "client_ca"])]
    kubeconfig: Option<PathBuf>,
    /// Certificate the node API shows
    #[arg(long, value_name = "FILE", requires = "kubeconfig")]
    tls_cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "kubeconfig")]
    tls_key: Option<PathBuf>,
    /// Certificate authority of the clients the node API admits
    #[arg(long, value_name = "FILE", requires = "kubeconfig")]
    client_ca: Option<PathBuf>,
    #[command(flatten)]
    agent: agent::Settings,
}

/// Who the agent is to others.
struct Identity {
    /// Towards the API server.
    client: kube::Client,
    /// Where that is.
    url: String,
    /// Of the node API.
    tls: ServingIdentity,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Fault> {
        agent::require_root()?;
        let data_dir = lock::make_data_dir(&self.data_dir)?;
        let _lock = lock::take(&data_dir, Role::Agent)?;
        let shutdown = shutdown::on_signal()?;
        let Identity { client, url, tls } = self.identity(&data_dir, shutdown.clone()).await?;
        let mut parts = Parts::new();
        let work = async {
            self.agent
                .start(&data_dir, client, &url, tls, &mut parts)
                .await?;
            Output::new().line(&format!(
                "davit agent runs node {}",
                self.agent.node_name()?
            ))?;
            parts.during(std::future::pending()).await
        };
        let result = tokio::select! {
            result = work => result,
            () = shutdown.cancelled() => Ok(()),
        };
        result.and(parts.stop().await)
    }

    /// The client towards the API server, and what the node API shows.
    async fn identity(
        &self,
        data_dir: &Path,
        shutdown: CancellationToken,
    ) -> Result<Identity, Fault> {
        match (
            &self.kubeconfig,
            &self.tls_cert,
            &self.tls_key,
            &self.client_ca,
        ) {
            (Some(kubeconfig), Some(certificate), Some(key), Some(ca)) => {
                let tls = ServingIdentity::from_pem(&read(certificate)?, &read(key)?, read(ca)?)
                    .map_err(|error| Fault::new("reading the node's identity", error, ""))?;
                let kubeconfig = read(kubeconfig)?;
                Ok(Identity {
                    client: client(&kubeconfig).await?,
                    url: server_url(&kubeconfig)?,
                    tls,
                })
            }
            _ => self.local_identity(data_dir, shutdown),
        }
    }

    /// On the machine of the server the agent issues its own certificates, and renews them.
    fn local_identity(
        &self,
        data_dir: &Path,
        shutdown: CancellationToken,
    ) -> Result<Identity, Fault> {
        let path = kubeconfig_path(data_dir);
        if !path.exists() {
            return Err(Fault::told(
                format!("reading {}", path.display()),
                "no davit server was started on this data directory",
                "start `davit server` first, or give the node's identity with --kubeconfig",
            ));
        }
        let server = server_url(&read(&path)?)?;
        let clock = Clock::default();
        clock.start_beside(data_dir);
        let authority = Authority::load_or_create(&data_dir.join("pki"), clock)
            .map_err(|error| Fault::new("opening the certificate authority", error, ""))?;
        let name = self.agent.node_name()?;
        let Identities {
            serving,
            client: leaf,
        } = agent::identities(&authority, &name, self.agent.node_ip)?;
        let client = renewing_client(&authority, &server, leaf)?;
        tokio::spawn(authority.maintain(shutdown));
        Ok(Identity {
            client,
            url: server,
            tls: serving,
        })
    }
}

/// A client that shows whatever certificate `leaf` has at the moment.
fn renewing_client(
    authority: &Authority,
    server: &str,
    leaf: Arc<Leaf>,
) -> Result<kube::Client, Fault> {
    let what = "connecting to the API server";
    let url: http::Uri = server
        .parse()
        .map_err(|error| Fault::new(what, error, ""))?;
    let tls = authority
        .client_config(leaf)
        .map_err(|error| Fault::new(what, error, ""))?;
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let base = kube::Config::new(url).base_uri_layer();
    let service = tower::ServiceBuilder::new().layer(base).service(client);
    Ok(kube::Client::new(service, "default"))
}

fn read(path: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(path)
        .map_err(|error| Fault::new(format!("reading {}", path.display()), error, ""))
}

fn server_url(kubeconfig: &str) -> Result<String, Fault> {
    let read = parse(kubeconfig)?;
    let clusters = read.clusters.into_iter().filter_map(|named| named.cluster);
    clusters
        .filter_map(|cluster| cluster.server)
        .next()
        .ok_or_else(|| {
            Fault::told(
                "reading the kubeconfig",
                "it names no server",
                "start `davit server` again",
            )
        })
}

fn parse(kubeconfig: &str) -> Result<kube::config::Kubeconfig, Fault> {
    kube::config::Kubeconfig::from_yaml(kubeconfig)
        .map_err(|error| Fault::new("reading the kubeconfig", error, ""))
}

async fn client(kubeconfig: &str) -> Result<kube::Client, Fault> {
    let failed = |error| Fault::new("reading the kubeconfig", error, "");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(parse(kubeconfig)?, &options)
        .await
        .map_err(failed)?;
    kube::Client::try_from(config)
        .map_err(|error| Fault::new("connecting to the API server", error, ""))
}
