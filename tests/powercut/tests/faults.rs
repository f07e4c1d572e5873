//! The store when its disk stops, is full or fails once at any step of making, opening, writing, rotating keys and log, rewriting, backing
//! up, restoring and stopping. Needs root.
#![allow(clippy::expect_used, reason = "tests fail by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "the rig is a process of its own, so that it can have its own mounts"
)]
use std::process::Command;

const LIVES: &str = "60";

fn opens_again(fault: &str, seed: &str) {
    let rig = Command::new(env!("CARGO_BIN_EXE_davit-powercut"))
        .args(["faults", fault, LIVES, seed])
        .output();
    let output = rig.expect("the rig runs");
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy);
    let whole = format!("{LIVES} of {LIVES} stores open again");
    assert!(
        output.status.success() && said[0].contains(&whole),
        "{}",
        said.concat()
    );
}

#[test]
fn a_store_that_is_killed_opens_again() {
    opens_again("kill", "21");
}

#[test]
fn a_store_on_a_disk_that_fills_up_opens_again() {
    opens_again("full", "22");
}

#[test]
fn a_store_whose_disk_fails_once_opens_again() {
    opens_again("once", "24");
}
