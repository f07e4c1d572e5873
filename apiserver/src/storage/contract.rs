//! What every backend must do, as tests that each backend runs.
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use super::*;

mod watching;
use watching::*;

/// Makes a store in a directory that exists for the length of a test.
type Open = fn(&Path, &Options) -> Result<Arc<dyn Store>, Error>;

fn in_memory(_: &Path, options: &Options) -> Result<Arc<dyn Store>, Error> {
    memory(options)
}

/// Runs one case of the contract on a fresh store.
async fn run<F: Future>(open: Open, options: Options, case: impl FnOnce(Arc<dyn Store>) -> F) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &options).unwrap();
    tokio::time::timeout(Duration::from_secs(60), case(store))
        .await
        .expect("the case hangs");
}

/// Every case on every backend.
macro_rules! contract {
    ($($case:ident $(with $options:expr)?),* $(,)?) => {
        mod memory_store {
            $(#[tokio::test] async fn $case() {
                super::run(super::in_memory, super::options!($($options)?), super::$case).await;
            })*
        }
        mod sled_store {
            $(#[tokio::test] async fn $case() {
                super::run(super::open_sled, super::options!($($options)?), super::$case).await;
            })*
        }
    };
}

macro_rules! options {
    () => {
        $crate::storage::Options::default()
    };
    ($options:expr) => {
        $options
    };
}
use options;

contract! {
    revisions_and_versions_count_as_in_etcd,
    a_transaction_is_all_or_nothing,
    transactions_that_change_nothing_take_no_revision,
    impossible_transactions_are_refused,
    an_object_can_hold_its_own_revision,
    the_past_can_be_read,
    ranges_have_bounds_and_pages,
    pages_at_a_revision_are_one_snapshot,
    a_watch_yields_the_past_and_then_the_present,
    a_watch_has_no_gap_and_no_duplicate,
    a_slow_watcher_is_cut_off_and_told,
    progress_is_told_without_events,
    compaction_ends_the_past,
    history_stays_within_its_bytes with super::Options { history_bytes: 64 << 10, ..Default::default() },
    history_stays_within_its_age with super::Options { history_age: super::Duration::ZERO, ..Default::default() },
    concurrent_increments_are_all_counted,
    changes_see_what_was_committed_before,
    large_values_come_back_whole,
}

pub(super) fn put(key: &str, value: impl Into<Bytes>) -> Op {
    Op::Put {
        key: key.into(),
        value: value.into().into(),
    }
}

pub(super) fn delete(key: &str) -> Op {
    Op::Delete { key: key.into() }
}

/// Writes without compares and answers the revision.
pub(super) async fn write(store: &dyn Store, ops: Vec<Op>) -> Revision {
    match store
        .txn(Txn {
            compares: vec![],
            deletion: false,
            ops,
        })
        .await
        .unwrap()
    {
        TxnOutcome::Committed { revision, .. } => revision,
        TxnOutcome::Conflict { .. } => panic!("a conflict without compares"),
    }
}

async fn compare_and(store: &dyn Store, compares: &[(&str, Revision)], ops: Vec<Op>) -> TxnOutcome {
    let compares = compares.iter().map(|&(key, mod_revision)| Compare {
        key: key.into(),
        mod_revision,
    });
    store
        .txn(Txn {
            compares: compares.collect(),
            deletion: false,
            ops,
        })
        .await
        .unwrap()
}

async fn value(store: &dyn Store, key: &str, at: Option<Revision>) -> Option<Bytes> {
    store.get(key, at).await.unwrap().map(|kv| kv.value)
}

async fn revisions_and_versions_count_as_in_etcd(store: Arc<dyn Store>) {
    let counts = async |key| {
        let kv = store.get(key, None).await.unwrap().unwrap();
        (kv.create_revision, kv.mod_revision, kv.version)
    };
    assert_eq!(store.revision(), 1);
    assert_eq!(
        write(&*store, vec![put("/a", "1"), put("/b", "1")]).await,
        2
    );
    assert_eq!(write(&*store, vec![put("/a", "2")]).await, 3);
    assert_eq!(counts("/a").await, (2, 3, 2));
    assert_eq!(counts("/b").await, (2, 2, 1));
    assert_eq!(write(&*store, vec![delete("/a")]).await, 4);
    assert_eq!(store.get("/a", None).await.unwrap(), None);
    assert_eq!(write(&*store, vec![put("/a", "3")]).await, 5);
    assert_eq!(counts("/a").await, (5, 5, 1));
    assert_eq!(store.revision(), 5);
    let status = store.status();
    assert_eq!(
        (
            status.revision,
            status.oldest,
            status.keys,
            status.value_bytes
        ),
        (5, 1, 2, 2)
    );
    assert!(status.write_fault.is_none());
}

async fn a_transaction_is_all_or_nothing(store: Arc<dyn Store>) {
    write(&*store, vec![put("/a", "1")]).await;
    let ops = || vec![put("/a", "2"), put("/b", "2"), delete("/c")];
    let outcome = compare_and(&*store, &[("/a", 2), ("/b", 9), ("/c", 7)], ops()).await;
    let TxnOutcome::Conflict { current } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(current, [("/b".into(), None), ("/c".into(), None)]);
    assert_eq!(value(&*store, "/a", None).await.unwrap(), "1");
    assert_eq!(store.revision(), 2);

    let outcome = compare_and(&*store, &[("/a", 2), ("/b", 0)], ops()).await;
    let TxnOutcome::Committed { revision: 3, puts } = outcome else {
        panic!("{outcome:?}")
    };
    let written: Vec<_> = puts
        .iter()
        .map(|kv| (&*kv.key, kv.mod_revision, kv.version))
        .collect();
    assert_eq!(written, [("/a", 3, 2), ("/b", 3, 1)]);

    let outcome = compare_and(&*store, &[("/a", 0)], ops()).await;
    let TxnOutcome::Conflict { current } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(current, [("/a".into(), Some(puts[0].clone()))]);
}

async fn transactions_that_change_nothing_take_no_revision(store: Arc<dyn Store>) {
    write(&*store, vec![put("/a", "1")]).await;
    assert_eq!(write(&*store, vec![]).await, 2);
    assert_eq!(write(&*store, vec![delete("/b")]).await, 2);
    let outcome = compare_and(&*store, &[("/a", 2)], vec![]).await;
    assert!(matches!(outcome, TxnOutcome::Committed { revision: 2, .. }));
    assert_eq!(write(&*store, vec![delete("/b"), put("/a", "1")]).await, 3);
}

async fn impossible_transactions_are_refused(store: Arc<dyn Store>) {
    let refused = async |ops| {
        store
            .txn(Txn {
                compares: vec![],
                deletion: false,
                ops,
            })
            .await
            .unwrap_err()
    };
    let twice = refused(vec![put("/a", "1"), delete("/a")]).await;
    assert_eq!(
        twice.to_string(),
        "the transaction is not valid: it writes /a twice"
    );
    assert!(matches!(
        refused(vec![put("", "1")]).await,
        Error::Invalid { .. }
    ));
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    assert!(matches!(
        refused(vec![delete(&long)]).await,
        Error::Invalid { .. }
    ));
    let many = (0..=MAX_OPS).map(|n| delete(&format!("/{n}"))).collect();
    assert!(matches!(refused(many).await, Error::Invalid { .. }));
    let large = refused(vec![put("/a", vec![0; MAX_VALUE_BYTES + 1])]).await;
    assert!(matches!(large, Error::TooLarge { size, .. } if size == MAX_VALUE_BYTES + 1));
    let value = Value {
        bytes: Bytes::from_static(b"{}"),
        revision_slot: Some(3),
    };
    let outside = refused(vec![Op::Put {
        key: "/a".into(),
        value,
    }])
    .await;
    assert!(matches!(outside, Error::Invalid { .. }));
    assert_eq!(store.revision(), 1);
}

async fn an_object_can_hold_its_own_revision(store: Arc<dyn Store>) {
    let value = |text: &'static str, slot| Value {
        bytes: text.into(),
        revision_slot: Some(slot),
    };
    for revision in 2..12 {
        let op = Op::Put {
            key: "/a".into(),
            value: value(r#"{"rv":""}"#, 7),
        };
        assert_eq!(write(&*store, vec![op]).await, revision);
        let kv = store.get("/a", None).await.unwrap().unwrap();
        assert_eq!(kv.value, format!(r#"{{"rv":"{revision}"}}"#));
    }
    write(
        &*store,
        vec![Op::Put {
            key: "/a".into(),
            value: value("r", 1),
        }],
    )
    .await;
    assert_eq!(
        store.get("/a", Some(12)).await.unwrap().unwrap().value,
        "r12"
    );
}

async fn the_past_can_be_read(store: Arc<dyn Store>) {
    write(&*store, vec![put("/a", "2")]).await;
    write(&*store, vec![put("/a", "3"), put("/b", "3")]).await;
    write(&*store, vec![delete("/a")]).await;
    write(&*store, vec![put("/a", "5")]).await;
    let expected = [
        (1, None),
        (2, Some("2")),
        (3, Some("3")),
        (4, None),
        (5, Some("5")),
    ];
    for (at, expected) in expected {
        assert_eq!(
            value(&*store, "/a", Some(at)).await,
            expected.map(Bytes::from),
            "at {at}"
        );
    }
    let at = |at| Range {
        at: Some(at),
        ..Default::default()
    };
    assert_eq!(store.range(at(2)).await.unwrap().kvs.len(), 1);
    assert_eq!(store.range(at(3)).await.unwrap().kvs.len(), 2);
    assert_eq!(store.range(at(4)).await.unwrap().kvs[0].key, "/b".into());
    let future = store.get("/a", Some(6)).await.unwrap_err();
    assert!(matches!(
        future,
        Error::Future {
            requested: 6,
            current: 5
        }
    ));
}

async fn ranges_have_bounds_and_pages(store: Arc<dyn Store>) {
    let keys = ["/p", "/p/", "/p/a", "/p/b", "/p/b/c", "/p/c", "/p0", "/q"];
    write(&*store, keys.iter().map(|key| put(key, *key)).collect()).await;
    let range = async |prefix: &str, start_after: Option<&str>, limit| {
        let start_after = start_after.map(str::to_owned);
        let range = Range {
            prefix: prefix.to_owned(),
            start_after,
            limit,
            at: None,
        };
        let found = store.range(range).await.unwrap();
        let keys: Vec<String> = found.kvs.iter().map(|kv| kv.key.to_string()).collect();
        assert_eq!(found.more, found.remaining > 0);
        (keys.join(" "), found.remaining)
    };
    assert_eq!(
        range("/p/", None, 0).await,
        ("/p/ /p/a /p/b /p/b/c /p/c".to_owned(), 0)
    );
    assert_eq!(
        range("/p/", Some("/p/a"), 2).await,
        ("/p/b /p/b/c".to_owned(), 1)
    );
    assert_eq!(range("/p/", Some("/p/aa"), 1).await, ("/p/b".to_owned(), 2));
    assert_eq!(range("/p/", Some("/p/c"), 2).await, (String::new(), 0));
    assert_eq!(range("/p/", Some("/a"), 1).await, ("/p/".to_owned(), 4));
    assert_eq!(range("/p/", Some("/z"), 1).await, (String::new(), 0));
    assert_eq!(range("", None, 8).await.1, 0);
    assert_eq!(range("/x", None, 0).await, (String::new(), 0));
}

async fn pages_at_a_revision_are_one_snapshot(store: Arc<dyn Store>) {
    let keys: Vec<String> = (0..50).map(|n| format!("/k/{n:02}")).collect();
    let at = write(&*store, keys.iter().map(|key| put(key, "old")).collect()).await;
    let mut seen = Vec::new();
    let mut start_after = None;
    loop {
        let prefix = "/k/".to_owned();
        let page = Range {
            prefix,
            start_after: start_after.clone(),
            limit: 7,
            at: Some(at),
        };
        let page = store.range(page).await.unwrap();
        assert_eq!(page.revision, at);
        assert_eq!(page.remaining, 50 - seen.len() - page.kvs.len());
        seen.extend(
            page.kvs
                .iter()
                .map(|kv| (kv.key.to_string(), kv.value.clone())),
        );
        let next = seen.len();
        write(
            &*store,
            vec![put("/k/new", "new"), put(&keys[next % 50], "new")],
        )
        .await;
        write(&*store, vec![delete(&keys[(next + 1) % 50])]).await;
        if !page.more {
            break;
        }
        start_after = page.kvs.last().map(|kv| kv.key.to_string());
    }
    let expected: Vec<_> = keys
        .into_iter()
        .map(|key| (key, Bytes::from("old")))
        .collect();
    assert_eq!(seen, expected);
}

async fn concurrent_increments_are_all_counted(store: Arc<dyn Store>) {
    let tasks = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                increment(&*store).await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let kv = store.get("/counter", None).await.unwrap().unwrap();
    assert_eq!(
        (&kv.value[..], kv.version, store.revision()),
        (&b"80"[..], 80, 81)
    );
}

async fn increment(store: &dyn Store) {
    let mut seen = store.get("/counter", None).await.unwrap();
    loop {
        let count = seen.as_ref().map_or(0, |kv| {
            std::str::from_utf8(&kv.value)
                .unwrap()
                .parse::<u32>()
                .unwrap()
        });
        let revision = seen.map_or(0, |kv| kv.mod_revision);
        let op = put("/counter", (count + 1).to_string());
        match compare_and(store, &[("/counter", revision)], vec![op]).await {
            TxnOutcome::Committed { .. } => return,
            TxnOutcome::Conflict { current } => seen = current.into_iter().next().unwrap().1,
        }
    }
}

async fn changes_see_what_was_committed_before(store: Arc<dyn Store>) {
    write(&*store, vec![put("/left", "100")]).await;
    let less = Amend::new(|stored| {
        let left: u64 = std::str::from_utf8(stored).ok()?.parse().ok()?;
        Some(Bytes::from(left.checked_sub(1)?.to_string()).into())
    });
    let takers = (0..200).map(|n| {
        let (store, key) = (store.clone(), Arc::from("/left"));
        let amend = less.clone();
        async move {
            let ops = vec![put(&format!("/taken/{n}"), "x"), Op::Amend { key, amend }];
            let compares = vec![];
            store
                .txn(Txn {
                    compares,
                    ops,
                    deletion: false,
                })
                .await
                .unwrap()
        }
    });
    let outcomes = futures::future::join_all(takers).await;
    let mut taken = 0;
    for outcome in outcomes {
        match outcome {
            TxnOutcome::Committed { puts, .. } => {
                assert_eq!(puts.len(), 2);
                taken += 1;
            }
            TxnOutcome::Conflict { current } => {
                let [(key, Some(kv))] = &current[..] else {
                    panic!("{current:?}")
                };
                assert_eq!((&**key, &kv.value[..]), ("/left", &b"0"[..]));
            }
        }
    }
    let all = store.range(Range {
        prefix: "/taken/".to_owned(),
        ..Range::default()
    });
    assert_eq!((taken, all.await.unwrap().kvs.len()), (100, 100));
    let absent = Op::Amend {
        key: "/absent".into(),
        amend: less,
    };
    let outcome = compare_and(&*store, &[], vec![put("/x", "1"), absent]).await;
    assert!(matches!(outcome, TxnOutcome::Conflict { .. }));
    assert_eq!(value(&*store, "/x", None).await, None);
}

async fn large_values_come_back_whole(store: Arc<dyn Store>) {
    let sizes = [0, 1, 16_000, 16_384, 16_385, 300_000, MAX_VALUE_BYTES];
    let mut written = BTreeMap::new();
    for (n, size) in sizes.into_iter().enumerate() {
        let value: Bytes = (0..size)
            .map(|at| (at * 7 + n) as u8)
            .collect::<Vec<_>>()
            .into();
        write(&*store, vec![put(&format!("/{n}"), value.clone())]).await;
        written.insert(format!("/{n}"), value);
    }
    let found = store.range(Range::default()).await.unwrap().kvs;
    let found: BTreeMap<_, _> = found
        .into_iter()
        .map(|kv| (kv.key.to_string(), kv.value))
        .collect();
    assert!(found == written);
}
