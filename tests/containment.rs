//! Attacks from inside, with a whole davit around them: programs in an image that try to get out while probes, commands,
//! attached clients, forwarded ports and debug containers come and go.
#![allow(clippy::disallowed_methods, reason = "the tests run real programs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests fail by panicking; attacks report on standard output"
)]
#[path = "../node/tests/runtime/attack.rs"]
#[allow(unsafe_code, reason = "attacks use what no library offers")]
mod attack;
mod harness;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::{Background, Cluster, image, on_a_machine, wait_for};

/// How long each attack goes on, in seconds.
const LENGTH: &str = "60";

/// What a container of the image runs: the attack in `ATTACK`, words apart by blanks. For the test itself nothing.
#[test]
fn attack() {
    let Some(line) = std::env::var_os("ATTACK") else {
        return;
    };
    let words: Vec<String> = line
        .to_str()
        .unwrap()
        .split(' ')
        .map(str::to_owned)
        .collect();
    attack::main(&words);
}

fn with_attacks() -> Cluster {
    let cluster = Cluster::start();
    let archive = cluster.dir.path().join("attacks.tar");
    image::with_program(&archive, "test.local/attacks:1", "");
    cluster.davit_ok(&["images", "import", archive.to_str().unwrap()]);
    image::with_program(&archive, "test.local/numbers:1", "1000");
    cluster.davit_ok(&["images", "import", archive.to_str().unwrap()]);
    cluster
}

fn backwards(word: &str) -> String {
    word.chars().rev().collect()
}

/// `look` and what it needs to recognise the host.
fn looking(cluster: &Cluster) -> String {
    let device = |path: &Path| std::fs::metadata(path).unwrap().dev().to_string();
    let devices = [device(Path::new("/")), device(cluster.dir.path())];
    let names = ["mnt", "pid", "net", "ipc", "uts", "cgroup"].map(|kind| {
        // Of the machine and of this test's part of it.
        let own = std::fs::read_link(format!("/proc/thread-self/ns/{kind}")).unwrap();
        own.to_string_lossy().into_owned()
    });
    format!(
        "look {LENGTH} 1000000 {} {} {}",
        devices.join(","),
        backwards(&cluster.data_dir().join("pods").display().to_string()),
        names.join(",")
    )
}

fn pod(name: &str, attack: &str, share: bool, tracer: bool) -> String {
    let capabilities = if tracer { "SYS_PTRACE" } else { "" };
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  shareProcessNamespace: {share}
  containers:
  - name: attacker
    image: test.local/attacks:1
    command: [/attack, --exact, attack, --nocapture]
    env: [{{name: ATTACK, value: "{attack}"}}]
    securityContext: {{capabilities: {{add: [{capabilities}]}}}}
    readinessProbe: {{exec: {{command: ["true"]}}, periodSeconds: 1}}
    livenessProbe: {{exec: {{command: ["true"]}}, periodSeconds: 1}}
  - name: neighbour
    image: test.local/attacks:1
    command: [sh, -c, "mkdir -p /tmp/w; echo hi > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w"]
    readinessProbe: {{exec: {{command: ["true"]}}, periodSeconds: 1}}
"#
    )
}

/// Does everything to a pod that brings processes into it, until told to stop.
fn disturb(cluster: &Cluster, name: &str, stop: &AtomicBool) {
    let (mut round, mut attached) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        for container in ["attacker", "neighbour"] {
            // Refused or not, nothing of the host may show.
            let _ = cluster.try_kubectl(&["exec", name, "-c", container, "--", "true"]);
        }
        if round % 5 == 1 {
            let debug = [
                "debug",
                name,
                "--image=test.local/attacks:1",
                "--target=attacker",
                "--",
                "true",
            ];
            let _ = cluster.try_kubectl(&debug);
            // The one before goes away.
            attached.clear();
            let mut attach = cluster.kubectl_command(&["attach", name, "-c", "neighbour"]);
            attached.push(Background::start(&mut attach));
        }
    }
}

#[test]
fn nobody_of_the_host_is_seen_from_inside() {
    on_a_machine(|| {
        let cluster = with_attacks();
        let attack = looking(&cluster);
        let cases = [
            ("a", false, true),
            ("b", true, true),
            ("c", true, false),
            ("d", false, false),
        ];
        for (name, share, tracer) in cases {
            cluster.apply(&pod(name, &attack, share, tracer));
        }
        for (name, ..) in cases {
            wait_for("the neighbour runs", || {
                let path = ".status.containerStatuses[?(@.name==\"neighbour\")].state.running";
                (!cluster.field(&format!("pod/{name}"), path).is_empty()).then_some(())
            });
        }
        let forwards: Vec<_> = cases
            .iter()
            .map(|(name, ..)| {
                Background::start(&mut cluster.kubectl_command(&["port-forward", name, ":8080"]))
            })
            .collect();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (name, ..) in cases {
                let (cluster, stop) = (&cluster, &stop);
                scope.spawn(move || disturb(cluster, name, stop));
            }
            for (name, ..) in cases {
                wait_for("the attack is over", || {
                    let path = ".status.containerStatuses[?(@.name==\"attacker\")].state.terminated.exitCode";
                    (cluster.field(&format!("pod/{name}"), path) == "0").then_some(())
                });
            }
            stop.store(true, Ordering::Relaxed);
        });
        drop(forwards);
        for (name, ..) in cases {
            let said = cluster.kubectl(&["logs", name, "-c", "attacker"]);
            assert!(!said.contains("VIOLATION"), "{name}: {said}");
            assert!(said.contains("SEEN "), "{name}: {said}");
            assert!(
                !said.contains("SEEN 0 "),
                "{name} never saw anybody: {said}"
            );
        }
        cluster.down();
    });
}

#[test]
fn who_is_traced_is_deleted_and_a_number_is_that_user() {
    on_a_machine(|| {
        let cluster = with_attacks();
        cluster.apply(
            r#"
apiVersion: v1
kind: Namespace
metadata: {name: strict, labels: {pod-security.kubernetes.io/enforce: restricted}}
"#,
        );
        wait_for("the namespace has its account", || {
            cluster.try_kubectl(&["-n", "strict", "get", "serviceaccount", "default"])
        });
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: traced, namespace: strict}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: test.local/attacks:1
    command: [/attack, --exact, attack, --nocapture]
    env: [{name: ATTACK, value: traceme}]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Pod
metadata: {name: number, namespace: strict}
spec:
  restartPolicy: Never
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: test.local/numbers:1
    command: [sh, -c, "grep -E '^(Uid|Gid|Groups):' /proc/self/status"]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"#,
        );
        wait_for("the traced program goes on", || {
            let said = cluster.try_kubectl(&["-n", "strict", "logs", "traced"])?;
            said.contains("through").then_some(())
        });
        let restarts = cluster.kubectl(&[
            "-n",
            "strict",
            "get",
            "pod",
            "traced",
            "-o",
            "jsonpath={.status.containerStatuses[0].restartCount}",
        ]);
        assert_eq!(restarts, "0");
        let said = wait_for("the number's program has said who it is", || {
            let said = cluster.try_kubectl(&["-n", "strict", "logs", "number"])?;
            said.contains("Groups:").then_some(said)
        });
        assert!(said.contains("Uid:\t1000\t1000\t1000\t1000"), "{said}");
        cluster.kubectl(&["delete", "namespace", "strict", "--timeout=100s"]);
        cluster.down();
    });
}
