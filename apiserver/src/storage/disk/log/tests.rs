//! What a log gives back after a crash.
use tempfile::TempDir;

use super::*;

const FULL: u64 = 4 << 20;

fn reopen(dir: &TempDir) -> Opened {
    Log::open(dir.path(), FULL).unwrap().unwrap()
}

fn file(dir: &TempDir, epoch: u64) -> File {
    let path = dir.path().join(NAMES[(epoch % 2) as usize]);
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

/// A log with a few small frames, their payloads in order.
fn small(dir: &TempDir, settled: Number) -> Vec<Vec<u8>> {
    let mut log = Log::create(dir.path(), FULL).unwrap();
    let payloads: Vec<_> = (1..=5_u8).map(|n| vec![n; 3000 * usize::from(n)]).collect();
    for payload in &payloads {
        log.append(payload, settled).unwrap();
    }
    payloads
}

/// A log whose first file is full and whose second has a frame.
fn turned(dir: &TempDir) -> Log {
    let mut log = Log::create(dir.path(), FULL).unwrap();
    for n in 1..=4_u8 {
        assert_eq!(log.awaits(), None);
        log.append(&vec![n; 1 << 20], 0).unwrap();
    }
    assert_eq!(log.awaits(), Some(0));
    log.append(&[5], 0).unwrap();
    log
}

#[test]
fn what_was_appended_comes_back_but_for_what_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let payloads = small(&dir, 0);
    assert_eq!(reopen(&dir).unsettled, payloads);
    let mut log = reopen(&dir).log;
    assert_eq!(log.append(&[9], 5).unwrap(), 6);
    assert_eq!(reopen(&dir).unsettled, [[9]]);
    log.append(&[], 6).unwrap();
    let opened = reopen(&dir);
    assert_eq!((opened.unsettled.len(), opened.log.number()), (0, 7));
}

#[test]
fn a_frame_that_was_not_finished_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let payloads = small(&dir, 0);
    // The last frame begins at the block after the others.
    file(&dir, 1)
        .write_all_at(&[0xff], 4096 * (1 + 2 + 3 + 3) + 100)
        .unwrap();
    let opened = reopen(&dir);
    assert_eq!(opened.unsettled, payloads[..4]);
    // Its number is given again, in the other file.
    let mut log = opened.log;
    assert_eq!(log.append(&[9], 4).unwrap(), 5);
    assert_eq!(reopen(&dir).unsettled, [[9]]);
}

#[test]
fn a_file_is_written_over_only_when_all_in_it_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = turned(&dir);
    let firsts: Vec<u8> = reopen(&dir)
        .unsettled
        .iter()
        .map(|payload| payload[0])
        .collect();
    assert_eq!(firsts, [1, 2, 3, 4, 5]);
    log.append(&vec![6; 5 << 20], 0).unwrap();
    assert_eq!(log.awaits(), Some(4));
    log.append(&[7], 3).unwrap_err();
    log.append(&[7], 4).unwrap();
    let firsts: Vec<u8> = reopen(&dir)
        .unsettled
        .iter()
        .map(|payload| payload[0])
        .collect();
    assert_eq!(firsts, [5, 6, 7]);
}

/// The frame before it still says that nothing was settled when it was written.
#[test]
fn a_first_frame_that_was_not_finished_takes_only_settled_ones_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = turned(&dir);
    log.append(&vec![6; 5 << 20], 0).unwrap();
    log.append(&[7], 6).unwrap();
    file(&dir, 3).write_all_at(&[0xff; 64], 0).unwrap();
    let firsts: Vec<u8> = reopen(&dir)
        .unsettled
        .iter()
        .map(|payload| payload[0])
        .collect();
    assert_eq!(firsts, [5, 6]);
}

#[test]
fn damage_between_frames_is_told_from_an_end() {
    let dir = tempfile::tempdir().unwrap();
    turned(&dir);
    file(&dir, 1)
        .write_all_at(&[0xff], (2 << 20) + 50_000)
        .unwrap();
    let error = Log::open(dir.path(), FULL).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("what follows commit 2 is missing"),
        "{error}"
    );
}

#[test]
fn there_is_no_log_unless_both_files_are_there() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Log::open(dir.path(), FULL).unwrap().is_none());
    small(&dir, 0);
    std::fs::remove_file(dir.path().join(NAMES[0])).unwrap();
    assert!(Log::open(dir.path(), FULL).unwrap().is_none());
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(40))]
    #[test]
    fn damage_never_brings_what_was_not_written(at in 0..60_000_u64, byte in proptest::arbitrary::any::<u8>(), length in 0..60_000_u64) {
        let dir = tempfile::tempdir().unwrap();
        let payloads = small(&dir, 0);
        let file = file(&dir, 1);
        file.write_all_at(&[byte; 9], at).unwrap();
        file.set_len(length.max(at)).unwrap();
        let found = reopen(&dir).unsettled;
        proptest::prop_assert!(payloads.starts_with(&found));
    }
}
