//! Plans by table, and volumes in real directories (owners and tmpfs need root).
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::inputs::PodInputs;

mod plans;

/// Plans the volumes of a pod whose ConfigMap `cm` and Secret `sec` exist.
fn plan_of(spec: Value) -> Result<Vec<Volume>, Error> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "shop", "labels": { "app": "web" } }, "spec": spec,
    }))
    .unwrap();
    let config_map = json!({ "data": { "a": "A", "b": "B" }, "binaryData": { "bin": "/w==" } });
    let secret = json!({ "data": { "user": "YWRtaW4=" } });
    let config_map: ConfigMap = serde_json::from_value(config_map).unwrap();
    let secret: Secret = serde_json::from_value(secret).unwrap();
    let allocatable = BTreeMap::from([("memory".to_owned(), "8Gi".parse().unwrap())]);
    let (ips, service_env) = (["10.0.0.1".parse().unwrap()], BTreeMap::new());
    plan(&PodInputs {
        pod: &pod,
        node_name: "node-1",
        host_ips: &ips,
        pod_ips: &ips,
        allocatable: &allocatable,
        config_maps: &BTreeMap::from([("cm".to_owned(), Arc::new(config_map))]),
        secrets: &BTreeMap::from([("sec".to_owned(), Arc::new(secret))]),
        service_env: &service_env,
    })
}

fn file(data: &str, mode: u32) -> File {
    File {
        data: data.to_owned().into(),
        mode,
        owner: None,
    }
}

fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, File> {
    pairs
        .iter()
        .map(|(path, data)| ((*path).to_owned(), file(data, 0o644)))
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with("..2")).collect();
    names.sort();
    names
}

/// Gives numbered tokens that live an hour, or fails.
#[derive(Default)]
struct Tokens {
    given: AtomicUsize,
    life: i64,
    fails: bool,
}

#[async_trait]
impl TokenSource for Tokens {
    async fn token(
        &self,
        audience: &str,
        _expiration_seconds: i64,
    ) -> Result<Token, Box<dyn std::error::Error + Send + Sync>> {
        if self.fails {
            return Err("no server".into());
        }
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let expires_at = Timestamp::now() + SignedDuration::from_secs(self.life);
        Ok(Token {
            token: format!("{audience}-{number}"),
            expires_at,
        })
    }
}

fn volume(name: &str, kind: Kind) -> Volume {
    Volume {
        name: name.to_owned(),
        kind,
        fs_group: None,
    }
}

fn config(files: BTreeMap<String, File>) -> Kind {
    Kind::Files {
        plugin: "kubernetes.io~configmap",
        secret: false,
        files,
        tokens: Vec::new(),
    }
}

#[tokio::test]
async fn files_change_all_at_once_and_only_if_they_differ() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(dir.path());
    let tokens = Tokens::default();
    let set = async |pairs: &[(&str, &str)]| {
        let volume = volume("cfg", config(files(pairs)));
        volumes
            .set_up("uid-1", &volume, &tokens)
            .await
            .unwrap()
            .path
    };
    let path = set(&[("a", "1"), ("sub/b", "2"), ("sub/deep/c", "3")]).await;
    assert_eq!(
        path,
        dir.path().join("uid-1/volumes/kubernetes.io~configmap/cfg")
    );
    assert_eq!(fs::read_to_string(path.join("sub/deep/c")).unwrap(), "3");
    assert_eq!(
        fs::read_link(path.join("a")).unwrap(),
        Path::new("..data/a")
    );
    assert_eq!(
        fs::read_link(path.join("sub")).unwrap(),
        Path::new("..data/sub")
    );
    assert_eq!(
        (mode(&path), mode(&path.join("sub")), mode(&path.join("a"))),
        (0o755, 0o755, 0o644)
    );
    let first = fs::read_link(path.join("..data")).unwrap();

    set(&[("a", "1"), ("sub/b", "2"), ("sub/deep/c", "3")]).await;
    assert_eq!(
        fs::read_link(path.join("..data")).unwrap(),
        first,
        "nothing changed"
    );
    // A container holds the link open while the data changes.
    let held = fs::File::open(path.join("..data")).unwrap();
    set(&[("a", "9"), ("new", "x")]).await;
    assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "9");
    assert_eq!(names(&path), ["..data", "a", "new"]);
    assert!(!path.join(&first).exists(), "the old files are gone");
    drop(held);
    let empty = set(&[]).await;
    assert_eq!(names(&empty), ["..data"]);
}

#[tokio::test]
async fn places_for_mounts_within_a_volume_outlive_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(dir.path());
    let tokens = Tokens::default();
    let set = async |pairs: &[(&str, &str)]| {
        let volume = volume("cfg", config(files(pairs)));
        let made = volumes.set_up("uid-1", &volume, &tokens).await;
        made.unwrap().path
    };
    let path = set(&[("a", "1"), ("b", "2")]).await;
    fs::create_dir_all(path.join("inner/deep")).unwrap();
    fs::write(path.join("point"), "").unwrap();
    // The last one has a key where something is mounted: the mount hides it.
    for pairs in [&[("a", "2")][..], &[], &[("c", "3"), ("inner", "4")]] {
        set(pairs).await;
        assert!(path.join("inner/deep").is_dir() && path.join("point").is_file());
        let mut wanted = vec!["..data", "inner", "point"];
        wanted.extend(pairs.iter().map(|(name, _)| *name));
        wanted.sort_unstable();
        wanted.dedup();
        assert_eq!(names(&path), wanted);
    }
}

#[tokio::test]
async fn a_crash_between_the_steps_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(dir.path());
    let tokens = Tokens::default();
    let wanted = volume("cfg", config(files(&[("a", "1")])));
    let path = volumes
        .set_up("uid-1", &wanted, &tokens)
        .await
        .unwrap()
        .path;
    fs::create_dir(path.join("..2020_01_01_00_00_00.1")).unwrap();
    fs::write(path.join("..2020_01_01_00_00_00.1/a"), "old").unwrap();
    symlink("..2020_01_01_00_00_00.1", path.join("..data_tmp")).unwrap();
    symlink("..data/gone", path.join("gone")).unwrap();
    volumes.set_up("uid-1", &wanted, &tokens).await.unwrap();
    assert_eq!(names(&path), ["..data", "a"]);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 3);
    let changed = volume("cfg", config(files(&[("a", "2")])));
    symlink("nowhere", path.join("..data_tmp")).unwrap();
    volumes.set_up("uid-1", &changed, &tokens).await.unwrap();
    assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "2");
}

#[tokio::test]
async fn tokens_are_kept_until_they_are_due() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("run");
    let volumes = Volumes::new(&dir.path().join("pods")).with_secrets_in(&secrets);
    let token = TokenFile {
        path: "token".to_owned(),
        audience: "vault".to_owned(),
        expiration_seconds: 3600,
        mode: 0o600,
        owner: Some(1000),
    };
    let kind = Kind::Files {
        plugin: "kubernetes.io~projected",
        secret: true,
        files: files(&[("ca.crt", "pem")]),
        tokens: vec![token],
    };
    let group = FsGroup {
        gid: 2000,
        on_root_mismatch: false,
    };
    let wanted = Volume {
        fs_group: Some(group),
        ..volume("kube-api", kind)
    };
    let hour = Tokens {
        life: 3600,
        ..Tokens::default()
    };
    let made = volumes.set_up("uid-1", &wanted, &hour).await.unwrap();
    assert!(
        made.path.starts_with(&secrets),
        "secrets are not on the disk"
    );
    let file = made.path.join("token");
    assert_eq!(fs::read_to_string(&file).unwrap(), "vault-0");
    let meta = fs::metadata(&file).unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (1000, 2000, 0o640)
    );
    assert_eq!(
        mode(&fs::canonicalize(made.path.join("..data")).unwrap()),
        0o2755
    );
    let due = made.refresh_at.unwrap().duration_since(Timestamp::now());
    assert!((2870..=2880).contains(&due.as_secs()), "{due}");

    let again = volumes.set_up("uid-1", &wanted, &hour).await.unwrap();
    assert_eq!(
        (again, hour.given.load(Ordering::Relaxed)),
        (made.clone(), 1)
    );

    let short = Tokens {
        life: 0,
        ..Tokens::default()
    };
    let other = Volumes::new(&dir.path().join("pods")).with_secrets_in(&secrets);
    other.set_up("uid-1", &wanted, &short).await.unwrap();
    other.set_up("uid-1", &wanted, &short).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "vault-1");
    let failing = Tokens {
        fails: true,
        ..Tokens::default()
    };
    volumes.set_up("uid-1", &wanted, &failing).await.unwrap();
    let error = other.set_up("uid-1", &wanted, &failing).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "MountVolume.SetUp failed for volume \"kube-api\""
    );
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "failed to fetch token"
    );

    volumes.tear_down("uid-1").await.unwrap();
    assert_eq!(fs::read_dir(&secrets).unwrap().count(), 0);
    assert!(
        volumes.set_up("uid-1", &wanted, &failing).await.is_err(),
        "its tokens are forgotten"
    );
}

#[tokio::test]
async fn empty_dirs_keep_their_content_and_their_group() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(dir.path());
    let kind = Kind::EmptyDir {
        memory: false,
        size_limit: None,
    };
    let group = FsGroup {
        gid: 2000,
        on_root_mismatch: false,
    };
    let wanted = Volume {
        fs_group: Some(group),
        ..volume("scratch", kind.clone())
    };
    let tokens = Tokens::default();
    let path = volumes
        .set_up("uid-1", &wanted, &tokens)
        .await
        .unwrap()
        .path;
    assert_eq!(
        (mode(&path), fs::metadata(&path).unwrap().gid()),
        (0o2777, 2000)
    );
    let own = path.join("own");
    fs::write(&own, "kept").unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).unwrap();
    volumes.set_up("uid-1", &wanted, &tokens).await.unwrap();
    assert_eq!(mode(&own), 0o600, "what containers made is theirs");
    let plain = volumes
        .set_up("uid-1", &volume("plain", kind), &tokens)
        .await
        .unwrap()
        .path;
    assert_eq!(
        (mode(&plain), fs::metadata(&plain).unwrap().gid()),
        (0o777, 0)
    );
    volumes.tear_down("uid-1").await.unwrap();
    assert!(!dir.path().join("uid-1/volumes").exists());
    volumes.tear_down("uid-1").await.unwrap();
}

/// Leaves no mount behind even if the test fails.
struct Unmount<'p>(&'p Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        mounts::unmount_all(self.0).unwrap();
    }
}

#[tokio::test]
async fn memory_volumes_are_bounded_and_leave_no_mount() {
    let dir = tempfile::tempdir().unwrap();
    let _guard = Unmount(dir.path());
    let volumes = Volumes::new(dir.path());
    let kind = Kind::EmptyDir {
        memory: true,
        size_limit: Some(1 << 20),
    };
    let wanted = volume("fast one", kind);
    let tokens = Tokens::default();
    let path = volumes
        .set_up("uid-1", &wanted, &tokens)
        .await
        .unwrap()
        .path;
    fs::write(path.join("f"), vec![1; 1 << 19]).unwrap();
    let again = volumes
        .set_up("uid-1", &wanted, &tokens)
        .await
        .unwrap()
        .path;
    assert!(again.join("f").exists(), "it is not mounted over");
    assert_eq!(mode(&path), 0o777);
    let full = fs::write(path.join("g"), vec![1; 1 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    // A container with bidirectional propagation left another mount inside.
    fs::create_dir(path.join("inner")).unwrap();
    mounts::mount_tmpfs(&path.join("inner"), None).unwrap();
    volumes.tear_down("uid-1").await.unwrap();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(dir.path().to_str().unwrap()));
}

#[tokio::test]
async fn what_is_mounted_in_a_tree_is_never_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("precious"), "x").unwrap();
    let tree = dir.path().join("tree");
    let mounted = tree.join("sub/mounted");
    fs::create_dir_all(&mounted).unwrap();
    let _guard = Unmount(dir.path());
    let none: Option<&str> = None;
    let bind = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(&data), &mounted, none, bind, none).unwrap();
    let error = crate::beneath::remove_tree(&tree).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
    assert!(data.join("precious").exists());
}

#[tokio::test]
async fn host_paths_are_checked_and_made_as_kubelet_does() {
    use HostPathType::*;
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(&dir.path().join("pods"));
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("dir")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    symlink(at("dir"), at("link")).unwrap();
    let table = [
        (at("none"), Unset, Ok(())),
        (at("dir"), Directory, Ok(())),
        (at("link"), Directory, Ok(())),
        (at("file"), Directory, Err("a directory")),
        (at("none"), Directory, Err("a directory")),
        (at("made/deep"), DirectoryOrCreate, Ok(())),
        (at("file"), DirectoryOrCreate, Err("a directory")),
        (at("file"), File, Ok(())),
        (at("dir"), File, Err("a file")),
        (at("touched"), FileOrCreate, Ok(())),
        (at("socket"), Socket, Ok(())),
        (at("file"), Socket, Err("a socket file")),
        ("/dev/null".into(), CharDevice, Ok(())),
        (at("file"), CharDevice, Err("a character device")),
        ("/dev/null".into(), BlockDevice, Err("a block device")),
    ];
    for (path, check, expected) in table {
        let wanted = volume(
            "h",
            Kind::HostPath {
                path: path.clone(),
                check,
            },
        );
        let made = volumes.set_up("uid", &wanted, &Tokens::default()).await;
        match (made, expected) {
            (Ok(made), Ok(())) => assert_eq!(made.path, path),
            (Err(error), Err(wanted)) => {
                let cause = std::error::Error::source(&error).unwrap().to_string();
                let path = path.display();
                assert_eq!(
                    cause,
                    format!("hostPath type check failed: {path} is not {wanted}")
                );
            }
            (made, expected) => panic!("{} {check:?}: {made:?}, not {expected:?}", path.display()),
        }
    }
    assert_eq!(mode(&at("made/deep")), 0o755);
    assert!(at("touched").is_file());
}

#[tokio::test]
async fn names_cannot_lead_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(dir.path());
    for (uid, name) in [
        ("..", "v"),
        ("u", ".."),
        ("u", "a/b"),
        ("", "v"),
        ("u", ""),
        ("u", "a\0"),
    ] {
        let wanted = volume(name, config(BTreeMap::new()));
        assert!(
            volumes
                .set_up(uid, &wanted, &Tokens::default())
                .await
                .is_err(),
            "{uid} {name}"
        );
    }
    assert!(volumes.tear_down("..").await.is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn groups_reach_everything_but_follow_no_link() {
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("v"), dir.path().join("outside"));
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/f"), "").unwrap();
    fs::set_permissions(root.join("a/b/f"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(&outside, "").unwrap();
    symlink(&outside, root.join("link")).unwrap();
    let group = FsGroup {
        gid: 2000,
        on_root_mismatch: true,
    };
    ownership::apply(&root, group, ownership::Access::Write).unwrap();
    let gid = |path: &Path| fs::symlink_metadata(path).unwrap().gid();
    for path in ["", "a", "a/b", "a/b/f", "link"] {
        assert_eq!(gid(&root.join(path)), 2000, "{path}");
    }
    assert_eq!(
        (mode(&root.join("a/b/f")), mode(&root.join("a"))),
        (0o760, 0o2775)
    );
    assert_eq!(gid(&outside), 0);
    fs::write(root.join("later"), "").unwrap();
    ownership::apply(&root, group, ownership::Access::Write).unwrap();
    let later = mode(&root.join("later"));
    let always = FsGroup {
        on_root_mismatch: false,
        ..group
    };
    ownership::apply(&root, always, ownership::Access::Write).unwrap();
    assert_ne!(
        later,
        mode(&root.join("later")),
        "the root fitted, so the rest was left alone"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn any_sequence_of_contents_is_shown_exactly(
        steps in proptest::collection::vec(proptest::collection::btree_map("[a-c](/[a-c]){0,2}", "[xy]{0,3}", 0..4), 1..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        for step in steps {
            // A path cannot be a file and a directory.
            let wanted: BTreeMap<String, File> = step
                .iter()
                .filter(|(path, _)| !step.keys().any(|other| other.starts_with(&format!("{path}/"))))
                .map(|(path, data)| (path.clone(), file(data, 0o644)))
                .collect();
            atomic::write(dir.path(), &wanted, None).unwrap();
            for (path, file) in &wanted {
                prop_assert_eq!(&fs::read(dir.path().join(path)).unwrap(), &file.data);
            }
            let tops: std::collections::BTreeSet<_> = wanted.keys().map(|path| path.split('/').next().unwrap().to_owned()).collect();
            let shown: std::collections::BTreeSet<_> = names(dir.path()).into_iter().filter(|name| name != "..data").collect();
            prop_assert_eq!(shown, tops);
            prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), names(dir.path()).len() + 1);
        }
    }
}
