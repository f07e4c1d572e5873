//! `fsGroup`: a volume that a group of the pod can use.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat};

use super::FsGroup;
use crate::beneath;

/// What the group may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

const SET_GID: u32 = 0o2000;

/// The mode of a file once the group has access.
pub(super) fn file_mode(mode: u32, access: Access) -> u32 {
    mode | match access {
        Access::Read => 0o440,
        Access::Write => 0o660,
    }
}

/// Directories hand their group on to what is made in them.
fn dir_mode(mode: u32, access: Access) -> u32 {
    file_mode(mode, access) | SET_GID | 0o110
}

/// Gives a volume to the group unless its policy and its root say that this was done before.
pub(super) fn apply(dir: &Path, fs_group: FsGroup, access: Access) -> io::Result<()> {
    let root = rustix::fs::statat(CWD, dir, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = root.st_mode & 0o7777;
    let fits = root.st_gid == fs_group.gid && dir_mode(mode, access) == mode;
    if fs_group.on_root_mismatch && fits {
        return Ok(());
    }
    give(dir, fs_group.gid, access)
}

/// Gives everything in `dir`, and `dir` last, to the group: an interrupted run then does not look finished.
pub(super) fn give(dir: &Path, gid: u32, access: Access) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, dir, flags, Mode::empty())?;
    // A stack of our own: a container could have nested directories deeper than a thread's.
    let mut open: Vec<(OwnedFd, Vec<Vec<u8>>)> = Vec::new();
    let names = list(&root)?;
    open.push((root, names));
    while let Some((fd, names)) = open.last_mut() {
        let Some(name) = names.pop() else {
            set(fd.as_fd(), &rustix::fs::fstat(&*fd)?, gid, access)?;
            open.pop();
            continue;
        };
        let name = OsStr::from_bytes(&name);
        let child = beneath::open_child(fd.as_fd(), name, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&child)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let dir =
                    beneath::open_child(fd.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY)?;
                let names = list(&dir)?;
                open.push((dir, names));
            }
            FileType::Symlink => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(fd.as_fd(), name, None, Some(Gid::from_raw(gid)), flags)?;
            }
            _ => set(child.as_fd(), &stat, gid, access)?,
        }
    }
    Ok(())
}

/// Works on the file itself, whatever its name means by now.
fn set(fd: BorrowedFd<'_>, stat: &Stat, gid: u32, access: Access) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    if stat.st_gid != gid {
        rustix::fs::chownat(CWD, &path, None, Some(Gid::from_raw(gid)), AtFlags::empty())?;
    }
    let mode = stat.st_mode & 0o7777;
    let wanted = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => dir_mode(mode, access),
        _ => file_mode(mode, access),
    };
    if wanted != mode || stat.st_gid != gid {
        rustix::fs::chmod(&path, Mode::from_raw_mode(wanted))?;
    }
    Ok(())
}

fn list(dir: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
