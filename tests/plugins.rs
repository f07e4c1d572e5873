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

/// A network of the driver that plans what it is told.
fn scripted(name: &str, config: &str) -> String {
    format!(
        "apiVersion: davit.dev/v1alpha1\nkind: Network\nmetadata: {{name: {name}}}\nspec:\n  \
         driver: script.samples.davit.dev\n  subnets: [10.77.0.0/16]\n  config: {config}\n"
    )
}

const GRANTS: &str = "{interfaces: [network.ipam, state], links: {create: ['*'], parents: ['*'], \
    kinds: [bridge, veth, dummy, macvlan, host-device]}, addresses: [10.0.0.0/8], \
    routes: {host: ['0.0.0.0/0'], pod: [any]}, nft: {masquerade: ['0.0.0.0/0'], filter: true}, \
    sysctls: {pod: ['net.*'], host: ['net.*']}}";

fn script_plugin(grants: &str) -> String {
    format!(
        "apiVersion: davit.dev/v1alpha1\nkind: Plugin\nmetadata: {{name: script}}\nspec:\n  \
         source: {{file: {:?}}}\n  grants: {grants}\n",
        guest("sample-script").display().to_string()
    )
}

/// The condition of a network, once it says this.
fn network_says(cluster: &Cluster, name: &str, words: &[&str]) {
    wait_for("the network says how it is", || {
        let path =
            "{range .status.conditions[?(@.type==\"Ready\")]}{.status} {.reason} {.message}{end}";
        let text = cluster.try_kubectl(&[
            "get",
            "network.davit.dev",
            name,
            "-o",
            &format!("jsonpath={path}"),
        ])?;
        words.iter().all(|word| text.contains(word)).then_some(())
    });
}

fn ip(words: &str) -> String {
    harness::run(std::process::Command::new("ip").args(words.split(' ')))
}

/// A machine with a way out of its own, and a cluster with the driver that does what it is told.
fn with_script() -> Cluster {
    for words in [
        "link add up0 type bridge",
        "addr add 192.0.2.2/24 dev up0",
        "link set up0 up",
        "route add default via 192.0.2.1",
    ] {
        ip(words);
    }
    let cluster = Cluster::start();
    let archive = cluster.dir.path().join("busybox.tar");
    image::busybox(&archive, "test.local/busybox:1");
    cluster.davit_ok(&["images", "import", archive.to_str().unwrap()]);
    cluster.apply(&script_plugin(GRANTS));
    wait_for("the plugin is loaded", || {
        (ready(&cluster, "script")?.0 == "True").then_some(())
    });
    cluster
}

#[test]
fn hostile_drivers_are_refused_and_leave_nothing() {
    on_a_machine(|| {
        let cluster = with_script();
        let ttl = std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap();
        for (name, config, words) in [
            (
                "in-pod",
                "{nodeUp: [{sysctl: {key: net.ipv4.ip_default_ttl, value: '9', pod: true}}]}",
                ["False", "placed in a pod"],
            ),
            (
                "takes-route",
                "{nodeUp: [{route: {dst: 0.0.0.0/0, via: 192.0.2.9}}]}",
                ["False", "has a route"],
            ),
            (
                "twice",
                "{nodeUp: [{dummy: {name: z0}}, {bridge: [b, z0]}]}",
                ["False", "two steps"],
            ),
            (
                "half",
                "{nodeUp: [{bridge: [b, half0]}, {sysctl: {key: net.ipv4.conf.all.arp_ignore, value: '1'}}, \
                 {filter: f}, {masquerade: 10.77.0.0/16}, {dummy: {name: half1, mtu: 4294967295}}]}",
                ["False", "NodeUpFailed"],
            ),
            (
                "neighbour",
                "{nodeUp: [{bridge: [b, n0]}, {neighbor: [b, 192.0.2.1, '02:00:00:00:00:01']}]}",
                ["False", "spec.grants.addresses"],
            ),
            ("traps", "{nodeUp: [trap]}", ["False", "panicked"]),
            (
                "much",
                "{nodeUp: [{bridge: [br, much0]}, {address: [br, 10.99.0.1/24]}, \
                 {sysctl: {key: net.ipv4.conf.all.arp_ignore, value: '2'}}, {filter: f}, \
                 {route: {dst: 198.51.100.0/24, via: 192.0.2.9}}, {rule: {priority: 4242, src: 198.51.100.0/24}}, \
                 {masquerade: 10.99.0.0/16}, {event: hello}], \
                 attach: [{veth: {link: eth1, peer: much1, master: 'node/much#br'}}, {lease: veth}, \
                 {route: {dst: 0.0.0.0/0, pod: true, dev: veth}}]}",
                ["True", "up on 1 node"],
            ),
            (
                "side",
                "{nodeUp: [{bridge: [br, side0]}], attach: [{veth: {link: eth1, peer: side1, \
                 master: 'node/side#br'}}, {lease: veth}]}",
                ["True", "up on 1 node"],
            ),
        ] {
            cluster.apply(&scripted(name, config));
            network_says(&cluster, name, &words);
        }
        // Its retries would keep the driver's other calls waiting too.
        cluster.kubectl(&["delete", "network.davit.dev", "traps"]);
        let now = std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap();
        assert_eq!(now, ttl);
        wait_for("the driver's event is written", || {
            let events = cluster.kubectl(&["get", "events", "-A"]);
            (events.contains("Scripted") && events.contains("hello")).then_some(())
        });
        // A second default route in the pod: refused, and the pod can go.
        pod(&cluster, "greedy", "much");
        event(&cluster, "pod/greedy", &["is already held by"]);
        cluster.kubectl(&["delete", "pod", "greedy"]);
        // What somebody deletes comes back, and it is said.
        cluster.apply(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: runs\n  annotations: {davit.dev/networks: side}\n\
             spec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - {name: main, image: 'test.local/busybox:1', \
             command: [sleep, '3600']}\n",
        );
        cluster.wait("pod/runs", "condition=Ready");
        ip("link del side1");
        wait_for("the link is back", || {
            ip("link").contains("side1").then_some(())
        });
        event(&cluster, "pod/runs", &["NetworkDrift", "it was put back"]);
        // Parts go with their network.
        cluster.kubectl(&["delete", "network.davit.dev", "neighbour"]);
        wait_for("their parts are gone", || {
            let parts = cluster.kubectl(&["get", "networknodes.davit.dev"]);
            (!parts.contains("traps.") && !parts.contains("neighbour.")).then_some(())
        });
        cluster.down();
    });
}

#[test]
fn down_takes_back_what_no_list_names_any_more() {
    on_a_machine(|| {
        let keys = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];
        let path = |key: &str| Path::new("/proc/sys/net").join(key);
        let before = keys.map(|key| std::fs::read_to_string(path(key)).unwrap_or_default());
        let mut cluster = with_script();
        cluster.apply(&scripted(
            "lab",
            "{nodeUp: [{bridge: [br, lab0]}, {filter: f}, {route: {dst: 198.51.100.0/24, via: 192.0.2.9}}]}",
        ));
        network_says(&cluster, "lab", &["True"]);
        cluster.kill_9();
        let note = std::fs::read_to_string(cluster.data_dir().join("ledger/node.json")).unwrap();
        let run = note
            .split('"')
            .find(|text| text.starts_with("/run"))
            .unwrap();
        let journal = Path::new(run).join("boot/boot.db");
        assert!(journal.exists());
        std::fs::remove_file(&journal).unwrap();
        // Settings are in no mark; without the list nobody knows what they were.
        for (key, value) in keys.iter().zip(before) {
            let _ = std::fs::write(path(key), value);
        }
        cluster.down();
    });
}

#[test]
fn a_plugin_that_cannot_be_read_says_so_and_holds_up_no_other() {
    on_a_machine(|| {
        let mut cluster = Cluster::start();
        let wrong =
            script_plugin("{limits: {memory: lots}}").replace("name: script", "name: wrong");
        cluster.apply(&wrong);
        let says = |cluster: &Cluster| {
            wait_for("the plugin says what is wrong", || {
                let (status, message) = ready(cluster, "wrong")?;
                let named = message.contains("InvalidGrants") && message.contains("limits.memory");
                (status == "False" && named).then_some(())
            });
        };
        says(&cluster);
        cluster.stop();
        cluster.up();
        says(&cluster);
        wait_for("the others are ready", || {
            (ready(&cluster, "bridge")?.0 == "True").then_some(())
        });
        cluster.down();
    });
}
