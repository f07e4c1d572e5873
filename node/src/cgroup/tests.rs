//! cgroup v2 on a tree of plain files, and what both layouts share.
use std::fs;

use super::v2::Unified;
use super::*;

/// A directory that looks like a cgroup v2 root to code that only reads and writes control files.
fn fake(groups: &[&str], controllers: &str) -> (tempfile::TempDir, Unified) {
    let dir = tempfile::tempdir().unwrap();
    for group in groups {
        let path = dir.path().join(group);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("cgroup.controllers"), controllers).unwrap();
        fs::write(path.join("cgroup.subtree_control"), "").unwrap();
        for file in [
            "memory.max",
            "memory.swap.max",
            "memory.oom.group",
            "cpu.weight",
            "pids.max",
        ] {
            fs::write(path.join(file), "").unwrap();
        }
        fs::write(path.join("cpu.max"), "max 100000").unwrap();
    }
    let unified = Unified::new(dir.path().to_owned());
    (dir, unified)
}

#[test]
fn v2_limits_land_in_their_files() {
    let (dir, cgroups) = fake(&["davit/pod/c"], "cpuset cpu io memory pids\n");
    let resources = Resources {
        memory_bytes: Some(64 << 20),
        cpu_shares: Some(1024),
        cpu_quota_us: Some(50_000),
        pids_max: Some(100),
        oom_score_adj: None,
    };
    cgroups.create("davit/pod/c").unwrap();
    cgroups.limit("davit/pod/c", &resources).unwrap();
    let read = |file: &str| fs::read_to_string(dir.path().join("davit/pod/c").join(file)).unwrap();
    assert_eq!(read("memory.max"), "67108864");
    assert_eq!(read("memory.swap.max"), "0");
    assert_eq!(read("memory.oom.group"), "1");
    assert_eq!(read("cpu.weight"), "39");
    assert_eq!(read("cpu.max"), "50000 100000");
    assert_eq!(read("pids.max"), "100");
}

#[test]
fn what_was_set_is_read_back() {
    let (_dir, cgroups) = fake(&["g"], "cpu memory pids");
    let unlimited = Resources {
        cpu_shares: cgroups.limits("g").cpu_shares,
        ..Resources::default()
    };
    assert_eq!(cgroups.limits("g"), unlimited);
    let wanted = Resources {
        memory_bytes: Some((64 << 20) + 1),
        cpu_shares: Some(256),
        cpu_quota_us: Some(40_000),
        ..Resources::default()
    };
    cgroups.limit("g", &wanted).unwrap();
    let kept = cgroups.kept(&wanted);
    assert_eq!(kept.memory_bytes, Some(64 << 20));
    // The files here are plain ones, which round nothing.
    let read = cgroups.limits("g");
    assert_eq!(
        (read.cpu_shares, read.cpu_quota_us),
        (kept.cpu_shares, kept.cpu_quota_us)
    );
}

#[test]
fn v2_branches_hand_down_what_is_there() {
    let (dir, cgroups) = fake(&["", "davit", "davit/pod"], "cpu memory\n");
    cgroups.create_branch("davit/pod").unwrap();
    for group in ["", "davit", "davit/pod"] {
        let control = dir.path().join(group).join("cgroup.subtree_control");
        assert_eq!(
            fs::read_to_string(control).unwrap(),
            "+cpu +memory",
            "{group}"
        );
    }
    let resources = Resources {
        pids_max: Some(1),
        ..Resources::default()
    };
    let error = cgroups.limit("davit/pod", &resources).unwrap_err();
    assert!(error.to_string().contains("pids"), "{error}");
}

#[test]
fn v2_counters() {
    let (dir, cgroups) = fake(&["g", "g/nested"], "memory\n");
    let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
    write(
        "g/memory.events",
        "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n",
    );
    write("g/memory.current", "1000\n");
    write("g/memory.stat", "anon 300\nfile 500\ninactive_file 200\n");
    write("g/cpu.stat", "usage_usec 7\nuser_usec 5\n");
    write("g/pids.current", "4\n");
    write("g/cgroup.procs", "10\n11\n");
    write("g/nested/cgroup.procs", "12\n");
    assert_eq!(cgroups.oom_kills("g"), 1);
    assert_eq!(cgroups.oom_kills("missing"), 0);
    let usage = cgroups.usage("g");
    let expected = Usage {
        cpu_nanos: 7000,
        memory_bytes: 1000,
        working_set_bytes: 800,
        rss_bytes: 300,
        pids: 4,
    };
    assert_eq!(usage, expected);
    let pids: Vec<i32> = cgroups
        .processes("g")
        .iter()
        .map(|pid| pid.as_raw())
        .collect();
    assert_eq!(pids, [10, 11, 12]);
}

/// The device filter on a real cgroup v2, where one is mounted and this test may use it.
#[test]
#[allow(clippy::disallowed_methods, reason = "a process to be confined")]
fn v2_device_filter() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let Some(point) = mounts.lines().find(|l| l.contains(" - cgroup2 ")) else {
        return;
    };
    let point = point.split(' ').nth(4).unwrap();
    let group = format!("davit-unit-{}", std::process::id());
    let cgroups = Unified::new(PathBuf::from(point));
    if cgroups.create(&group).is_err() {
        return;
    }
    let null = DeviceRule {
        kind: DeviceKind::Character,
        major: Some(1),
        minor: Some(3),
        access: Access::READ | Access::WRITE,
    };
    cgroups.allow_devices(&group, &[null]).unwrap();
    let script = "read x; head -c1 /dev/null && echo null; head -c1 /dev/zero && echo zero";
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let procs = Path::new(point).join(&group).join("cgroup.procs");
    fs::write(procs, child.id().to_string()).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let output = child.wait_with_output().unwrap();
    cgroups.remove(&group).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "null\n");
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("not permitted")
    );
}
