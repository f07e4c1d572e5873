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
    assert!(volume.join("real/deep").is_dir());
    drop(fd);
}
