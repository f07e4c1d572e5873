//! What the store asks of the kernel, seen from outside: real syncs, and none of those that are not. Needs Debian's strace.
#![allow(clippy::expect_used, reason = "tests fail by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "what is traced must be a process of its own"
)]
use std::process::Command;

const STEPS: usize = 50;

#[test]
fn each_acknowledged_write_follows_a_real_sync() {
    let dir = tempfile::tempdir().expect("a directory");
    let trace = dir.path().join("trace");
    let store = dir.path().join("new/store");
    let calls = "trace=fsync,fdatasync,sync_file_range,write";
    let traced = Command::new("strace")
        .args(["-f", "-y", "-s", "8", "-e", calls, "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_davit-powercut"))
        .args([
            "write".as_ref(),
            store.as_os_str(),
            "1".as_ref(),
            STEPS.to_string().as_ref(),
        ])
        .output()
        .expect("strace is installed");
    assert!(
        traced.status.success(),
        "{}",
        String::from_utf8_lossy(&traced.stderr)
    );
    let acks = String::from_utf8(traced.stdout).expect("the acknowledgements are text");
    assert_eq!(acks.lines().count(), STEPS);

    let trace = std::fs::read_to_string(&trace).expect("strace wrote its trace");
    assert!(
        !trace.contains("sync_file_range"),
        "sled reached libc's sync_file_range"
    );
    let at = |what: &str, call: &str| {
        let lines = trace.lines().enumerate();
        let found = lines.filter(|(_, line)| line.contains(call) && line.contains(what));
        found.map(|(number, _)| number).collect::<Vec<_>>()
    };
    // One writer: between any two acknowledgements lies a sync of its own.
    let syncs = at("sled-1/log-", "fdatasync(");
    let acks = at("\\n", "write(1<");
    assert_eq!(acks.len(), STEPS);
    for pair in acks.windows(2) {
        let between = syncs.iter().any(|sync| (pair[0]..pair[1]).contains(sync));
        assert!(between, "no sync between the lines {pair:?} of\n{trace}");
    }
    // The entries of new directories and files are safe before the first write is acknowledged.
    for made in ["new>", "new/store>", "new/store/sled-1>"] {
        let synced = at(made, "fsync(");
        assert!(
            synced.first().is_some_and(|&at| at < acks[0]),
            "{made} is not synced\n{trace}"
        );
    }
}
