//! The store after `kill -9` in the middle of many writes, over and over on the same directory.
#![allow(clippy::expect_used, reason = "tests fail by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "what is killed must be a process of its own"
)]
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use davit_apiserver::storage::{Options, open_sled};
use davit_powercut::block_log::Chance;
use davit_powercut::workload;
use futures::StreamExt;

const ROUNDS: u64 = 20;
const WRITERS: usize = 64;

/// Lets writers go on for a moment, kills them, and answers the last acknowledged step of each that had one.
fn write_and_kill(dir: &Path, moment: Duration) -> BTreeMap<usize, u64> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_davit-powercut"))
        .args([
            "write",
            dir.to_str().expect("a path in text"),
            &WRITERS.to_string(),
            "1000000",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the writers start");
    let mut out = child.stdout.take().expect("it has an output");
    let reader = std::thread::spawn(move || {
        let mut lines = String::new();
        out.read_to_string(&mut lines).map(|_| lines)
    });
    std::thread::sleep(moment);
    child.kill().expect("the writers can be killed");
    child.wait().expect("the writers end");
    let lines = reader
        .join()
        .expect("the reader ends")
        .expect("the output is text");
    let acked = lines.split_inclusive('\n').filter_map(|line| {
        let (writer, step) = line.strip_suffix('\n')?.split_once(' ')?;
        Some((writer.parse().ok()?, step.parse().ok()?))
    });
    acked.collect()
}

#[tokio::test]
async fn every_acknowledged_write_is_there_and_watches_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options {
        history_bytes: 1 << 30,
        ..Options::default()
    };
    let mut reached = vec![0; WRITERS];
    let mut revision = 1;
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let moment = Duration::from_millis(100 + Chance(round).below(200));
        let acked = write_and_kill(dir.path(), moment);
        for (writer, step) in acked {
            acknowledged += step - reached[writer];
            reached[writer] = step;
        }
        let store = open_sled(dir.path(), &options).expect("the store opens");
        reached = workload::check(&*store, &reached)
            .await
            .expect("nothing acknowledged is lost");
        assert!(store.revision() >= revision, "the revision went back");
        if store.revision() > revision {
            let events = store
                .watch("/w/", revision)
                .expect("the history is there")
                .next()
                .await;
            let events = events.expect("there are events").expect("the watch works");
            let mut seen: Vec<u64> = events.iter().map(|event| event.revision()).collect();
            seen.dedup();
            assert_eq!(seen, (revision + 1..=store.revision()).collect::<Vec<_>>());
        }
        revision = store.revision();
    }
    assert!(
        acknowledged > ROUNDS * 100,
        "only {acknowledged} writes were acknowledged"
    );
}
