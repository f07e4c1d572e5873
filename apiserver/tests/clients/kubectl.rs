//! kubectl of the machine, of Debian, and the newest.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::programs::{installed, run, stored};

/// Its minor version.
fn minor(kubectl: &PathBuf) -> u32 {
    let output = Command::new(kubectl)
        .args(["version", "--client", "-o", "json"])
        .output()
        .unwrap();
    let version: Value = serde_json::from_slice(&output.stdout).unwrap();
    let minor = version["clientVersion"]["minor"].as_str().unwrap();
    minor.trim_end_matches('+').parse().unwrap()
}

async fn drive(kubectl: Option<PathBuf>, name: &str) {
    let Some(kubectl) = kubectl else {
        return;
    };
    let cluster = Cluster::start().await;
    let namespace = format!("kubectl-{name}");
    cluster.namespace(&namespace).await;
    let script = include_str!("kubectl.txt");
    tokio::task::spawn_blocking(move || {
        let minor = minor(&kubectl);
        let k = format!("{} --namespace {namespace}", kubectl.display());
        let variables = HashMap::from([("k", k), ("ns", namespace)]);
        run(&cluster, script, minor, &variables);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machines_kubectl() {
    drive(installed("kubectl"), "machine").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn debians_kubectl() {
    drive(stored("kubectl-debian"), "debian").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_kubectl() {
    drive(stored("kubectl-new"), "new").await;
}
