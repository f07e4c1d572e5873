//! The store after power cuts: whole, whatever the disk did with what was not flushed. Needs root, and Debian's e2fsprogs.
#![allow(clippy::expect_used, reason = "tests fail by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "the rig is a process of its own, so that it can have its own mounts"
)]
use std::process::{Command, Output};

fn cut(arguments: &[&str]) -> Output {
    let rig = Command::new(env!("CARGO_BIN_EXE_davit-powercut"))
        .arg("cut")
        .args(arguments)
        .output();
    rig.expect("the rig runs")
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}

/// 20 cuts each with one writer, which syncs each write alone, and with many, whose writes are grouped.
fn stays_whole(unflushed: &str) {
    for (writers, seed) in [("1", "11"), ("48", "12")] {
        let output = cut(&[unflushed, writers, "4000", "20", seed]);
        assert!(output.status.success(), "{}", said(&output));
        assert!(
            said(&output).contains("20 of 20 cuts whole"),
            "{}",
            said(&output)
        );
    }
    assert_eq!(leftovers(), Vec::<String>::new());
}

#[test]
fn nothing_acknowledged_is_lost_when_unflushed_blocks_are_dropped() {
    stays_whole("dropped");
}

#[test]
fn nothing_acknowledged_is_lost_when_unflushed_blocks_are_kept_at_random() {
    stays_whole("random");
}

#[test]
fn nothing_acknowledged_is_lost_when_unflushed_blocks_are_kept() {
    stays_whole("kept");
}

#[test]
fn the_rig_sees_what_a_disk_loses_that_ignores_flushes() {
    let output = cut(&["dropped", "8", "1000", "5", "13", "lying"]);
    let said = said(&output);
    assert!(
        !output.status.success() && said.contains("was acknowledged"),
        "{said}"
    );
}

/// Loop devices and mounts of a rig.
fn leftovers() -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/mounts").expect("the mounts can be read");
    let mounts = mounts.lines().map(str::to_owned);
    let loops = std::fs::read_dir("/sys/block").expect("the block devices can be read");
    let backing = |device: std::fs::DirEntry| {
        std::fs::read_to_string(device.path().join("loop/backing_file")).ok()
    };
    let loops = loops.filter_map(|device| backing(device.ok()?));
    // Other rigs run beside this one; theirs are in use still.
    mounts
        .chain(loops)
        .filter(|line| line.contains("davit-powercut-") && !in_use(line))
        .collect()
}

fn in_use(line: &str) -> bool {
    let name = line
        .split(['/', ' '])
        .find(|part| part.starts_with("davit-powercut-"));
    name.is_some_and(|name| std::env::temp_dir().join(name).exists())
}
