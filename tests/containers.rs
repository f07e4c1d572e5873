//! What a container finds and is held to, seen from inside and on the machine, with stock kubectl.
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

fn with_busybox() -> Cluster {
    let cluster = Cluster::start();
    let archive = cluster.dir.path().join("busybox.tar");
    image::busybox(&archive, "test.local/busybox:1");
    cluster.davit_ok(&["images", "import", archive.to_str().unwrap()]);
    cluster
}

/// The output of a shell in a pod's container.
#[track_caller]
fn shell(cluster: &Cluster, pod: &str, script: &str) -> String {
    cluster.kubectl(&["exec", pod, "--", "sh", "-c", script])
}

const VOLUMES: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: outer}
data: {k: v}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {s: t}
---
apiVersion: v1
kind: Pod
metadata: {name: nest, labels: {step: one}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: test.local/busybox:1
    command: [sleep, "3600"]
    workingDir: /d/../tmp
    volumeMounts:
    - {name: inner, mountPath: /d/sub}
    - {name: outer, mountPath: /d}
    - {name: hidden, mountPath: /d/deep/er}
    - {name: inner, mountPath: /d/deep/er/most, subPath: ./part}
    - {name: hidden, mountPath: /d/file, subPath: s}
    - {name: about, mountPath: /about}
    - {name: inner, mountPath: /about/x/../inner}
  volumes:
  - {name: outer, configMap: {name: outer, items: [{key: k, path: ./k}]}}
  - {name: hidden, secret: {secretName: hidden}}
  - {name: inner, emptyDir: {}}
  - name: about
    downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
"#;

#[test]
fn volumes_nest_follow_and_are_where_their_paths_say() {
    on_a_machine(|| {
        let cluster = with_busybox();
        cluster.apply(VOLUMES);
        cluster.wait("pod/nest", "condition=Ready");
        let script = "pwd; cat /d/k /d/deep/er/s /d/file; echo x >/d/sub/w; echo y >/d/deep/er/most/w; \
                      cat /d/sub/part/w; echo z >/d/no; cat /about/labels; ls /about/inner";
        let seen = shell(&cluster, "nest", &format!("({script}) 2>&1"));
        for text in [
            "/tmp\n",
            "vtt",
            "y\n",
            "Read-only file system",
            "step=\"one\"",
            "part",
        ] {
            assert!(seen.contains(text), "{text}: {seen}");
        }
        // Both kinds of files follow, and what is mounted within them stays.
        cluster.kubectl(&["label", "pod", "nest", "step=two", "--overwrite"]);
        cluster.kubectl(&[
            "patch",
            "configmap",
            "outer",
            "-p",
            r#"{"data":{"k":"new"}}"#,
        ]);
        wait_for("labels and keys are followed", || {
            let seen = shell(&cluster, "nest", "cat /about/labels /d/k");
            (seen.contains("step=\"two\"") && seen.contains("new")).then_some(())
        });
        let seen = shell(
            &cluster,
            "nest",
            "cat /d/sub/w /d/deep/er/most/w /d/file; ls /about/inner",
        );
        assert_eq!(seen, "x\ny\ntpart\nw\n");
        let hosts = shell(&cluster, "nest", "head -1 /etc/hosts");
        assert_eq!(hosts, "# Kubernetes-managed hosts file.\n");
        for path in ["/a/../proc", "/proc/./sys", "//proc"] {
            cluster.apply(&COVERED.replace("PATH", path));
            wait_for("a mount over /proc is refused", || {
                let reason = cluster.field(
                    "pod/covered",
                    ".status.containerStatuses[0].state.waiting.message",
                );
                reason.contains("mountPath").then_some(())
            });
            cluster.kubectl(&["delete", "pod", "covered", "--grace-period=1"]);
        }
        cluster.kubectl(&["delete", "pod", "nest"]);
        cluster.down();
    });
}

const COVERED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: covered}
spec:
  containers:
  - name: c
    image: test.local/busybox:1
    command: [sleep, "3600"]
    volumeMounts: [{name: v, mountPath: "PATH"}]
  volumes: [{name: v, emptyDir: {}}]
"#;

const WORDS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: low}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1000}
  containers:
  - name: c
    image: test.local/busybox:1
    command: [httpd, -f, -p, "80"]
    securityContext: {capabilities: {drop: [ALL]}, allowPrivilegeEscalation: false}
    readinessProbe: {tcpSocket: {port: 80}}
---
apiVersion: v1
kind: Pod
metadata: {name: last}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: test.local/busybox:1
    command: [sh, -c, "echo first; printf DONE; exit 3"]
    terminationMessagePolicy: FallbackToLogsOnError
"#;

#[test]
fn low_ports_are_open_and_last_words_are_exact() {
    on_a_machine(|| {
        let cluster = with_busybox();
        cluster.apply(WORDS);
        cluster.wait("pod/last", "jsonpath={.status.phase}=Failed");
        assert_eq!(cluster.kubectl(&["logs", "last"]), "first\nDONE");
        assert_eq!(cluster.kubectl(&["logs", "last", "--tail=1"]), "DONE");
        let message = cluster.field(
            "pod/last",
            ".status.containerStatuses[0].state.terminated.message",
        );
        assert_eq!(message, "first\nDONE");
        cluster.wait("pod/low", "condition=Ready");
        let sysctls =
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range";
        let seen = shell(&cluster, "low", sysctls);
        assert_eq!(
            seen.split_whitespace().collect::<Vec<_>>(),
            ["0", "0", "2147483647"]
        );
        cluster.kubectl(&["delete", "pod", "low", "last"]);
        cluster.down();
    });
}

const SIZED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: rz}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: rz
    image: test.local/busybox:1
    command: [sleep, "3600"]
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
"#;

/// The CPU quota and memory limit that the container's own cgroup says, in either layout.
fn limits_inside(cluster: &Cluster) -> Vec<String> {
    let script = "cd /sys/fs/cgroup; if [ -f cpu.max ]; then read q rest <cpu.max; echo $q; cat memory.max; else \
                  cat cpu*/cpu.cfs_quota_us | head -1; cat memory/memory.limit_in_bytes; fi";
    let text = shell(cluster, "rz", script);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_resize_is_in_force_or_says_why_not() {
    on_a_machine(|| {
        let cluster = with_busybox();
        cluster.apply(SIZED);
        cluster.wait("pod/rz", "condition=Ready");
        assert_eq!(limits_inside(&cluster), ["20000", "67108864"]);
        let resize = |resources: &str| {
            let patch =
                format!(r#"{{"spec":{{"containers":[{{"name":"rz","resources":{resources}}}]}}}}"#);
            cluster.kubectl(&[
                "patch",
                "pod",
                "rz",
                "--subresource",
                "resize",
                "-p",
                &patch,
            ]);
        };
        let field = |path: &str| cluster.field("pod/rz", path);
        resize(r#"{"limits":{"cpu":"400m"}}"#);
        wait_for("the status tells the new limit", || {
            let told = field(".status.containerStatuses[0].resources.limits.cpu");
            (told == "400m").then_some(())
        });
        assert_eq!(limits_inside(&cluster), ["40000", "67108864"]);
        assert_eq!(field(".status.containerStatuses[0].restartCount"), "0");
        let pending = ".status.conditions[?(@.type==\"PodResizePending\")].reason";
        assert_eq!(field(pending), "");

        resize(r#"{"requests":{"cpu":"1000"},"limits":{"cpu":"1000"}}"#);
        wait_for("the node says no", || {
            (field(pending) == "Infeasible").then_some(())
        });
        assert_eq!(limits_inside(&cluster), ["40000", "67108864"]);
        assert_eq!(
            field(".status.containerStatuses[0].resources.limits.cpu"),
            "400m"
        );
        resize(r#"{"requests":{"cpu":"100m"},"limits":{"cpu":"300m"}}"#);
        wait_for("the condition goes", || {
            field(pending).is_empty().then_some(())
        });
        wait_for("the smaller limit is in force", || {
            (limits_inside(&cluster) == ["30000", "67108864"]).then_some(())
        });

        // Memory wants a new start.
        resize(r#"{"limits":{"memory":"96Mi"}}"#);
        wait_for("it was started anew", || {
            let restarts = field(".status.containerStatuses[0].restartCount");
            let told = field(".status.containerStatuses[0].resources.limits.memory");
            (restarts == "1" && told == "96Mi").then_some(())
        });
        cluster.wait("pod/rz", "condition=Ready");
        assert_eq!(limits_inside(&cluster), ["30000", "100663296"]);
        cluster.kubectl(&["delete", "pod", "rz"]);
        cluster.down();
    });
}

/// Adds a debug container to the pod `tgt` that runs `ps` to its end; what that printed.
#[track_caller]
fn debug(cluster: &Cluster, name: &str, more: &[&str]) -> String {
    let container = format!("--container={name}");
    let begin = [
        "debug",
        "tgt",
        "--image=test.local/busybox:1",
        &container,
        "--profile=general",
    ];
    cluster.kubectl(&[&begin[..], more, &["--", "ps"]].concat());
    let state = format!(".status.ephemeralContainerStatuses[?(@.name==\"{name}\")].state");
    wait_for("the debugger has run", || {
        let state = cluster.field("pod/tgt", &state);
        state.contains("terminated").then_some(())
    });
    cluster.kubectl(&["logs", "tgt", "-c", name])
}

#[test]
fn debuggers_come_to_a_pod_that_runs() {
    on_a_machine(|| {
        let cluster = with_busybox();
        let run = ["--restart=Never", "--command", "--", "sleep", "86400"];
        cluster.kubectl(&[&["run", "tgt", "--image=test.local/busybox:1"], &run[..]].concat());
        cluster.wait("pod/tgt", "condition=Ready");
        let seen = debug(&cluster, "alone", &[]);
        assert!(
            seen.contains("ps") && !seen.contains("sleep 86400"),
            "{seen}"
        );
        let among = debug(&cluster, "among", &["--target=tgt"]);
        assert!(among.contains("sleep 86400"), "{among}");
        let restarts = ".status.containerStatuses[0].restartCount";
        assert_eq!(cluster.field("pod/tgt", restarts), "0");
        cluster.kubectl(&["delete", "pod", "tgt", "--grace-period=1"]);
        cluster.down();
    });
}
