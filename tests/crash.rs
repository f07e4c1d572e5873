//! Nothing acknowledged is lost and no container dies when davit does.
#![allow(clippy::disallowed_methods, reason = "the tests run real programs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking"
)]
mod harness;

use harness::{Cluster, image, on_a_machine, wait_for};

fn cluster() -> Cluster {
    let cluster = Cluster::start();
    let archive = cluster.dir.path().join("busybox.tar");
    image::busybox(&archive, "test.local/busybox:1");
    cluster.davit_ok(&["images", "import", archive.to_str().unwrap()]);
    cluster
}

#[test]
fn containers_outlive_davit_and_their_exits_are_known() {
    on_a_machine(|| {
        let mut cluster = cluster();
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: steady}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: "test.local/busybox:1", command: [sh, -c, "echo start; sleep 3600"]}
---
apiVersion: v1
kind: Pod
metadata: {name: brief}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: "test.local/busybox:1", command: [sh, -c, "sleep 4; exit 42"]}
"#,
        );
        cluster.wait("pod/steady", "condition=Ready");
        cluster.wait("pod/brief", "condition=Ready");
        let sleeper = wait_for("the container's process", || find_process("sleep\x003600"));
        let id = cluster.field("pod/steady", ".status.containerStatuses[0].containerID");
        cluster.kill_9();
        std::thread::sleep(std::time::Duration::from_secs(5));
        assert_eq!(
            find_process("sleep\x003600"),
            Some(sleeper),
            "the container ran on"
        );
        cluster.up();
        wait_for("the exit is known", || {
            let path = ".status.containerStatuses[0].state.terminated.exitCode";
            (cluster.field("pod/brief", path) == "42").then_some(())
        });
        cluster.wait("pod/steady", "condition=Ready");
        assert_eq!(
            cluster.field("pod/steady", ".status.containerStatuses[0].containerID"),
            id
        );
        assert_eq!(
            cluster.field("pod/steady", ".status.containerStatuses[0].restartCount"),
            "0"
        );
        assert_eq!(find_process("sleep\x003600"), Some(sleeper));
        assert_eq!(cluster.kubectl(&["logs", "steady"]), "start\n");

        cluster.stop();
        assert_eq!(
            find_process("sleep\x003600"),
            Some(sleeper),
            "stopping leaves pods running"
        );
        cluster.up();
        cluster.wait("pod/steady", "condition=Ready");
        cluster.down();
        assert_eq!(find_process("sleep\x003600"), None);
    });
}

/// Process with these arguments in this test's mount of `/proc`.
fn find_process(arguments: &str) -> Option<u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
            line.contains(arguments).then_some(pid)
        })
}
