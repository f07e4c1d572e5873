//! What davit does beyond Kubernetes: several objects in one write, and reads of the past, also after a restart.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking"
)]
mod harness;

use std::fs;

use harness::{Cluster, on_a_machine};

const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {colour: COLOUR}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec:
  selector: {app: front}
  ports: [{port: PORT}]
";

#[test]
fn objects_are_written_together_and_read_as_they_were() {
    on_a_machine(|| {
        let mut cluster = Cluster::start();
        let file = cluster.dir.path().join("shop.yaml");
        let path = file.to_str().unwrap().to_owned();
        let write = |colour: &str, port: &str| {
            fs::write(&file, SHOP.replace("COLOUR", colour).replace("PORT", port)).unwrap();
        };
        let atomic = ["apply", "--atomic", "-f", &path];

        // A Service that is refused keeps the namespace from being made.
        write("red", "0");
        let refused = cluster.davit(&atomic);
        let why = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success(), "{why}");
        assert!(
            why.contains("nothing was applied") && why.contains("spec.ports[0].port"),
            "{why}"
        );
        assert!(
            cluster
                .kubectl_fails(&["get", "ns", "shop"])
                .contains("not found")
        );

        write("red", "80");
        let made = cluster.davit_ok(&atomic);
        assert_eq!(
            made,
            "namespace/shop created\nconfigmap/settings created\nservice/front created\n"
        );
        let settings = ["-n", "shop", "get", "configmap", "settings", "-o"];
        let revision = |cluster: &Cluster| {
            let path = ["jsonpath={.metadata.resourceVersion}"];
            cluster.kubectl(&[&settings[..], &path].concat())
        };
        let red = revision(&cluster);
        assert!(
            cluster
                .davit_ok(&atomic)
                .lines()
                .all(|line| line.ends_with(" unchanged"))
        );

        write("blue", "80");
        let would = cluster.davit(&["diff", "-f", &path]);
        assert_eq!(would.status.code(), Some(1));
        let would = String::from_utf8(would.stdout).unwrap();
        assert!(
            would.contains("-  colour: red\n+  colour: blue\n"),
            "{would}"
        );
        assert!(
            cluster
                .davit_ok(&atomic)
                .contains("configmap/settings configured\n")
        );
        assert_eq!(cluster.davit(&["diff", "-f", &path]).status.code(), Some(0));
        cluster.kubectl(&["-n", "shop", "delete", "service", "front"]);

        for _ in 0..2 {
            let then = cluster.davit_ok(&[
                "get",
                "cm/settings",
                "-n",
                "shop",
                "--at",
                &red,
                "-o",
                "yaml",
            ]);
            assert!(then.contains("colour: red"), "{then}");
            let services = cluster.davit_ok(&["get", "services", "-n", "shop", "--at", &red]);
            assert!(services.contains("front"), "{services}");
            assert!(
                !cluster
                    .davit_ok(&["get", "services", "-n", "shop"])
                    .contains("front")
            );
            let since = cluster.davit(&["diff", "services", "-n", "shop", "--from", &red]);
            let since = String::from_utf8(since.stdout).unwrap();
            assert!(
                since.starts_with("--- service/shop/front\n+++ /dev/null\n"),
                "{since}"
            );
            let one = cluster.davit(&["diff", "cm/settings", "-n", "shop", "--from", &red]);
            let one = String::from_utf8(one.stdout).unwrap();
            assert!(one.contains("-  colour: red\n+  colour: blue\n"), "{one}");
            // The history lies on disk like the objects, with its times.
            cluster.stop();
            cluster.up();
        }
        let early = cluster.davit(&["get", "ns", "--at", "2001-01-01T00:00:00Z"]);
        let why = String::from_utf8(early.stderr).unwrap();
        assert!(
            why.contains("is forgotten; the oldest that is kept is revision"),
            "{why}"
        );
        let late = cluster.davit(&["get", "ns", "--at", "999999999"]);
        let why = String::from_utf8(late.stderr).unwrap();
        assert!(why.contains("has not come yet"), "{why}");
        let now = cluster.davit_ok(&[
            "get",
            "cm/settings",
            "-n",
            "shop",
            "--at",
            "0s",
            "-o",
            "yaml",
        ]);
        assert!(now.contains("colour: blue"), "{now}");
        cluster.down();
    });
}
