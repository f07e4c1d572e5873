//! Parts that end, logs that block, names that are told once.

use std::time::Duration;

use tokio::sync::Mutex;

use super::*;

#[tokio::test]
async fn a_part_that_ends_is_no_longer_up() {
    let health = Arc::new(Health::default());
    assert!(health.of(Part::Definitions).is_err());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    health.run(Part::Definitions, async move {
        let _ = ended.await;
        panic!("a part that breaks");
    });
    assert_eq!(health.of(Part::Definitions), Ok(()));
    drop(end);
    while health.of(Part::Definitions).is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(health.of(Part::Cache).is_err() && !health.all_up());
}

#[tokio::test]
async fn a_log_that_blocks_fails_every_look_at_it() {
    static LOOKING: Mutex<()> = Mutex::const_new(());
    let (free, blocked) = std::sync::mpsc::channel::<()>();
    let brief = Duration::from_millis(20);
    let look = move || {
        let _ = blocked.recv();
    };
    assert!(log::probe(&LOOKING, brief, look).await.is_err());
    assert!(log::probe(&LOOKING, brief, || {}).await.is_err());
    drop(free);
    let long = Duration::from_secs(10);
    assert_eq!(log::probe(&LOOKING, long, || {}).await, Ok(()));
}

#[test]
fn names_are_told_once() {
    let mut names: Vec<&str> = HOOKS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), HOOKS.len());
}
