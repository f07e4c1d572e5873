//! What davit could leave on a machine: processes, mounts, links, routes, settings, packet rules and cgroups.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One look at the machine, each thing as a line.
pub struct Machine(BTreeSet<String>);

impl Machine {
    /// Looks; of cgroups, which have no namespace here, only at those of a davit whose directory has this name.
    pub fn look(own: &str) -> Self {
        let mut found = BTreeSet::new();
        processes(&mut found);
        mounts(&mut found);
        lines(&mut found, "link", Command::new("ip").args(["-o", "link"]));
        for (kind, words) in [
            ("route", "route show table all"),
            ("route", "-6 route show table all"),
            ("policy", "rule"),
            ("policy", "-6 rule"),
        ] {
            let mut command = Command::new("ip");
            lines(&mut found, kind, command.args(words.split(' ')));
        }
        settings(&mut found);
        lines(
            &mut found,
            "rule",
            Command::new("nft").args(["list", "ruleset"]),
        );
        cgroups(&mut found, own);
        Self(found)
    }

    /// What is here and was not there, and routes that were there and are not here.
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        let new = self.0.difference(&before.0).cloned();
        let is_route = |line: &&String| ["route ", "policy "].iter().any(|k| line.starts_with(k));
        let gone = before.0.difference(&self.0).filter(is_route);
        new.chain(gone.map(|line| format!("gone: {line}")))
            .collect()
    }
}

/// Settings that network drivers are known to change.
fn settings(found: &mut BTreeSet<String>) {
    for key in [
        "ipv4/ip_forward",
        "ipv4/ip_default_ttl",
        "ipv4/conf/all/arp_ignore",
        "ipv6/conf/all/forwarding",
    ] {
        let value = fs::read_to_string(Path::new("/proc/sys/net").join(key)).unwrap_or_default();
        found.insert(format!("setting {key} = {}", value.trim()));
    }
}

/// Processes of davit in this network namespace; others belong to other tests.
fn processes(found: &mut BTreeSet<String>) {
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.parse::<u32>().is_err() {
            continue;
        }
        let same = fs::read_link(entry.path().join("ns/net")).is_ok_and(|net| net == own);
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if same && command.contains("davit") && !command.contains("/deps/") {
            found.insert(format!("process {name}: {}", command.replace('\0', " ")));
        }
    }
}

fn mounts(found: &mut BTreeSet<String>) {
    for line in fs::read_to_string("/proc/thread-self/mountinfo")
        .unwrap()
        .lines()
    {
        let fields: Vec<&str> = line.split(' ').collect();
        if let [_, _, _, root, target, ..] = fields.as_slice() {
            found.insert(format!("mount {target} of {root}"));
        }
    }
}

fn lines(found: &mut BTreeSet<String>, kind: &str, command: &mut Command) {
    let text = super::run(command);
    for line in text.lines() {
        // Of these the kernel makes some a moment after their link is up.
        if kind == "route" && ["fe80:", "ff00:"].iter().any(|own| line.contains(own)) {
            continue;
        }
        // Index and state of a link that stays may change; its name may not.
        let line = line.split(" <").next().unwrap_or(line);
        found.insert(format!("{kind} {}", line.trim()));
    }
}

/// A davit names its cgroups after its directories.
fn cgroups(found: &mut BTreeSet<String>, own: &str) {
    let mut folders = vec![Path::new("/sys/fs/cgroup").to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.path().to_string_lossy().contains(own) {
                    found.insert(format!("cgroup {}", entry.path().display()));
                }
                folders.push(entry.path());
            }
        }
    }
}
