//! What a server is told at its start, and why it may not start.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use crate::auth::StaticTokens;
use crate::{audit, auth, pki, storage};

/// Where objects are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StoreKind {
    /// In the data directory, durable.
    #[default]
    Sled,
    /// In memory, for tests and simulations.
    Memory,
}

/// A server's settings. [`Config::new`] has the usual ones.
#[derive(Debug, Clone)]
pub struct Config {
    /// Holds `store/` and `pki/`.
    pub data_dir: PathBuf,
    /// The address clients reach the server at; its port is published to pods.
    pub listen: SocketAddr,
    /// Address of this machine that pods reach the server at; `None` publishes none.
    pub advertise: Option<IpAddr>,
    /// More names and addresses for the server's certificate.
    pub tls_names: Vec<String>,
    /// Domain of Services, such as `cluster.local`.
    pub cluster_domain: String,
    /// Range Services take their addresses from; the first is the API server's.
    pub service_cidr: IpNet,
    /// Ports that Services of type NodePort and LoadBalancer take.
    pub node_ports: RangeInclusive<u16>,
    pub store: StoreKind,
    pub store_options: storage::Options,
    /// Store prefixes whose values are sealed on disk; empty seals nothing more.
    pub sealed: Vec<String>,
    /// A new key seals everything after this time.
    pub seal_key_age: Duration,
    /// Ranges of this machine and its link that webhooks and extension API servers of users may be called in nevertheless.
    pub callout_ranges: Vec<IpNet>,
    /// Ranges outside of the cluster whose addresses Services may take (`externalIPs`).
    pub external_ips: Vec<IpNet>,
    /// How many requests are served at once, those of exempt levels and streams not counted.
    pub max_requests: u32,
    /// The audit log; `None` logs nothing.
    pub audit: Option<audit::Settings>,
    /// An AuthenticationConfiguration file: issuers of tokens that are believed.
    pub authentication: Option<PathBuf>,
    /// A kubeconfig of the server that knows more tokens, and how long its answers hold.
    pub token_webhook: Option<(PathBuf, Duration)>,
    /// An AuthorizationConfiguration file: who is asked for rights, in which order.
    pub authorization: Option<PathBuf>,
    /// Bearer tokens of a file.
    pub static_tokens: StaticTokens,
    pub build: Build,
    pub patience: Patience,
}

/// How long connections are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A client that has not finished its TLS handshake by then is cut.
    pub handshake: Duration,
    /// The same for the headers of an HTTP/1.1 request.
    pub headers: Duration,
    /// A peer that takes none of the bytes sent to it for so long is cut, alive or not.
    pub unread: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(30),
            unread: Duration::from_secs(120),
        }
    }
}

/// What the program was built from, as `/version` tells it; what is unknown is empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct Build {
    /// Hexadecimal.
    pub commit: &'static str,
    /// `clean`, `dirty`, or `archive` outside version control.
    pub tree: &'static str,
    /// Of the commit, RFC 3339.
    pub date: &'static str,
    /// Name and version.
    pub compiler: &'static str,
}

impl Config {
    /// The usual settings for a data directory and an address.
    pub fn new(data_dir: PathBuf, listen: SocketAddr) -> Self {
        let range = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16);
        Self {
            data_dir,
            listen,
            advertise: None,
            tls_names: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            service_cidr: IpNet::V4(range),
            node_ports: 30_000..=32_767,
            store: StoreKind::Sled,
            store_options: storage::Options::default(),
            sealed: vec!["/registry/core/secrets/".to_owned()],
            seal_key_age: Duration::from_secs(90 * 24 * 3600),
            callout_ranges: Vec::new(),
            external_ips: Vec::new(),
            max_requests: 600,
            audit: None,
            authentication: None,
            token_webhook: None,
            authorization: None,
            static_tokens: StaticTokens::default(),
            build: Build::default(),
            patience: Patience::default(),
        }
    }
}

/// Why a server cannot run. None of these goes away by trying again; the messages say what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be opened or read.
    #[error("cannot open the store")]
    Store(#[source] storage::Error),
    /// Keys or certificates cannot be read, made or used.
    #[error("cannot use the certificate authority")]
    Pki(#[source] pki::Error),
    /// Authentication or authorization is configured by a file that cannot be used.
    #[error("cannot set up authentication and authorization")]
    Auth(#[source] auth::ConfigError),
    /// The audit log cannot be kept.
    #[error("cannot keep the audit log")]
    Audit(#[source] audit::Error),
    /// Changes of a configuration file cannot be followed.
    #[error(
        "cannot follow changes of {file}; is the folder readable, and fs.inotify.max_user_watches not used up?"
    )]
    Follow {
        /// Its path.
        file: String,
        #[source]
        source: notify::Error,
    },
    /// The listener cannot be used.
    #[error("cannot listen on {address}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// An object every cluster has was refused.
    #[error("cannot make {object}: {cause}")]
    Bootstrap {
        /// Its path.
        object: String,
        /// What the server answered.
        cause: String,
    },
}
