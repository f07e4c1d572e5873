//! The main job with stock kubectl: manifests applied, containers answering, rolled out, scaled,
//! looked at, and deleted.
#![allow(clippy::disallowed_methods, reason = "the tests run real programs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking"
)]
mod harness;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use harness::{Background, Cluster, examples, http_get, image, on_a_machine, run, wait_for};

#[test]
fn the_examples_run_and_answer() {
    on_a_machine(|| {
        let cluster = Cluster::start();
        let folder = examples();
        let applied = cluster.kubectl(&["apply", "-f", folder.to_str().unwrap()]);
        for object in [
            "namespace/web",
            "configmap/greeting",
            "secret/token",
            "persistentvolumeclaim/data",
            "deployment.apps/web",
            "service/web",
        ] {
            assert!(applied.contains(&format!("{object} created")), "{applied}");
        }
        cluster.kubectl(&[
            "-n",
            "web",
            "rollout",
            "status",
            "deployment/web",
            "--timeout=120s",
        ]);
        let again = cluster.kubectl(&["apply", "-f", folder.to_str().unwrap()]);
        assert!(
            again.lines().all(|line| line.ends_with("unchanged")),
            "{again}"
        );

        let ips = cluster.kubectl(&[
            "-n",
            "web",
            "get",
            "pods",
            "-l",
            "app=web",
            "-o",
            "jsonpath={.items[*].status.podIP}",
        ]);
        let ips: Vec<&str> = ips.split_whitespace().collect();
        assert_eq!(ips.len(), 3);
        for ip in &ips {
            let body = http_get(&format!("{ip}:8080"), "/").unwrap();
            assert!(
                body.contains("hello from davit") && body.contains(ip),
                "{body}"
            );
        }
        let wide = cluster.kubectl(&["-n", "web", "get", "pods", "-o", "wide"]);
        assert!(
            wide.contains("NODE") && ips.iter().all(|ip| wide.contains(ip)),
            "{wide}"
        );
        let yaml = cluster.kubectl(&["-n", "web", "get", "service", "web", "-o", "yaml"]);
        assert!(yaml.contains("clusterIP: "), "{yaml}");
        let described = cluster.kubectl(&["-n", "web", "describe", "deployment", "web"]);
        assert!(described.contains("ScalingReplicaSet") && described.contains("3 available"));
        let explained = cluster.kubectl(&["explain", "pod.spec"]);
        assert!(explained.contains("containers") && explained.contains("-required-"));

        cluster.kubectl(&["-n", "web", "scale", "deployment/web", "--replicas=1"]);
        wait_for("one replica is left", || {
            let left = cluster.kubectl(&["-n", "web", "get", "pods", "--no-headers"]);
            (left.lines().count() == 1).then_some(())
        });
        // The namespace, which comes first, may take the rest along before kubectl gets there.
        let delete = ["delete", "--ignore-not-found", "--timeout=120s", "-f"];
        cluster.kubectl(&[&delete[..], &[folder.to_str().unwrap()]].concat());
        assert!(
            cluster
                .kubectl_fails(&["get", "namespace", "web"])
                .contains("not found")
        );
        cluster.down();
    });
}

const LOOP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: loop}
spec:
  replicas: 2
  selector: {matchLabels: {app: loop}}
  template:
    metadata: {labels: {app: loop}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: test.local/busybox:1
        command: [sh, -c, 'i=0; while true; do echo "VERSION line $i"; i=$((i+1)); sleep 0.2; done']
"#;

#[test]
fn a_rollout_is_watched_undone_and_its_logs_followed() {
    on_a_machine(|| {
        let cluster = with_busybox();
        cluster.apply(&LOOP.replace("VERSION", "first"));
        cluster.kubectl(&["rollout", "status", "deployment/loop", "--timeout=120s"]);
        cluster.apply(&LOOP.replace("VERSION", "second"));
        cluster.kubectl(&["rollout", "status", "deployment/loop", "--timeout=120s"]);
        let history = cluster.kubectl(&["rollout", "history", "deployment/loop"]);
        assert!(
            history.contains("\n1 ") && history.contains("\n2 "),
            "{history}"
        );
        let log = |wanted: &str| {
            let text = cluster.try_kubectl(&["logs", "deployment/loop", "--tail=3"])?;
            text.contains(wanted).then_some(())
        };
        wait_for("the second version logs", || log("second line"));
        cluster.kubectl(&["rollout", "undo", "deployment/loop"]);
        cluster.kubectl(&["rollout", "status", "deployment/loop", "--timeout=120s"]);
        wait_for("the first version logs again", || log("first line"));

        let mut follow = cluster.kubectl_command(&["logs", "-f", "deployment/loop", "--tail=1"]);
        let mut follow = Background::start(follow.stdout(Stdio::piped()));
        let mut lines = BufReader::new(follow.0.stdout.take().unwrap()).lines();
        let numbers: Vec<u32> = (0..5)
            .map(|_| {
                lines
                    .next()
                    .unwrap()
                    .unwrap()
                    .rsplit(' ')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        assert!(
            numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "{numbers:?}"
        );
        drop(follow);
        cluster.down();
    });
}

/// A cluster that has the busybox test image.
fn with_busybox() -> Cluster {
    let cluster = Cluster::start();
    let archive = cluster.dir.path().join("busybox.tar");
    image::busybox(&archive, "test.local/busybox:1");
    cluster.davit_ok(&["images", "import", archive.to_str().unwrap()]);
    cluster
}

fn pod(name: &str, script: &str, rest: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n  restartPolicy: Never\n  containers:\n  - name: main\n    \
         image: test.local/busybox:1\n    command: [sh, -c, {script:?}]\n{rest}"
    )
}

#[test]
fn data_in_a_claim_outlives_its_pod() {
    on_a_machine(|| {
        let cluster = with_busybox();
        cluster.apply(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec:\n  \
             accessModes: [ReadWriteOnce]\n  resources: {requests: {storage: 10Mi}}\n",
        );
        let mounted = "    volumeMounts: [{name: data, mountPath: /data}]\n  volumes:\n  \
                       - name: data\n    persistentVolumeClaim: {claimName: data}\n";
        cluster.apply(&pod("writer", "echo kept > /data/file; sync", mounted));
        cluster.wait("pod/writer", "jsonpath={.status.phase}=Succeeded");
        cluster.kubectl(&["delete", "pod", "writer"]);
        cluster.apply(&pod("reader", "cat /data/file", mounted));
        cluster.wait("pod/reader", "jsonpath={.status.phase}=Succeeded");
        assert_eq!(cluster.kubectl(&["logs", "reader"]), "kept\n");
        assert_eq!(cluster.field("pvc/data", ".status.phase"), "Bound");

        let volume = cluster.field("pvc/data", ".spec.volumeName");
        cluster.kubectl(&["delete", "pod/reader", "pvc/data"]);
        wait_for("the volume is deleted with its claim", || {
            cluster
                .try_kubectl(&["get", "pv", &volume])
                .is_none()
                .then_some(())
        });
        cluster.down();
    });
}

#[test]
fn containers_share_what_a_pod_shares_and_see_their_settings() {
    on_a_machine(|| {
        let cluster = with_busybox();
        cluster.apply(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {color: green, \
             file.txt: from the map}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: key}\n\
             stringData: {key: s3cret}\n",
        );
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: shared, labels: {tier: test}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000}
  initContainers:
  - name: prepare
    image: test.local/busybox:1
    command: [sh, -c, "echo prepared > /work/init"]
    volumeMounts: [{name: work, mountPath: /work}]
  containers:
  - name: server
    image: test.local/busybox:1
    command: [sh, -c, "cd /work; echo up > up; nc -l -p 9000 -e cat /work/init"]
    volumeMounts: [{name: work, mountPath: /work}]
  - name: client
    image: test.local/busybox:1
    workingDir: /tmp
    env:
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: KEY, valueFrom: {secretKeyRef: {name: key, key: key}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: LINE, value: "$(COLOR)-$(KEY)"}
    command: [sh, -c]
    args:
    - |
      while [ ! -f /work/up ]; do sleep 0.1; done; sleep 0.3
      echo "net=$(nc 127.0.0.1 9000)"
      echo "line=$LINE node=$NODE pwd=$(pwd)"
      echo "file=$(cat /etc/settings/file.txt) mode=$(stat -L -c %a /etc/keys/key)"
      echo "labels=$(cat /etc/info/labels)"
      echo "user=$(id -u) group=$(id -g) groups=$(id -G)"
      echo "pid=$$$$ host=$(hostname)"
      touch /etc/settings/new 2>/dev/null || echo "readonly=yes"
    volumeMounts:
    - {name: work, mountPath: /work}
    - {name: settings, mountPath: /etc/settings}
    - {name: keys, mountPath: /etc/keys}
    - {name: info, mountPath: /etc/info}
  volumes:
  - {name: work, emptyDir: {}}
  - {name: settings, configMap: {name: settings}}
  - {name: keys, secret: {secretName: key, defaultMode: 0440}}
  - {name: info, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
"#,
        );
        cluster.wait("pod/shared", "jsonpath={.status.phase}=Succeeded");
        let log = cluster.kubectl(&["logs", "shared", "-c", "client"]);
        let node = cluster.field("pod/shared", ".spec.nodeName");
        for line in [
            "net=prepared".to_owned(),
            format!("line=green-s3cret node={node} pwd=/tmp"),
            "file=from the map mode=440".into(),
            "labels=tier=\"test\"".into(),
            "user=1000 group=1000 groups=1000 2000".into(),
            "pid=1 host=shared".into(),
            "readonly=yes".into(),
        ] {
            assert!(log.lines().any(|found| found == line), "{line} in\n{log}");
        }
        cluster.down();
    });
}

#[test]
fn failing_containers_are_restarted_probed_and_reported() {
    on_a_machine(|| {
        let cluster = with_busybox();
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  containers:
  - name: main
    image: test.local/busybox:1
    command: [sh, -c, "echo dying; exit 7"]
---
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: test.local/busybox:1
    command: [sh, -c, "touch /tmp/alive; sleep 3; rm /tmp/alive; sleep 600"]
    readinessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1}
    livenessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 2}
---
apiVersion: v1
kind: Pod
metadata: {name: missing}
spec:
  containers: [{name: main, image: "127.0.0.1:1/no/such:image"}]
"#,
        );
        wait_for("the crash is backed off", || {
            let path = ".status.containerStatuses[0].state.waiting.reason";
            (cluster.field("pod/crash", path) == "CrashLoopBackOff").then_some(())
        });
        let last = ".status.containerStatuses[0].lastState.terminated.exitCode";
        assert_eq!(cluster.field("pod/crash", last), "7");
        assert_eq!(cluster.kubectl(&["logs", "crash", "--previous"]), "dying\n");
        wait_for("the probed container is restarted", || {
            let restarts = cluster.field("pod/probed", ".status.containerStatuses[0].restartCount");
            (restarts.parse::<u32>().unwrap_or(0) >= 1).then_some(())
        });
        cluster.wait("pod/probed", "condition=Ready");
        let events = cluster.kubectl(&["describe", "pod", "probed"]);
        assert!(
            events.contains("Unhealthy") && events.contains("Killing"),
            "{events}"
        );
        wait_for("the missing image is reported", || {
            let path = ".status.containerStatuses[0].state.waiting.reason";
            let reason = cluster.field("pod/missing", path);
            ["ErrImagePull", "ImagePullBackOff"]
                .contains(&reason.as_str())
                .then_some(())
        });
        cluster.down();
    });
}

#[test]
fn host_ports_are_open_while_their_pod_is_there() {
    on_a_machine(|| {
        let cluster = with_busybox();
        let serve = "echo hp >/tmp/index.html; exec httpd -f -p 8080 -h /tmp";
        let ports = "\n    ports: [{containerPort: 8080, hostPort: 18088}]\n";
        cluster.apply(&pod("hp", serve, ports));
        let address = ".status.addresses[?(@.type==\"InternalIP\")].address";
        let node = cluster.kubectl(&[
            "get",
            "nodes",
            "-o",
            &format!("jsonpath={{.items[0]{address}}}"),
        ]);
        // Connections from this machine to its own loopback address are not led on.
        run(Command::new("ip").args(["link", "add", "out0", "type", "bridge"]));
        run(Command::new("ip").args(["addr", "add", "192.0.2.7/24", "dev", "out0"]));
        run(Command::new("ip").args(["link", "set", "out0", "up"]));
        let answer = wait_for("the host port answers", || http_get("192.0.2.7:18088", "/"));
        assert_eq!(answer, "hp\n", "of node {node}");
        // From another pod, whose answers must come back the same way.
        cluster.apply(&pod("client", "sleep 3600", ""));
        cluster.wait("pod/client", "condition=Ready");
        let asked = cluster.kubectl(&[
            "exec",
            "client",
            "--",
            "wget",
            "-q",
            "-O",
            "-",
            "http://192.0.2.7:18088/",
        ]);
        assert_eq!(asked, "hp\n");
        // A second pod with the port finds no node.
        cluster.apply(&pod("second", serve, ports));
        wait_for("the scheduler sees the conflict", || {
            let events = cluster.try_kubectl(&[
                "get",
                "events",
                "--field-selector=reason=FailedScheduling",
            ])?;
            events.contains("free ports").then_some(())
        });
        cluster.kubectl(&[
            "delete",
            "pod",
            "hp",
            "second",
            "--grace-period=0",
            "--force",
        ]);
        wait_for("the port is closed", || {
            http_get("192.0.2.7:18088", "/").is_none().then_some(())
        });
        run(Command::new("ip").args(["link", "del", "out0"]));
        cluster.down();
    });
}

#[test]
fn an_ephemeral_volume_has_a_claim_of_its_own() {
    on_a_machine(|| {
        let cluster = with_busybox();
        let volume = "\n    volumeMounts: [{name: e, mountPath: /e}]\n  volumes:\n  - name: e\n    ephemeral: {volumeClaimTemplate: \
                      {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10Mi}}}}}\n";
        cluster.apply(&pod("eph", "echo kept >/e/file && sleep 3600", volume));
        cluster.wait("pod/eph", "condition=Ready");
        assert_eq!(
            cluster.field("pvc/eph-e", ".metadata.ownerReferences[0].name"),
            "eph"
        );
        let managers = ".metadata.managedFields[*].manager";
        let managers = cluster.kubectl(&[
            "get",
            "pvc/eph-e",
            "--show-managed-fields",
            "-o",
            &format!("jsonpath={{{managers}}}"),
        ]);
        assert!(
            managers.contains("kube-controller-manager") && !managers.contains("unknown"),
            "{managers}"
        );
        // One that is somebody else's is not used.
        cluster.apply("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: other-e}\nspec:\n  accessModes: [ReadWriteOnce]\n  \
                       resources: {requests: {storage: 10Mi}}\n");
        cluster.apply(&pod("other", "sleep 3600", volume));
        wait_for("the pod is told", || {
            let events =
                cluster.try_kubectl(&["get", "events", "--field-selector=reason=FailedBinding"])?;
            events
                .contains("was not created for pod default/other")
                .then_some(())
        });
        cluster.kubectl(&[
            "delete",
            "pod",
            "eph",
            "other",
            "--grace-period=0",
            "--force",
        ]);
        wait_for("the claim goes with its pod", || {
            let claims = cluster.try_kubectl(&["get", "pvc", "-o", "name"])?;
            (!claims.contains("eph-e")).then_some(())
        });
        assert!(
            cluster
                .kubectl(&["get", "pvc", "-o", "name"])
                .contains("other-e")
        );
        cluster.down();
    });
}

#[test]
fn resources_added_to_a_node_can_be_had() {
    on_a_machine(|| {
        let cluster = with_busybox();
        let node = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        let patch = r#"[{"op":"add","path":"/status/capacity/example.com~1dongle","value":"4"}]"#;
        cluster.kubectl(&[
            "patch",
            "node",
            &node,
            "--subresource=status",
            "--type=json",
            "-p",
            patch,
        ]);
        let node_object = format!("node/{node}");
        let dongles = ".status.allocatable.example\\.com/dongle";
        wait_for("they are allocatable", || {
            (cluster.field(&node_object, dongles) == "4").then_some(())
        });
        let with = |name: &str, node: &str, count: u32| {
            let wants =
                format!("\n    resources: {{limits: {{example.com/dongle: \"{count}\"}}}}\n{node}");
            cluster.apply(&pod(name, "sleep 3600", &wants));
        };
        with("three", "", 3);
        cluster.wait("pod/three", "condition=Ready");
        with("two", "", 2);
        wait_for("the scheduler counts", || {
            let events = cluster.try_kubectl(&[
                "get",
                "events",
                "--field-selector=reason=FailedScheduling",
            ])?;
            events
                .contains("Insufficient example.com/dongle")
                .then_some(())
        });
        // And so does the node, whoever placed the pod.
        with("placed", &format!("  nodeName: {node}\n"), 2);
        wait_for("the node counts", || {
            (cluster.field("pod/placed", ".status.reason") == "OutOfexample.com/dongle")
                .then_some(())
        });
        cluster.kubectl(&["delete", "pod", "--all", "--grace-period=0", "--force"]);
        let patch = r#"[{"op":"remove","path":"/status/capacity/example.com~1dongle"}]"#;
        cluster.kubectl(&[
            "patch",
            "node",
            &node,
            "--subresource=status",
            "--type=json",
            "-p",
            patch,
        ]);
        wait_for("they are gone", || {
            cluster
                .field(&node_object, dongles)
                .is_empty()
                .then_some(())
        });
        cluster.down();
    });
}

#[test]
fn a_bridge_is_no_address_of_the_node() {
    on_a_machine(|| {
        let mut cluster = with_busybox();
        let address = |cluster: &Cluster| {
            let path = "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
            cluster.kubectl(&["get", "nodes", "-o", path])
        };
        let written = |cluster: &Cluster| {
            let path =
                "jsonpath={.items[0].status.conditions[?(@.type==\"Ready\")].lastHeartbeatTime}";
            cluster.kubectl(&["get", "nodes", "-o", path])
        };
        assert_eq!(address(&cluster), "127.0.0.1");
        // The pod's bridge is there from now on.
        cluster.apply(&pod("box", "sleep 3600", ""));
        cluster.wait("pod/box", "condition=Ready");
        let before = written(&cluster);
        // Reports are told apart by their second.
        wait_for("the second of the last report is over", || {
            let now = run(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]));
            (now.trim() != before).then_some(())
        });
        cluster.stop();
        cluster.up();
        wait_for("the agent has written its object again", || {
            (written(&cluster) != before).then_some(())
        });
        assert_eq!(address(&cluster), "127.0.0.1");
        cluster.kubectl(&["delete", "pod", "box", "--grace-period=0", "--force"]);
        cluster.down();
    });
}
