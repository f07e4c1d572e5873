//! The store with a real registry (Debian's docker-registry) and real archives.
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::image::manifest::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Platform};
use crate::image::progress::{PullEvent, Silent};
use fixture::{Built, Registry, image, layer};

mod archives;
mod fixture;

fn open(dir: &tempfile::TempDir) -> ImageStore {
    ImageStore::open(&dir.path().join("images"), Options::default()).unwrap()
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn entries(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// What pulls tell, as text.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Progress for Heard {
    fn event(&self, event: PullEvent<'_>) {
        let text = match event {
            PullEvent::Resolved { layers, .. } => format!("resolved {layers}"),
            PullEvent::Present { .. } => "present".to_owned(),
            PullEvent::Downloading { done, total, .. } if done < total => return,
            PullEvent::Downloading { .. } => "downloaded".to_owned(),
            PullEvent::Unpacking { .. } => "unpacking".to_owned(),
            PullEvent::Unpacked { .. } => "unpacked".to_owned(),
        };
        self.0.lock().push(text);
    }
}

impl Heard {
    fn count(&self, what: &str) -> usize {
        self.0.lock().iter().filter(|heard| *heard == what).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_from_a_real_registry_and_survives_a_restart() {
    let registry = Registry::start().await;
    let busybox = fs::read("/bin/busybox").expect("install busybox-static");
    let base = layer(&[("bin/busybox", &busybox), ("etc/base", b"base")]);
    let top = layer(&[("etc/top", b"top"), ("etc/.wh.base", b"")]);
    let built = image(
        &[base.clone(), top],
        json!({ "Cmd": ["/bin/busybox"], "User": "7:8" }),
    );
    registry.push("team/app", "1", &built).await;
    let index = fixture::index(&[
        (&built, Platform::host()),
        (&built, fixture::other_platform()),
    ]);
    registry
        .push_raw("team/app", "multi", OCI_INDEX, &index)
        .await;

    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let by_tag = reference(&format!("{}/team/app:1", registry.address));
    let by_index = reference(&format!("{}/team/app:multi", registry.address));
    let heard = Heard::default();
    let pulled = store.pull(&by_tag, &[], &heard).await.unwrap();
    assert_eq!(heard.count("resolved 2"), 1);
    assert_eq!((heard.count("downloaded"), heard.count("unpacked")), (2, 2));
    assert_eq!(pulled.id, built.id);
    assert_eq!(pulled.names, [by_tag.to_string()]);
    let pinned = by_tag.with_digest(built.manifest_digest());
    assert_eq!(pulled.status_id(), pinned.to_string());
    assert_eq!(pulled.user(), ImageUser::Id(7));
    assert_eq!(pulled.size, busybox.len() as u64 + 7);

    let again = Heard::default();
    let multi = store.pull(&by_index, &[], &again).await.unwrap();
    assert_eq!((again.count("present"), again.count("downloaded")), (2, 0));
    assert_eq!(multi.id, pulled.id);
    assert_eq!(multi.names.len(), 2);
    for found in [&by_tag, &by_index, &pinned] {
        assert_eq!(store.find(found).unwrap().id, built.id, "{found}");
    }
    let index_digest = by_index.with_digest(Digest::sha256(&index));
    assert_eq!(store.find(&index_digest).unwrap().id, built.id);
    assert!(store.find(&reference("team/app:1")).is_none());

    let root = store.prepare(&pulled, "container-1").unwrap();
    assert_eq!(fs::read(root.lower[0].join("etc/top")).unwrap(), b"top");
    assert_eq!(
        fs::read(root.lower[1].join("bin/busybox")).unwrap(),
        busybox
    );
    fs::write(root.upper.join("changed"), "by the container").unwrap();
    drop(store);

    let store = open(&dir);
    assert_eq!(store.list().len(), 1);
    assert_eq!(store.prepared(), ["container-1"]);
    let same = store.prepare(&pulled, "container-1").unwrap();
    assert_eq!(same, root);
    assert!(root.upper.join("changed").exists());
    let error = store.remove(&pulled.id.to_string()).await.unwrap_err();
    assert!(
        matches!(&error, Error::InUse { users, .. } if *users == ["container-1"]),
        "{error}"
    );
    store.discard("container-1").await.unwrap();
    store.discard("container-1").await.unwrap();
    let untagged = store.remove(&by_tag.to_string()).await.unwrap();
    assert_eq!(untagged, Collected::default());
    let removed = store.remove(&by_index.to_string()).await.unwrap();
    assert_eq!(
        (removed.images.as_slice(), removed.bytes),
        ([built.id.clone()].as_slice(), pulled.size)
    );
    let images = dir.path().join("images");
    assert!(entries(&images.join("layers")).is_empty());
    assert!(entries(&images.join("blobs/sha256")).is_empty());
    let error = store.remove("nothing/here:1").await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pulls_of_one_image_fetch_each_layer_once() {
    let registry = Registry::start().await;
    let layers: Vec<_> = (0..6_u8)
        .map(|at| layer(&[(&format!("f{at}"), &[at; 5000])]))
        .collect();
    let built = image(&layers, json!({}));
    let sibling = image(&layers[..4], json!({ "Cmd": ["x"] }));
    registry.push("a/b", "1", &built).await;
    registry.push("a/b", "2", &sibling).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let heard = Arc::new(Heard::default());
    let pulls = (0..12).map(|at| {
        let (store, heard) = (store.clone(), Arc::clone(&heard));
        let name = reference(&format!("{}/a/b:{}", registry.address, at % 2 + 1));
        tokio::spawn(async move { store.pull(&name, &[], &*heard).await })
    });
    for pull in pulls.collect::<Vec<_>>() {
        pull.await.unwrap().unwrap();
    }
    assert_eq!(heard.count("unpacked"), 6);
    assert_eq!(store.list().len(), 2);
    assert!(store.inner.state.lock().pins.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_layers_leave_nothing_behind() {
    let registry = Registry::start().await;
    let good = layer(&[("good", b"x")]);
    let escape = fixture::raw_layer("../escape", b"x");
    let mut forged = image(&[good.clone(), layer(&[("other", b"y")])], json!({}));
    forged.swap_layer(1, escape);
    registry.push("a/forged", "1", &forged).await;
    let mut lying = image(&[layer(&[("promised", b"x")])], json!({}));
    lying.swap_layer(0, layer(&[("other", b"y")]));
    registry.push("a/lying", "1", &lying).await;
    let nameless = image(&[], json!({ "User": "-1" }));
    registry.push("a/user", "1", &nameless).await;
    let foreign = fixture::index(&[(&nameless, fixture::other_platform())]);
    registry
        .push_raw("a/user", "foreign", OCI_INDEX, &foreign)
        .await;

    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let pull = async |name: &str| {
        let name = reference(&format!("{}/{name}", registry.address));
        store.pull(&name, &[], &Silent).await.unwrap_err()
    };
    let error = pull("a/forged:1").await;
    assert!(matches!(error, Error::Layer { .. }), "{error}");
    let error = pull("a/lying:1").await;
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("configuration promises"), "{source}");
    assert!(matches!(pull("a/user:1").await, Error::Config { .. }));
    let error = pull("a/user:foreign").await;
    assert!(matches!(error, Error::Platform { .. }), "{error}");
    assert!(matches!(pull("a/missing:1").await, Error::NotFound { .. }));
    assert!(store.list().is_empty());
    store
        .collect_garbage(&GarbagePolicy::default())
        .await
        .unwrap();
    assert!(entries(&dir.path().join("images/layers")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_pull_can_be_repeated() {
    struct Stop(Arc<Notify>);
    impl Progress for Stop {
        fn event(&self, event: PullEvent<'_>) {
            if matches!(event, PullEvent::Unpacking { .. }) {
                self.0.notify_one();
            }
        }
    }
    let registry = Registry::start().await;
    let built = image(
        &[layer(&[("f", &vec![1; 1 << 20])]), layer(&[("g", b"g")])],
        json!({}),
    );
    registry.push("a/b", "1", &built).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let name = reference(&format!("{}/a/b:1", registry.address));
    let unpacking = Arc::new(Notify::new());
    let stop = Stop(Arc::clone(&unpacking));
    tokio::select! {
        _ = store.pull(&name, &[], &stop) => {}
        () = unpacking.notified() => {}
    }
    store.pull(&name, &[], &Silent).await.unwrap();
    assert!(store.inner.state.lock().pins.is_empty());
}

#[tokio::test]
async fn one_process_at_a_time_and_no_older_davit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let images = dir.path().join("images");
    let second = ImageStore::open(&images, Options::default()).unwrap_err();
    assert!(matches!(second, Error::Locked { .. }), "{second}");
    assert_eq!(fs::metadata(&images).unwrap().mode() & 0o777, 0o700);
    drop(store);
    fs::write(images.join("images.json"), r#"{"version":2,"images":"?"}"#).unwrap();
    let newer = ImageStore::open(&images, Options::default()).unwrap_err();
    assert!(matches!(newer, Error::TooNew { found: 2, .. }), "{newer}");
    fs::write(images.join("images.json"), "{").unwrap();
    let damaged = ImageStore::open(&images, Options::default()).unwrap_err();
    assert!(matches!(damaged, Error::Damaged { .. }), "{damaged}");
}

#[tokio::test]
async fn a_power_cut_costs_the_layers_of_that_boot_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let file = dir.path().join("two.tar");
    let (one, two) = (layer(&[("f", b"1")]), layer(&[("f", b"2")]));
    let (kept, torn) = (image(&[one], json!({})), image(&[two], json!({})));
    fs::write(
        &file,
        archives::oci(&[(&kept, "a/kept:1"), (&torn, "a/torn:1")]),
    )
    .unwrap();
    let images = store.import(&file, &Silent).await.unwrap();
    let torn = images
        .iter()
        .find(|image| image.names[0].contains("torn"))
        .unwrap();
    let layer = store.inner.layout.layer(&torn.layers[0]);
    let tmp = store.inner.layout.tmp();
    let mark = layer.join("unsynced");
    for _ in 0..1000 {
        if !mark.exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(!mark.exists(), "the layer was brought onto the disk");
    drop(store);
    fs::create_dir_all(tmp.join("leftover/deep")).unwrap();
    fs::write(mark, "another boot").unwrap();
    let store = open(&dir);
    assert_eq!(store.list().len(), 1);
    assert!(store.list()[0].names[0].contains("kept"));
    assert!(!layer.exists() && entries(&tmp).is_empty());
}

#[tokio::test]
async fn keys_are_file_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let file = dir.path().join("empty.tar");
    fs::write(
        &file,
        archives::oci(&[(&image(&[], json!({})), "a/empty:1")]),
    )
    .unwrap();
    let image = store.import(&file, &Silent).await.unwrap().remove(0);
    for key in ["", ".", "..", "a/b", "a\0b", "ä", &"x".repeat(256)] {
        assert!(
            matches!(store.prepare(&image, key), Err(Error::Key { .. })),
            "{key:?}"
        );
        assert!(
            matches!(store.discard(key).await, Err(Error::Key { .. })),
            "{key:?}"
        );
    }
    let root = store.prepare(&image, "a.b-c_D").unwrap();
    assert_eq!(root.lower, [store.inner.layout.empty()]);
    assert!(entries(&root.lower[0]).is_empty());
}

#[test]
fn media_types_of_the_fixtures_are_those_of_the_specification() {
    assert!(
        [OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST]
            .iter()
            .all(|t| t.contains("oci.image"))
    );
}
