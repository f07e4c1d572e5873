//! Python's `kubernetes` client: typed, dynamic, watches, patches, custom objects, server-side apply.

use std::collections::HashMap;

use crate::cluster::Cluster;
use crate::programs::{run, stored};

#[tokio::test(flavor = "multi_thread")]
async fn pythons_client() {
    let Some(python) = stored("python/bin/python") else {
        return;
    };
    let cluster = Cluster::start().await;
    cluster.namespace("python").await;
    tokio::task::spawn_blocking(move || {
        let script = "$ $python python/client.py python\n> all is well";
        let python = python.display().to_string();
        run(&cluster, script, 0, &HashMap::from([("python", python)]));
    })
    .await
    .unwrap();
}
