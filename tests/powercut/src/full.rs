//! A disk that fills up under the store, and later has room again.
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use davit_apiserver::storage::{Error, Op, Options, Store, Txn, open_sled};

use crate::block_log::Chance;
use crate::machine::Tmpfs;
use crate::workload;

const WRITERS: usize = 4;
/// Little more than an empty database and its log take.
const SMALL: &str = "15m";
/// Room for an empty database and the reserve.
const SMALL_WITH_RESERVE: &str = "23m";
const LARGE: &str = "512m";
/// More than fits.
const STEPS: u64 = 100_000;
/// After the disk has room again.
const MORE_STEPS: u64 = 200;

/// Fills the disk of a store until it takes no more, makes room, and goes on, all with one open store. With `reserve` the store
/// must stop in time; without, the disk itself refuses, in the middle of something.
pub fn run(reserve: bool) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("davit-powercut-")
        .tempdir()?;
    let disk = Tmpfs::new(dir.path(), if reserve { SMALL_WITH_RESERVE } else { SMALL })?;
    let reserve_bytes = if reserve { 8 << 20 } else { 0 };
    let options = Options {
        reserve_bytes,
        history_bytes: 1 << 20,
        ..Options::default()
    };
    let store_dir = dir.path().join("store");
    let store = open_sled(&store_dir, &options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let acked = Arc::new(Mutex::new(vec![0; WRITERS]));
    let go_on = |store: &Arc<dyn Store>, steps| {
        let acked = acked.clone();
        let next = lock(&acked)
            .iter()
            .map(|acked| acked + 1..=acked + steps)
            .collect();
        let write = workload::write(store, next, move |writer, step| lock(&acked)[writer] = step);
        // A store that waits for ever instead of answering is a failure too.
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), write).await })
    };
    let full = go_on(&store, STEPS).context("the full store does not answer")?;
    check_refusal(&*store, full, reserve)?;
    let seen = lock(&acked).clone();
    runtime
        .block_on(workload::check(&*store, &seen))
        .context("reads of the full store")?;
    disk.resize(LARGE)?;
    runtime.block_on(until_writable(&*store))?;
    go_on(&store, MORE_STEPS)
        .context("the store does not answer")?
        .context("with room again")?;
    ensure!(
        store.status().write_fault.is_none(),
        "it still says that it cannot write"
    );
    drop(store);
    let store = open_sled(&store_dir, &options).context("open the store again")?;
    let seen = lock(&acked).clone();
    let reached = runtime
        .block_on(workload::check(&*store, &seen))
        .context("after all that")?;
    ensure!(
        reached == seen,
        "something came back that was never acknowledged"
    );
    Ok(())
}

fn check_refusal(store: &dyn Store, full: anyhow::Result<()>, reserve: bool) -> anyhow::Result<()> {
    let Err(error) = full else {
        bail!("the disk never filled")
    };
    let fault = store.status().write_fault;
    match error.downcast_ref::<Error>() {
        Some(Error::Full { .. }) if reserve => ensure!(fault.is_none(), "it gave up: {fault:?}"),
        Some(Error::Unwritable { .. }) if !reserve => ensure!(fault.is_some(), "no fault is shown"),
        _ => bail!("the store said: {error:?}"),
    }
    Ok(())
}

/// Waits until the store has helped itself.
async fn until_writable(store: &dyn Store) -> anyhow::Result<()> {
    for _ in 0..600 {
        if store.status().write_fault.is_none() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!(
        "the store does not recover: {:?}",
        store.status().write_fault
    )
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Values until the disk is full, and what remains of them.
const BYTES: usize = 100_000;
const KEPT: usize = 3;

/// Fills a store until it takes no more, deletes most of it, and goes on, on a disk that nobody gave more room.
pub fn free_by_deleting() -> anyhow::Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("davit-powercut-")
        .tempdir()?;
    let _disk = Tmpfs::new(dir.path(), "64m")?;
    let options = Options {
        reserve_bytes: 16 << 20,
        log_bytes: 1 << 20,
        ..Options::default()
    };
    let store_dir = dir.path().join("store");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let put = |store: &Arc<dyn Store>, number: usize| {
        // Bytes that cannot be compressed.
        let mut chance = Chance(number as u64);
        let words = std::iter::repeat_with(|| chance.draw().to_le_bytes());
        let value: Vec<u8> = words.flatten().take(BYTES).collect();
        let op = Op::Put {
            key: format!("/k/{number:05}").into(),
            value: bytes::Bytes::from(value).into(),
        };
        let txn = Txn {
            ops: vec![op],
            ..Txn::default()
        };
        runtime.block_on(store.txn(txn)).map(drop)
    };
    let store = open_sled(&store_dir, &options)?;
    let full = (0..).find(|&number| put(&store, number).is_err());
    let full = full.context("the disk never filled")?;
    drop(store);
    // A start on a full disk changes nothing about that.
    let store = open_sled(&store_dir, &options).context("open the full store")?;
    ensure!(
        matches!(put(&store, full), Err(Error::Full { .. })),
        "it is not full"
    );
    for number in KEPT..full {
        let op = Op::Delete {
            key: format!("/k/{number:05}").into(),
        };
        let txn = Txn {
            ops: vec![op],
            ..Txn::default()
        };
        let deleted = runtime.block_on(store.txn(txn));
        deleted.with_context(|| format!("delete {number} of {full}"))?;
    }
    ensure!(full > 50, "only {full} values filled it");
    for number in full..full + full / 2 {
        put(&store, number).with_context(|| format!("write {number} after {full} were deleted"))?;
    }
    drop(store);
    let store = open_sled(&store_dir, &options)?;
    let keys = store.status().keys;
    ensure!(
        keys == KEPT + full / 2,
        "{keys} keys are left of {}",
        KEPT + full / 2
    );
    Ok(())
}
