//! API rows: requests per second and latencies over TLS, 32 in flight on 8 connections.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::future::try_join_all;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::client::{Pool, Target, watch};
use crate::process::Server;
use crate::table::{Table, percentile};

const CONNECTIONS: usize = 8;
const IN_FLIGHT: usize = 32;
const WATCHERS: usize = 100;
const PODS: &str = "/api/v1/namespaces/bench/pods";
const JSON: &str = "application/json";

pub(crate) async fn measure(server: &Server, objects: usize, table: &mut Table) -> Result<()> {
    let target = Target::new(server.port, &server.kubeconfig()?)?;
    let pool = Arc::new(target.pool(CONNECTIONS).await?);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}});
    pool.send(
        0,
        Method::POST,
        "/api/v1/namespaces",
        Some((JSON, body(&namespace))),
    )
    .await?;
    wait_for_account(&pool).await?;

    let mut meter = Meter::new(server)?;
    let (rate, mut times) = spread(objects, |slot, number| {
        let pool = pool.clone();
        async move {
            let pod = body(&pod(number));
            pool.send(slot, Method::POST, PODS, Some((JSON, pod)))
                .await
                .map(drop)
        }
    })
    .await?;
    table.add("create, durable before the answer", rate, "/s", "≥ 8,000");
    table.add("create p99", percentile(&mut times, 0.99), "ms", "≤ 12");
    meter.read("create", objects, table)?;

    let (rate, _) = spread(objects * 2, |slot, number| {
        let pool = pool.clone();
        async move {
            let path = format!("{PODS}/pod-{}", number % objects);
            pool.send(slot, Method::GET, &path, None).await.map(drop)
        }
    })
    .await?;
    table.add("get", rate, "/s", "≥ 20,000");
    meter.read("get", objects * 2, table)?;

    let (rate, _) = spread(objects, |slot, number| {
        let pool = pool.clone();
        async move {
            let path = format!("{PODS}/pod-{number}");
            let mut pod: Value =
                serde_json::from_slice(&pool.send(slot, Method::GET, &path, None).await?)?;
            pod["metadata"]["labels"]["round"] = json!("put");
            pool.send(slot, Method::PUT, &path, Some((JSON, body(&pod))))
                .await
                .map(drop)
        }
    })
    .await?;
    table.add("read-modify-write (get, put)", rate, "/s", "≥ 5,000");
    meter.read("read-modify-write", objects, table)?;
    patches(&pool, objects, &mut meter, table).await?;
    lists(&pool, table).await?;
    watches(&target, &pool, table).await
}

async fn patches(
    pool: &Arc<Pool>,
    objects: usize,
    meter: &mut Meter<'_>,
    table: &mut Table,
) -> Result<()> {
    let strategic = "application/strategic-merge-patch+json";
    let (rate, _) = spread(objects, |slot, number| {
        let pool = pool.clone();
        async move {
            let path = format!("{PODS}/pod-{number}");
            let patch = body(&json!({"metadata": {"labels": {"round": "patched"}}}));
            pool.send(slot, Method::PATCH, &path, Some((strategic, patch)))
                .await
                .map(drop)
        }
    })
    .await?;
    table.add("strategic-merge patch", rate, "/s", "≥ 5,000");
    meter.read("patch", objects, table)?;
    let (rate, _) = spread(objects, |slot, number| {
        let pool = pool.clone();
        async move {
            let path = format!("{PODS}/pod-{number}?fieldManager=bench&force=true");
            let config = body(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
                "name": format!("pod-{number}"), "labels": {"applied": "yes"}}}));
            let kind = "application/apply-patch+yaml";
            pool.send(slot, Method::PATCH, &path, Some((kind, config)))
                .await
                .map(drop)
        }
    })
    .await?;
    table.add("server-side apply", rate, "/s", "≥ 4,000");
    meter.read("apply", objects, table)
}

/// Processor time of the server. It shows what a change costs on a machine that is busy with other things too.
struct Meter<'s> {
    server: &'s Server,
    before: Duration,
}

impl<'s> Meter<'s> {
    fn new(server: &'s Server) -> Result<Self> {
        let before = server.cpu()?;
        Ok(Self { server, before })
    }

    /// Adds a row with the time used for each of `count` requests since the last reading.
    fn read(&mut self, what: &str, count: usize, table: &mut Table) -> Result<()> {
        let now = self.server.cpu()?;
        #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let each = now.saturating_sub(self.before).as_secs_f64() * 1e6 / count as f64;
        table.add(&format!("{what}, server's CPU for each"), each, "µs", "-");
        self.before = now;
        Ok(())
    }
}

async fn lists(pool: &Arc<Pool>, table: &mut Table) -> Result<()> {
    let rows = [
        ("list all, p50, two clients", PODS.to_owned(), 2, 20, "≤ 40"),
        (
            "list by label, 100 objects, p50",
            format!("{PODS}?labelSelector=group%3D7"),
            2,
            100,
            "≤ 3",
        ),
        (
            "page of 500, p50, eight clients",
            format!("{PODS}?limit=500"),
            8,
            100,
            "≤ 15",
        ),
    ];
    for (what, path, clients, count, bar) in rows {
        let (_, mut times) = limited(clients, count, |slot, _| {
            let (pool, path) = (pool.clone(), path.clone());
            async move { pool.send(slot, Method::GET, &path, None).await.map(drop) }
        })
        .await?;
        table.add(what, percentile(&mut times, 0.5), "ms", bar);
    }
    Ok(())
}

/// From sending a patch to reading its event on each of a hundred watches.
async fn watches(target: &Target, pool: &Arc<Pool>, table: &mut Table) -> Result<()> {
    let mut streams = Vec::new();
    let list = pool
        .send(0, Method::GET, &format!("{PODS}?limit=1"), None)
        .await?;
    let list: Value = serde_json::from_slice(&list)?;
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .context("no resourceVersion")?;
    for _ in 0..WATCHERS {
        let path = format!("{PODS}?watch=1&resourceVersion={version}");
        streams.push(watch(target, &path).await?);
    }
    let mut times = Vec::new();
    for round in 0..30 {
        let patch = body(&json!({"metadata": {"labels": {"round": format!("watch-{round}")}}}));
        let sent = Instant::now();
        let kind = "application/merge-patch+json";
        let path = format!("{PODS}/pod-1");
        let write = pool.send(0, Method::PATCH, &path, Some((kind, patch)));
        let reads = streams.iter_mut().map(|stream| async move {
            let frame = stream.frame().await;
            let _ = frame.context("the watch ended")??;
            Ok::<Duration, anyhow::Error>(sent.elapsed())
        });
        let (written, read) = tokio::join!(write, try_join_all(reads));
        written?;
        times.extend(read?);
    }
    table.add(
        "watch delivery, 100 watchers, p50",
        percentile(&mut times, 0.5),
        "ms",
        "-",
    );
    table.add(
        "watch delivery, 100 watchers, p99",
        percentile(&mut times, 0.99),
        "ms",
        "≤ 3",
    );
    Ok(())
}

async fn spread<F: Future<Output = Result<()>>>(
    count: usize,
    work: impl Fn(usize, usize) -> F,
) -> Result<(f64, Vec<Duration>)> {
    limited(IN_FLIGHT, count, work).await
}

/// Runs `work(slot, number)` for every number, `width` at a time; the rate and all durations.
async fn limited<F: Future<Output = Result<()>>>(
    width: usize,
    count: usize,
    work: impl Fn(usize, usize) -> F,
) -> Result<(f64, Vec<Duration>)> {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let (next, work) = (&next, &work);
    let lanes = (0..width).map(|slot| async move {
        let mut times = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok::<_, anyhow::Error>(times);
            }
            let sent = Instant::now();
            work(slot, number).await?;
            times.push(sent.elapsed());
        }
    });
    let times: Vec<Duration> = try_join_all(lanes).await?.into_iter().flatten().collect();
    #[allow(
        clippy::cast_precision_loss,
        reason = "a rate is shown with one decimal"
    )]
    let rate = count as f64 / start.elapsed().as_secs_f64();
    Ok((rate, times))
}

/// Pods need the namespace's ServiceAccount, which a controller makes; a bare server has none.
async fn wait_for_account(pool: &Arc<Pool>) -> Result<()> {
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let path = "/api/v1/namespaces/bench/serviceaccounts";
    match pool
        .send(0, Method::POST, path, Some((JSON, body(&account))))
        .await
    {
        Err(error) if !error.to_string().contains("409") => Err(error),
        _ => Ok(()),
    }
}

fn body(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// A pod of about 1.3 KiB that no node will run.
fn pod(number: usize) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("pod-{number}"),
            "labels": {"app": "bench", "group": (number % 50).to_string(), "tier": "backend"},
            "annotations": {"example.com/description": "x".repeat(300)},
        },
        "spec": {
            "schedulerName": "nobody",
            "containers": [{
                "name": "main",
                "image": "registry.example.com/team/application:1.2.3",
                "args": ["--listen", ":8080", "--verbose"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "ports": [{"containerPort": 8080, "name": "http"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"},
                    "limits": {"memory": "128Mi"}},
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
            }],
        },
    })
}
