//! Rows that run containers: the idle node, single pods, and a burst.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::client::{Pool, Target, watch};
use crate::process::Server;
use crate::table::{Table, percentile};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SINGLE: usize = 30;
const BURST: usize = 50;
const IDLE: Duration = Duration::from_secs(20);

pub(crate) async fn measure(davit: &Path, table: &mut Table) -> Result<()> {
    let server = Server::start(davit, "up")?;
    let target = Target::new(server.port, &server.kubeconfig()?)?;
    let pool = target.pool(8).await?;
    wait_for_node(&pool).await?;
    idle(&server, table).await?;

    let mut watch = Events::open(&target, &pool).await?;
    let mut times = Vec::new();
    for number in 0..SINGLE {
        let name = format!("single-{number}");
        let start = Instant::now();
        create(&pool, 0, &name).await?;
        watch.until_running(1).await?;
        // The first pod waits for the driver to be loaded; it belongs to the start of the node.
        if number > 0 {
            times.push(start.elapsed());
        }
        pool.send(
            0,
            Method::DELETE,
            &format!("{PODS}/{name}?gracePeriodSeconds=0"),
            None,
        )
        .await?;
    }
    table.add(
        "pod: create → Running, p50",
        percentile(&mut times, 0.5),
        "ms",
        "≤ 60",
    );
    table.add(
        "pod: create → Running, p99",
        percentile(&mut times, 0.99),
        "ms",
        "≤ 150",
    );

    let start = Instant::now();
    for number in 0..BURST {
        create(&pool, number, &format!("burst-{number}")).await?;
    }
    watch.until_running(BURST).await?;
    table.add(
        "burst of 50 pods, all Running",
        start.elapsed().as_secs_f64() * 1e3,
        "ms",
        "≤ 800",
    );
    Ok(())
}

async fn idle(server: &Server, table: &mut Table) -> Result<()> {
    let before = server.cpu()?;
    tokio::time::sleep(IDLE).await;
    let used = server.cpu()?.saturating_sub(before);
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let memory = server.rss()? as f64 / f64::from(1 << 20);
    table.add("idle, all in one, no pods (RSS)", memory, "MiB", "≤ 48");
    let share = used.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    table.add("idle, all in one, no pods (CPU)", share, "%", "< 1");
    Ok(())
}

async fn wait_for_node(pool: &Pool) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        let nodes: Value =
            serde_json::from_slice(&pool.send(0, Method::GET, "/api/v1/nodes", None).await?)?;
        let conditions = nodes
            .pointer("/items/0/status/conditions")
            .and_then(Value::as_array);
        let ready = conditions
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        if ready {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the node was not ready within a minute")
}

async fn create(pool: &Pool, slot: usize, name: &str) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "davit.local/hello:latest",
                "imagePullPolicy": "IfNotPresent"}],
        },
    });
    let body = Bytes::from(pod.to_string());
    pool.send(slot, Method::POST, PODS, Some(("application/json", body)))
        .await
        .map(drop)
}

/// A watch on pods, read line by line.
struct Events {
    stream: Incoming,
    rest: BytesMut,
    /// Names of pods that have been Running.
    seen: HashSet<String>,
}

impl Events {
    async fn open(target: &Target, pool: &Pool) -> Result<Self> {
        let list: Value = serde_json::from_slice(&pool.send(0, Method::GET, PODS, None).await?)?;
        let version = list["metadata"]["resourceVersion"]
            .as_str()
            .context("no resourceVersion")?;
        let stream = watch(target, &format!("{PODS}?watch=1&resourceVersion={version}")).await?;
        Ok(Self {
            stream,
            rest: BytesMut::new(),
            seen: HashSet::new(),
        })
    }

    /// Waits until as many pods as asked for have been seen Running since the last call.
    async fn until_running(&mut self, count: usize) -> Result<()> {
        let wait = async {
            let mut fresh = 0;
            while fresh < count {
                let event = self.next().await?;
                if event.pointer("/object/status/phase") == Some(&json!("Running")) {
                    let name = event
                        .pointer("/object/metadata/name")
                        .and_then(Value::as_str);
                    fresh += usize::from(self.seen.insert(name.unwrap_or_default().to_owned()));
                }
            }
            Ok(())
        };
        tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .context("pods did not start")?
    }

    async fn next(&mut self) -> Result<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                return Ok(serde_json::from_slice(&line)?);
            }
            let frame = self.stream.frame().await.context("the watch ended")??;
            if let Some(data) = frame.data_ref() {
                self.rest.extend_from_slice(data);
            }
        }
    }
}
