//! Sealed values on disk: nothing readable, nothing exchangeable, old keys and unsealed stores still open.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::super::contract::{put, write};
use super::super::{Error, KeyValue, Options, Store, backup, open_sled, restore};
use super::Keyring;

const SECRET: &str = "/registry/core/secrets/a/b";
const TEXT: &str = "correct horse battery staple";

fn ring(dir: &Path) -> Arc<Keyring> {
    let prefixes = vec!["/registry/core/secrets/".to_owned()];
    Keyring::load_or_create(&dir.join("pki/encryption.keys"), prefixes).unwrap()
}

fn options(dir: &Path) -> Options {
    Options {
        seal: Some(ring(dir)),
        ..Options::default()
    }
}

fn open(dir: &Path) -> Arc<dyn Store> {
    open_sled(&dir.join("store"), &options(dir)).unwrap()
}

fn refused(dir: &Path) -> Error {
    let opened = open_sled(&dir.join("store"), &options(dir));
    opened.map(|_| ()).unwrap_err()
}

/// Whether any file of the store has the secret's text.
fn shows(dir: &Path) -> bool {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.into_iter().any(|path| match path.is_dir() {
        true => shows(&path),
        false => contains(&fs::read(&path).unwrap()),
    })
}

fn contains(bytes: &[u8]) -> bool {
    bytes
        .windows(TEXT.len())
        .any(|part| part == TEXT.as_bytes())
}

async fn filled() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    write(
        &*store,
        vec![
            put(SECRET, TEXT),
            put("/registry/core/configmaps/a/b", "plain"),
        ],
    )
    .await;
    dir
}

async fn text(store: &dyn Store) -> String {
    let kv = store.get(SECRET, None).await.unwrap().unwrap();
    String::from_utf8(kv.value.to_vec()).unwrap()
}

#[tokio::test]
async fn a_secret_is_read_after_a_restart_but_never_on_the_disk() {
    let dir = filled().await;
    assert!(!shows(dir.path()));
    let store = open(dir.path());
    assert_eq!(text(&*store).await, TEXT);
    let mut copy = Vec::new();
    let seal = ring(dir.path());
    backup(&*store, Some(&seal), &mut copy).await.unwrap();
    assert!(!contains(&copy));
    let target = dir.path().join("restored");
    restore(&target, &mut &copy[..], &options(dir.path())).unwrap();
    let restored = open_sled(&target, &options(dir.path())).unwrap();
    assert_eq!(text(&*restored).await, TEXT);
    let file = dir.path().join("pki/encryption.keys");
    assert_eq!(
        fs::metadata(file).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn a_store_without_sealed_values_opens_and_is_sealed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_sled(&dir.path().join("store"), &Options::default()).unwrap();
    write(&*store, vec![put(SECRET, TEXT)]).await;
    drop(store);
    assert!(shows(dir.path()));
    drop(open(dir.path()));
    assert!(!shows(dir.path()));
    assert_eq!(text(&*open(dir.path())).await, TEXT);
}

#[tokio::test]
async fn a_rotation_seals_everything_with_the_new_key() {
    let dir = filled().await;
    let options = options(dir.path());
    let store = open_sled(&dir.path().join("store"), &options).unwrap();
    let seal = options.seal.unwrap();
    seal.rotate().unwrap();
    store.rewrite().await.unwrap();
    drop(store);
    // The old key is of no use any more.
    let file = dir.path().join("pki/encryption.keys");
    let lines = fs::read_to_string(&file).unwrap();
    let (kept, old) = lines.trim_end().rsplit_once('\n').unwrap();
    fs::write(&file, kept).unwrap();
    assert_eq!(text(&*open(dir.path())).await, TEXT);
    // The new one is needed.
    fs::write(&file, old).unwrap();
    assert!(matches!(refused(dir.path()), Error::Sealed { .. }));
}

#[tokio::test]
async fn a_rotation_that_was_interrupted_is_completed_at_the_next_start() {
    let dir = filled().await;
    ring(dir.path()).rotate().unwrap();
    drop(open(dir.path()));
    let file = dir.path().join("pki/encryption.keys");
    let lines = fs::read_to_string(&file).unwrap();
    let (kept, _) = lines.trim_end().rsplit_once('\n').unwrap();
    fs::write(&file, kept).unwrap();
    assert_eq!(text(&*open(dir.path())).await, TEXT);
}

#[tokio::test]
async fn a_missing_or_damaged_key_file_is_one_clear_error() {
    let dir = filled().await;
    let file = dir.path().join("pki/encryption.keys");
    let keys = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, Error::Sealed { .. }), "{error}");
    assert!(error.to_string().contains("encryption.keys"), "{error}");
    assert!(!file.exists(), "a wrong file was made");
    let without = open_sled(&dir.path().join("store"), &Options::default()).map(|_| ());
    assert!(matches!(without, Err(Error::Sealed { .. })));
    for damaged in ["", "x", "0 0 0", &keys[..keys.len() - 9]] {
        fs::write(&file, damaged).unwrap();
        let loaded = Keyring::load_or_create(&file, Vec::new()).map(|_| ());
        assert!(matches!(loaded, Err(Error::Keys { .. })), "{damaged:?}");
    }
    fs::write(&file, keys).unwrap();
    assert_eq!(text(&*open(dir.path())).await, TEXT);
}

#[test]
fn a_sealed_value_opens_in_its_own_place_only() {
    let dir = tempfile::tempdir().unwrap();
    let ring = ring(dir.path());
    let kv = KeyValue {
        key: SECRET.into(),
        value: TEXT.into(),
        create_revision: 3,
        mod_revision: 5,
        version: 2,
    };
    let sealed = ring.seal(&kv).unwrap();
    assert_eq!(ring.open(&kv, &sealed).unwrap(), (TEXT.into(), true));
    assert_ne!(sealed, ring.seal(&kv).unwrap());
    let other = |change: fn(&mut KeyValue)| {
        let mut kv = kv.clone();
        change(&mut kv);
        ring.open(&kv, &sealed)
    };
    assert!(other(|kv| kv.key = "/registry/core/secrets/a/c".into()).is_err());
    assert!(other(|kv| kv.mod_revision = 6).is_err());
    assert!(other(|kv| kv.create_revision = 2).is_err());
    assert!(other(|kv| kv.version = 3).is_err());
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(ring.open(&kv, &changed).is_err(), "byte {at}");
        assert!(ring.open(&kv, &sealed[..at]).is_err(), "length {at}");
    }
}
