//! The node agent, wired to an API server of this process or elsewhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_apiserver::auth::{groups, users};
use davit_apiserver::pki::{Authority, Leaf, Purpose};
use davit_node::{Agent, AgentConfig, ServingIdentity};
use ipnet::IpNet;
use nix::unistd::Uid;

use crate::connect::DEFAULT_DATA_DIR;
use crate::fault::Fault;
use crate::images;
use crate::parts::{Parts, Stage};

/// Where the node API listens unless told otherwise; kubelet's port.
const NODE_PORT: u16 = 10250;
const DEFAULT_RUN_DIR: &str = "/run/davit";

/// What the node agent is told on the command line.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Settings {
    /// Name of this node [default: the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Address under which others reach this node [default: that of the default route]
    #[arg(long, value_name = "IP")]
    pub(crate) node_ip: Option<IpAddr>,
    /// Where the node API listens [default: 0.0.0.0:10250, or a free port if that one is taken]
    #[arg(long, value_name = "ADDR:PORT")]
    node_listen: Option<SocketAddr>,
    /// Directory for what a reboot makes void [default: /run/davit]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Label of the node; may be repeated
    #[arg(long = "node-label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Name server of pods; may be repeated [default: the Service kube-dns, which every node serves]
    #[arg(long, value_name = "IP")]
    cluster_dns: Vec<IpAddr>,
    /// DNS domain of Services
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Addresses outside of the cluster that Services may take (externalIPs); may be repeated [default: none]
    #[arg(long, value_name = "CIDR")]
    pub(crate) external_ips: Vec<IpNet>,
    /// Most pods this node takes
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    max_pods: u32,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".into()),
    }
}

/// Only root can make containers.
pub(crate) fn require_root() -> Result<(), Fault> {
    if Uid::effective().is_root() {
        return Ok(());
    }
    Err(Fault::told(
        "",
        "running containers needs root, and this is another user",
        "run it with sudo",
    ))
}

impl Settings {
    /// The name of this node.
    pub(crate) fn node_name(&self) -> Result<String, Fault> {
        if let Some(name) = &self.node_name {
            return Ok(name.clone());
        }
        let name = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok());
        let name = name.unwrap_or_default().to_lowercase().replace('_', "-");
        if is_node_name(&name) {
            return Ok(name);
        }
        Err(Fault::told(
            "naming the node",
            format!("the host name {name:?} is no name of a node"),
            "give one with --node-name",
        ))
    }

    /// The directory for what a reboot makes void. Each data directory has its own.
    pub(crate) fn run_dir(&self, data_dir: &Path) -> PathBuf {
        self.run_dir
            .clone()
            .unwrap_or_else(|| default_run_dir(data_dir))
    }

    /// Starts the agent as a part of this process; `url` is that of the API server.
    pub(crate) async fn start(
        &self,
        data_dir: &Path,
        client: kube::Client,
        url: &str,
        tls: ServingIdentity,
        parts: &mut Parts,
    ) -> Result<(), Fault> {
        let failed = |error| Fault::new("starting the node agent", error, "");
        let program = std::env::current_exe().map_err(|error| {
            Fault::new(
                "finding the davit binary",
                error,
                "start davit by its full path",
            )
        })?;
        let config = AgentConfig {
            data_dir: data_dir.to_owned(),
            run_dir: self.run_dir(data_dir),
            node_name: self.node_name()?,
            client,
            local_api: local_api(url),
            listen: self.node_listen.unwrap_or_else(default_node_listen),
            tls,
            node_ip: self.node_ip,
            program,
            cluster_dns: self.cluster_dns.clone(),
            cluster_domain: self.cluster_domain.clone(),
            external_ips: self.external_ips.clone(),
            max_pods: self.max_pods,
            labels: self.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
        };
        let agent = Agent::open(config).await.map_err(failed)?;
        // Without it everything but the first example works, so a failure is only told.
        if let Err(error) = davit_node::image::build_self(&agent.images()).await {
            tracing::warn!(%error, "davit could not make its own image");
        }
        let stop = parts.stop_token(Stage::Client);
        let socket = images::socket::listen(data_dir)?;
        let (store, stop_images) = (agent.images(), stop.clone());
        parts.start(Stage::Client, "image service", async move {
            images::socket::serve(socket, store, stop_images).await;
            Ok(())
        });
        parts.start(Stage::Client, "node agent", async move {
            agent
                .run(stop)
                .await
                .map_err(|error| Fault::new("", error, ""))
        });
        Ok(())
    }
}

/// The address in a URL that only this machine can reach.
fn local_api(url: &str) -> Option<SocketAddr> {
    let url: http::Uri = url.parse().ok()?;
    let host = url.host()?.trim_matches(['[', ']']);
    let ip: IpAddr = host.parse().ok()?;
    let port = url.port_u16().unwrap_or(443);
    ip.is_loopback().then_some(SocketAddr::new(ip, port))
}

/// The identities of a node on the machine of the certificate authority.
pub(crate) struct Identities {
    /// Shown by the node API.
    pub(crate) serving: ServingIdentity,
    /// Shown to the API server by an agent in a process of its own.
    pub(crate) client: Arc<Leaf>,
}

/// Issues or finds the identities of the node `name`.
pub(crate) fn identities(
    authority: &Authority,
    name: &str,
    node_ip: Option<IpAddr>,
) -> Result<Identities, Fault> {
    let failed = |error| Fault::new("issuing the certificates of the node", error, "");
    let user = format!("{}{name}", users::NODE_PREFIX);
    let facts = davit_apiserver::pki::NameFacts::of_this_machine(None, "", &[name.to_owned()]);
    let mut names = davit_apiserver::pki::node_names(&facts);
    names.extend(node_ip.map(|ip| ip.to_string()));
    let serving = authority
        .leaf(
            "node",
            Purpose::Server {
                subject: user.clone(),
                names,
            },
        )
        .map_err(failed)?;
    let client = authority
        .leaf(
            "node-client",
            Purpose::Client {
                user,
                group: groups::NODES.into(),
            },
        )
        .map_err(failed)?;
    Ok(Identities {
        serving: ServingIdentity {
            certificate: serving,
            client_ca_pem: authority.ca_pem(),
        },
        client,
    })
}

/// Kubelet's port, or a free one if it is taken.
fn default_node_listen() -> SocketAddr {
    let usual = SocketAddr::from(([0, 0, 0, 0], NODE_PORT));
    match TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
    }
}

/// Another data directory is another davit, which must not touch the network namespaces of the first.
fn default_run_dir(data_dir: &Path) -> PathBuf {
    if data_dir == Path::new(DEFAULT_DATA_DIR) {
        return DEFAULT_RUN_DIR.into();
    }
    let whole = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let name: String = whole
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    PathBuf::from(format!("{DEFAULT_RUN_DIR}{name}"))
}

/// Names of nodes are DNS names (RFC 1123).
fn is_node_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_data_directory_has_its_own_run_directory() {
        let cases = [
            ("/var/lib/davit", "/run/davit"),
            ("/tmp/a", "/run/davit-tmp-a"),
            ("/tmp/a.b", "/run/davit-tmp-a-b"),
        ];
        for (data, run) in cases {
            assert_eq!(default_run_dir(Path::new(data)), Path::new(run));
        }
    }

    #[test]
    fn only_loopback_addresses_are_local() {
        for (url, local) in [
            ("https://127.0.0.1:6443", Some("127.0.0.1:6443")),
            ("https://[::1]:6443", Some("[::1]:6443")),
            ("https://10.0.0.1:6443", None),
            ("https://example.com", None),
        ] {
            let local: Option<SocketAddr> = local.map(|text| text.parse().unwrap());
            assert_eq!(local_api(url), local, "{url}");
        }
    }

    #[test]
    fn host_names_become_node_names() {
        for (name, good) in [
            ("n1", true),
            ("a.b-c", true),
            ("-a", false),
            ("a..b", false),
            ("", false),
            ("A", false),
        ] {
            assert_eq!(is_node_name(name), good, "{name}");
        }
        assert!(label("a=b").is_ok() && label("a").is_err() && label("=b").is_err());
    }
}
