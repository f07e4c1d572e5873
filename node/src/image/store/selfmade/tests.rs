//! The image of the running test binary.
use super::*;
use crate::image::store::Options;

#[test]
fn finds_the_loader_and_the_libraries() {
    let program = linked::running().unwrap();
    let names: Vec<_> = program
        .libraries
        .keys()
        .map(|place| place.display().to_string())
        .collect();
    assert!(
        names.iter().any(|name| name.ends_with("libc.so.6")),
        "{names:?}"
    );
    assert!(
        names.iter().any(|name| name.contains("/ld-linux")),
        "{names:?}"
    );
    assert_eq!(program.library_path(), None, "{names:?}");
    let odd = Program {
        binary: PathBuf::new(),
        libraries: BTreeMap::from([(PathBuf::from("opt/x/lib/libx.so"), PathBuf::new())]),
    };
    assert_eq!(odd.library_path().as_deref(), Some("/opt/x/lib"));
}

#[tokio::test]
async fn the_same_files_make_the_same_image() {
    let dir = tempfile::tempdir().unwrap();
    // A small program stands in for the binary, so that the test copies little.
    let small = |name: &str| {
        let binary = dir.path().join(name);
        fs::write(&binary, "binary").unwrap();
        let libraries = BTreeMap::from([(PathBuf::from("lib64/ld.so"), binary.clone())]);
        Program { binary, libraries }
    };
    let (first, second) = (small("first"), small("second"));
    let mut ids = Vec::new();
    for (at, program) in [("one", first.clone()), ("two", second)] {
        let store = ImageStore::open(&dir.path().join(at), Options::default()).unwrap();
        let image = build(&store.inner, program.clone()).await.unwrap();
        assert_eq!(image.names, [NAME]);
        assert_eq!(
            image.config.config().as_ref().unwrap().user().as_deref(),
            Some("65534:65534")
        );
        let root = store.prepare(&image, "c").unwrap();
        assert_eq!(fs::read(root.lower[0].join(BINARY)).unwrap(), b"binary");
        let mode = |path: &str| fs::metadata(root.lower[0].join(path)).unwrap().mode() & 0o7777;
        assert_eq!(
            (mode(BINARY), mode("tmp"), mode("lib64")),
            (0o755, 0o1777, 0o755)
        );
        ids.push(image.id);
    }
    assert_eq!(ids[0], ids[1]);

    let store = ImageStore::open(&dir.path().join("one"), Options::default()).unwrap();
    fs::remove_dir_all(dir.path().join("one/blobs")).unwrap();
    let again = build(&store.inner, first.clone()).await.unwrap();
    assert_eq!(
        again.id, ids[0],
        "nothing was made anew, or the blob directory would be missed"
    );
    fs::create_dir_all(dir.path().join("one/blobs/sha256")).unwrap();
    fs::write(&first.binary, "changed").unwrap();
    let changed = build(&store.inner, first).await.unwrap();
    assert_ne!(changed.id, ids[0]);
    let old = store.find_id(&ids[0]).unwrap();
    assert!(old.names.is_empty(), "the tag moved");
}

#[tokio::test]
async fn the_layer_is_the_archive_its_digest_names() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("binary");
    fs::write(&binary, vec![7; 100_000]).unwrap();
    let program = Program {
        binary,
        libraries: BTreeMap::new(),
    };
    let store = ImageStore::open(&dir.path().join("store"), Options::default()).unwrap();
    let image = build(&store.inner, program.clone()).await.unwrap();
    let mut archive = ::tar::Builder::new(Vec::new());
    for (at, (path, item)) in items(&program).iter().enumerate() {
        add_to(&mut archive, path, item, &dir.path().join(at.to_string()));
    }
    let diff_id = Digest::sha256(&archive.into_inner().unwrap());
    assert_eq!(image.layers, [diff_id]);
}

/// As `add`, into memory.
fn add_to(archive: &mut ::tar::Builder<Vec<u8>>, path: &Path, item: &Item, _to: &Path) {
    let mut header = ::tar::Header::new_gnu();
    let data = match item {
        Item::Directory(_) => Vec::new(),
        Item::Text(text) => text.as_bytes().to_vec(),
        Item::Copy(source) => fs::read(source).unwrap(),
    };
    if let Item::Directory(mode) = item {
        header.set_entry_type(::tar::EntryType::Directory);
        header.set_mode(*mode);
    } else {
        header.set_mode(if matches!(item, Item::Text(_)) {
            0o644
        } else {
            0o755
        });
    }
    header.set_size(data.len() as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive
        .append_data(&mut header, path, data.as_slice())
        .unwrap();
}

#[tokio::test]
#[allow(
    clippy::disallowed_methods,
    reason = "the image's program is run to see that it lacks nothing"
)]
async fn pulling_it_makes_it_and_it_runs_with_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&dir.path().join("store"), Options::default()).unwrap();
    let name = Reference::parse("davit.local/hello").unwrap();
    let image = store.pull(&name, &[], &crate::image::Silent).await.unwrap();
    let root = store.prepare(&image, "run").unwrap().lower.remove(0);
    // Its full path, since without an environment nothing is looked for in /usr/sbin.
    let listed = std::process::Command::new("/usr/sbin/chroot")
        .arg(&root)
        .args(["/bin/davit", "--list", "the_same_files_make_the_same_image"])
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(
        text.contains("the_same_files_make_the_same_image: test"),
        "{listed:?}"
    );
    let again = store.pull(&name, &[], &crate::image::Silent).await.unwrap();
    assert_eq!(again.id, image.id);
    let other = Reference::parse("davit.local/other").unwrap();
    let error = store
        .pull(&other, &[], &crate::image::Silent)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
}
