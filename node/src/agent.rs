//! The agent of one node: registers the node, runs a worker for each pod bound to it, and serves the node API.
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use davit_plugins::PluginHost;
use davit_plugins::capabilities::DriverEvent;
use davit_plugins::executor::Host;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use rustls::server::ResolvesServerCert;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dns::{Resolver, Upstream};
use crate::host::WAITING_EVENTS;
use crate::image::ImageStore;
use crate::pod::record::Record;
use crate::pod::room::Room;
use crate::pod::services::{EventSink, NodeFacts, Sandboxes, Services};
use crate::proxy::Relay;
use crate::server::{self, NodeApi};
use api_relay::ApiRelay;
use caches::{Cache, cache, guarded};
use claims::Claims;
use dispatch::{Dispatcher, Pods};
use events::Recorder;
use heartbeat::Heartbeat;
use layout::Layout;
use machine::Machine;
use name_service::NameObjects;
use network_objects::NetworkObjects;
use networks::{Networks, UpNetworks};
use plugin_objects::PluginObjects;
use pod_api::ApiServer;
use services::ServiceObjects;
use volumes::PodVolumeService;

mod api_relay;
mod caches;
mod claims;
pub(crate) mod dispatch;
mod driver_news;
mod events;
mod heartbeat;
mod housekeeping;
mod layout;
mod machine;
mod name_service;
mod network_objects;
mod networks;
mod node_object;
mod objects;
mod packet_rules;
mod plugin_objects;
mod pod_api;
mod services;
mod teardown;
mod volumes;

pub use crate::server::TlsError;
pub use teardown::{TeardownReport, teardown};

/// What one agent is told when it starts; nothing is read from the environment.
#[derive(Clone)]
pub struct AgentConfig {
    /// Holds everything that survives a reboot: images, pods, volumes, plugins, ledger.
    pub data_dir: PathBuf,
    /// Holds what a reboot makes void (pinned network namespaces, boot records); a tmpfs.
    pub run_dir: PathBuf,
    /// Name of this node's `Node` object and Lease.
    pub node_name: String,
    /// A client with the rights of `system:node:<node_name>`.
    pub client: kube::Client,
    /// Where the API server listens, if only this machine can reach it there: pods come to it through the node.
    pub local_api: Option<SocketAddr>,
    /// Where the node API listens; port 0 takes a free one, which the Node object then publishes.
    pub listen: SocketAddr,
    /// What the node API shows to its clients and which clients it admits.
    pub tls: ServingIdentity,
    /// The address other nodes and the API server reach this node by; found from the default route when absent.
    pub node_ip: Option<IpAddr>,
    /// The davit binary, started again as the shim of each pod.
    pub program: PathBuf,
    /// Name servers written to pods with `dnsPolicy: ClusterFirst`; none stands for the Service `kube-dns`, and the
    /// node's own without it.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of Services, `cluster.local` by default.
    pub cluster_domain: String,
    /// Ranges outside of the cluster that Services may take addresses from (`externalIPs`); none leads nobody to them.
    pub external_ips: Vec<IpNet>,
    /// Most pods this node accepts.
    pub max_pods: u32,
    /// Labels added to the Node beside the ones every node has.
    pub labels: BTreeMap<String, String>,
}

impl std::fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentConfig")
            .field("data_dir", &self.data_dir)
            .field("node_name", &self.node_name)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// The node API's TLS identity.
#[derive(Clone)]
pub struct ServingIdentity {
    /// What the server shows; asked for at each connection, so that a renewed certificate counts at once.
    pub certificate: Arc<dyn ResolvesServerCert>,
    /// The cluster's authority in PEM: only clients it has certified are admitted.
    pub client_ca_pem: String,
}

impl std::fmt::Debug for ServingIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServingIdentity").finish_non_exhaustive()
    }
}

/// Why an agent could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory or file of the agent cannot be made or read; mend its permissions or free space.
    #[error("cannot use {} for the node's data", path.display())]
    Data {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The node API's address cannot be listened on: another process has it, or it is no address of this machine.
    #[error("cannot listen on {address} for the node API")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The node API's certificates cannot be used; a retry does not help.
    #[error("cannot secure the node API")]
    Tls(#[from] server::TlsError),
    /// The image store cannot be opened.
    #[error("cannot open the image store")]
    Images(#[source] crate::image::Error),
    /// Containers cannot be run on this machine.
    #[error("cannot start the container runtime")]
    Runtime(#[source] crate::runtime::Error),
    /// Drivers cannot be loaded.
    #[error("cannot start the plugin host")]
    Plugins(#[source] davit_plugins::StartError),
    /// The journal of what the host gave away cannot be opened.
    #[error("cannot open the ledger of the node")]
    Ledger(#[source] davit_plugins::executor::OpenError),
}

/// What the rules of Services are made from beside objects of the API.
struct Seen {
    pods: Pods,
    pod_news: watch::Receiver<bool>,
    /// Others changed the rules.
    touched: watch::Receiver<()>,
}

/// The agent of one node.
pub struct Agent {
    config: Arc<AgentConfig>,
    layout: Layout,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    images: ImageStore,
    sandboxes: Arc<Sandboxes>,
    plugins: Arc<PluginHost>,
    host: Arc<Host>,
    machine: Machine,
    addresses: Vec<IpAddr>,
    /// What drivers want to tell.
    driver_events: mpsc::Receiver<DriverEvent>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Opens the node's data and adopts what still runs of an earlier agent.
    ///
    /// # Errors
    /// See [`Error`]; nothing was started then, and what ran before runs on.
    pub async fn open(mut config: AgentConfig) -> Result<Self, Error> {
        config.client = davit_api::named(&config.client, "kubelet", "");
        let layout = Layout::new(&config.data_dir, &config.run_dir);
        let unusable = |(path, source)| Error::Data { path, source };
        layout.make().map_err(unusable)?;
        let tls = server::tls(&config.tls)?;
        let listener = TcpListener::bind(config.listen);
        let listener = listener.map_err(|source| Error::Listen {
            address: config.listen,
            source,
        })?;
        let images = ImageStore::open(&layout.images(), crate::image::Options::default())
            .map_err(Error::Images)?;
        let runtime = layout.runtime(&config.program).map_err(Error::Runtime)?;
        let (sandboxes, failures) = Sandboxes::adopt(runtime).await;
        for error in failures {
            tracing::warn!(
                error = crate::pod::services::chain(&error),
                "a sandbox was left that cannot be read"
            );
        }
        let plugins = PluginHost::start(layout.plugin_host(&config.node_name, &config.program))
            .await
            .map_err(Error::Plugins)?;
        let (events, driver_events) = mpsc::channel(WAITING_EVENTS);
        let host = layout
            .host(&config.node_name, plugins.registry(), events)
            .map_err(Error::Ledger)?;
        plugins.probe_with(&host);
        // Last, because a start that fails leaves no mount.
        layout.mount().map_err(unusable)?;
        let addresses = match config.node_ip {
            Some(ip) => vec![ip],
            None => machine::node_addresses().await,
        };
        Ok(Self {
            config: Arc::new(config),
            layout,
            listener,
            tls,
            images,
            sandboxes,
            plugins,
            host,
            machine: Machine::read(),
            addresses,
            driver_events,
        })
    }

    /// The node's image store; clones are the same store.
    pub fn images(&self) -> ImageStore {
        self.images.clone()
    }

    /// Where the node API listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Runs the node until `shutdown`; pods keep running afterwards and are adopted by the next agent.
    ///
    /// # Errors
    /// Only what no retry can mend; a lost API server is waited for.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        self.settle().await;
        let tasks = TaskTracker::new();
        let up = UpNetworks::default();
        let own = format!("metadata.name={}", self.config.node_name);
        let own = watcher::Config::default().fields(&own);
        let nodes: Api<Node> = Api::all(self.config.client.clone());
        let nodes = cache(nodes, own, &tasks, &shutdown);
        let network_problem = self.follow_objects(&up, &tasks, &shutdown);
        let (recorder, write_events) =
            Recorder::new(self.config.client.clone(), &self.config.node_name);
        tasks.spawn(write_events);
        self.follow_claims(&recorder, &tasks, &shutdown);
        let rules = packet_rules::follow(self.layout.services_table(), &tasks, &shutdown);
        let pods = Pods::default();
        let (news, pod_news) = watch::channel(false);
        let seen = Seen {
            pods: Arc::clone(&pods),
            pod_news,
            touched: rules.services,
        };
        let services = self.services(&up, &recorder, seen, &tasks, &shutdown).await;
        let room = Arc::clone(&services.room);
        let mut dispatcher = Dispatcher::new(services, Arc::clone(&pods), news, shutdown.clone());
        dispatcher.resume();
        tasks.spawn(dispatcher.run(self.watch_pods()));
        tasks.spawn(housekeeping::collect_images(
            self.images.clone(),
            shutdown.clone(),
        ));
        let news = housekeeping::News {
            rules: rules.drivers,
            links: driver_news::follow_links(Arc::clone(&self.host), &tasks, &shutdown),
        };
        tasks.spawn(housekeeping::mend(
            Arc::clone(&self.host),
            recorder.clone(),
            Arc::clone(&pods),
            news,
            shutdown.clone(),
        ));
        tasks.spawn(driver_news::write_events(
            self.driver_events,
            recorder.clone(),
            shutdown.clone(),
        ));
        let address = self.listener.local_addr();
        let address = address.map_err(|source| Error::Listen {
            address: self.config.listen,
            source,
        })?;
        let heartbeat = Heartbeat {
            client: self.config.client.clone(),
            config: Arc::clone(&self.config),
            machine: self.machine.clone(),
            addresses: self.addresses.clone(),
            port: address.port(),
            images: self.images.clone(),
            network: network_problem,
            recorder,
            nodes,
            room,
        };
        tasks.spawn(heartbeat.run(shutdown.clone()));
        let api = NodeApi {
            pods,
            runtime: Arc::clone(&self.sandboxes) as _,
            pods_dir: self.layout.pods(),
            shutdown: shutdown.clone(),
        };
        let served = server::serve(
            self.listener,
            self.tls,
            server::router(api),
            shutdown.clone(),
        )
        .await;
        served.map_err(|source| Error::Listen { address, source })?;
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    /// Brings what the ledger says and what the kernel has together, and drops what no pod owns.
    async fn settle(&self) {
        let records = Record::load_all(&self.layout.pods());
        let pods: HashSet<String> = records
            .iter()
            .filter_map(|record| record.pod.metadata.uid.clone())
            .collect();
        let released = self.host.retain_pods(&pods).await;
        if !released.is_empty() {
            tracing::info!(
                ?released,
                "networks and volumes of vanished pods were taken back"
            );
        }
        let report = self.host.replay().await;
        if report != davit_plugins::executor::ReplayReport::default() {
            tracing::info!(?report, "the ledger was brought in force");
        }
        housekeeping::discard_roots(&self.images, &records).await;
    }

    /// Follows networks and plugins. Returns why pods cannot be given a network.
    fn follow_objects(
        &self,
        up: &UpNetworks,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> watch::Receiver<Option<String>> {
        let client = &self.config.client;
        let first = Some("networks are not up yet".to_owned());
        let (problem, problem_seen) = watch::channel(first);
        let (loaded, loaded_seen) = watch::channel(false);
        let networks = NetworkObjects {
            client: client.clone(),
            node: self.config.node_name.as_str().into(),
            addresses: self.addresses.clone(),
            host: Arc::clone(&self.host),
            registry: self.plugins.registry(),
            up: Arc::clone(up),
            networks: cache(
                Api::all(client.clone()),
                watcher::Config::default(),
                tasks,
                shutdown,
            ),
            nodes: cache(
                Api::all(client.clone()),
                watcher::Config::default(),
                tasks,
                shutdown,
            ),
            problem,
            drivers: self.plugins.registry().changes(),
            loaded: loaded_seen,
        };
        tasks.spawn(networks.run(shutdown.clone()));
        let plugins = PluginObjects {
            client: client.clone(),
            host: Arc::clone(&self.plugins),
            plugins: guarded(
                Api::all(client.clone()),
                watcher::Config::default(),
                tasks,
                shutdown,
            ),
            node: self.config.node_name.as_str().into(),
            labels: self.config.labels.clone(),
            drivers: self.plugins.registry().changes(),
            loaded,
        };
        tasks.spawn(plugins.run(shutdown.clone()));
        problem_seen
    }

    /// Follows claims and volumes.
    fn follow_claims(
        &self,
        recorder: &Recorder,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) {
        let client = &self.config.client;
        let claims = Claims {
            client: client.clone(),
            node: self.config.node_name.as_str().into(),
            host: Arc::clone(&self.host),
            recorder: recorder.clone(),
            claims: cache(
                Api::all(client.clone()),
                watcher::Config::default(),
                tasks,
                shutdown,
            ),
            volumes: cache(
                Api::all(client.clone()),
                watcher::Config::default(),
                tasks,
                shutdown,
            ),
            classes: cache(
                Api::all(client.clone()),
                watcher::Config::default(),
                tasks,
                shutdown,
            ),
            drivers: self.plugins.registry().changes(),
        };
        tasks.spawn(claims.run(shutdown.clone()));
    }

    /// Leads Services to their endpoints, and returns them.
    async fn follow_services(
        &self,
        up: &UpNetworks,
        recorder: &Recorder,
        seen: Seen,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Cache<Service> {
        let client = &self.config.client;
        let config = watcher::Config::default;
        let services = cache(Api::all(client.clone()), config(), tasks, shutdown);
        let slices = cache(Api::all(client.clone()), config(), tasks, shutdown);
        let names = NameObjects {
            domain: self.config.cluster_domain.clone(),
            services: services.share(),
            slices: slices.share(),
            namespaces: cache(Api::all(client.clone()), config(), tasks, shutdown),
            resolver: Resolver::new(Upstream::new("/etc/resolv.conf".into())),
        };
        let names = name_service::start(names, &self.layout.dns_port(), up, tasks, shutdown).await;
        let api = self.relay_to_api(up, tasks, shutdown).await;
        let relays = api.map(Relay::to_api).into_iter();
        let relays = relays.chain(names.map(Relay::to_names).into_iter().flatten());
        let shared = services.share();
        let followed = ServiceObjects {
            node: self.config.node_name.as_str().into(),
            services,
            slices,
            networks: cache(Api::all(client.clone()), config(), tasks, shutdown),
            addresses: self.addresses.clone(),
            up: Arc::clone(up),
            open: self.config.external_ips.clone(),
            table: self.layout.services_table(),
            relays: relays.collect(),
            pods: seen.pods,
            pod_news: seen.pod_news,
            touched: seen.touched,
            recorder: recorder.clone(),
        };
        tasks.spawn(followed.run(shutdown.clone()));
        shared
    }

    /// The port through which pods reach an API server that listens on a loopback address.
    async fn relay_to_api(
        &self,
        up: &UpNetworks,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Option<u16> {
        let relay = ApiRelay::open(self.config.local_api?, Arc::clone(up)).await;
        match relay.and_then(|relay| Ok((relay.port()?, relay))) {
            Ok((port, relay)) => {
                tasks.spawn(relay.run(shutdown.clone()));
                Some(port)
            }
            Err(error) => {
                tracing::warn!(%error, "pods cannot reach the API server");
                None
            }
        }
    }

    /// What the workers work with.
    async fn services(
        &self,
        up: &UpNetworks,
        recorder: &Recorder,
        seen: Seen,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Services {
        let client = self.config.client.clone();
        let node = Arc::new(self.node_facts());
        let services = self
            .follow_services(up, recorder, seen, tasks, shutdown)
            .await;
        let events: Arc<dyn EventSink> = Arc::new(recorder.clone());
        Services {
            runtime: Arc::clone(&self.sandboxes) as _,
            images: Arc::new(self.images.clone()),
            network: Arc::new(Networks {
                host: Arc::clone(&self.host),
                up: Arc::clone(up),
                namespaces: self.layout.namespaces(),
            }),
            volumes: Arc::new(PodVolumeService {
                client: client.clone(),
                host: Arc::clone(&self.host),
                volumes: self.layout.pod_volumes(),
                node: Arc::clone(&node),
            }),
            api: ApiServer::new(client, services, self.config.cluster_dns.clone()),
            events,
            room: self.room(),
            node,
        }
    }

    /// What pods may have together, until the node's own object is read.
    fn room(&self) -> Arc<Room> {
        let room = Arc::new(Room::default());
        room.offer(&self.node_facts().allocatable);
        room
    }

    fn node_facts(&self) -> NodeFacts {
        let facts = node_object::Facts {
            name: &self.config.node_name,
            machine: &self.machine,
            health: machine::Health::read(&self.config.data_dir),
            addresses: &self.addresses,
            port: 0,
            max_pods: self.config.max_pods,
            labels: &self.config.labels,
            images: &[],
            network_problem: None,
        };
        NodeFacts {
            name: self.config.node_name.clone(),
            ips: self.addresses.clone(),
            memory_bytes: self.machine.memory_bytes,
            cluster_domain: self.config.cluster_domain.clone(),
            allocatable: facts.allocatable(),
            pods_dir: self.layout.pods(),
            seccomp_dir: self.layout.seccomp(),
            resolv_conf: machine::resolv_conf(),
        }
    }

    fn watch_pods(
        &self,
    ) -> impl futures::Stream<Item = watcher::Result<watcher::Event<Pod>>> + Send + use<> {
        let pods: Api<Pod> = Api::all(self.config.client.clone());
        let mine = format!("spec.nodeName={}", self.config.node_name);
        watcher(pods, watcher::Config::default().fields(&mine)).default_backoff()
    }
}
