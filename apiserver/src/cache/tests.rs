//! The cache over a memory store: nothing acknowledged is missed, nothing comes twice.

use serde_json::json;

use super::*;
use crate::object::encode;
use crate::resource::Registry;
use crate::selection::Selection;
use crate::storage::{self, Op, Options, Txn, TxnOutcome};

const PODS: &str = "/registry/core/pods/";

async fn cache() -> Arc<Cache> {
    let store = storage::memory(&Options::default()).unwrap();
    Cache::load(store, Arc::new(Registry::builtin()))
        .await
        .unwrap()
}

async fn put(cache: &Cache, name: &str, node: &str) -> Revision {
    let pod = json!({
        "metadata": {"name": name, "labels": {"app": name}}, "spec": {"nodeName": node},
    });
    let key = format!("{PODS}a/{name}").into();
    let ops = vec![Op::Put {
        key,
        value: encode(&pod),
    }];
    commit(cache, ops).await
}

async fn delete(cache: &Cache, name: &str) -> Revision {
    commit(
        cache,
        vec![Op::Delete {
            key: format!("{PODS}a/{name}").into(),
        }],
    )
    .await
}

async fn commit(cache: &Cache, ops: Vec<Op>) -> Revision {
    match cache
        .store
        .txn(Txn {
            compares: Vec::new(),
            deletion: false,
            ops,
        })
        .await
        .unwrap()
    {
        TxnOutcome::Committed { revision, .. } => revision,
        TxnOutcome::Conflict { .. } => panic!("nothing was compared"),
    }
}

fn select(cache: &Cache, labels: &str, fields: &str) -> Selection {
    let pods = cache.registry.snapshot().find("", "v1", "pods").unwrap();
    Selection::parse(&pods, "a", labels, fields, &cache.kind(PODS).fields()).unwrap()
}

fn lines(changes: &[Arc<Change>], selection: &Selection) -> Vec<String> {
    let seen = changes
        .iter()
        .filter_map(|change| change.line_for(selection, false));
    seen.map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect()
}

#[tokio::test]
async fn an_acknowledged_write_is_seen_without_the_task() {
    let cache = cache().await;
    let revision = put(&cache, "x", "n1").await;
    cache.catch_up();
    assert_eq!(cache.revision(), revision);
    let object = cache.kind(PODS).get(&format!("{PODS}a/x")).unwrap();
    assert_eq!(object.revision, revision);
}

#[tokio::test]
async fn pages_are_cut_and_continued_in_key_order() {
    let cache = cache().await;
    for name in ["c", "a", "b"] {
        put(&cache, name, "n").await;
    }
    cache.catch_up();
    let all = select(&cache, "", "");
    let page = cache.kind(PODS).page(&all, None, 2, cache.revision());
    let names: Vec<&str> = page
        .objects
        .iter()
        .map(|o| o.key.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(
        (names, page.more, page.remaining),
        (vec!["a", "b"], true, Some(1))
    );
    let last = page.objects.last().unwrap().key.clone();
    let rest = cache
        .kind(PODS)
        .page(&all, Some(&last), 2, cache.revision());
    assert_eq!((rest.objects.len(), rest.more), (1, false));
    let by_field = select(&cache, "", "spec.nodeName=n,metadata.name=c");
    assert_eq!(
        cache.kind(PODS).page(&by_field, None, 0, 0).objects.len(),
        1
    );
    let by_label = select(&cache, "app in (a,b)", "");
    assert_eq!(
        cache.kind(PODS).page(&by_label, None, 0, 0).objects.len(),
        2
    );
}

#[tokio::test]
async fn a_watcher_sees_objects_come_into_its_selection_and_leave_it() {
    let cache = cache().await;
    put(&cache, "x", "n1").await;
    let selection = select(&cache, "", "spec.nodeName=n1");
    let kind = cache.kind(PODS);
    let opened = Watcher::open(cache.clone(), kind, selection.clone(), Start::Now);
    let (mut watcher, first) = opened.unwrap();
    assert_eq!(first.len(), 1);
    put(&cache, "y", "n2").await;
    put(&cache, "y", "n1").await;
    let left = put(&cache, "x", "n2").await;
    delete(&cache, "y").await;
    cache.catch_up();
    let changes = watcher.next().await.unwrap();
    let lines = lines(&changes, &selection);
    let kinds: Vec<&str> = lines.iter().map(|line| &line[9..14]).collect();
    assert_eq!(kinds, ["ADDED", "DELET", "DELET"]);
    assert!(lines[1].contains("\"nodeName\":\"n1\"") && lines[1].contains(&format!("\"{left}\"")));
}

#[tokio::test]
async fn a_watcher_behind_the_log_reads_the_stores_history() {
    let cache = cache().await;
    let first = put(&cache, "x", "n").await;
    put(&cache, "y", "n").await;
    cache.catch_up();
    // A fresh cache over the same store has no log at all.
    let fresh = Cache::load(cache.store.clone(), cache.registry.clone())
        .await
        .unwrap();
    let selection = select(&fresh, "", "");
    let kind = fresh.kind(PODS);
    let start = Start::After(first);
    let (mut watcher, _) = Watcher::open(fresh.clone(), kind, selection.clone(), start).unwrap();
    assert_eq!(lines(&watcher.next().await.unwrap(), &selection).len(), 1);
    put(&fresh, "z", "n").await;
    fresh.catch_up();
    let changes = watcher.next().await.unwrap();
    assert_eq!(lines(&changes, &selection).len(), 1);
    assert_eq!(watcher.position(), fresh.revision());
}

#[tokio::test]
async fn the_task_wakes_watchers_and_readers_that_wait() {
    let cache = cache().await;
    tokio::spawn(cache.clone().run());
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.wait_for(2, Duration::from_secs(5)).await }
    });
    let selection = select(&cache, "", "");
    let kind = cache.kind(PODS);
    let (mut watcher, _) = Watcher::open(cache.clone(), kind, selection, Start::Now).unwrap();
    let seen = tokio::spawn(async move { watcher.next().await.unwrap().len() });
    put(&cache, "x", "n").await;
    assert!(waiting.await.unwrap());
    assert_eq!(seen.await.unwrap(), 1);
    assert!(!cache.wait_for(1000, Duration::from_millis(10)).await);
}

#[tokio::test]
async fn a_task_without_budget_still_sees_what_was_acknowledged() {
    let cache = cache().await;
    let revision = put(&cache, "x", "n1").await;
    let (sender, mut spent) = tokio::sync::mpsc::unbounded_channel();
    (0..10_000).for_each(|n| sender.send(n).unwrap());
    std::future::poll_fn(|context| {
        // The runtime answers that nothing is there once a task did much without waiting.
        while spent.poll_recv(context).is_ready() {}
        assert!(!spent.is_empty());
        cache.catch_up();
        Poll::Ready(())
    })
    .await;
    assert_eq!(cache.revision(), revision);
}

#[tokio::test]
async fn old_changes_are_forgotten_by_quiet_kinds_too() {
    let cache = cache().await;
    for n in 0..2000 {
        put(&cache, &format!("p{}", n % 7), "n").await;
    }
    cache.catch_up();
    let kind = cache.kind(PODS);
    let newest = kind.newest();
    assert!(kind.seek(newest - 1000).is_some());
    let place = kind.seek(newest).unwrap();
    cache.forget(Instant::now());
    assert_eq!(kind.seek(newest - 1), None);
    // Who has seen everything goes on where it was.
    assert_eq!(kind.seek(newest), Some(place));
    put(&cache, "p0", "n").await;
    cache.catch_up();
    assert_eq!(kind.read_log(place, 10).unwrap().len(), 1);
}
