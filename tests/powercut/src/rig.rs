//! The power-cut rig: one run of a store on a logged disk, then the same disk cut at many moments.
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use davit_apiserver::storage::{Options, Store, open_sled};
use tempfile::TempDir;

use crate::block_log::{Chance, Entry, Replay, Unflushed};
use crate::disk::Disks;
use crate::machine::{LoopMount, make_ext4};
use crate::workload;

const DISK_BYTES: u64 = 1 << 30;
/// A cut after an acknowledgement comes at most so many entries of the log later.
const REACH: u64 = 40;

/// What the store has to do before its power is cut.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many write at once.
    pub writers: usize,
    /// Steps of all writers together; after each third of them the store is closed and opened again, the second time also rewritten.
    pub steps: u64,
}

/// What the cuts of one run came to.
#[derive(Debug)]
pub struct Report {
    /// How many wrote at once.
    pub writers: usize,
    /// How unflushed blocks were treated.
    pub unflushed: Unflushed,
    /// Operations of the disk that were logged.
    pub operations: usize,
    /// Acknowledgements among them.
    pub acknowledged: usize,
    /// Cuts made.
    pub cuts: usize,
    /// The cuts after which the store was not as acknowledged, with what was wrong.
    pub failures: Vec<String>,
    /// How long it all took.
    pub took: Duration,
}

/// Runs a store under a load, then cuts its power so many times.
///
/// With `lying` the disk ignores flushes once writes are acknowledged; the store must then be seen to lose some, which shows
/// that the rig sees losses.
pub fn run(
    unflushed: Unflushed,
    Load { writers, steps }: Load,
    cuts: usize,
    seed: u64,
    lying: bool,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let rig = Rig::new(writers)?;
    let (log, made) = rig.record(steps).context("the run before the cuts")?;
    let is_ack = |entry: &Entry| matches!(entry, Entry::Ack { .. });
    let acknowledged = log.iter().filter(|entry| is_ack(entry)).count();
    let first = log
        .iter()
        .position(is_ack)
        .context("nothing was acknowledged")?;
    let mut chance = Chance(seed);
    let mut replay = Replay::new(&log, writers, lying.then_some(first));
    let mut failures = Vec::new();
    // A disk that lies from the first acknowledgement on is only interesting after it.
    let from = if lying { first } else { made };
    for at in moments(&log, (from, first), cuts, &mut chance) {
        replay.advance(at);
        let image = replay.cut(unflushed, &mut chance);
        let disk = rig.disks.insert(image);
        if let Err(error) = rig.examine(&disk, replay.acked()) {
            failures.push(format!("cut at entry {at} of {}: {error:#}", log.len()));
        }
        rig.disks.remove(&disk);
    }
    let (operations, took) = (log.len() - acknowledged, started.elapsed());
    Ok(Report {
        writers,
        unflushed,
        operations,
        acknowledged,
        cuts,
        failures,
        took,
    })
}

/// Where to cut, in order: half of the cuts soon after some acknowledgement, half at some operation of the disk, among which
/// are those of making, opening, rewriting and closing the store.
fn moments(
    log: &[Entry],
    (from, first): (usize, usize),
    cuts: usize,
    chance: &mut Chance,
) -> Vec<usize> {
    let is_ack = |&at: &usize| matches!(log[at], Entry::Ack { .. });
    let acks: Vec<usize> = (first..log.len()).filter(is_ack).collect();
    let operations: Vec<usize> = (from..log.len()).filter(|at| !is_ack(at)).collect();
    let mut pick = |from: &[usize]| from[chance.below(from.len() as u64) as usize] + 1;
    let mut moments: Vec<usize> = (0..cuts)
        .map(|n| pick(if n % 2 == 0 { &acks } else { &operations }))
        .collect();
    for moment in moments.iter_mut().step_by(2) {
        *moment += chance.below(REACH) as usize;
    }
    moments.sort_unstable();
    moments
}

/// Little history, so that the store forgets and deletes while it runs, and a log whose files are written over often.
fn options() -> Options {
    Options {
        history_bytes: 1 << 20,
        log_bytes: 256 << 10,
        ..Options::default()
    }
}

struct Rig {
    writers: usize,
    disks: Disks,
    // Unmounted before its directory is removed.
    _session: fuser::BackgroundSession,
    dir: TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn new(writers: usize) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("davit-powercut-")
            .tempdir()?;
        for name in ["disks", "mount"] {
            std::fs::create_dir(dir.path().join(name))?;
        }
        let disks = Disks::new(DISK_BYTES);
        let session = disks.mount(&dir.path().join("disks"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()?;
        Ok(Self {
            writers,
            disks,
            _session: session,
            dir,
            runtime,
        })
    }

    /// Makes a file system, runs the store on it three times, and answers what the disk saw, and with which entry the file system
    /// was there.
    fn record(&self, steps: u64) -> anyhow::Result<(Vec<Entry>, usize)> {
        let disk = self.dir.path().join("disks").join(Disks::logged());
        make_ext4(&disk)?;
        let made = self.disks.log_length();
        self.mounted(&disk, |store_dir| {
            let steps = steps / 3 / self.writers as u64;
            for turn in 0..3 {
                self.write(store_dir, turn * steps + 1..=(turn + 1) * steps, turn == 1)?;
            }
            Ok(())
        })?;
        Ok((self.disks.take_log(), made))
    }

    fn write(
        &self,
        store_dir: &Path,
        steps: std::ops::RangeInclusive<u64>,
        rewrite: bool,
    ) -> anyhow::Result<()> {
        let store = open_sled(store_dir, &options())?;
        if rewrite {
            self.runtime.block_on(store.rewrite())?;
        }
        let disks = self.disks.clone();
        let acknowledged = move |writer, step| disks.acknowledge(writer, step);
        self.runtime.block_on(workload::write(
            &store,
            vec![steps; self.writers],
            acknowledged,
        ))
    }

    /// Mounts a disk as it was left, opens its store, compares it with what was acknowledged, and goes on writing.
    fn examine(&self, disk: &str, acked: &[u64]) -> anyhow::Result<()> {
        let disk = self.dir.path().join("disks").join(disk);
        self.mounted(&disk, |store_dir| {
            let open = || -> anyhow::Result<Arc<dyn Store>> {
                let store = open_sled(store_dir, &options()).context("open the store")?;
                Ok(store)
            };
            let store = open()?;
            let reached = self.runtime.block_on(workload::check(&*store, acked))?;
            let next = reached
                .iter()
                .map(|reached| reached + 1..=reached + 2)
                .collect();
            self.runtime
                .block_on(workload::write(&store, next, |_, _| {}))?;
            let revision = store.revision();
            drop(store);
            let store = open().context("after going on")?;
            ensure!(
                store.revision() == revision,
                "the revision went back after going on"
            );
            let next: Vec<u64> = reached.iter().map(|reached| reached + 2).collect();
            self.runtime
                .block_on(workload::check(&*store, &next))
                .context("after going on")?;
            Ok(())
        })
    }

    fn mounted(
        &self,
        disk: &Path,
        work: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let at = self.dir.path().join("mount");
        let mount = LoopMount::new(disk, &at)?;
        let worked = work(&at.join("store"));
        worked.and(mount.unmount())
    }
}
