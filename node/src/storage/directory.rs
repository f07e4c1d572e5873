//! Directories and image files beneath granted roots, resolved by the kernel without following
//! any symbolic link.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use davit_plugins::capabilities::{ActError, ActErrorKind, ScopeContext};
use davit_plugins::plan::{Owner, Root};
use rustix::fs::{AtFlags, FallocateFlags, Gid, Mode, OFlags, Uid};

use super::sidecar::{self, Claim};
use super::{absent, failed};
use crate::beneath::{self, Links};

/// The parent directory beneath the root, opened, and the last name.
struct Spot {
    parent: std::os::fd::OwnedFd,
    name: std::ffi::OsString,
    full: PathBuf,
}

fn spot(root: &Root, path: &str, make: bool) -> Result<Spot, ActError> {
    let relative = Path::new(path);
    let full = root.path.join(relative);
    let Some(name) = relative.file_name() else {
        let message = format!("{path:?} beneath {} names no file", root.path.display());
        return Err(ActError::new(ActErrorKind::Unsupported, message));
    };
    let folder = relative.parent().unwrap_or(Path::new(""));
    let open = || -> io::Result<_> {
        if make {
            fs::create_dir_all(&root.path)?;
        }
        let top = beneath::Root::open(&root.path)?;
        match top.open_dir(folder, Links::Refuse) {
            Err(error) if make && error.kind() == io::ErrorKind::NotFound => {
                top.make_dirs(folder, &mut Vec::new(), &mut |_, _| Ok(false))
            }
            outcome => outcome,
        }
    };
    let parent = open().map_err(|error| failed("open the folder of", &full, &error))?;
    Ok(Spot {
        parent,
        name: name.to_owned(),
        full,
    })
}

/// Makes a directory of the scope's own; one that is there and signed for by it stays as it is.
pub(super) fn ensure(
    cx: &ScopeContext,
    root: &Root,
    path: &str,
    owner: Owner,
) -> Result<(), ActError> {
    let spot = spot(root, path, true)?;
    if sidecar::check(cx, &spot.full)? == Claim::Ours && spot.full.is_dir() {
        return Ok(());
    }
    sidecar::write(cx, &spot.full)?;
    let make = || -> io::Result<()> {
        rustix::fs::mkdirat(&spot.parent, &spot.name, Mode::from_raw_mode(0o700))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let made = beneath::open_child(spot.parent.as_fd(), &spot.name, flags)?;
        rustix::fs::fchown(
            &made,
            Some(Uid::from_raw(owner.uid)),
            Some(Gid::from_raw(owner.gid)),
        )?;
        // After the change of owner, which clears the set-id bits.
        rustix::fs::fchmod(&made, Mode::from_raw_mode(owner.mode & 0o7777))?;
        rustix::fs::fsync(&spot.parent)?;
        Ok(())
    };
    make().map_err(|error| failed("make", &spot.full, &error))
}

/// Removes the directory: with everything in it when it holds the data of this very volume, else
/// only when it is empty.
pub(super) fn undo(cx: &ScopeContext, root: &Root, path: &str, data: bool) -> Result<(), ActError> {
    let Some(spot) = existing(root, path)? else {
        return Ok(());
    };
    if data && !cx.scope.is_durable() {
        return Ok(());
    }
    match sidecar::check(cx, &spot.full) {
        Ok(_) => {}
        // What this scope did not sign for is not its data to destroy, and an empty directory of somebody else stays.
        Err(error) if data => return Err(error),
        Err(_) => return Ok(()),
    }
    let remove = || -> io::Result<()> {
        if data {
            beneath::remove_tree(&spot.full)
        } else {
            Ok(rustix::fs::unlinkat(
                &spot.parent,
                &spot.name,
                AtFlags::REMOVEDIR,
            )?)
        }
    };
    match remove() {
        // It stays with what others put there, and stays signed for.
        Err(error) if !data && error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", &spot.full, &error))
        }
        _ => sidecar::remove(&spot.full),
    }
}

/// Makes or grows an image file.
pub(super) fn ensure_image(
    cx: &ScopeContext,
    root: &Root,
    path: &str,
    bytes: u64,
    preallocate: bool,
) -> Result<(), ActError> {
    let spot = spot(root, path, true)?;
    if sidecar::check(cx, &spot.full)? == Claim::Free {
        sidecar::write(cx, &spot.full)?;
    }
    let make = || -> io::Result<()> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = File::from(rustix::fs::openat(&spot.parent, &spot.name, flags, mode)?);
        if file.metadata()?.len() < bytes {
            if preallocate {
                rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
            } else {
                file.set_len(bytes)?;
            }
        }
        file.sync_all()
    };
    make().map_err(|error| failed("make", &spot.full, &error))
}

/// Removes an image file, if this volume made it.
pub(super) fn undo_image(cx: &ScopeContext, root: &Root, path: &str) -> Result<(), ActError> {
    if !cx.scope.is_durable() {
        return Ok(());
    }
    let Some(spot) = existing(root, path)? else {
        return Ok(());
    };
    sidecar::check(cx, &spot.full)?;
    match rustix::fs::unlinkat(&spot.parent, &spot.name, AtFlags::empty()) {
        Err(error) if error != rustix::io::Errno::NOENT => {
            Err(failed("remove", &spot.full, &error.into()))
        }
        _ => sidecar::remove(&spot.full),
    }
}

/// The spot, unless its folder is gone, and everything in it.
fn existing(root: &Root, path: &str) -> Result<Option<Spot>, ActError> {
    match spot(root, path, false) {
        Ok(spot) => Ok(Some(spot)),
        Err(error) if error.kind == absent(Path::new("")).kind => Ok(None),
        Err(error) => Err(error),
    }
}
