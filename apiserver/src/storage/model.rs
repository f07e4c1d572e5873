//! Any sequence of transactions, compactions and restarts, against a model that keeps every revision whole.
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Compares (with what the model knows, or wrongly) and writes: `Some` is a put of this many bytes.
    Txn {
        compares: Vec<(usize, bool)>,
        ops: BTreeMap<usize, Option<usize>>,
    },
    /// Compacts so many revisions before the newest.
    Compact(u64),
    /// Closes the store and opens it again.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let compares = prop::collection::vec((0..5_usize, prop::bool::weighted(0.9)), 0..2);
    let size = prop_oneof![9 => 0..100_usize, 1 => 10_000..40_000_usize];
    let ops = prop::collection::btree_map(0..5_usize, prop::option::weighted(0.7, size), 1..4);
    prop_oneof![
        20 => (compares, ops).prop_map(|(compares, ops)| Step::Txn { compares, ops }),
        1 => (0..6_u64).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

/// Every revision whole: the keys with value, create revision, mod revision and version.
#[derive(Debug)]
struct Model {
    snapshots: Vec<BTreeMap<usize, (Bytes, u64, u64, u64)>>,
    oldest: Revision,
}

impl Model {
    fn revision(&self) -> Revision {
        self.snapshots.len() as u64
    }

    fn at(&self, revision: Revision) -> &BTreeMap<usize, (Bytes, u64, u64, u64)> {
        &self.snapshots[revision as usize - 1]
    }

    fn mod_revision(&self, key: usize) -> Revision {
        self.at(self.revision())
            .get(&key)
            .map_or(0, |found| found.2)
    }

    /// Writes and answers the revision afterwards.
    fn write(&mut self, ops: &BTreeMap<usize, Option<usize>>) -> Revision {
        let revision = self.revision() + 1;
        let mut next = self.at(self.revision()).clone();
        let mut changed = false;
        for (&key, size) in ops {
            match size {
                Some(size) => {
                    let old = next.get(&key);
                    let create = old.map_or(revision, |old| old.1);
                    let version = old.map_or(1, |old| old.3 + 1);
                    next.insert(key, (value(*size, revision), create, revision, version));
                    changed = true;
                }
                None => changed |= next.remove(&key).is_some(),
            }
        }
        if changed {
            self.snapshots.push(next);
        }
        self.revision()
    }
}

fn name(key: usize) -> Arc<str> {
    format!("/m/{key}").into()
}

fn value(size: usize, revision: Revision) -> Bytes {
    let mut bytes = revision.to_string().into_bytes();
    bytes.resize(bytes.len() + size, b'.');
    bytes.into()
}

/// Carries out a step on both and compares the answers.
async fn carry_out(store: &dyn Store, model: &mut Model, step: &Step) {
    match step {
        Step::Txn { compares, ops } => {
            let expect = |&(key, right): &(usize, bool)| Compare {
                key: name(key),
                mod_revision: model.mod_revision(key) + u64::from(!right),
            };
            let holds = compares.iter().all(|&(_, right)| right);
            let writes = ops.iter().map(|(&key, size)| match size {
                Some(size) => {
                    let bytes = value(*size, 0).slice(1..);
                    Op::Put {
                        key: name(key),
                        value: Value {
                            bytes,
                            revision_slot: Some(0),
                        },
                    }
                }
                None => Op::Delete { key: name(key) },
            });
            let compares = compares.iter().map(expect).collect();
            let outcome = store
                .txn(Txn {
                    compares,
                    ops: writes.collect(),
                    deletion: false,
                })
                .await
                .unwrap();
            match outcome {
                TxnOutcome::Committed { revision, .. } => {
                    assert!(holds);
                    assert_eq!(revision, model.write(ops));
                }
                TxnOutcome::Conflict { .. } => assert!(!holds),
            }
        }
        Step::Compact(back) => {
            let upto = model.revision().saturating_sub(*back);
            store.compact(upto).await.unwrap();
            model.oldest = model.oldest.max(upto);
        }
        Step::Reopen => {}
    }
}

/// Compares everything that can be asked.
async fn compare(store: &dyn Store, model: &Model) {
    assert_eq!(store.revision(), model.revision());
    assert_eq!(store.status().oldest, model.oldest);
    for at in model.oldest..=model.revision() {
        let found = store
            .range(Range {
                at: Some(at),
                ..Default::default()
            })
            .await
            .unwrap();
        let found = found.kvs.into_iter().map(|kv| {
            (
                kv.key,
                (kv.value, kv.create_revision, kv.mod_revision, kv.version),
            )
        });
        let expected = model
            .at(at)
            .iter()
            .map(|(&key, is)| (name(key), is.clone()));
        assert!(found.eq(expected), "at {at}");
        watch_from(store, model, at).await;
    }
    if model.oldest > 1 {
        assert!(store.get("/m/0", Some(model.oldest - 1)).await.is_err());
    }
}

/// Playing the events after a revision onto it gives the newest.
async fn watch_from(store: &dyn Store, model: &Model, at: Revision) {
    if at == model.revision() {
        return;
    }
    let events = store
        .watch("/m/", at)
        .unwrap()
        .next()
        .await
        .unwrap()
        .unwrap();
    let mut playing: BTreeMap<Arc<str>, Bytes> = model
        .at(at)
        .iter()
        .map(|(&key, is)| (name(key), is.0.clone()))
        .collect();
    for event in events.iter() {
        let (before, prev) = match event {
            Event::Put { kv, prev } => (
                playing.insert(kv.key.clone(), kv.value.clone()),
                prev.as_ref(),
            ),
            Event::Delete { key, prev, .. } => (playing.remove(key), Some(prev)),
        };
        assert_eq!(before, prev.map(|kv| kv.value.clone()));
    }
    let newest = model
        .at(model.revision())
        .iter()
        .map(|(&key, is)| (name(key), is.0.clone()));
    assert!(playing.into_iter().eq(newest));
}

async fn play(steps: Vec<Step>, open: impl Fn() -> Arc<dyn Store>, reopens: bool) {
    let mut model = Model {
        snapshots: vec![BTreeMap::new()],
        oldest: 1,
    };
    let mut store = open();
    for step in &steps {
        carry_out(&*store, &mut model, step).await;
        if matches!(step, Step::Reopen) && reopens {
            drop(store);
            store = open();
            compare(&*store, &model).await;
        }
    }
    compare(&*store, &model).await;
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn the_memory_store_is_the_model(steps in prop::collection::vec(step(), 1..60)) {
        block_on(play(steps, || memory(&Options::default()).unwrap(), false));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_sled_store_is_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        block_on(play(steps, || open_sled(dir.path(), &Options::default()).unwrap(), true));
    }
}
