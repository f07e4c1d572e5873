//! Plans carried out in a temporary directory and a private mount namespace (root only).

use davit_plugins::plan::{Owner, ScopeId};

use super::*;

fn context(scope: ScopeId) -> ScopeContext {
    ScopeContext {
        scope,
        driver: "local-path.davit.dev".into(),
        netns: None,
    }
}

fn directory(root: &Path, path: &str) -> StorageOp {
    StorageOp::Directory {
        key: "data".into(),
        root: Root {
            name: "volumes".into(),
            path: root.to_owned(),
        },
        path: path.into(),
        owner: Owner {
            uid: 1,
            gid: 2,
            mode: 0o2770,
        },
        data: true,
    }
}

fn storage(folder: &Path) -> Storage {
    Storage::new(folder.join("mounts"))
}

#[tokio::test]
async fn a_volume_is_made_kept_and_destroyed_with_its_scope() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("volumes");
    let storage = storage(folder.path());
    let cx = context(ScopeId::volume("pvc-1"));
    let plan = [directory(&root, "a/pvc-1")];
    storage.ensure(&cx, &plan).await.unwrap();
    let meta = std::fs::metadata(root.join("a/pvc-1")).unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (1, 2, 0o2770)
    );
    std::fs::write(root.join("a/pvc-1/file"), "x").unwrap();
    storage.ensure(&cx, &plan).await.unwrap();
    assert!(root.join("a/pvc-1/file").exists());
    assert_eq!(storage.read_back(&cx, &plan).await.unwrap(), []);

    let other = context(ScopeId::volume("pvc-2"));
    let refused = storage.ensure(&other, &plan).await.unwrap_err();
    assert_eq!(refused.error.kind, ActErrorKind::Occupied);
    assert!(
        !storage.undo(&other, &plan).await.is_empty(),
        "not its data to destroy"
    );
    assert!(root.join("a/pvc-1/file").exists());

    assert!(storage.undo(&cx, &plan).await.is_empty());
    assert_eq!(std::fs::read_dir(root.join("a")).unwrap().count(), 0);
    assert_eq!(storage.read_back(&cx, &plan).await.unwrap().len(), 1);
    assert!(storage.undo(&cx, &plan).await.is_empty(), "gone is fine");
}

#[tokio::test]
async fn links_and_strangers_data_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("volumes");
    std::fs::create_dir_all(root.join("theirs")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
    let storage = storage(folder.path());
    let cx = context(ScopeId::volume("pvc-1"));
    for path in ["link/pvc", "link", "theirs", "../out", ""] {
        let plan = [directory(&root, path)];
        assert!(storage.ensure(&cx, &plan).await.is_err(), "{path:?}");
    }
    assert!(!Path::new("/etc/pvc").exists());
    assert!(!folder.path().join("out").exists());
}

#[test]
fn mounts_are_marked_and_collected() {
    let thread = std::thread::spawn(|| {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let storage = storage(folder.path());
            let cx = context(ScopeId::stage("pvc-1"));
            let plan = [StorageOp::Tmpfs {
                key: "t".into(),
                bytes: 1 << 20,
                options: Vec::new(),
            }];
            storage.ensure(&cx, &plan).await.unwrap();
            storage.ensure(&cx, &plan).await.unwrap();
            assert_eq!(storage.read_back(&cx, &plan).await.unwrap(), []);
            assert!(storage.collect(&|_| true).await.unwrap().is_empty());
            let removed = storage.collect(&|_| false).await.unwrap();
            assert_eq!(removed, [cx.mark()]);
            assert_eq!(storage.read_back(&cx, &plan).await.unwrap().len(), 1);
            assert!(storage.undo(&cx, &plan).await.is_empty());
        });
    });
    thread.join().unwrap();
}

/// Runs a test in a mount namespace of its own.
fn in_own_mounts<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(test());
    });
    thread.join().unwrap();
}

#[test]
fn what_a_pod_gets_can_neither_raise_rights_nor_hold_devices() {
    in_own_mounts(|| async {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("volumes");
        let storage = storage(folder.path());
        let volume = context(ScopeId::volume("pvc-1"));
        let made = [directory(&root, "a/pvc-1")];
        storage.ensure(&volume, &made).await.unwrap();
        for (read_only, uid) in [(false, "one"), (true, "two")] {
            let cx = context(ScopeId::publish("pvc-1", uid));
            let plan = [StorageOp::Expose {
                source: Source {
                    scope: volume.scope.clone(),
                    key: "data".into(),
                    location: made[0].location().unwrap(),
                },
                sub_path: String::new(),
                read_only,
            }];
            assert_eq!(storage.read_back(&cx, &plan).await.unwrap().len(), 1);
            storage.ensure(&cx, &plan).await.unwrap();
            storage.ensure(&cx, &plan).await.unwrap();
            assert_eq!(storage.read_back(&cx, &plan).await.unwrap(), []);
            let path = storage.exposed(&cx, &plan[0]).await.unwrap();
            let flags = nix::sys::statvfs::statvfs(&path).unwrap().flags();
            use nix::sys::statvfs::FsFlags;
            assert!(flags.contains(FsFlags::ST_NOSUID | FsFlags::ST_NODEV));
            assert_eq!(flags.contains(FsFlags::ST_RDONLY), read_only);
            assert_eq!(std::fs::write(path.join("file"), "x").is_err(), read_only);
            assert!(storage.undo(&cx, &plan).await.is_empty());
            assert!(!path.exists());
        }
        assert!(root.join("a/pvc-1/file").exists());
        // A link in the place of the directory leads nowhere.
        std::fs::remove_dir_all(root.join("a/pvc-1")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("a/pvc-1")).unwrap();
        let cx = context(ScopeId::publish("pvc-1", "three"));
        let plan = [StorageOp::Expose {
            source: Source {
                scope: volume.scope.clone(),
                key: "data".into(),
                location: made[0].location().unwrap(),
            },
            sub_path: String::new(),
            read_only: false,
        }];
        assert!(storage.ensure(&cx, &plan).await.is_err());
    });
}

#[test]
fn memory_has_an_end() {
    in_own_mounts(|| async {
        let folder = tempfile::tempdir().unwrap();
        let storage = storage(folder.path());
        let cx = context(ScopeId::stage("pvc-1"));
        let plan = |bytes| {
            [StorageOp::Tmpfs {
                key: "t".into(),
                bytes,
                options: Vec::new(),
            }]
        };
        for bytes in [0, u64::MAX, u64::MAX - 1, 1 << 60] {
            let refused = storage.ensure(&cx, &plan(bytes)).await.unwrap_err();
            assert_eq!(refused.error.kind, ActErrorKind::Exhausted, "{bytes}");
            assert!(storage.undo(&cx, &plan(bytes)).await.is_empty());
        }
        storage.ensure(&cx, &plan(1 << 20)).await.unwrap();
        assert_eq!(storage.read_back(&cx, &plan(1 << 20)).await.unwrap(), []);
        let other = storage.read_back(&cx, &plan(1 << 19)).await.unwrap();
        assert!(other[0].what.contains("can hold"), "{other:?}");
        assert!(storage.undo(&cx, &plan(1 << 20)).await.is_empty());
    });
}

#[tokio::test]
async fn a_directory_without_data_can_be_made_twice_and_what_is_used_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("volumes");
    let storage = storage(folder.path());
    let cx = context(ScopeId::publish("pvc-1", "uid"));
    let mut plan = [directory(&root, "work")];
    if let StorageOp::Directory { data, .. } = &mut plan[0] {
        *data = false;
    }
    storage.ensure(&cx, &plan).await.unwrap();
    storage.ensure(&cx, &plan).await.unwrap();
    std::fs::write(root.join("work/file"), vec![1; 100_000]).unwrap();
    let (granted, _) = plan[0].path().unwrap();
    let used = storage.used_bytes(granted, &[]).await.unwrap();
    assert!((100_000..1_000_000).contains(&used), "{used}");
    let rest = storage.used_bytes(granted, &["work"]).await.unwrap();
    assert!(rest < 100_000, "{rest}");
    assert!(storage.undo(&cx, &plan).await.is_empty());
    assert!(root.join("work/file").exists(), "somebody's data stays");
    storage.ensure(&cx, &plan).await.unwrap();
    std::fs::remove_file(root.join("work/file")).unwrap();
    assert!(storage.undo(&cx, &plan).await.is_empty());
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
}
