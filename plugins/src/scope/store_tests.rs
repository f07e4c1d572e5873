//! Transactions, conflicts, and what a restart finds.

use super::*;
use crate::executor::Phase;
use crate::plan::{Link, NetworkOp, NetworkPlan, Place};
use crate::scope::ScopePlan;
use tempfile::TempDir;

fn open(dir: &TempDir, boot: &str) -> Arc<Store> {
    Arc::new(Store::open(&dir.path().join("state"), &dir.path().join("run"), boot).unwrap())
}

fn record(scope: ScopeId, link: &str) -> Record {
    let link = Link {
        key: "l".into(),
        place: Place::Host,
        name: link.into(),
        mtu: None,
        mac: None,
        master: None,
        options: BTreeMap::new(),
    };
    Record {
        scope,
        driver: "d".into(),
        phase: Phase::Applied,
        error: None,
        request: "digest".into(),
        revision: String::new(),
        plan: ScopePlan::Network(NetworkPlan {
            ops: vec![NetworkOp::Dummy { link }],
        }),
        previous: None,
        leases: Vec::new(),
        answer: serde_json::Value::Null,
        netns: None,
    }
}

fn put(records: &[Record]) -> Txn {
    Txn {
        puts: records.to_vec(),
        ..Txn::default()
    }
}

#[tokio::test]
async fn records_survive_a_crash_and_only_durable_ones_a_reboot() {
    let dir = tempfile::tempdir().unwrap();
    let net = record(ScopeId::net("uid", "eth0"), "a");
    let volume = record(ScopeId::volume("pvc-1"), "b");
    let store = open(&dir, "one");
    store
        .commit(put(&[net.clone(), volume.clone()]))
        .await
        .unwrap();
    let value = ("d".to_owned(), "k".to_owned(), Some(b"v".to_vec()));
    store
        .commit(Txn {
            values: vec![value],
            ..Txn::default()
        })
        .await
        .unwrap();
    drop(store);
    let store = open(&dir, "one");
    assert_eq!(*store.get(&net.scope).unwrap(), net);
    assert_eq!(*store.get(&volume.scope).unwrap(), volume);
    drop(store);
    let store = open(&dir, "two");
    assert!(store.get(&net.scope).is_none());
    assert_eq!(*store.get(&volume.scope).unwrap(), volume);
    assert_eq!(&*store.value("d", "k").unwrap().0, b"v");
}

#[tokio::test]
async fn one_thing_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, "one");
    store
        .commit(put(&[record(ScopeId::node("a"), "davit0")]))
        .await
        .unwrap();
    store
        .commit(put(&[record(ScopeId::node("a"), "davit0")]))
        .await
        .unwrap();
    let error = store
        .commit(put(&[record(ScopeId::node("b"), "davit0")]))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "link/davit0 is already held by node/a of driver d"
    );
    assert!(store.get(&ScopeId::node("b")).is_none());
    store
        .commit(Txn {
            removes: vec![ScopeId::node("a")],
            ..Txn::default()
        })
        .await
        .unwrap();
    store
        .commit(put(&[record(ScopeId::node("b"), "davit0")]))
        .await
        .unwrap();
}

#[tokio::test]
async fn equal_settings_are_held_together() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, "one");
    let with = |scope: &str, value: &str| {
        let mut record = record(ScopeId::node(scope), scope);
        let sysctl = NetworkOp::Sysctl {
            place: Place::Host,
            key: "net.ipv4.ip_forward".into(),
            value: value.into(),
            former: None,
        };
        record.plan = ScopePlan::Network(NetworkPlan { ops: vec![sysctl] });
        record
    };
    store.commit(put(&[with("a", "1")])).await.unwrap();
    store.commit(put(&[with("b", "1")])).await.unwrap();
    assert!(store.commit(put(&[with("c", "0")])).await.is_err());
    let claims = with("a", "1").claims();
    assert!(store.shared(&ScopeId::node("a"), &claims));
    store
        .commit(Txn {
            removes: vec![ScopeId::node("b")],
            ..Txn::default()
        })
        .await
        .unwrap();
    assert!(!store.shared(&ScopeId::node("a"), &claims));
}

#[tokio::test]
async fn a_changed_value_makes_a_call_stale() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, "one");
    let write = |bytes: &[u8], seen: u64| Txn {
        values: vec![("d".into(), "k".into(), Some(bytes.to_vec()))],
        reads: vec![("d".into(), "k".into(), seen)],
        ..Txn::default()
    };
    store.commit(write(b"1", 0)).await.unwrap();
    let (_, seen) = store.value("d", "k").unwrap();
    store.commit(write(b"2", seen)).await.unwrap();
    assert!(matches!(
        store.commit(write(b"3", seen)).await,
        Err(CommitError::Stale { .. })
    ));
    assert_eq!(&*store.value("d", "k").unwrap().0, b"2");
    assert_eq!(store.value_bytes("d"), 2);
}

#[tokio::test]
async fn long_histories_are_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, "one");
    let scope = ScopeId::net("uid", "eth0");
    let big = "x".repeat(10_000);
    for n in 0..400 {
        let mut record = record(scope.clone(), "a");
        record.answer = serde_json::json!({ "n": n, "big": big });
        store.commit(put(&[record])).await.unwrap();
    }
    let length = std::fs::metadata(dir.path().join("run/boot.db"))
        .unwrap()
        .len();
    assert!(length < 2 << 20, "{length}");
    drop(store);
    assert_eq!(open(&dir, "one").get(&scope).unwrap().answer["n"], 399);
}

#[tokio::test]
async fn scopes_that_conflict_are_not_recorded_together_but_can_always_be_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, "one");
    let both = [
        record(ScopeId::net("uid", "eth0"), "same"),
        record(ScopeId::net("uid", "eth1"), "same"),
    ];
    let error = store.commit(put(&both)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "link/same is already held by net/uid/eth0 of driver d"
    );
    assert!(store.list("").is_empty());
    let mut twice = record(ScopeId::node("a"), "same");
    if let ScopePlan::Network(plan) = &mut twice.plan {
        plan.ops.extend(plan.ops.clone());
    }
    let error = store.commit(put(&[twice])).await.unwrap_err();
    assert!(matches!(error, CommitError::Twice { .. }), "{error}");
    // What an earlier version recorded.
    for record in both {
        store.state.lock().load(Entry::Put(Box::new(record)));
    }
    for scope in ["eth0", "eth1"] {
        let mut releasing = Record::clone(&store.get(&ScopeId::net("uid", scope)).unwrap());
        releasing.phase = Phase::Releasing;
        store.commit(put(&[releasing])).await.unwrap();
    }
    assert!(store.knows("davit:d:net/uid/eth0"));
    assert!(!store.knows("davit:other:net/uid/eth0") && !store.knows("davit:d:net/x/eth0"));
}
