//! Names of the cluster, asked for by ordinary programs in pods.
#![allow(clippy::disallowed_methods, reason = "the tests run real programs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]
mod harness;

use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Cluster, image, on_a_machine, run, wait_for};

const BUSYBOX: &str = "test.local/busybox:1";

/// A headless Service with a pod that has a name of its own, and a name for something outside.
const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {type: ExternalName, externalName: kubernetes.default.svc.cluster.local}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, labels: {app: db}}
spec:
  hostname: first
  subdomain: db
  hostAliases: [{ip: 192.0.2.9, hostnames: [alias.example]}]
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: 'test.local/busybox:1', command: [sleep, '1000']}]
";

/// Runs a script in a pod; what it printed.
fn script(cluster: &Cluster, name: &str, more: &str, script: &str) -> String {
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n{more}  \
         containers: [{{name: main, image: '{BUSYBOX}', command: [sh, -c, {script:?}]}}]\n"
    ));
    cluster.wait(&format!("pod/{name}"), "jsonpath={.status.phase}=Succeeded");
    cluster.davit_ok(&["logs", name])
}

fn resolved(cluster: &Cluster) -> Option<String> {
    let name = "kubernetes.default.svc.cluster.local";
    cluster.try_kubectl(&["exec", "db-0", "--", "nslookup", name])
}

/// Whatever somebody else does to packet rules, davit undoes it as soon as it hears of it.
fn rules_come_back(cluster: &Cluster) {
    let before = rules();
    run(Command::new("nft").args(["flush", "ruleset"]));
    let start = Instant::now();
    wait_for("the rules are back", || (rules() == before).then_some(()));
    // Long before anything is looked at by itself.
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(resolved(cluster).is_some(), "{}", cluster.log());
    let reasons = ["get", "events", "-A", "-o", "jsonpath={.items[*].reason}"];
    wait_for("an Event says so", || {
        cluster
            .kubectl(&reasons)
            .contains("NetworkDrift")
            .then_some(())
    });
}

/// All packet rules, in whatever order the tables are.
fn rules() -> Vec<String> {
    let text = run(Command::new("nft").args(["list", "ruleset"]));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn pods_find_services_by_name() {
    on_a_machine(|| {
        // Programs of the node itself reach Services only where there is a way out.
        for command in [
            "ip link add outside up type veth peer name beyond",
            "ip link set beyond up",
            "ip address add 192.0.2.50/24 dev outside",
            "ip route add 10.96.0.0/16 dev outside",
        ] {
            let mut words = command.split(' ');
            run(Command::new(words.next().unwrap()).args(words));
        }
        let mut cluster = Cluster::start();
        let archive = cluster.dir.path().join("busybox.tar");
        image::busybox(&archive, BUSYBOX);
        cluster.davit_ok(&["images", "import", archive.to_str().unwrap()]);
        assert_eq!(
            cluster.kubectl(&[
                "-n",
                "kube-system",
                "get",
                "service",
                "kube-dns",
                "-o",
                "jsonpath={.spec.clusterIP}",
            ]),
            "10.96.0.10"
        );
        cluster.apply(OBJECTS);
        cluster.wait("pod/db-0", "condition=Ready");
        let ip = cluster.field("pod/db-0", ".status.podIP");
        let dashed = ip.replace('.', "-");

        let plain = script(
            &cluster,
            "plain",
            "",
            &format!(
                "cat /etc/resolv.conf; nslookup kubernetes.default.svc.cluster.local; nslookup kubernetes; \
                 ping -c 1 -W 1 kubernetes.default | head -1; ping -c 1 db | head -1; ping -c 1 first.db | head -1; \
                 ping -c 1 -W 1 other | head -1; nslookup {dashed}.default.pod.cluster.local; nslookup 10.96.0.1; \
                 nslookup -type=srv _sql._tcp.db.default.svc.cluster.local; \
                 nslookup none.default.svc.cluster.local; nslookup far.example; true"
            ),
        );
        let search = "search default.svc.cluster.local svc.cluster.local cluster.local";
        let expected = [
            search.to_owned(),
            "nameserver 10.96.0.10\noptions ndots:5\n".to_owned(),
            "Name:\tkubernetes.default.svc.cluster.local\nAddress: 10.96.0.1\n".to_owned(),
            "PING kubernetes.default (10.96.0.1)".to_owned(),
            format!("PING db ({ip})"),
            format!("PING first.db ({ip})"),
            "PING other (10.96.0.1)".to_owned(),
            format!("Name:\t{dashed}.default.pod.cluster.local\nAddress: {ip}\n"),
            "1.0.96.10.in-addr.arpa\tname = kubernetes.default.svc.cluster.local\n".to_owned(),
            "= 0 100 5432 first.db.default.svc.cluster.local".to_owned(),
            "can't find none.default.svc.cluster.local: NXDOMAIN".to_owned(),
            // This machine has no way to the world.
            "can't find far.example: SERVFAIL".to_owned(),
        ];
        for text in expected {
            assert!(plain.contains(&text), "{text:?} is not in\n{plain}");
        }
        let host = "  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet\n";
        let on_host = script(
            &cluster,
            "host",
            host,
            "nslookup db.default.svc.cluster.local",
        );
        assert!(on_host.contains(&format!("Address: {ip}\n")), "{on_host}");
        let none = "  dnsPolicy: None\n  dnsConfig: {nameservers: [192.0.2.1], searches: [a.example], options: [{name: ndots, value: '2'}]}\n";
        assert_eq!(
            script(&cluster, "none", none, "cat /etc/resolv.conf"),
            "search a.example\nnameserver 192.0.2.1\noptions ndots:2\n"
        );
        rules_come_back(&cluster);
        cluster.stop();
        cluster.up();
        wait_for("the node runs commands again", || {
            cluster.try_kubectl(&["exec", "db-0", "--", "true"])
        });
        assert!(resolved(&cluster).is_some(), "{}", cluster.log());
        cluster.kubectl(&[
            "delete",
            "pods,services",
            "-l",
            "app!=x",
            "--wait",
            "--grace-period=0",
        ]);
        cluster.down();
    });
}
