//! Paths that others chose, resolved beneath a directory by the kernel (`openat2`), never above it.
//!
//! Names inside image layers and volumes are hostile: they hold `..`, absolute names and symbolic links that
//! change while they are used. Everything here works on descriptors that the kernel resolved inside a root.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

mod remove;
#[cfg(test)]
mod tests;

pub(crate) use remove::{empty_dir, remove_tree};

/// The kernel gives up with `EAGAIN` when a rename races with a `..`; a few tries always suffice for honest renames.
const ATTEMPTS: usize = 32;
/// As many symbolic links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// A directory that paths are resolved beneath.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
}

/// How a path meets symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Followed as if the root were `/`: an absolute target and `..` stay inside.
    InRoot,
    /// Refused with `ELOOP`.
    Refuse,
}

impl Root {
    /// Opens a directory that davit itself made or was told of by its owner.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            fd: rustix::fs::open(path, flags, Mode::empty())?,
        })
    }

    /// Opens `path` beneath the root. Magic links of `/proc` are never followed.
    ///
    /// # Errors
    /// What the kernel says; `ELOOP` for a refused link, `EXDEV` for an escape.
    pub(crate) fn open_at(
        &self,
        path: &Path,
        flags: OFlags,
        mode: Mode,
        links: Links,
    ) -> io::Result<OwnedFd> {
        let resolve = match links {
            Links::InRoot => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            Links::Refuse => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        };
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let mut last = Errno::AGAIN;
        for _ in 0..ATTEMPTS {
            match rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(Errno::AGAIN) => last = Errno::AGAIN,
                result => return Ok(result?),
            }
        }
        Err(last.into())
    }

    /// Opens an existing directory beneath the root for use as the anchor of `*at` calls.
    pub(crate) fn open_dir(&self, path: &Path, links: Links) -> io::Result<OwnedFd> {
        self.open_at(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
            links,
        )
    }

    /// Opens the directory `path`, making whatever is missing with mode 0755, and tells the true path of each directory
    /// it made.
    ///
    /// Symbolic links are followed inside the root, also where their target is still missing. `replace` is asked
    /// when something that is no directory stands in the way, with its parent and its name: true means that
    /// it was removed.
    ///
    /// # Errors
    /// `ENOTDIR` for what stands in the way, `ELOOP` for too many links, and what the kernel says.
    pub(crate) fn make_dirs(
        &self,
        path: &Path,
        made: &mut Vec<PathBuf>,
        replace: &mut dyn FnMut(BorrowedFd<'_>, &OsStr) -> io::Result<bool>,
    ) -> io::Result<OwnedFd> {
        let mut resolved = PathBuf::new();
        let mut todo: Vec<OsString> = components(path);
        todo.reverse();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                resolved.pop();
                continue;
            }
            let parent = self.open_dir(&resolved, Links::Refuse)?;
            match kind_at(parent.as_fd(), &name)? {
                Some(Kind::Directory) => {}
                Some(Kind::Link) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = rustix::fs::readlinkat(&parent, &name, Vec::new())?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        resolved = PathBuf::new();
                    }
                    todo.extend(components(&target).into_iter().rev());
                    continue;
                }
                Some(Kind::Other) if !replace(parent.as_fd(), &name)? => {
                    return Err(Errno::NOTDIR.into());
                }
                Some(Kind::Other) | None => {
                    rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755))?;
                    // The process's umask must not decide what a layer or a volume looks like.
                    let fd = open_child(parent.as_fd(), &name, OFlags::RDONLY | OFlags::DIRECTORY)?;
                    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
                    made.push(resolved.join(&name));
                }
            }
            resolved.push(&name);
        }
        self.open_dir(&resolved, Links::Refuse)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What stands at a name, as far as walking needs to know.
enum Kind {
    Directory,
    Link,
    Other,
}

fn kind_at(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Kind>> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        result => result?,
    };
    Ok(Some(
        match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::Directory => Kind::Directory,
            rustix::fs::FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        },
    ))
}

/// Opens the child `name` of a directory without following a link at its end.
pub(crate) fn open_child(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// The names of a path; `.` and the leading slash are dropped, `..` is kept.
fn components(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}

/// The normal form of a name that must stay inside: no leading slash, no `.`, and `..` resolved by its text, as
/// Docker reads names in layers. None if it leaves the top.
pub(crate) fn clean(name: &[u8]) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if !clean.pop() {
                    return None;
                }
            }
            part => clean.push(OsStr::from_bytes(part)),
        }
    }
    Some(clean)
}
