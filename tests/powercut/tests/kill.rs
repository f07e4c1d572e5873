//! The store after `kill -9` in the middle of many writes, over and over on the same directory.
#![allow(clippy::expect_used, reason = "tests fail by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "what is killed must be a process of its own"
)]
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use davit_apiserver::storage::{Options, open_sled};
use davit_powercut::block_log::Chance;
use davit_powercut::workload;
use futures::StreamExt;

const ROUNDS: u64 = 20;
const WRITERS: usize = 32;

/// Lets writers go on until so many steps were acknowledged, kills them, and answers the last acknowledged step of each that
/// had one.
fn write_and_kill(dir: &Path, enough: u64) -> BTreeMap<usize, u64> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_davit-powercut"));
    command
        .arg("write")
        .arg(dir)
        .args([&WRITERS.to_string(), "1000000"]);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("the writers start");
    let mut out = BufReader::new(child.stdout.take().expect("it has an output"));
    let mut acked = BTreeMap::new();
    let mut line = String::new();
    let mut seen = 0;
    while out.read_line(&mut line).expect("the output is text") > 0 {
        // A last line that was cut short says nothing.
        let step = line
            .strip_suffix('\n')
            .and_then(|line| line.split_once(' '));
        if let Some((writer, step)) = step {
            acked.insert(
                writer.parse().expect("a writer"),
                step.parse().expect("a step"),
            );
        }
        seen += 1;
        if seen == enough {
            child.kill().expect("the writers can be killed");
        }
        line.clear();
    }
    child.wait().expect("the writers end");
    acked
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
        let acked = write_and_kill(dir.path(), 1 + Chance(round).below(600));
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
        acknowledged > ROUNDS * 50,
        "only {acknowledged} writes were acknowledged"
    );
}
