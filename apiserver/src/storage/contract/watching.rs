//! What every backend must do for watchers, and when history is forgotten.
use super::*;

fn describe(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| match event {
        Event::Put { kv, prev } => {
            let prev = prev.as_ref().map(|kv| kv.mod_revision);
            format!("{} put {} after {prev:?}", kv.mod_revision, kv.key)
        }
        Event::Delete {
            key,
            prev,
            revision,
        } => {
            format!("{revision} delete {key} after {:?}", prev.mod_revision)
        }
    };
    events.iter().map(line).collect()
}

pub(super) async fn a_watch_yields_the_past_and_then_the_present(store: Arc<dyn Store>) {
    write(&*store, vec![put("/a/1", "x")]).await;
    write(&*store, vec![put("/a/1", "y"), put("/b/1", "y")]).await;
    let mut watch = store.watch("/a/", 1).unwrap();
    let past = watch.next().await.unwrap().unwrap();
    assert_eq!(
        describe(&past),
        ["2 put /a/1 after None", "3 put /a/1 after Some(2)"]
    );
    write(&*store, vec![put("/b/1", "z")]).await;
    write(
        &*store,
        vec![delete("/a/1"), put("/b/2", "z"), put("/a/2", "z")],
    )
    .await;
    let present = watch.next().await.unwrap().unwrap();
    assert_eq!(
        describe(&present),
        ["5 delete /a/1 after 3", "5 put /a/2 after None"]
    );
    let all = store.watch("", 3).unwrap().next().await.unwrap().unwrap();
    assert_eq!(all.len(), 4);
    assert_eq!(all[1..3], [present[0].clone(), all[2].clone()]);
    let future = store.watch("/a/", 6).unwrap_err();
    assert!(matches!(
        future,
        Error::Future {
            requested: 6,
            current: 5
        }
    ));
    drop(store);
    assert!(matches!(watch.next().await, Some(Err(Error::Closed))));
    assert!(watch.next().await.is_none());
}

/// Writers write, while watchers begin at different times; each must see every revision of its prefix once.
pub(super) async fn a_watch_has_no_gap_and_no_duplicate(store: Arc<dyn Store>) {
    const WRITES: usize = 200;
    let writers = (0..4).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..WRITES / 4 {
                write(
                    &*store,
                    vec![put(&format!("/w/{writer}"), n.to_string()), put("/x", "")],
                )
                .await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut watchers = Vec::new();
    for _ in 0..10 {
        let after = store.revision();
        let mut watch = store.watch("/w/", after).unwrap();
        watchers.push(tokio::spawn(async move {
            let mut next = after + 1;
            while next < WRITES as u64 + 2 {
                for event in watch.next().await.unwrap().unwrap().iter() {
                    assert_eq!(event.revision(), next);
                    next += 1;
                }
            }
        }));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for task in writers.into_iter().chain(watchers) {
        task.await.unwrap();
    }
    assert_eq!(store.revision(), WRITES as u64 + 1);
}

pub(super) async fn a_slow_watcher_is_cut_off_and_told(store: Arc<dyn Store>) {
    let mut slow = store.watch("/", 1).unwrap();
    let mut other = store.watch("/other", 1).unwrap();
    for _ in 0..watch::QUEUE_GROUPS + 1 {
        write(&*store, vec![put("/a", "")]).await;
    }
    let mut taken = 0;
    let end = loop {
        match slow.next().await.unwrap() {
            Ok(batch) => taken += batch.len(),
            Err(end) => break end,
        }
    };
    assert!(matches!(end, Error::Lagged), "{end}");
    assert_eq!(taken, watch::QUEUE_GROUPS);
    assert!(slow.next().await.is_none());
    write(&*store, vec![put("/other", "")]).await;
    assert_eq!(other.next().await.unwrap().unwrap().len(), 1);
}

pub(super) async fn progress_is_told_without_events(store: Arc<dyn Store>) {
    let mut watch = store.watch("/a", 1).unwrap();
    assert_eq!(watch.progress(), Some(1));
    write(&*store, vec![put("/b", "")]).await;
    assert_eq!(watch.progress(), Some(2));
    write(&*store, vec![put("/a", "")]).await;
    assert_eq!(watch.progress(), None);
    watch.next().await.unwrap().unwrap();
    assert_eq!(watch.progress(), Some(3));
}

pub(super) async fn compaction_ends_the_past(store: Arc<dyn Store>) {
    for n in 2..=6 {
        write(&*store, vec![put("/a", n.to_string())]).await;
    }
    write(&*store, vec![put("/b", "7")]).await;
    write(&*store, vec![delete("/b")]).await;
    let mut early = store.watch("/a", 2).unwrap();
    store.compact(5).await.unwrap();
    store.compact(4).await.unwrap();
    assert!(matches!(
        store.compact(9).await,
        Err(Error::Future {
            requested: 9,
            current: 8
        })
    ));
    let compacted = store.get("/a", Some(4)).await.unwrap_err();
    assert!(matches!(
        compacted,
        Error::Compacted {
            requested: 4,
            oldest: 5
        }
    ));
    assert!(matches!(
        store.watch("/a", 4),
        Err(Error::Compacted {
            requested: 4,
            oldest: 5
        })
    ));
    assert_eq!(value(&*store, "/a", Some(5)).await.unwrap(), "5");
    assert_eq!(value(&*store, "/b", Some(7)).await.unwrap(), "7");
    assert_eq!(early.next().await.unwrap().unwrap().len(), 4);
    let late = store.watch("", 5).unwrap().next().await.unwrap().unwrap();
    let expected = [
        "6 put /a after Some(5)",
        "7 put /b after None",
        "8 delete /b after 7",
    ];
    assert_eq!(describe(&late), expected);
    store.compact(8).await.unwrap();
    assert_eq!(value(&*store, "/a", None).await.unwrap(), "6");
    assert_eq!(store.get("/b", None).await.unwrap(), None);
    assert_eq!(write(&*store, vec![put("/b", "9")]).await, 9);
    assert_eq!((store.status().oldest, store.status().keys), (8, 2));
}

pub(super) async fn history_stays_within_its_bytes(store: Arc<dyn Store>) {
    for n in 0..400_u32 {
        write(
            &*store,
            vec![put("/a", vec![0; 1024]), put(&format!("/{}", n % 3), "")],
        )
        .await;
        assert!(
            store.status().history_bytes <= (64 << 10) * 9 / 8 + 2048,
            "after {n}"
        );
    }
    let status = store.status();
    assert!(status.history_bytes > 32 << 10);
    assert!(status.oldest > 300 && status.oldest < status.revision);
    assert!(store.watch("/", status.oldest).is_ok());
    assert!(store.watch("/", status.oldest - 1).is_err());
}

pub(super) async fn history_stays_within_its_age(store: Arc<dyn Store>) {
    for _ in 0..10 {
        write(&*store, vec![put("/a", "")]).await;
    }
    let status = store.status();
    assert_eq!((status.oldest, status.revision), (10, 11));
}
