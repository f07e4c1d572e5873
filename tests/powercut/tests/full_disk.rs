//! The store on a disk that fills up: writes fail with a clear error, reads go on, and so do writes when there is room again.
//! Needs root.
#![allow(clippy::expect_used, reason = "tests fail by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "a process of its own, so that it can have its own mounts"
)]
use std::process::Command;

fn fill(how: &str) {
    let rig = Command::new(env!("CARGO_BIN_EXE_davit-powercut"))
        .args(["full", how])
        .output();
    let output = rig.expect("the rig runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_store_stops_before_the_disk_is_full_and_goes_on_with_room() {
    fill("reserve");
}

#[test]
fn a_disk_that_fills_under_a_commit_stops_writing_until_there_is_room() {
    fill("none");
}

#[test]
fn a_full_store_is_freed_by_deleting() {
    fill("delete");
}
