//! Rows of a soak: what is left in the process, and on its disk, when many pods have come and gone.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::client::Pool;
use crate::process::{Kept, Server};
use crate::table::Table;

const PODS: &str = "/api/v1/namespaces/default/pods";
const EVENTS: &str = "/api/v1/namespaces/default/events";
/// Pods that are there at once.
const TOGETHER: usize = 100;
pub(crate) const CONNECTIONS: usize = 8;
/// Changes are kept for watchers for four minutes, and looked at every minute.
const REST: Duration = Duration::from_secs(330);

/// Pods come through a ReplicaSet and the scheduler, with an Event each, and are deleted again, until there were so many.
pub(crate) async fn measure(
    server: &Server,
    pool: &Pool,
    pods: usize,
    table: &mut Table,
) -> Result<()> {
    warm_up(pool).await?;
    let before = server.kept()?;
    let mut made = 0;
    while made < pods {
        round(pool, made).await?;
        made += TOGETHER;
    }
    tokio::time::sleep(REST).await;
    let after = server.kept()?;
    rows(table, made, before, after);
    Ok(())
}

async fn warm_up(pool: &Pool) -> Result<()> {
    round(pool, usize::MAX / 2).await
}

/// A set of pods that appears and disappears.
async fn round(pool: &Pool, number: usize) -> Result<()> {
    let name = format!("soak-{number:x}");
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name},
        "spec": {"replicas": TOGETHER, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "none"}]},
        }},
    });
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    send(pool, Method::POST, sets, Some(&set)).await?;
    let selected = format!("{PODS}?labelSelector=app%3D{name}");
    until(pool, &selected, |left| left == TOGETHER).await?;
    for pod in 0..TOGETHER {
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": format!("{name}.{pod}")},
            "involvedObject": {"kind": "ReplicaSet", "name": name, "namespace": "default"},
            "reason": "Soaked", "message": "a line about as long as those that nodes write of their pods",
            "type": "Normal",
        });
        send(pool, Method::POST, EVENTS, Some(&event)).await?;
    }
    let path = format!("{sets}/{name}?propagationPolicy=Background");
    send(pool, Method::DELETE, &path, None).await?;
    until(pool, &selected, |left| left == 0).await
}

async fn until(pool: &Pool, path: &str, enough: impl Fn(usize) -> bool) -> Result<()> {
    let wait = async {
        loop {
            let list = send(pool, Method::GET, path, None).await?;
            if enough(list["items"].as_array().map_or(0, Vec::len)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(300), wait).await?
}

async fn send(pool: &Pool, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
    let body = body.map(|body| ("application/json", Bytes::from(body.to_string())));
    let answer = pool
        .send(path.len() % CONNECTIONS, method, path, body)
        .await?;
    Ok(serde_json::from_slice(&answer)?)
}

#[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn rows(table: &mut Table, made: usize, before: Kept, after: Kept) {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for (what, unit, value, bar) in [
        ("memory before", "MiB", mebibytes(before.memory), "–"),
        (
            "memory (RSS)",
            "MiB",
            mebibytes(after.memory),
            "≤ before + 16",
        ),
        ("store on disk", "MiB", mebibytes(after.store), "≤ 128"),
        (
            "descriptors more",
            "",
            after.descriptors as f64 - before.descriptors as f64,
            "0",
        ),
        (
            "threads more",
            "",
            after.threads as f64 - before.threads as f64,
            "0",
        ),
    ] {
        table.add(&format!("{made} pods later: {what}"), value, unit, bar);
    }
}
