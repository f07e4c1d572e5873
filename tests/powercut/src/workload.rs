//! Writers whose every step is known beforehand, so that a store can be compared with what it must hold.
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use davit_apiserver::storage::{Op, Range, Store, Txn, TxnOutcome};

use crate::block_log::Chance;

/// Keys of a writer beside the one that counts its steps.
const SLOTS: u64 = 20;

/// What a writer does in one step, beside counting it in the same transaction.
#[derive(Debug, Clone, Copy)]
struct Step {
    slot: u64,
    /// Bytes to write, or `None` to delete.
    size: Option<usize>,
}

/// One in fifty values is large (up to 300 KiB), one step in eight deletes.
fn step(writer: usize, number: u64) -> Step {
    let mut chance = Chance(((writer as u64) << 32) ^ number);
    let slot = chance.below(SLOTS);
    let size = match chance.below(50) {
        0 => 100_000 + chance.below(207_200),
        n if n % 8 == 1 => return Step { slot, size: None },
        _ => 200 + chance.below(4_000),
    };
    Step {
        slot,
        size: Some(size as usize),
    }
}

/// Bytes that are written nowhere else.
fn content(writer: usize, number: u64, size: usize) -> Bytes {
    let mut chance = Chance(((writer as u64) << 40) ^ number);
    let words = std::iter::repeat_with(|| chance.draw().to_le_bytes());
    words.flatten().take(size).collect::<Vec<u8>>().into()
}

fn counter(writer: usize) -> Arc<str> {
    format!("/w/{writer:03}/counter").into()
}

fn slot(writer: usize, slot: u64) -> Arc<str> {
    format!("/w/{writer:03}/slot-{slot:02}").into()
}

fn txn(writer: usize, number: u64) -> Txn {
    let step = step(writer, number);
    let key = slot(writer, step.slot);
    let count = Op::Put {
        key: counter(writer),
        value: Bytes::from(number.to_string()).into(),
    };
    let write = match step.size {
        Some(size) => Op::Put {
            key,
            value: content(writer, number, size).into(),
        },
        None => Op::Delete { key },
    };
    Txn {
        compares: Vec::new(),
        deletion: false,
        ops: vec![count, write],
    }
}

/// Takes each writer through its steps, all at once; `acknowledged` hears of each step when the store has answered.
pub async fn write(
    store: &Arc<dyn Store>,
    steps: Vec<std::ops::RangeInclusive<u64>>,
    acknowledged: impl Fn(usize, u64) + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let writers = steps.into_iter().enumerate().map(|(writer, steps)| {
        let (store, acknowledged) = (store.clone(), acknowledged.clone());
        tokio::spawn(async move {
            for number in steps {
                let outcome = store.txn(txn(writer, number)).await?;
                ensure!(
                    matches!(outcome, TxnOutcome::Committed { .. }),
                    "a conflict"
                );
                acknowledged(writer, number);
            }
            Ok(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.context("a writer panicked")??;
    }
    Ok(())
}

/// The step up to which each writer came, in a store that is not being written to.
pub async fn reached(store: &dyn Store, writers: usize) -> anyhow::Result<Vec<u64>> {
    let mut reached = Vec::new();
    for writer in 0..writers {
        let count = store.get(&counter(writer), None).await?;
        let step = count.map(|kv| {
            std::str::from_utf8(&kv.value)?
                .parse::<u64>()
                .context("a count")
        });
        reached.push(step.transpose()?.unwrap_or(0));
    }
    Ok(reached)
}

/// Checks that a store holds exactly what each writer had written after its last acknowledged step, or after the one that was
/// under way, and answers where each writer was.
pub async fn check(store: &dyn Store, acked: &[u64]) -> anyhow::Result<Vec<u64>> {
    let reached = reached(store, acked.len()).await?;
    for (writer, (&reached, &acked)) in reached.iter().zip(acked).enumerate() {
        let expected = (acked..=acked + 1).contains(&reached);
        ensure!(
            expected,
            "writer {writer} is at {reached}, but {acked} was acknowledged"
        );
        let prefix = format!("/w/{writer:03}/");
        let found = store
            .range(Range {
                prefix,
                ..Range::default()
            })
            .await?
            .kvs;
        compare(
            writer,
            reached,
            found.into_iter().map(|kv| (kv.key, kv.value)).collect(),
        )?;
    }
    Ok(reached)
}

fn compare(writer: usize, number: u64, mut found: BTreeMap<Arc<str>, Bytes>) -> anyhow::Result<()> {
    let mut last = BTreeMap::new();
    for number in 1..=number {
        let step = step(writer, number);
        last.insert(step.slot, (number, step.size));
    }
    found.remove(&counter(writer));
    for (&at, &(number, size)) in &last {
        let found = found.remove(&slot(writer, at));
        let expected = size.map(|size| content(writer, number, size));
        ensure!(
            found == expected,
            "slot {at} of writer {writer} does not hold step {number}"
        );
    }
    ensure!(found.is_empty(), "writer {writer} has keys it never wrote");
    Ok(())
}
