//! Paths that try to leave their root.
use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn root() -> (tempfile::TempDir, OwnedFd) {
    let dir = tempfile::tempdir().unwrap();
    let fd = fs::File::open(dir.path()).unwrap().into();
    (dir, fd)
}

#[test]
fn links_are_followed_inside_the_root_only() {
    let (dir, fd) = root();
    fs::create_dir(dir.path().join("run")).unwrap();
    fs::create_dir(dir.path().join("var")).unwrap();
    symlink("/run", dir.path().join("var/run")).unwrap();
    symlink("../../../../../../../etc", dir.path().join("out")).unwrap();

    target_in_root(&fd, Path::new("/var/run/secrets/token"), TargetKind::File).unwrap();
    target_in_root(&fd, Path::new("/out/passwd"), TargetKind::File).unwrap();

    assert!(dir.path().join("run/secrets/token").is_file());
    assert_eq!(fs::read(dir.path().join("etc/passwd")).unwrap(), b"");
}

#[test]
fn a_dangling_link_has_its_target_made_inside() {
    let (dir, fd) = root();
    symlink("/nowhere/deep", dir.path().join("link")).unwrap();
    target_in_root(&fd, Path::new("/link/data"), TargetKind::Directory).unwrap();
    assert!(dir.path().join("nowhere/deep/data").is_dir());
}

#[test]
fn loops_magic_links_and_wrong_kinds_are_refused() {
    let (dir, fd) = root();
    symlink("b", dir.path().join("a")).unwrap();
    symlink("a", dir.path().join("b")).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let target = |path: &str, kind| target_in_root(&fd, Path::new(path), kind).unwrap_err();
    assert_eq!(target("/a", TargetKind::Directory), Errno::ELOOP);
    assert_eq!(target("/file", TargetKind::Directory), Errno::ENOTDIR);
    assert_eq!(target("/", TargetKind::File), Errno::EISDIR);
    let proc = fs::File::open("/proc").unwrap();
    let magic = open_in_root(&proc, Path::new("self/root"), OFlag::O_PATH).unwrap_err();
    assert_eq!(magic, Errno::ELOOP);
}

#[test]
fn a_sub_path_never_leaves_its_volume() {
    let (dir, fd) = root();
    let volume = dir.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::create_dir(dir.path().join("secret")).unwrap();
    symlink("../secret", volume.join("escape")).unwrap();
    symlink("/etc", volume.join("absolute")).unwrap();
    symlink("real", volume.join("inside")).unwrap();
    let volume_fd: OwnedFd = fs::File::open(&volume).unwrap().into();
    let open = |path: &str| directory_beneath(&volume_fd, Path::new(path));
    assert_eq!(open("escape").unwrap_err(), Errno::EXDEV);
    assert_eq!(open("absolute/x").unwrap_err(), Errno::EXDEV);
    assert_eq!(open("../secret").unwrap_err(), Errno::EXDEV);
    open("real/deep").unwrap();
    open("inside/deep").unwrap();
    open("./real/./here").unwrap();
    assert!(volume.join("real/here").is_dir());
    assert!(volume.join("real/deep").is_dir());
    drop(fd);
}

#[test]
fn a_path_has_one_form() {
    let absolute = [
        ("", "/"),
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("a", "/a"),
        ("/a/../proc", "/proc"),
        ("/proc/.", "/proc"),
        ("//proc//sys/", "/proc/sys"),
        ("/../../proc", "/proc"),
        ("/a/./b/../c/", "/a/c"),
        ("/..a/b..", "/..a/b.."),
    ];
    for (path, normal) in absolute {
        assert_eq!(normal_absolute(path).as_os_str(), normal, "{path}");
    }
    let relative = [
        ("", Some("")),
        (".", Some("")),
        ("./a", Some("a")),
        ("a//b/", Some("a/b")),
        ("a/./b", Some("a/b")),
        ("..a/b..", Some("..a/b..")),
        ("..", None),
        ("a/../b", None),
        ("a/..", None),
        ("/a", None),
    ];
    for (path, normal) in relative {
        let found = normal_relative(path);
        let found = found.as_deref().map(Path::as_os_str);
        assert_eq!(found, normal.map(OsStr::new), "{path}");
    }
}

proptest::proptest! {
    #[test]
    fn a_normal_form_is_normal(path in "[a./]{0,16}") {
        let normal = normal_absolute(&path);
        let text = normal.to_str().unwrap();
        proptest::prop_assert!(text.starts_with('/'));
        proptest::prop_assert!(text == "/" || text.split('/').skip(1).all(|step| !matches!(step, "" | "." | "..")));
        proptest::prop_assert_eq!(normal_absolute(text), normal.clone());
        if let Some(relative) = normal_relative(&path) {
            let steps = relative.components().all(|part| matches!(part, Component::Normal(_)));
            proptest::prop_assert!(steps, "{:?}", relative);
            proptest::prop_assert_eq!(Path::new("/").join(&relative), normal);
        }
    }
}
