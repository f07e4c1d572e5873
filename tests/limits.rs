//! Limits hold: memory, processes, and the edges of a container.
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
fn a_memory_hog_is_killed_and_reported() {
    on_a_machine(|| {
        let cluster = cluster();
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: hog}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: test.local/busybox:1
    command: [sh, -c, "tail /dev/zero"]
    resources: {limits: {memory: 24Mi}}
  - name: neighbour
    image: test.local/busybox:1
    command: [sh, -c, "sleep 5; echo still here"]
"#,
        );
        wait_for("the hog is reported", || {
            let path = ".status.containerStatuses[?(@.name==\"main\")].state.terminated.reason";
            (cluster.field("pod/hog", path) == "OOMKilled").then_some(())
        });
        let code = ".status.containerStatuses[?(@.name==\"main\")].state.terminated.exitCode";
        assert_eq!(cluster.field("pod/hog", code), "137");
        wait_for("the neighbour ran on", || {
            let log = cluster.try_kubectl(&["logs", "hog", "-c", "neighbour"])?;
            log.contains("still here").then_some(())
        });
        cluster.down();
    });
}

#[test]
fn a_fork_bomb_stays_inside() {
    on_a_machine(|| {
        let cluster = cluster();
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: bomb}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: test.local/busybox:1
    command: [sh, -c, "bomb() { bomb | bomb & }; bomb; sleep 600"]
    resources: {limits: {memory: 64Mi}}
"#,
        );
        wait_for("the bomb ran", || {
            let phase = cluster.field("pod/bomb", ".status.phase");
            (phase == "Running").then_some(())
        });
        cluster.apply(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: neighbour}\nspec:\n  restartPolicy: Never\n  \
             containers:\n  - {name: main, image: 'test.local/busybox:1', command: [echo, fine]}\n",
        );
        cluster.wait("pod/neighbour", "jsonpath={.status.phase}=Succeeded");
        cluster.kubectl(&["delete", "pod", "bomb", "--timeout=60s"]);
        cluster.down();
    });
}
