//! What the committer does when its journal refuses, fails and comes back.
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use parking_lot::Mutex;

use super::super::contract::{delete, put, write};
use super::super::journal::{CommitError, Journal, Shrink};
use super::super::local::LocalStore;
use super::super::state::{Change, State, Trim};
use super::super::{Error, Options, Revision, Store, Txn, TxnOutcome};

/// What the journal shall do, and what it did.
#[derive(Debug, Default)]
struct Script {
    refuse: bool,
    fail: bool,
    fail_rebuild: bool,
    bloated: bool,
    commits: Vec<Vec<Revision>>,
    trims: usize,
    rebuilds: Vec<Revision>,
    settled: usize,
    settle_at: Option<Instant>,
}

/// A journal that does as told.
struct Scripted(Arc<Mutex<Script>>);

impl Journal for Scripted {
    fn admit(&mut self, deletion: bool) -> Result<(), Error> {
        if self.0.lock().refuse && !deletion {
            return Err(Error::Full {
                dir: "/".into(),
                free: 0,
                needed: 1,
            });
        }
        Ok(())
    }

    fn commit(&mut self, changes: &[Change], trim: Option<&Trim>) -> Result<(), CommitError> {
        let mut script = self.0.lock();
        script.trims += usize::from(trim.is_some());
        if script.fail {
            return Err(CommitError::Failed(broken()));
        }
        script
            .commits
            .push(changes.iter().map(|change| change.place.revision).collect());
        Ok(())
    }

    fn rebuild(&mut self, state: &State) -> Result<(), CommitError> {
        let mut script = self.0.lock();
        if script.fail_rebuild {
            return Err(CommitError::Failed(broken()));
        }
        script.fail = false;
        script.bloated = false;
        script.rebuilds.push(state.revision());
        Ok(())
    }

    fn shrink(&self, _: u64, history: u64) -> Shrink {
        match self.0.lock().bloated {
            false => Shrink::Nothing,
            true if history == 0 => Shrink::Rebuild,
            true => Shrink::Forget,
        }
    }

    fn unsettled(&self) -> Option<Instant> {
        self.0.lock().settle_at
    }

    fn settle(&mut self) {
        let mut script = self.0.lock();
        script.settled += 1;
        script.settle_at = None;
    }
}

fn broken() -> Error {
    Error::Database {
        detail: "the disk is on fire".to_owned(),
    }
}

fn start() -> (LocalStore, Arc<Mutex<Script>>) {
    let script = Arc::new(Mutex::new(Script::default()));
    let journal = Box::new(Scripted(script.clone()));
    let store = LocalStore::start(State::empty(), journal, &Options::default()).unwrap();
    (store, script)
}

async fn failure(store: &LocalStore) -> Error {
    let txn = Txn {
        ops: vec![put("/a", "lost")],
        ..Txn::default()
    };
    store.txn(txn).await.unwrap_err()
}

#[tokio::test]
async fn a_refused_commit_leaves_no_trace() {
    let (store, script) = start();
    write(&store, vec![put("/a", "1")]).await;
    script.lock().refuse = true;
    assert!(matches!(failure(&store).await, Error::Full { .. }));
    assert!(store.status().write_fault.is_none());
    script.lock().refuse = false;
    assert_eq!(write(&store, vec![put("/a", "2")]).await, 3);
}

#[tokio::test]
async fn a_failed_commit_stops_writing_but_not_reading_until_a_rebuild_succeeds() {
    let (store, script) = start();
    let mut watch = store.watch("/", 1).unwrap();
    write(&store, vec![put("/a", "1")]).await;
    script.lock().fail = true;
    script.lock().fail_rebuild = true;
    for _ in 0..3 {
        let error = failure(&store).await;
        assert!(
            matches!(&error, Error::Unwritable { cause } if matches!(**cause, Error::Database { .. }))
        );
    }
    assert!(store.status().write_fault.is_some());
    assert_eq!(store.get("/a", None).await.unwrap().unwrap().value, "1");
    assert_eq!(store.revision(), 2);
    assert!(matches!(
        store.compact(2).await,
        Err(Error::Unwritable { .. })
    ));
    assert_eq!(watch.next().await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn writing_goes_on_after_a_rebuild_from_memory() {
    let (store, script) = start();
    write(&store, vec![put("/a", "1")]).await;
    script.lock().fail = true;
    script.lock().fail_rebuild = true;
    failure(&store).await;
    script.lock().fail_rebuild = false;
    while store.status().write_fault.is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(write(&store, vec![put("/b", "2")]).await, 3);
    assert_eq!(script.lock().rebuilds, [2]);
    assert!(store.status().write_fault.is_none());
    assert_eq!(store.get("/a", None).await.unwrap().unwrap().value, "1");
}

#[tokio::test]
async fn a_rebuild_is_tried_again_without_being_asked() {
    let (store, script) = start();
    script.lock().fail = true;
    script.lock().fail_rebuild = true;
    failure(&store).await;
    failure(&store).await;
    script.lock().fail_rebuild = false;
    let waited = Instant::now();
    while store.status().write_fault.is_some() {
        assert!(waited.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(write(&store, vec![put("/a", "1")]).await, 2);
}

#[tokio::test]
async fn a_failure_that_a_rebuild_heals_is_not_seen() {
    let (store, script) = start();
    write(&store, vec![put("/a", "1")]).await;
    script.lock().fail = true;
    assert_eq!(write(&store, vec![put("/b", "2")]).await, 3);
    assert_eq!(script.lock().rebuilds, [2]);
    assert!(store.status().write_fault.is_none());
}

/// It is unknown then which of two databases would be opened, so none may be written to.
#[tokio::test]
async fn a_failed_rewrite_stops_writing_until_one_succeeds() {
    let (store, script) = start();
    write(&store, vec![put("/a", "1")]).await;
    script.lock().fail_rebuild = true;
    store.rewrite().await.unwrap_err();
    assert!(store.status().write_fault.is_some());
    script.lock().fail_rebuild = false;
    while store.status().write_fault.is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(write(&store, vec![put("/a", "2")]).await, 3);
}

#[tokio::test]
async fn a_bloated_journal_is_rewritten() {
    let (store, script) = start();
    script.lock().bloated = true;
    write(&store, vec![put("/a", "1")]).await;
    write(&store, vec![put("/a", "2")]).await;
    assert_eq!(script.lock().rebuilds, [2]);
    assert_eq!(script.lock().trims, 1);
    assert_eq!(store.status().oldest, 2);
}

#[tokio::test]
async fn a_full_store_takes_deletions_also_among_refused_writes() {
    let (store, script) = start();
    write(&store, vec![put("/a", "1")]).await;
    write(&store, vec![put("/b", "1")]).await;
    script.lock().refuse = true;
    // All of them wait together for the committer.
    let refused = (0..20).map(|_| failure(&store));
    let deleted = store.txn(Txn {
        ops: vec![delete("/a")],
        ..Txn::default()
    });
    let marked = store.txn(Txn {
        ops: vec![put("/b", "going")],
        deletion: true,
        ..Txn::default()
    });
    let (refused, deleted, marked) =
        tokio::join!(futures::future::join_all(refused), deleted, marked);
    for error in refused {
        assert!(matches!(error, Error::Full { .. }), "{error}");
    }
    assert!(
        matches!(deleted, Ok(TxnOutcome::Committed { .. })),
        "{deleted:?}"
    );
    assert!(
        matches!(marked, Ok(TxnOutcome::Committed { .. })),
        "{marked:?}"
    );
    assert_eq!(store.status().keys, 1);
}

#[tokio::test]
async fn waiting_transactions_are_committed_together() {
    let (store, script) = start();
    let writes = (0..100).map(|n| {
        let store = &store;
        async move { write(store, vec![put(&format!("/{n}"), "")]).await }
    });
    let mut revisions = futures::future::join_all(writes).await;
    revisions.sort_unstable();
    assert_eq!(revisions, (2..=101).collect::<Vec<_>>());
    let commits = std::mem::take(&mut script.lock().commits);
    assert!(commits.len() < 100, "{commits:?}");
    assert_eq!(commits.concat(), revisions);
}

#[tokio::test]
async fn what_was_put_off_is_done_in_time_and_at_the_end() {
    let (store, script) = start();
    script.lock().settle_at = Some(Instant::now() + Duration::from_millis(20));
    write(&store, vec![put("/a", "1")]).await;
    let waited = Instant::now();
    while script.lock().settled == 0 {
        assert!(waited.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Also while requests keep coming.
    script.lock().settle_at = Some(Instant::now());
    write(&store, vec![put("/a", "1")]).await;
    write(&store, vec![put("/a", "1")]).await;
    assert_eq!(script.lock().settled, 2);
    drop(store);
    assert_eq!(script.lock().settled, 3);
}
