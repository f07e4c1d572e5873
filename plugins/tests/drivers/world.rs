//! A node with its plugin host, executor and a machine in memory.

use davit_api::{Plugin, PluginSource, PluginSpec, PluginStatus};
use davit_plugins::executor::{AttachPod, Host, HostConfig, HostParts, NetworkAttachment, NodeUp};
use davit_plugins::network::{Attachment, Network, Node, Pod};
use davit_plugins::storage::{AccessMode, CreateRequest, PublishRequest, UseMode, VolumeRef};
use davit_plugins::testing::Machine;
use davit_plugins::{PluginHost, PluginHostConfig, bundled_plugins};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

pub(crate) const BRIDGE: &str = "bridge.davit.dev";
pub(crate) const LOCAL_PATH: &str = "local-path.davit.dev";

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) machine: Machine,
    pub(crate) plugins: Arc<PluginHost>,
    pub(crate) host: Arc<Host>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = PluginHostConfig {
            node: "node-1".into(),
            // Shared between runs: compiling is what takes time.
            cache_dir: Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins"),
            volumes_dir: "/var/lib/davit/volumes".into(),
            compiler: Some(env!("CARGO_BIN_EXE_davit-plugin-compile").into()),
        };
        let plugins = PluginHost::start(config).await.unwrap();
        for object in bundled_plugins() {
            let status = plugins.reconcile(&object, &BTreeMap::new()).await;
            assert!(status.nodes[0].ready, "{status:?}");
        }
        let machine = Machine::new();
        let host = open(dir.path(), &plugins, &machine);
        plugins.probe_with(&host);
        Self {
            dir,
            machine,
            plugins,
            host,
        }
    }

    /// The agent dies and comes back: the journals are as they were at this moment.
    pub(crate) fn crash(&mut self) {
        let next = tempfile::tempdir().unwrap();
        for part in ["state/node.db", "run/boot.db"] {
            let to = next.path().join(part);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(self.dir.path().join(part), to).unwrap();
        }
        self.host = open(next.path(), &self.plugins, &self.machine);
        self.dir = next;
    }

    /// A pod's namespace, pinned.
    pub(crate) fn netns(&self, uid: &str) -> PathBuf {
        let path = self.dir.path().join(uid);
        std::fs::write(&path, "").unwrap();
        path
    }

    pub(crate) fn attach(&self, uid: &str, network: Network) -> AttachPod {
        AttachPod {
            netns: self.netns(uid),
            attachments: vec![attachment(uid, "eth0", network)],
        }
    }

    pub(crate) async fn reconcile(&self, plugin: &Plugin) -> PluginStatus {
        self.plugins.reconcile(plugin, &BTreeMap::new()).await
    }

    /// A file beside the journals.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn open(dir: &Path, plugins: &PluginHost, machine: &Machine) -> Arc<Host> {
    let machine = Arc::new(machine.clone());
    let config = HostConfig {
        node: "node-1".into(),
        state_dir: dir.join("state"),
        run_dir: dir.join("run"),
    };
    let parts = HostParts {
        registry: plugins.registry(),
        capabilities: machine.clone(),
        network: machine.clone(),
        storage: machine,
    };
    Host::open(config, parts).unwrap()
}

pub(crate) fn network(driver: &str) -> Network {
    Network {
        name: "default".into(),
        uid: "n-1".into(),
        generation: 1,
        mtu: 1500,
        subnets: vec!["10.42.0.0/16".parse().unwrap()],
        driver: driver.into(),
        ..Network::default()
    }
}

pub(crate) fn me() -> Node {
    Node {
        name: "node-1".into(),
        addresses: vec!["192.0.2.10".parse().unwrap()],
        slices: vec!["10.42.3.0/24".parse().unwrap()],
        ..Node::default()
    }
}

pub(crate) fn node_up(network: Network) -> NodeUp {
    NodeUp {
        network,
        node: me(),
        peers: vec![],
    }
}

pub(crate) fn attachment(uid: &str, ifname: &str, network: Network) -> NetworkAttachment {
    let attachment = Attachment {
        pod: pod(uid),
        network,
        ifname: ifname.into(),
        default_route: ifname == "eth0",
        ..Attachment::default()
    };
    NetworkAttachment {
        attachment,
        node: me(),
    }
}

pub(crate) fn pod(uid: &str) -> Pod {
    Pod {
        namespace: "default".into(),
        name: format!("pod-{uid}"),
        uid: uid.into(),
        ..Pod::default()
    }
}

pub(crate) fn create(name: &str, gib: u64) -> CreateRequest {
    CreateRequest {
        name: name.into(),
        required_bytes: gib << 30,
        uses: vec![use_mode()],
        ..CreateRequest::default()
    }
}

pub(crate) fn use_mode() -> UseMode {
    UseMode {
        access: vec![AccessMode::ReadWriteOnce],
        ..UseMode::default()
    }
}

pub(crate) fn volume(id: &str, gib: u64) -> VolumeRef {
    VolumeRef {
        id: id.into(),
        capacity_bytes: gib << 30,
        ..VolumeRef::default()
    }
}

pub(crate) fn publish(id: &str, uid: &str) -> PublishRequest {
    PublishRequest {
        volume: volume(id, 1),
        use_as: use_mode(),
        pod: pod(uid),
        ..PublishRequest::default()
    }
}

pub(crate) fn plugin(name: &str, file: String) -> Plugin {
    let source = PluginSource {
        file: Some(file),
        ..PluginSource::default()
    };
    let mut plugin = Plugin::new(
        name,
        PluginSpec {
            source,
            ..PluginSpec::default()
        },
    );
    plugin.metadata.generation = Some(1);
    plugin
}
