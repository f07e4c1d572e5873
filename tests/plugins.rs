//! Drivers are WebAssembly that is loaded, granted, refused and outlived like anybody's.
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
use std::path::{Path, PathBuf};

/// A guest built by the plugins crate.
fn guest(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/wasm")
        .join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is not built", path.display());
    path
}

fn plugin(name: &str, file: &Path) -> String {
    format!(
        "apiVersion: davit.dev/v1alpha1\nkind: Plugin\nmetadata: {{name: {name}}}\nspec:\n  \
         source: {{file: {:?}}}\n  grants:\n    links: {{create: ['*'], kinds: [bridge, veth]}}\n",
        file.display().to_string()
    )
}

fn ready(cluster: &Cluster, name: &str) -> Option<(String, String)> {
    let path =
        "{range .status.conditions[?(@.type==\"Ready\")]}{.status} {.reason} {.message}{end}";
    let text = cluster.try_kubectl(&["get", "plugin", name, "-o", &format!("jsonpath={path}")])?;
    let (status, message) = text.split_once(' ')?;
    Some((status.to_owned(), message.to_owned()))
}

#[test]
fn the_bundled_drivers_are_ordinary_plugins() {
    on_a_machine(|| {
        let cluster = Cluster::start();
        for name in ["bridge", "local-path"] {
            wait_for("the plugin is ready", || {
                (ready(&cluster, name)?.0 == "True").then_some(())
            });
        }
        let shown = cluster.kubectl(&["get", "plugins"]);
        assert!(shown.contains("bridge.davit.dev"), "{shown}");
        cluster.down();
    });
}

#[test]
fn broken_files_fail_with_a_clear_condition() {
    on_a_machine(|| {
        let cluster = Cluster::start();
        let text = cluster.dir.path().join("text.wasm");
        std::fs::write(&text, "not WebAssembly").unwrap();
        let truncated = cluster.dir.path().join("truncated.wasm");
        let whole = std::fs::read(guest("bridge")).unwrap();
        std::fs::write(&truncated, &whole[..whole.len() / 2]).unwrap();
        for (name, file) in [
            ("text", text),
            ("truncated", truncated),
            ("absent", PathBuf::from("/no/such.wasm")),
        ] {
            cluster.apply(&plugin(name, &file));
            let message = wait_for("the plugin has failed", || {
                let (status, message) = ready(&cluster, name)?;
                (status == "False").then_some(message)
            });
            assert!(
                !message.is_empty() && !message.contains("panic"),
                "{name}: {message}"
            );
        }
        cluster.down();
    });
}

/// A cluster with a busybox and one more driver, loaded from a file.
fn with_driver(name: &str, file: &str) -> Cluster {
    let cluster = Cluster::start();
    let archive = cluster.dir.path().join("busybox.tar");
    image::busybox(&archive, "test.local/busybox:1");
    cluster.davit_ok(&["images", "import", archive.to_str().unwrap()]);
    cluster.apply(&plugin(name, &guest(file)));
    wait_for("the plugin is loaded", || {
        (ready(&cluster, name)?.0 == "True").then_some(())
    });
    cluster
}

/// Runs a pod to its end, on the named further network.
fn pod(cluster: &Cluster, name: &str, networks: &str) {
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  annotations: \
         {{davit.dev/networks: '{networks}'}}\nspec:\n  restartPolicy: Never\n  containers:\n  - \
         {{name: main, image: 'test.local/busybox:1', command: [echo, fine]}}\n"
    ));
}

/// Waits until an event of the object has all these words.
fn event(cluster: &Cluster, object: &str, words: &[&str]) {
    wait_for("an event says why", || {
        let events = cluster.kubectl(&["describe", object]);
        let said = |line: &&str| words.iter().all(|word| line.contains(word));
        events.lines().find(said).map(|_| ())
    });
}

#[test]
fn a_driver_that_loops_fails_its_own_call_only() {
    on_a_machine(|| {
        let cluster = with_driver("loop", "sample-spin");
        let driver = cluster.field("plugin/loop", ".status.driver");
        cluster.apply(&format!(
            "apiVersion: davit.dev/v1alpha1\nkind: Network\nmetadata: {{name: loop}}\nspec:\n  \
             driver: {driver}\n  subnets: [10.99.0.0/16]\n"
        ));
        pod(&cluster, "stuck", "loop");
        for n in 0..3 {
            let name = format!("beside-{n}");
            pod(&cluster, &name, "");
            cluster.wait(&format!("pod/{name}"), "jsonpath={.status.phase}=Succeeded");
        }
        event(
            &cluster,
            "pod/stuck",
            &["attach used more than 1s of processor time"],
        );
        cluster.kubectl(&["delete", "pod", "stuck"]);
        cluster.down();
    });
}

#[test]
fn a_driver_that_wants_a_mount_over_etc_is_refused() {
    on_a_machine(|| {
        let cluster = with_driver("greedy", "sample-etc");
        let provisioner = cluster.field("plugin/greedy", ".status.driver");
        cluster.apply(&format!(
            "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: greedy}}\n\
             provisioner: {provisioner}\n---\napiVersion: v1\nkind: PersistentVolumeClaim\n\
             metadata: {{name: greedy}}\nspec:\n  storageClassName: greedy\n  \
             accessModes: [ReadWriteOnce]\n  resources: {{requests: {{storage: 1Mi}}}}\n"
        ));
        event(
            &cluster,
            "pvc/greedy",
            &["ProvisioningFailed", "root \"/etc\" is not granted"],
        );
        pod(&cluster, "beside", "");
        cluster.wait("pod/beside", "jsonpath={.status.phase}=Succeeded");
        cluster.down();
    });
}
