//! From what the agent asks for to what the shim is told.
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use caps::{CapSet, CapsHashSet};
use parking_lot::Mutex;

use super::capabilities::{bits, granted};
use super::spec::HostFacts;
use super::{ContainerConfig, Error, SandboxConfig, Seccomp, host, launch, spec};
use crate::seccomp::Filter;
use crate::shim::bytes_as_fd;
use crate::shim::protocol::Launch;

/// Works out launches; remembers the default filter for each set of capabilities.
#[derive(Debug)]
pub(super) struct Preparer {
    available: CapsHashSet,
    default_filters: Mutex<BTreeMap<u64, Vec<OwnedFd>>>,
}

impl Preparer {
    /// Looks at what this process itself may give away.
    pub(super) fn new() -> Self {
        let available = caps::read(None, CapSet::Bounding).unwrap_or_default();
        Self {
            available,
            default_filters: Mutex::new(BTreeMap::new()),
        }
    }

    /// The launch of a container and its filters. Writes the OCI bundle to `bundle`.
    pub(super) fn prepare(
        &self,
        sandbox: &SandboxConfig,
        (shim_pid, among): (i32, Option<i32>),
        config: &ContainerConfig,
        group: String,
        bundle: PathBuf,
    ) -> Result<(Launch, Vec<OwnedFd>), Error> {
        let capabilities = granted(&config.name, &config.security, &self.available)?;
        let filters = self.filters(config, &capabilities)?;
        let facts = HostFacts {
            devices: host::devices(config)?,
            capabilities,
            shim_pid,
            among,
        };
        let spec = spec::build(sandbox, config, &group, &facts)?;
        let launch = launch::plan(sandbox, config, &spec, &group, bundle.clone())?;
        let path = bundle.join("config.json");
        let unusable = |source| Error::File {
            path: path.clone(),
            source,
        };
        let text = serde_json::to_vec(&spec).map_err(|e| unusable(e.into()))?;
        match std::fs::create_dir(&bundle) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::WrongState {
                    id: config.id.clone(),
                    problem: "exists already; remove it first".to_owned(),
                });
            }
            made => made
                .and_then(|()| std::fs::write(&path, text))
                .map_err(unusable)?,
        }
        Ok((launch, filters))
    }

    fn filters(
        &self,
        config: &ContainerConfig,
        capabilities: &CapsHashSet,
    ) -> Result<Vec<OwnedFd>, Error> {
        if config.security.privileged {
            return Ok(Vec::new());
        }
        let invalid = |problem: String| Error::Invalid {
            object: format!("container {}", config.name),
            field: "seccompProfile".to_owned(),
            problem,
        };
        let copy = |fds: &[OwnedFd]| {
            fds.iter()
                .map(OwnedFd::try_clone)
                .collect::<Result<Vec<_>, _>>()
        };
        let key = bits(capabilities);
        let is_default = config.security.seccomp == Seccomp::RuntimeDefault;
        if is_default && let Some(known) = self.default_filters.lock().get(&key) {
            return copy(known).map_err(|e| invalid(format!("cannot be used: {e}")));
        }
        let filter = Filter::for_container(&config.security.seccomp, capabilities)
            .map_err(|e| invalid(format!("cannot be used: {e}")))?;
        let programs = filter.map(|filter| filter.to_bytes()).unwrap_or_default();
        let fds = programs
            .iter()
            .map(|bytes| bytes_as_fd(bytes))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| invalid(format!("cannot be used: {e}")))?;
        if is_default {
            let kept = copy(&fds).map_err(|e| invalid(format!("cannot be used: {e}")))?;
            self.default_filters.lock().insert(key, kept);
        }
        Ok(fds)
    }
}
