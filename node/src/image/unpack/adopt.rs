//! What a layer takes from the layers below it: attributes of directories it only implies, targets of hard links.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::layer::{is_directory, is_kept, stat};
use super::{UnpackError, Unpacked, shown_path, whiteout};
use crate::beneath::{Links, Root};

/// Completes the layer in `dir` from `below`, top first, and returns the bytes this added.
///
/// # Errors
/// A hard link's target is in no layer, or the kernel refuses something.
pub(in crate::image) fn adopt(
    dir: &Path,
    unpacked: &Unpacked,
    below: &[PathBuf],
) -> Result<u64, UnpackError> {
    if unpacked.implied.is_empty() && unpacked.links.is_empty() {
        return Ok(0);
    }
    let fail = |operation, path: &Path| {
        let entry = shown_path(path);
        move |source| UnpackError::Io {
            operation,
            entry,
            source,
        }
    };
    let root = Root::open(dir).map_err(fail("open", dir))?;
    let mut lower = Vec::with_capacity(below.len());
    for path in below {
        lower.push(Root::open(path).map_err(fail("open", path))?);
    }
    let mut added = 0_u64;
    let mut copies: BTreeMap<&Path, &Path> = BTreeMap::new();
    for (name, target) in &unpacked.links {
        match copies.get(target.as_path()) {
            Some(first) => link_again(&root, first, name).map_err(fail("link", name))?,
            None => {
                added = added.saturating_add(copy_target(&root, &lower, name, target)?);
                copies.insert(target, name);
            }
        }
    }
    for path in unpacked.implied.iter().rev() {
        adopt_directory(&root, &lower, path).map_err(fail("adopt", path))?;
    }
    Ok(added)
}

/// Gives an implied directory the attributes of the nearest one below that has its path.
fn adopt_directory(root: &Root, lower: &[Root], path: &Path) -> io::Result<()> {
    for layer in lower {
        let found = layer.open_at(
            path,
            OFlags::PATH | OFlags::NOFOLLOW,
            Mode::empty(),
            Links::Refuse,
        );
        let found = match found {
            Ok(found) => found,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error),
        };
        if !is_directory(&rustix::fs::fstat(&found)?) {
            return Ok(());
        }
        let from = layer.open_dir(path, Links::Refuse)?;
        // Replaced by a later entry of the layer: nothing to adopt.
        let Ok(to) = root.open_dir(path, Links::Refuse) else {
            return Ok(());
        };
        return copy_attributes(from.as_fd(), to.as_fd());
    }
    Ok(())
}

fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    absent
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(stat.st_uid),
        rustix::fs::Gid::from_raw(stat.st_gid),
    );
    rustix::fs::fchown(to, Some(uid), Some(gid))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mut names = vec![0; 1 << 16];
    let length = match rustix::fs::flistxattr(from, names.as_mut_slice()) {
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };
    for name in names.get(..length).unwrap_or_default().split(|b| *b == 0) {
        if is_kept(name) {
            let mut value = vec![0; 1 << 16];
            let length = rustix::fs::fgetxattr(from, name, value.as_mut_slice())?;
            value.truncate(length);
            rustix::fs::fsetxattr(to, name, &value, XattrFlags::empty())?;
        }
    }
    let nanos = |nanos: u64| i64::try_from(nanos).unwrap_or_default();
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: nanos(stat.st_atime_nsec),
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: nanos(stat.st_mtime_nsec),
        },
    };
    Ok(rustix::fs::futimens(to, &times)?)
}

/// Makes a second name of a file that was copied from below.
fn link_again(root: &Root, first: &Path, name: &Path) -> io::Result<()> {
    let (Some(from), Some(to)) = (first.file_name(), name.file_name()) else {
        return Ok(());
    };
    let parent = |path: &Path| root.open_dir(path.parent().unwrap_or(Path::new("")), Links::InRoot);
    let (from_dir, to_dir) = (parent(first)?, parent(name)?);
    match rustix::fs::linkat(from_dir, from, to_dir, to, AtFlags::empty()) {
        // A later entry took the name.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Puts a copy of a lower layer's file at `name`.
fn copy_target(
    root: &Root,
    lower: &[Root],
    name: &Path,
    target: &Path,
) -> Result<u64, UnpackError> {
    let link_error = |reason| UnpackError::Link {
        entry: shown_path(name),
        target: shown_path(target),
        reason,
    };
    let io = |source| UnpackError::Io {
        operation: "link",
        entry: shown_path(name),
        source,
    };
    let (Some(base), Some(parent)) = (name.file_name(), name.parent()) else {
        return Ok(0);
    };
    let to = root.open_dir(parent, Links::InRoot).map_err(io)?;
    if stat(to.as_fd(), base).map_err(io)?.is_some() {
        // A later entry took the name.
        return Ok(0);
    }
    let (from, from_name) = find(lower, target)
        .map_err(io)?
        .ok_or_else(|| link_error("the target is neither in this layer nor in a lower one"))?;
    let found = rustix::fs::statat(&from, from_name, AtFlags::SYMLINK_NOFOLLOW);
    let found = found.map_err(io::Error::from).map_err(io)?;
    match rustix::fs::FileType::from_raw_mode(found.st_mode) {
        rustix::fs::FileType::RegularFile => {
            copy_file(from.as_fd(), from_name, to.as_fd(), base).map_err(io)
        }
        rustix::fs::FileType::Symlink => {
            let copy = || -> io::Result<()> {
                let text = rustix::fs::readlinkat(&from, from_name, Vec::new())?;
                Ok(rustix::fs::symlinkat(text.as_c_str(), &to, base)?)
            };
            copy().map(|()| 0).map_err(io)
        }
        _ => Err(link_error("only files can be linked to")),
    }
}

/// The nearest layer that has `target`, as directory and name; a whiteout ends the search.
fn find<'t>(lower: &[Root], target: &'t Path) -> io::Result<Option<(OwnedFd, &'t OsStr)>> {
    let (Some(name), Some(parent)) = (target.file_name(), target.parent()) else {
        return Ok(None);
    };
    for layer in lower {
        let Ok(dir) = layer.open_dir(parent, Links::InRoot) else {
            continue;
        };
        match stat(dir.as_fd(), name)? {
            None => {}
            Some(stat) if whiteout::is_whiteout_stat(&stat) => return Ok(None),
            Some(_) => return Ok(Some((dir, name))),
        }
    }
    Ok(None)
}

fn copy_file(
    from: BorrowedFd<'_>,
    from_name: &OsStr,
    to: BorrowedFd<'_>,
    name: &OsStr,
) -> io::Result<u64> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut source = File::from(rustix::fs::openat(from, from_name, read, Mode::empty())?);
    let mut copy = File::from(rustix::fs::openat(
        to,
        name,
        write,
        Mode::RUSR | Mode::WUSR,
    )?);
    let bytes = io::copy(&mut source, &mut copy)?;
    copy_attributes(source.as_fd(), copy.as_fd())?;
    Ok(bytes)
}
