//! Restarts, damage and other people's directories.
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use tempfile::TempDir;

use super::super::contract::{delete, put, write};
use super::super::{Error, Options, Range, Store, backup, open_sled, restore};
use super::database_dir;

fn open(dir: &Path) -> Arc<dyn Store> {
    open_sled(dir, &Options::default()).unwrap()
}

fn refused(dir: &Path) -> Error {
    open_sled(dir, &Options::default()).map(|_| ()).unwrap_err()
}

/// A closed store whose revision 201 has 50 keys, a tenth of them large, after deletions and a compaction.
async fn filled() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..200_usize {
        let size = if n % 10 == 0 { 100_000 } else { 2_000 };
        let key = format!("/k/{:02}", n % 51);
        write(&*store, vec![put(&key, noise(n as u64, size))]).await;
    }
    write(&*store, vec![delete("/k/50")]).await;
    store.compact(150).await.unwrap();
    dir
}

/// Bytes that cannot be compressed.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(byte).take(size).collect()
}

async fn contents(store: &dyn Store) -> Vec<(Arc<str>, u64, usize, u8)> {
    let found = store.range(Range::default()).await.unwrap().kvs;
    found
        .into_iter()
        .map(|kv| (kv.key, kv.mod_revision, kv.value.len(), kv.value[0]))
        .collect()
}

#[tokio::test]
async fn a_restart_keeps_keys_revisions_and_history() {
    let dir = filled().await;
    let store = open(dir.path());
    assert_eq!(
        (store.revision(), store.status().oldest, store.status().keys),
        (202, 150, 50)
    );
    let before = contents(&*store).await;
    let events = store
        .watch("/k/", 150)
        .unwrap()
        .next()
        .await
        .unwrap()
        .unwrap();
    let revisions: Vec<_> = events.iter().map(|event| event.revision()).collect();
    assert_eq!(revisions, (151..=202).collect::<Vec<_>>());
    drop(store);
    let store = open(dir.path());
    assert_eq!(contents(&*store).await, before);
    assert_eq!(write(&*store, vec![put("/k/50", "x")]).await, 203);
}

#[tokio::test]
async fn a_restart_keeps_the_times_of_revisions() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut times = Vec::new();
    for _ in 0..3 {
        let revision = write(&*store, vec![put("/k/a", noise(1, 10))]).await;
        times.push((revision, SystemTime::now()));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    store.compact(times[1].0).await.unwrap();
    let (oldest, known) = (store.status().oldest_time, |store: &dyn Store| {
        times
            .clone()
            .into_iter()
            .map(|(_, time)| store.revision_at(time))
            .collect::<Vec<_>>()
    });
    let expected = vec![None, Some(times[1].0), Some(times[2].0)];
    assert_eq!(known(&*store), expected);
    drop(store);
    let store = open(dir.path());
    assert_eq!(known(&*store), expected);
    assert_eq!(store.status().oldest_time, oldest);
    store.rewrite().await.unwrap();
    drop(store);
    assert_eq!(known(&*open(dir.path())), expected);
}

#[tokio::test]
async fn sled_never_makes_files_that_it_does_not_sync() {
    let dir = filled().await;
    let store = open(dir.path());
    for n in 0..200_usize {
        write(
            &*store,
            vec![put(&format!("/l/{}", n % 7), noise(1, n * 1_500))],
        )
        .await;
    }
    drop(store);
    let blobs = fs::read_dir(database_dir(dir.path(), 1).join("blobs")).unwrap();
    assert_eq!(blobs.count(), 0);
}

#[tokio::test]
async fn a_directory_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = refused(dir.path());
    assert!(matches!(error, Error::Locked { holder: Some(pid), .. } if pid == std::process::id()));
    assert!(error.to_string().contains("--data-dir"), "{error}");
    drop(store);
    open(dir.path());
}

#[tokio::test]
async fn a_newer_format_is_left_alone() {
    let dir = filled().await;
    let format = dir.path().join("format");
    fs::write(&format, "davit store\nformat 5\nsomething else\n").unwrap();
    assert!(matches!(
        refused(dir.path()),
        Error::TooNew {
            found: 5,
            supported: 4,
            ..
        }
    ));
    fs::write(&format, "PNG").unwrap();
    assert!(matches!(refused(dir.path()), Error::Corrupt { .. }));
}

#[tokio::test]
async fn an_older_database_is_refused() {
    let dir = filled().await;
    let database = database_dir(dir.path(), 1);
    let copy = dir.path().join("copy");
    copy_dir(&database, &copy);
    let store = open(dir.path());
    write(&*store, vec![put("/new", "x")]).await;
    drop(store);
    fs::remove_dir_all(&database).unwrap();
    fs::rename(&copy, &database).unwrap();
    let error = refused(dir.path());
    assert!(
        matches!(
            error,
            Error::Stale {
                found: 202,
                expected: 203,
                ..
            }
        ),
        "{error}"
    );
    fs::write(dir.path().join("accept-loss"), "").unwrap();
    assert_eq!(open(dir.path()).revision(), 202);
    assert_eq!(write(&*open(dir.path()), vec![put("/new", "x")]).await, 203);
    assert!(!dir.path().join("accept-loss").exists());
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn missing_parts_are_named() {
    for (part, said) in [
        ("format", "format file is missing"),
        ("mark", "mark of the highest revision is missing"),
        ("sled-1", "database is missing"),
        ("sled-1/db", "database is missing"),
        ("sled-1/log-1", "log is missing"),
    ] {
        let dir = filled().await;
        let path = dir.path().join(part);
        if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
        .unwrap();
        let error = refused(dir.path());
        assert!(
            matches!(error, Error::Corrupt { .. }) && error.to_string().contains(said),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_interrupted_making_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    fs::remove_file(dir.path().join("format")).unwrap();
    super::mark::Mark::create(dir.path()).unwrap();
    fs::write(database_dir(dir.path(), 1).join("db"), "half").unwrap();
    let store = open(dir.path());
    assert_eq!(write(&*store, vec![put("/a", "")]).await, 2);
}

/// Whatever happens to the database file, it is opened whole or refused with words, and never with a panic.
#[tokio::test]
async fn damage_is_refused_or_does_not_matter() {
    let dir = filled().await;
    let before = contents(&*open(dir.path())).await;
    let pristine = tempfile::tempdir().unwrap();
    let saved = pristine.path().join("saved");
    copy_dir(dir.path(), &saved);
    let length = fs::metadata(saved.join("sled-1/db")).unwrap().len();
    let mut refusals = 0;
    for n in 0..40_u64 {
        fs::remove_dir_all(dir.path()).unwrap();
        copy_dir(&saved, dir.path());
        let file = OpenOptions::new()
            .write(true)
            .open(dir.path().join("sled-1/db"))
            .unwrap();
        let at = length * n / 40;
        match n % 4 {
            0 => file.set_len(at).unwrap(),
            1 => file.write_all_at(&[0xff], at).unwrap(),
            2 => file.write_all_at(&[0; 4096], at).unwrap(),
            _ => file.write_all_at(&[0x5a; 64], at).unwrap(),
        }
        match open_sled(dir.path(), &Options::default()) {
            Ok(store) => assert!(
                contents(&*store).await == before,
                "damage {n} went unnoticed"
            ),
            Err(
                Error::Corrupt { .. }
                | Error::Stale { .. }
                | Error::Io { .. }
                | Error::Database { .. },
            ) => {
                refusals += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refusals >= 10, "only {refusals} of 40 were noticed");
}

#[tokio::test]
async fn a_full_disk_is_refused_before_anything_is_touched() {
    let dir = filled().await;
    let options = Options {
        reserve_bytes: u64::MAX,
        ..Options::default()
    };
    let store = open_sled(dir.path(), &options).unwrap();
    let op = put("/k/00", "x");
    let error = store
        .txn(super::super::Txn {
            compares: vec![],
            deletion: false,
            ops: vec![op],
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(store.status().write_fault.is_none());
    assert_eq!((store.revision(), store.status().keys), (202, 50));
    drop(store);
    assert_eq!(
        write(&*open(dir.path()), vec![put("/k/00", "x")]).await,
        203
    );
}

#[tokio::test]
async fn a_backup_restores_everything_elsewhere() {
    let dir = filled().await;
    let store = open(dir.path());
    let mut bytes = Vec::new();
    let made = backup(&*store, None, &mut bytes).await.unwrap();
    assert_eq!((made.revision, made.keys), (202, 50));

    let other = tempfile::tempdir().unwrap();
    let target = other.path().join("new/store");
    let options = Options::default();
    assert_eq!(restore(&target, &mut &bytes[..], &options).unwrap(), made);
    let restored = open(&target);
    assert_eq!(contents(&*restored).await, contents(&*store).await);
    assert_eq!((restored.revision(), restored.status().oldest), (202, 202));
    assert_eq!(write(&*restored, vec![put("/a", "")]).await, 203);
    drop(restored);
    let error = restore(&target, &mut &bytes[..], &options).unwrap_err();
    assert!(matches!(error, Error::Occupied { .. }));

    let bad = other.path().join("bad");
    for length in [0, 10, 30, 50, 1_000, bytes.len() - 1] {
        let error = restore(&bad, &mut &bytes[..length], &options).unwrap_err();
        assert!(matches!(error, Error::BadBackup { .. }), "{error}");
    }
    for at in [0, 16, 24, 39, 60, 2_000] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        let error = restore(&bad, &mut &flipped[..], &options).unwrap_err();
        assert!(matches!(error, Error::BadBackup { .. }), "at {at}: {error}");
    }
    assert!(!bad.exists());
}
