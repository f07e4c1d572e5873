//! How many acknowledged writes a second the store makes here.
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use davit_apiserver::storage::{Op, Options, Store, Txn, open_sled};

use crate::block_log::Chance;

const VALUE_BYTES: usize = 2_560;

/// What a measurement found.
#[derive(Debug)]
pub struct Measured {
    /// Writers at once.
    pub writers: u64,
    /// Acknowledged transactions per second.
    pub per_second: f64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// Bytes of memory the process has.
    pub resident: u64,
    /// Bytes the store takes on disk.
    pub on_disk: u64,
    /// How long the store took to open afterwards.
    pub reopen: Duration,
}

/// Writes so many objects of 2.5 KiB over and over for some time.
pub async fn run(
    dir: &Path,
    writers: u64,
    objects: u64,
    time: Duration,
) -> anyhow::Result<Measured> {
    let store = open_sled(dir, &Options::default())?;
    let started = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..writers)
        .map(|_| tokio::spawn(write(store.clone(), next.clone(), objects, started + time)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let per_second = latencies.len() as f64 / started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let resident = resident_bytes()?;
    drop(store);
    let on_disk = disk_bytes(dir)?;
    let reopened = Instant::now();
    drop(open_sled(dir, &Options::default())?);
    Ok(Measured {
        writers,
        per_second,
        p50: latencies[latencies.len() / 2],
        p99: latencies[latencies.len() * 99 / 100],
        resident,
        on_disk,
        reopen: reopened.elapsed(),
    })
}

async fn write(
    store: Arc<dyn Store>,
    next: Arc<AtomicU64>,
    objects: u64,
    until: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let key = format!("/registry/core/pods/default/pod-{:05}", number % objects).into();
        let value = Bytes::from(pod(number)).into();
        let begun = Instant::now();
        store
            .txn(Txn {
                compares: Vec::new(),
                deletion: false,
                ops: vec![Op::Put { key, value }],
            })
            .await?;
        latencies.push(begun.elapsed());
    }
    Ok(latencies)
}

/// JSON of a pod's kind and length, with as much in it that no other has.
fn pod(number: u64) -> String {
    let mut chance = Chance(number);
    let mut out = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"pod-{number:05}","namespace":"default","#
    );
    while out.len() < VALUE_BYTES {
        let id = chance.draw();
        let port = 1024 + chance.below(60_000);
        out += &format!(
            r#""uid":"{id:016x}","labels":{{"app":"web-{port}","pod-template-hash":"{:08x}"}},"#,
            id >> 7 & 0xffff_ffff
        );
        out += &format!(
            r#"{{"name":"c{port}","image":"registry.example.org/team/web:{}","ports":[{{"containerPort":{port},"protocol":"TCP"}}],"resources":{{"limits":{{"cpu":"100m","memory":"64Mi"}}}},"terminationMessagePath":"/dev/termination-log","imagePullPolicy":"IfNotPresent"}},"#,
            id % 100
        );
    }
    out
}

fn resident_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.unwrap_or_default() * 1024)
}

fn disk_bytes(dir: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}
