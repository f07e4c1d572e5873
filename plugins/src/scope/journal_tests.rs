//! Crashes, damage and reboots.

use super::*;

fn value(key: &str, value: &str) -> Entry {
    Entry::Value {
        driver: "d".into(),
        key: key.into(),
        value: Some(value.into()),
    }
}

fn open(path: &Path) -> (Journal, Vec<Entry>) {
    Journal::open(path, None).unwrap()
}

#[test]
fn entries_come_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.db");
    {
        let (mut journal, entries) = open(&path);
        assert_eq!(entries, []);
        journal.append(&[value("a", "1"), value("b", "1")]).unwrap();
        journal.append(&[value("a", "2")]).unwrap();
    }
    let (mut journal, entries) = open(&path);
    assert_eq!(entries, [value("a", "1"), value("b", "1"), value("a", "2")]);
    journal.rewrite(&[value("a", "2")]).unwrap();
    journal.append(&[value("c", "1")]).unwrap();
    drop(journal);
    assert_eq!(open(&path).1, [value("a", "2"), value("c", "1")]);
}

#[test]
fn a_cut_at_any_byte_loses_only_the_last_frames() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.db");
    {
        let (mut journal, _) = open(&path);
        for n in 0..4 {
            journal.append(&[value("k", &n.to_string())]).unwrap();
        }
    }
    let whole = std::fs::read(&path).unwrap();
    let mut seen = 0;
    for cut in 0..=whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let (mut journal, entries) = open(&path);
        assert!(entries.len() >= seen, "a longer file has no fewer entries");
        seen = entries.len();
        journal.append(&[value("after", "1")]).unwrap();
        drop(journal);
        let again = open(&path).1;
        assert_eq!(again.len(), seen + 1);
        assert_eq!(again.last(), Some(&value("after", "1")));
    }
    assert_eq!(seen, 4);
}

#[test]
fn damage_before_the_end_is_refused_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.db");
    {
        let (mut journal, _) = open(&path);
        for n in 0..4 {
            journal.append(&[value("k", &n.to_string())]).unwrap();
        }
    }
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = Journal::open(&path, None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("damaged at byte"), "{error}");
}

#[test]
fn unwritten_blocks_at_the_end_are_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.db");
    open(&path).0.append(&[value("k", "1")]).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend([0; 4096]);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(open(&path).1, [value("k", "1")]);
}

#[test]
fn another_boot_voids_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("boot.db");
    Journal::open(&path, Some("boot-1"))
        .unwrap()
        .0
        .append(&[value("k", "1")])
        .unwrap();
    assert_eq!(
        Journal::open(&path, Some("boot-1")).unwrap().1,
        [value("k", "1")]
    );
    assert_eq!(Journal::open(&path, Some("boot-2")).unwrap().1, []);
    assert_eq!(Journal::open(&path, Some("boot-1")).unwrap().1, []);
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.db");
    let _first = open(&path);
    let error = Journal::open(&path, None).unwrap_err();
    assert!(error.to_string().contains("another davit"), "{error}");
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.db");
    std::fs::write(
        &path,
        frame(&Header {
            format: 2,
            boot: String::new(),
        })
        .unwrap(),
    )
    .unwrap();
    let error = Journal::open(&path, None).unwrap_err();
    assert!(error.to_string().contains("newer davit"), "{error}");
}
