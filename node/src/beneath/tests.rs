//! Hostile paths against real directories.
use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn never(_parent: BorrowedFd<'_>, _name: &OsStr) -> io::Result<bool> {
    Ok(false)
}

#[test]
fn cleans_names_as_docker_does() {
    let table: [(&str, Option<&str>); 9] = [
        ("a/b", Some("a/b")),
        ("./a//b/.", Some("a/b")),
        ("/etc/passwd", Some("etc/passwd")),
        ("a/../b", Some("b")),
        ("", Some("")),
        ("./", Some("")),
        ("..", None),
        ("a/../../b", None),
        ("/../etc", None),
    ];
    for (name, expected) in table {
        assert_eq!(
            clean(name.as_bytes()).as_deref(),
            expected.map(Path::new),
            "{name}"
        );
    }
}

#[test]
fn links_stay_inside() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "host").unwrap();
    let dir = tempfile::tempdir().unwrap();
    symlink(outside.path(), dir.path().join("abs")).unwrap();
    symlink("../../../../../../../../", dir.path().join("up")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    let read =
        |path: &str, links| root.open_at(Path::new(path), OFlags::RDONLY, Mode::empty(), links);
    assert!(read("abs/secret", Links::InRoot).is_err());
    assert!(read("abs/secret", Links::Refuse).is_err());
    assert!(read("../x", Links::Refuse).is_err());
    assert!(read("/proc/self/fd", Links::InRoot).is_err());
    let up = format!("up{}/secret", outside.path().display());
    assert!(read(&up, Links::InRoot).is_err());
    assert!(read("", Links::Refuse).is_ok());
}

#[test]
fn makes_directories_through_links_with_missing_targets() {
    let dir = tempfile::tempdir().unwrap();
    symlink("/usr/lib", dir.path().join("lib")).unwrap();
    symlink("a", dir.path().join("b")).unwrap();
    symlink("b", dir.path().join("a")).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let root = Root::open(dir.path()).unwrap();
    let mut made = Vec::new();
    root.make_dirs(Path::new("lib/x/../y"), &mut made, &mut never)
        .unwrap();
    let paths: Vec<_> = made.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(paths, ["usr", "usr/lib", "usr/lib/x", "usr/lib/y"]);
    assert!(dir.path().join("usr/lib/y").is_dir());
    let looped = root
        .make_dirs(Path::new("a/x"), &mut made, &mut never)
        .unwrap_err();
    assert_eq!(looped.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    let blocked = root
        .make_dirs(Path::new("file/x"), &mut made, &mut never)
        .unwrap_err();
    assert_eq!(blocked.raw_os_error(), Some(Errno::NOTDIR.raw_os_error()));
    let mut remove = |parent: BorrowedFd<'_>, name: &OsStr| {
        rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
        Ok(true)
    };
    root.make_dirs(Path::new("file/x"), &mut made, &mut remove)
        .unwrap();
    assert!(dir.path().join("file/x").is_dir());
}

#[test]
fn removes_trees_deeper_than_any_path_and_follows_no_link() {
    let keep = tempfile::tempdir().unwrap();
    fs::write(keep.path().join("kept"), "").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::create_dir(&victim).unwrap();
    symlink(keep.path(), victim.join("link")).unwrap();
    fs::create_dir(victim.join(".davit-removing-0")).unwrap();
    fs::create_dir(victim.join(".davit-removing-0/inside")).unwrap();
    let mut at: OwnedFd = fs::File::open(&victim).unwrap().into();
    for _ in 0..2500 {
        rustix::fs::mkdirat(&at, "deeper", Mode::RWXU).unwrap();
        rustix::fs::mkdirat(&at, "beside", Mode::RWXU).unwrap();
        at = open_child(at.as_fd(), OsStr::new("deeper"), OFlags::PATH).unwrap();
    }
    drop(at);
    remove_tree(&victim).unwrap();
    assert!(!victim.exists());
    assert!(keep.path().join("kept").exists());
    remove_tree(&victim).unwrap();
    fs::write(&victim, "").unwrap();
    remove_tree(&victim).unwrap();
    assert!(!victim.exists());
}
