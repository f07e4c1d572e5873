//! cgroup v1: one hierarchy for each controller; hybrid when a v2 hierarchy is mounted beside them.
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;

use super::limits::Place;
use super::usage::{in_text, keyed, number};
use super::v2::kill_at_once;
use super::{Cgroups, DeviceKind, DeviceRule, Entrance, SplitView, View, failure};
use crate::runtime::{Resources, StepError, Usage};

/// Controllers whose hierarchies containers get a group in.
const CONTROLLERS: [&str; 8] = [
    "blkio",
    "cpu",
    "cpuacct",
    "devices",
    "freezer",
    "memory",
    "pids",
    "name=systemd",
];

/// What stands for no limit of memory is the greatest number of whole pages, whatever their size.
const NO_LIMIT: u64 = 1 << 62;

/// Rounds of looking for processes that appeared while others were killed.
const KILL_ROUNDS: usize = 64;

/// One mounted v1 hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount_point: PathBuf,
    controllers: Vec<String>,
}

/// The hierarchies of a host with cgroup v1.
#[derive(Debug)]
pub(super) struct Split {
    hierarchies: Vec<Hierarchy>,
    unified: Option<PathBuf>,
}

impl Split {
    /// Reads what is mounted from `/proc/self/mountinfo`.
    pub(super) fn from_mountinfo(text: &str) -> Self {
        let mut split = Self {
            hierarchies: Vec::new(),
            unified: None,
        };
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let Some(mount_point) = left.split(' ').nth(4) else {
                continue;
            };
            let mut fields = right.split(' ');
            match (fields.next(), fields.nth(1)) {
                (Some("cgroup2"), _) if split.unified.is_none() => {
                    split.unified = Some(PathBuf::from(mount_point));
                }
                (Some("cgroup"), Some(options)) => split.add(mount_point, options),
                _ => {}
            }
        }
        split
    }

    fn add(&mut self, mount_point: &str, options: &str) {
        let controllers: Vec<String> = options
            .split(',')
            .filter(|option| CONTROLLERS.contains(option))
            .map(str::to_owned)
            .collect();
        let known = self
            .hierarchies
            .iter()
            .any(|h| h.controllers == controllers);
        if !controllers.is_empty() && !known {
            self.hierarchies.push(Hierarchy {
                mount_point: mount_point.into(),
                controllers,
            });
        }
    }

    /// Leaves out what something else was mounted over.
    pub(super) fn forget_hidden(&mut self) {
        let is = |point: &PathBuf, magic| statfs(point).is_ok_and(|s| s.filesystem_type() == magic);
        self.hierarchies
            .retain(|h| is(&h.mount_point, CGROUP_SUPER_MAGIC));
        self.unified = self
            .unified
            .take()
            .filter(|point| is(point, CGROUP2_SUPER_MAGIC));
    }

    /// Whether no hierarchy is there.
    pub(super) fn is_empty(&self) -> bool {
        self.hierarchies.is_empty()
    }

    fn find(&self, controller: &str, group: &str) -> Option<PathBuf> {
        self.hierarchies
            .iter()
            .find(|h| h.controllers.iter().any(|c| c == controller))
            .map(|h| h.mount_point.join(group))
    }

    fn place(&self, group: &str, controller: &str) -> Result<Place, StepError> {
        match self.find(controller, group) {
            Some(directory) => Ok(Place {
                directory,
                unified: false,
            }),
            None => Err(StepError::missing_controller(controller)),
        }
    }

    fn directories<'a>(&'a self, group: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
        let split = self.hierarchies.iter().map(|h| &h.mount_point);
        split
            .chain(&self.unified)
            .map(move |point| point.join(group))
    }

    /// Without `cgroup.kill`: no more forks, then SIGKILL for every process until no new one appears.
    fn kill_one_by_one(&self, group: &str) {
        if let Some(pids) = self.find("pids", group) {
            forbid_forks(&pids);
        }
        let mut killed = BTreeSet::new();
        for _ in 0..KILL_ROUNDS {
            let fresh: Vec<Pid> = self
                .processes(group)
                .into_iter()
                .filter(|pid| killed.insert(*pid))
                .collect();
            if fresh.is_empty() {
                break;
            }
            for pid in fresh {
                // One that ended meanwhile is what was wanted.
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        if let Some(freezer) = self.find("freezer", group) {
            // A frozen process dies only when it is thawed.
            let _ = super::write(&freezer.join("freezer.state"), "THAWED");
        }
    }
}

fn forbid_forks(directory: &Path) {
    let _ = super::write(&directory.join("pids.max"), "0");
    for child in super::children(directory) {
        forbid_forks(&child);
    }
}

impl Cgroups for Split {
    fn create_branch(&self, group: &str) -> Result<(), StepError> {
        for directory in self.directories(group) {
            std::fs::create_dir_all(&directory).map_err(|e| failure(&directory, &e))?;
        }
        Ok(())
    }

    fn create(&self, group: &str) -> Result<(), StepError> {
        self.directories(group)
            .try_for_each(|directory| super::make_directory(&directory))
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
        let read = |controller: &str, file: &str| {
            let path = self.find(controller, group)?.join(file);
            let text = std::fs::read_to_string(path).ok()?;
            text.trim().parse::<u64>().ok()
        };
        Resources {
            memory_bytes: read("memory", "memory.limit_in_bytes").filter(|bytes| *bytes < NO_LIMIT),
            cpu_shares: read("cpu", "cpu.shares"),
            // None is -1.
            cpu_quota_us: read("cpu", "cpu.cfs_quota_us"),
            ..Resources::default()
        }
    }

    fn kept(&self, resources: &Resources) -> Resources {
        super::kept(resources)
    }

    fn allow_devices(&self, group: &str, rules: &[DeviceRule]) -> Result<(), StepError> {
        let directory = self
            .find("devices", group)
            .ok_or_else(|| StepError::missing_controller("devices"))?;
        super::write(&directory.join("devices.deny"), "a")?;
        let path = directory.join("devices.allow");
        let mut file = File::options()
            .write(true)
            .open(&path)
            .map_err(|e| failure(&path, &e))?;
        for rule in rules {
            file.write_all(device_line(rule).as_bytes())
                .map_err(|e| failure(&path, &e))?;
        }
        Ok(())
    }

    fn entrance(&self, group: &str) -> Result<Entrance, StepError> {
        let open = |hierarchy: &Hierarchy| {
            let path = hierarchy.mount_point.join(group).join("tasks");
            File::options()
                .write(true)
                .open(&path)
                .map_err(|e| failure(&path, &e))
        };
        let tasks = self
            .hierarchies
            .iter()
            .map(open)
            .collect::<Result<_, _>>()?;
        let unified = match &self.unified {
            Some(point) => {
                let directory = point.join(group);
                Some(
                    File::open(&directory)
                        .map_err(|e| failure(&directory, &e))?
                        .into(),
                )
            }
            None => None,
        };
        Ok(Entrance { tasks, unified })
    }

    fn view(&self, group: &str) -> View {
        let split = self.hierarchies.iter().filter_map(|hierarchy| {
            let name = hierarchy
                .mount_point
                .file_name()?
                .to_string_lossy()
                .into_owned();
            let aliases = if name.contains(',') {
                hierarchy.controllers.clone()
            } else {
                Vec::new()
            };
            Some(SplitView {
                name,
                directory: hierarchy.mount_point.join(group),
                aliases,
            })
        });
        let unified = self.unified.iter().map(|point| SplitView {
            name: "unified".to_owned(),
            directory: point.join(group),
            aliases: Vec::new(),
        });
        View::Split(split.chain(unified).collect())
    }

    fn processes(&self, group: &str) -> Vec<Pid> {
        let mut pids = Vec::new();
        // A privileged container may have moved a process in one hierarchy; two of them are a cheap guard.
        for controller in ["freezer", "pids"] {
            if let Some(directory) = self.find(controller, group) {
                super::collect_processes(&directory, &mut pids);
            }
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    fn kill(&self, group: &str) -> Result<(), StepError> {
        let at_once = self
            .unified
            .as_ref()
            .map(|point| kill_at_once(&point.join(group)));
        if !matches!(at_once, Some(Ok(()))) || !self.processes(group).is_empty() {
            self.kill_one_by_one(group);
        }
        Ok(())
    }

    fn oom_kills(&self, group: &str) -> u64 {
        self.find("memory", group).map_or(0, |directory| {
            keyed(&directory.join("memory.oom_control"), "oom_kill")
        })
    }

    fn usage(&self, group: &str) -> Usage {
        let file = |controller: &str, name: &str| {
            self.find(controller, group)
                .map(|directory| directory.join(name))
        };
        let read = |controller, name| file(controller, name).map_or(0, |path| number(&path));
        let stat = file("memory", "memory.stat")
            .and_then(|path| std::fs::read_to_string(path).ok())
            .unwrap_or_default();
        let memory_bytes = read("memory", "memory.usage_in_bytes");
        Usage {
            cpu_nanos: read("cpuacct", "cpuacct.usage"),
            memory_bytes,
            working_set_bytes: memory_bytes.saturating_sub(in_text(&stat, "total_inactive_file")),
            rss_bytes: in_text(&stat, "total_rss"),
            pids: read("pids", "pids.current"),
        }
    }

    fn remove(&self, group: &str) -> Result<(), StepError> {
        self.directories(group)
            .try_for_each(|directory| super::remove_tree(&directory))
    }
}

/// A rule in the words of `devices.allow`, e.g. `c 1:3 rwm`.
fn device_line(rule: &DeviceRule) -> String {
    use super::Access;
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let kind = match rule.kind {
        DeviceKind::Any => return "a".to_owned(),
        DeviceKind::Block => 'b',
        DeviceKind::Character => 'c',
    };
    let access: String = [
        (Access::READ, 'r'),
        (Access::WRITE, 'w'),
        (Access::MKNOD, 'm'),
    ]
    .into_iter()
    .filter(|(flag, _)| rule.access.contains(*flag))
    .map(|(_, letter)| letter)
    .collect();
    format!(
        "{kind} {}:{} {access}",
        number(rule.major),
        number(rule.minor)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Access;

    const HYBRID: &str = "\
31 25 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 31 0:28 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
34 31 0:29 / /sys/fs/cgroup/perf_event rw,relatime - cgroup cgroup rw,perf_event
35 31 0:30 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
36 31 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
37 99 0:28 / /other/memory rw,relatime - cgroup cgroup rw,memory
";

    #[test]
    fn mounts_are_found_once_and_only_those_of_use() {
        let split = Split::from_mountinfo(HYBRID);
        let points: Vec<_> = split.directories("g").collect();
        assert_eq!(
            points,
            ["cpu,cpuacct", "memory", "systemd", "unified"]
                .map(|name| PathBuf::from(format!("/sys/fs/cgroup/{name}/g")))
        );
        let View::Split(views) = split.view("g") else {
            panic!()
        };
        assert_eq!(views[0].aliases, ["cpu", "cpuacct"]);
        assert!(views[1].aliases.is_empty());
    }

    #[test]
    fn a_limit_without_its_controller_names_it() {
        let split = Split::from_mountinfo(HYBRID);
        let resources = Resources {
            pids_max: Some(5),
            ..Resources::default()
        };
        let error = split.limit("g", &resources).unwrap_err();
        assert!(error.to_string().contains("pids"), "{error}");
    }

    #[test]
    fn device_rules_in_the_kernels_words() {
        let rule = DeviceRule {
            kind: DeviceKind::Character,
            major: Some(136),
            minor: None,
            access: Access::READ | Access::WRITE,
        };
        assert_eq!(device_line(&rule), "c 136:* rw");
        assert_eq!(
            device_line(&DeviceRule {
                kind: DeviceKind::Any,
                ..rule
            }),
            "a"
        );
    }
}
