//! cgroup v2: one hierarchy with all controllers.
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::limits::{Place, shares_of_weight, weight_of_shares};
use super::usage::{in_text, keyed, number};
use super::{Cgroups, DeviceRule, Entrance, View, failure};
use crate::kernel::bpf;
use crate::runtime::{Resources, Step, StepError, Usage};

/// Controllers that davit sets limits with.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The one hierarchy of a host with cgroup v2.
#[derive(Debug)]
pub(super) struct Unified {
    root: PathBuf,
}

impl Unified {
    /// The hierarchy mounted at `root`.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn directory(&self, group: &str) -> PathBuf {
        self.root.join(group)
    }

    fn place(&self, group: &str, controller: &str) -> Result<Place, StepError> {
        let directory = self.directory(group);
        let available = std::fs::read_to_string(directory.join("cgroup.controllers"))
            .map_err(|e| failure(&directory, &e))?;
        if !available.split_whitespace().any(|name| name == controller) {
            return Err(StepError::missing_controller(controller));
        }
        Ok(Place {
            directory,
            unified: true,
        })
    }
}

/// Hands the controllers davit uses, as far as they are there, down to the groups beneath `directory`.
fn enable_controllers(directory: &Path) -> Result<(), StepError> {
    let available = std::fs::read_to_string(directory.join("cgroup.controllers"))
        .map_err(|e| failure(directory, &e))?;
    let control = directory.join("cgroup.subtree_control");
    let enabled = std::fs::read_to_string(&control).map_err(|e| failure(&control, &e))?;
    let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
    let wanted: Vec<String> = CONTROLLERS
        .iter()
        .filter(|name| has(&available, name) && !has(&enabled, name))
        .map(|name| format!("+{name}"))
        .collect();
    if wanted.is_empty() {
        Ok(())
    } else {
        super::write(&control, &wanted.join(" "))
    }
}

impl Cgroups for Unified {
    fn create_branch(&self, group: &str) -> Result<(), StepError> {
        let mut directory = self.root.clone();
        enable_controllers(&directory)?;
        for component in Path::new(group).components() {
            directory.push(component);
            super::make_directory(&directory)?;
            enable_controllers(&directory)?;
        }
        Ok(())
    }

    fn create(&self, group: &str) -> Result<(), StepError> {
        let directory = self.directory(group);
        super::make_directory(&directory)?;
        // The whole container goes when memory runs out, as with the kubelet, not a random process of it.
        let together = directory.join("memory.oom.group");
        if together.exists() {
            super::write(&together, "1")
        } else {
            Ok(())
        }
    }

    fn limit(&self, group: &str, resources: &Resources) -> Result<(), StepError> {
        if let Some(bytes) = resources.memory_bytes {
            self.place(group, "memory")?.memory(bytes)?;
        }
        if let Some(shares) = resources.cpu_shares {
            self.place(group, "cpu")?.cpu_shares(shares)?;
        }
        if let Some(quota) = resources.cpu_quota_us {
            self.place(group, "cpu")?.cpu_quota(quota)?;
        }
        if let Some(max) = resources.pids_max {
            self.place(group, "pids")?.pids(max)?;
        }
        Ok(())
    }

    fn limits(&self, group: &str) -> Resources {
        let read = |file: &str| std::fs::read_to_string(self.directory(group).join(file)).ok();
        let first = |file: &str| read(file)?.split_whitespace().next()?.parse::<u64>().ok();
        Resources {
            memory_bytes: first("memory.max"),
            cpu_shares: first("cpu.weight").map(shares_of_weight),
            cpu_quota_us: first("cpu.max"),
            ..Resources::default()
        }
    }

    fn kept(&self, resources: &Resources) -> Resources {
        let weight = resources.cpu_shares.map(weight_of_shares);
        Resources {
            cpu_shares: weight.map(shares_of_weight),
            ..super::kept(resources)
        }
    }

    fn allow_devices(&self, group: &str, rules: &[DeviceRule]) -> Result<(), StepError> {
        let directory = self.directory(group);
        let file = File::open(&directory).map_err(|e| failure(&directory, &e))?;
        bpf::allow_devices(&file, rules).map_err(|errno| {
            StepError::os(Step::Cgroup, format!("device filter of {group}"), errno)
        })
    }

    fn entrance(&self, group: &str) -> Result<Entrance, StepError> {
        let directory = self.directory(group);
        let file = File::open(&directory).map_err(|e| failure(&directory, &e))?;
        Ok(Entrance {
            tasks: Vec::new(),
            unified: Some(file.into()),
        })
    }

    fn view(&self, _group: &str) -> View {
        View::Unified
    }

    fn processes(&self, group: &str) -> Vec<Pid> {
        let mut pids = Vec::new();
        super::collect_processes(&self.directory(group), &mut pids);
        pids
    }

    fn kill(&self, group: &str) -> Result<(), StepError> {
        kill_at_once(&self.directory(group))
    }

    fn oom_kills(&self, group: &str) -> u64 {
        keyed(&self.directory(group).join("memory.events"), "oom_kill")
    }

    fn usage(&self, group: &str) -> Usage {
        let directory = self.directory(group);
        let memory_bytes = number(&directory.join("memory.current"));
        let stat = std::fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
        Usage {
            cpu_nanos: keyed(&directory.join("cpu.stat"), "usage_usec") * 1000,
            memory_bytes,
            working_set_bytes: memory_bytes.saturating_sub(in_text(&stat, "inactive_file")),
            rss_bytes: in_text(&stat, "anon"),
            pids: number(&directory.join("pids.current")),
        }
    }

    fn remove(&self, group: &str) -> Result<(), StepError> {
        super::remove_tree(&self.directory(group))
    }
}

/// Lets the kernel kill all processes of a v2 directory, including those being forked; a missing one has none.
pub(super) fn kill_at_once(directory: &Path) -> Result<(), StepError> {
    match std::fs::write(directory.join("cgroup.kill"), "1") {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failure(directory, &e)),
        Err(e) if directory.exists() => Err(failure(directory.join("cgroup.kill"), &e)),
        _ => Ok(()),
    }
}
