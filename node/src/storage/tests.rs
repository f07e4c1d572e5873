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
