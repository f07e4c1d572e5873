//! Where the node keeps what, and the parts that work there; the agent and its teardown share this.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_plugins::capabilities::DriverEvent;
use davit_plugins::executor::{Host, HostConfig, HostParts, OpenError};
use davit_plugins::{PluginHostConfig, Registry};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::host::Capabilities;
use crate::network::Network;
use crate::runtime::{Runtime, RuntimeConfig};
use crate::storage::Storage;
use crate::volume::{Volumes, mounts};

/// Version of the note beside the ledger; a newer one is not read.
const VERSION: u32 = 1;

/// The node's directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    data: PathBuf,
    run: PathBuf,
}

/// What a teardown has to know beside the data directory.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    version: u32,
    run_dir: PathBuf,
}

impl Layout {
    pub(super) fn new(data: &Path, run: &Path) -> Self {
        Self {
            data: data.to_owned(),
            run: run.to_owned(),
        }
    }

    /// The layout of the agent that last used this data directory, `None` if there was none.
    ///
    /// # Errors
    /// The note is there and cannot be read.
    pub(super) fn of_last_agent(data: &Path) -> Result<Option<Self>, (PathBuf, std::io::Error)> {
        let path = data.join("ledger/node.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err((path, error)),
        };
        let note: Note =
            serde_json::from_slice(&bytes).map_err(|error| (path.clone(), error.into()))?;
        if note.version > VERSION {
            let text = format!("it was written by a newer davit (format {})", note.version);
            return Err((path, std::io::Error::other(text)));
        }
        Ok(Some(Self::new(data, &note.run_dir)))
    }

    /// Makes the directories, and notes down where the second half of them is.
    ///
    /// # Errors
    /// The path and what the system said.
    pub(super) fn make(&self) -> Result<(), (PathBuf, std::io::Error)> {
        let all = [
            self.pods(),
            self.images(),
            self.plugins(),
            self.volumes(),
            self.ledger(),
            self.seccomp(),
            self.namespaces(),
            self.mounts(),
            self.boot(),
        ];
        for dir in all {
            std::fs::create_dir_all(&dir).map_err(|error| (dir, error))?;
        }
        let note = Note {
            version: VERSION,
            run_dir: self.run.clone(),
        };
        let path = self.ledger().join("node.json");
        let text = serde_json::to_vec(&note).map_err(|error| (path.clone(), error.into()))?;
        std::fs::write(&path, text).map_err(|error| (path, error))
    }

    pub(super) fn pods(&self) -> PathBuf {
        self.data.join("pods")
    }

    pub(super) fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    fn plugins(&self) -> PathBuf {
        self.data.join("plugins")
    }

    fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    fn ledger(&self) -> PathBuf {
        self.data.join("ledger")
    }

    pub(super) fn seccomp(&self) -> PathBuf {
        self.data.join("seccomp")
    }

    pub(super) fn run(&self) -> &Path {
        &self.run
    }

    pub(super) fn namespaces(&self) -> PathBuf {
        self.run.join("netns")
    }

    /// The port at which names are answered, as a number.
    pub(super) fn dns_port(&self) -> PathBuf {
        self.run.join("dns-port")
    }

    fn mounts(&self) -> PathBuf {
        self.run.join("mounts")
    }

    fn boot(&self) -> PathBuf {
        self.run.join("boot")
    }

    /// Secrets and tokens of pods: a mount of its own, since `/run` often forbids to execute and may be swapped out.
    fn secrets(&self) -> PathBuf {
        self.run.join("secrets")
    }

    /// Mounts what has to be in memory.
    ///
    /// # Errors
    /// The path and what the system said.
    pub(super) fn mount(&self) -> Result<(), (PathBuf, std::io::Error)> {
        let secrets = self.secrets();
        mounts::mount_secrets(&secrets).map_err(|error| (secrets, error))
    }

    /// Takes back what [`Self::mount`] mounted.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn unmount(&self) -> std::io::Result<()> {
        mounts::unmount_all(&self.secrets())
    }

    /// The table of packet rules for Services.
    pub(super) fn services_table(&self) -> String {
        super::services::table(&self.run)
    }

    /// The maker of pods' volumes.
    pub(super) fn pod_volumes(&self) -> Volumes {
        Volumes::new(&self.pods()).with_secrets_in(&self.secrets())
    }

    /// The runtime; each davit on a machine has a cgroup named after its run directory.
    pub(super) fn runtime(&self, program: &Path) -> Result<Runtime, crate::runtime::Error> {
        let mut config = RuntimeConfig::new(self.pods(), program);
        if let Some(name) = self.run.file_name().and_then(|name| name.to_str()) {
            config.cgroup_root = name.to_owned();
        }
        Runtime::new(config)
    }

    pub(super) fn plugin_host(&self, node: &str, program: &Path) -> PluginHostConfig {
        PluginHostConfig {
            node: node.to_owned(),
            cache_dir: self.plugins(),
            volumes_dir: self.volumes(),
            compiler: Some(program.to_owned()),
        }
    }

    /// The executor of plans, with the node's hands and eyes. What drivers want to tell goes to `events`.
    pub(super) fn host(
        &self,
        node: &str,
        registry: Arc<Registry>,
        events: mpsc::Sender<DriverEvent>,
    ) -> Result<Arc<Host>, OpenError> {
        let network = Arc::new(Network::default());
        let storage = Arc::new(Storage::new(self.mounts()));
        let config = HostConfig {
            node: node.to_owned(),
            state_dir: self.ledger(),
            run_dir: self.boot(),
        };
        let capabilities = Arc::new(Capabilities::new(
            Arc::clone(&network),
            Arc::clone(&storage),
            events,
        ));
        Host::open(
            config,
            HostParts {
                registry,
                capabilities,
                network,
                storage,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_teardown_finds_the_directories_of_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Layout::of_last_agent(dir.path()).unwrap(), None);
        let layout = Layout::new(dir.path(), &dir.path().join("run"));
        layout.make().unwrap();
        layout.make().unwrap();
        assert_eq!(
            Layout::of_last_agent(dir.path()).unwrap(),
            Some(layout.clone())
        );
        std::fs::write(
            layout.ledger().join("node.json"),
            r#"{"version":2,"run_dir":"/x"}"#,
        )
        .unwrap();
        assert!(Layout::of_last_agent(dir.path()).is_err());
    }
}
