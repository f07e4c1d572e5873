//! Importing archives, those of honest tools and others.
use super::*;

/// An OCI archive of named images.
pub(super) fn oci(images: &[(&Built, &str)]) -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut manifests = Vec::new();
    for (image, name) in images {
        let manifest = image.manifest();
        manifests.push(json!({
            "mediaType": OCI_MANIFEST, "digest": Digest::sha256(&manifest), "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": name },
        }));
        for blob in image.layers.iter().chain([&image.config, &manifest]) {
            files.push((
                format!("blobs/sha256/{}", Digest::sha256(blob).hex()),
                blob.clone(),
            ));
        }
    }
    let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
    files.push(("index.json".to_owned(), index.into_bytes()));
    pack(&files)
}

fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let files: Vec<_> = files
        .iter()
        .map(|(name, data)| (name.as_str(), data.as_slice()))
        .collect();
    layer(&files)
}

/// What older versions of `docker save` write, a layer as a link to its twin among it.
fn docker(image: &Built, tags: Value) -> Vec<u8> {
    let names: Vec<_> = (0..image.layers.len())
        .map(|at| format!("l{at}/layer.tar"))
        .collect();
    let manifest = json!([{ "Config": "c.json", "RepoTags": tags, "Layers": names }]).to_string();
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut add = |name: &str, data: &[u8]| {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, name, data).unwrap();
    };
    add("c.json", &image.config);
    add("manifest.json", manifest.as_bytes());
    for (at, name) in names.iter().enumerate().skip(1) {
        add(name, &image.layers[at]);
    }
    let mut link = ::tar::Header::new_gnu();
    link.set_entry_type(::tar::EntryType::Symlink);
    link.set_size(0);
    builder
        .append_link(&mut link, &names[0], "../l1/layer.tar")
        .unwrap();
    builder.into_inner().unwrap()
}

use serde_json::Value;

fn write(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[tokio::test]
async fn imports_what_docker_saves() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let twin = layer(&[("f", b"x")]);
    let built = image(&[twin.clone(), twin], json!({ "Cmd": ["x"] }));
    let saved = docker(&built, json!(["app:1", "quay.io/team/app:2"]));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&saved).unwrap();
    let path = write(&dir, "saved.tar.gz", &gzip.finish().unwrap());
    let images = store.import(&path, &Silent).await.unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].id, built.id);
    assert_eq!(
        images[0].names,
        ["docker.io/library/app:1", "quay.io/team/app:2"]
    );
    assert_eq!(images[0].status_id(), built.id.to_string());
    let root = store.prepare(&images[0], "c").unwrap();
    assert_eq!(fs::read(root.lower[1].join("f")).unwrap(), b"x");

    let nameless = write(&dir, "My Image.v2.tar", &docker(&built, Value::Null));
    let images = store.import(&nameless, &Silent).await.unwrap();
    assert!(
        images[0]
            .names
            .contains(&"davit.local/my-image:latest".to_owned())
    );
}

#[tokio::test]
async fn imports_oci_layouts_with_several_images_and_bare_tags() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (one, two) = (
        image(&[layer(&[("f", b"1")])], json!({})),
        image(&[], json!({})),
    );
    let path = write(&dir, "two.tar", &oci(&[(&one, "a/one:1"), (&two, "v2")]));
    let mut images = store.import(&path, &Silent).await.unwrap();
    images.sort_by(|a, b| a.names.cmp(&b.names));
    assert_eq!(images[0].names, ["davit.local/two:v2"]);
    assert_eq!(images[1].names, ["docker.io/a/one:1"]);
    let digest = one.manifest_digest();
    assert_eq!(
        images[1].repo_digests,
        [format!("docker.io/a/one@{digest}")]
    );
}

#[tokio::test]
async fn broken_archives_are_refused_with_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let built = image(&[layer(&[("f", b"1")])], json!({}));
    let whole = oci(&[(&built, "a/b:1")]);
    let damaged = {
        let mut damaged = whole.clone();
        let at = damaged
            .windows(5)
            .position(|w| w == b"amd64" || w == b"arm64")
            .unwrap();
        damaged[at] = b'x';
        damaged
    };
    let lacking = {
        let manifest = built.manifest();
        let digest = Digest::sha256(&manifest);
        let index = json!({ "manifests": [{ "digest": digest, "size": 1 }] }).to_string();
        let blob = format!("blobs/sha256/{}", digest.hex());
        pack(&[("index.json".into(), index.into_bytes()), (blob, manifest)])
    };
    for (bytes, reason) in [
        (Vec::new(), "neither manifest.json nor index.json"),
        (b"not an archive".to_vec(), "cannot be read on"),
        (whole[..whole.len() / 3].to_vec(), "cannot be read on"),
        (
            layer(&[("x", b"y")]),
            "neither manifest.json nor index.json",
        ),
        (layer(&[("manifest.json", b"[]")]), "holds no image"),
        (layer(&[("manifest.json", b"{}")]), "manifest.json: "),
        (
            fixture::raw_layer("../index.json", b"{}"),
            "leads out of it",
        ),
        (damaged, "damaged or forged"),
        (lacking, "it lacks blobs/sha256/"),
    ] {
        let path = write(&dir, "broken.tar", &bytes);
        let error = store.import(&path, &Silent).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{reason:?} is not in {error:?}");
    }
    let error = store
        .import(&dir.path().join("missing"), &Silent)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(store.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[allow(
    clippy::disallowed_methods,
    reason = "the archives are to be those of another tool"
)]
async fn archives_of_skopeo_are_the_image_that_is_pulled() {
    let registry = Registry::start().await;
    let built = image(
        &[layer(&[("f", b"1")]), layer(&[("g", b"2")])],
        json!({ "Cmd": ["x"] }),
    );
    registry.push("team/app", "1", &built).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let source = format!("docker://{}/team/app:1", registry.address);
    let flags = [
        "--insecure-policy",
        "copy",
        "--src-tls-verify=false",
        "--quiet",
    ];
    for (kind, compressed) in [("oci-archive", true), ("docker-archive", false)] {
        let path = dir.path().join(kind);
        let to = format!("{kind}:{}:example.com/team/app:1", path.display());
        let mut skopeo = std::process::Command::new("skopeo");
        skopeo
            .args(flags)
            .args(compressed.then_some("--dest-compress"))
            .args([&source, &to]);
        let copied = skopeo.output().expect("install skopeo");
        assert!(copied.status.success(), "{copied:?}");
        let images = store.import(&path, &Silent).await.unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].id, built.id, "{kind}");
        assert!(
            images[0]
                .names
                .contains(&"example.com/team/app:1".to_owned()),
            "{kind}"
        );
    }
    let pulled = reference(&format!("{}/team/app:1", registry.address));
    assert_eq!(
        store.pull(&pulled, &[], &Silent).await.unwrap().id,
        built.id
    );
    assert_eq!(store.list().len(), 1);
}

#[tokio::test]
async fn of_members_written_twice_the_later_counts() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let twin = layer(&[("f", b"x")]);
    let built = image(&[twin.clone(), twin], json!({ "Cmd": ["x"] }));
    let path = write(&dir, "twice.tar", &oci(&[(&built, "a/twice:1")]));
    let images = store.import(&path, &Silent).await.unwrap();
    assert_eq!((images.len(), images[0].layers.len()), (1, 2));

    let index = ("index.json".to_owned(), b"broken".to_vec());
    let plain = pack(&[
        index,
        ("index.json".to_owned(), b"{\"manifests\":[]}".to_vec()),
    ]);
    let path = write(&dir, "index-twice.tar", &plain);
    let error = store.import(&path, &Silent).await.unwrap_err();
    assert!(error.to_string().contains("it holds no image"), "{error}");
}

#[tokio::test]
async fn more_layers_than_overlayfs_stacks_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let path = write(
        &dir,
        "high.tar",
        &oci(&[(&image(&vec![layer(&[]); 501], json!({})), "a:1")]),
    );
    let error = store.import(&path, &Silent).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("it has 501 layers; davit stacks at most 500"),
        "{error}"
    );
}
