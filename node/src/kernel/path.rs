//! Paths given by somebody else, resolved beneath a directory and nowhere else.
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};

/// Most symbolic links followed on one path, as in the kernel.
const MAX_LINKS: usize = 40;

/// The one form of a path that is to be seen from a root: absolute, without `.`, empty steps and `..`, the last taken by
/// the text, and never above the root. Whatever is decided about a path is decided about this form of it.
pub(crate) fn normal_absolute(path: &str) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => drop(normal.pop()),
            name => normal.push(name),
        }
    }
    normal
}

/// The one form of a path beneath something: without `.` and empty steps. None for one that is absolute or has a `..`,
/// which would mean something else where a link is in the way.
pub(crate) fn normal_relative(path: &str) -> Option<PathBuf> {
    let leads_out = path.starts_with('/') || path.split('/').any(|step| step == "..");
    let steps = || path.split('/').filter(|step| !matches!(*step, "" | "."));
    (!leads_out).then(|| steps().collect())
}

/// What a mount point must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// A directory.
    Directory,
    /// Anything but a directory.
    File,
}

impl TargetKind {
    /// What a mount of `stat` needs as its target.
    pub(crate) fn of(stat: &FileStat) -> Self {
        if is_kind(stat, SFlag::S_IFDIR) {
            Self::Directory
        } else {
            Self::File
        }
    }
}

/// Whether `stat` describes a file of this kind.
pub(crate) fn is_kind(stat: &FileStat, kind: SFlag) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

/// Opens `path` as if `root` were `/`: absolute links and `..` stay inside, magic links of `/proc` are refused.
pub(crate) fn open_in_root(root: impl AsFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    open_resolved(root, path, flags, ResolveFlag::RESOLVE_IN_ROOT)
}

/// Opens `path` beneath `dir`; anything that would lead out of it is refused with `EXDEV`.
pub(crate) fn open_beneath(dir: impl AsFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    open_resolved(dir, path, flags, ResolveFlag::RESOLVE_BENEATH)
}

fn open_resolved(
    dir: impl AsFd,
    path: &Path,
    flags: OFlag,
    resolve: ResolveFlag,
) -> nix::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    loop {
        // A rename elsewhere while `..` is resolved makes the kernel ask for another try.
        match openat2(&dir, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// The mount point `path` inside `root`, made with its parents if it is missing.
///
/// Links are followed inside `root`; a link whose target is missing has its target made, as with other runtimes.
pub(crate) fn target_in_root(
    root: impl AsFd,
    path: &Path,
    kind: TargetKind,
) -> nix::Result<OwnedFd> {
    match open_in_root(&root, path, OFlag::O_PATH) {
        Ok(found) => {
            let actual = TargetKind::of(&fstat(&found)?);
            match (actual, kind) {
                (TargetKind::File, TargetKind::Directory) => Err(Errno::ENOTDIR),
                (TargetKind::Directory, TargetKind::File) => Err(Errno::EISDIR),
                _ => Ok(found),
            }
        }
        Err(Errno::ENOENT) => make_in_root(&root, path, kind),
        Err(errno) => Err(errno),
    }
}

/// The directory `path` beneath `dir`, made with its parents if missing, with the mode of `dir` itself.
pub(crate) fn directory_beneath(dir: impl AsFd, path: &Path) -> nix::Result<OwnedFd> {
    let mode = Mode::from_bits_truncate(fstat(&dir)?.st_mode & 0o7777);
    let mut current = open_beneath(&dir, Path::new("."), OFlag::O_PATH)?;
    let mut walked = PathBuf::new();
    for component in path.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::CurDir => continue,
            _ => return Err(Errno::EXDEV),
        };
        match mkdirat(&current, name, mode) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        walked.push(name);
        current = open_beneath(&dir, &walked, OFlag::O_PATH)?;
    }
    Ok(current)
}

/// Walks the components one by one, each opened in a directory that was reached without following any link.
fn make_in_root(root: impl AsFd, path: &Path, kind: TargetKind) -> nix::Result<OwnedFd> {
    let mut todo = normal_components(path);
    let mut done = PathBuf::from(".");
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            done.pop();
            continue;
        }
        let parent = open_plain(&root, &done)?;
        let wanted = if todo.is_empty() {
            kind
        } else {
            TargetKind::Directory
        };
        let found = open_or_make(&parent, &name, wanted)?;
        if is_kind(&fstat(&found)?, SFlag::S_IFLNK) {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::ELOOP);
            }
            let target = PathBuf::from(readlinkat(&found, "")?);
            if target.is_absolute() {
                done = PathBuf::from(".");
            }
            let mut rest = normal_components(&target);
            rest.append(&mut todo);
            todo = rest;
        } else {
            done.push(&name);
        }
    }
    let made = open_plain(&root, &done)?;
    if TargetKind::of(&fstat(&made)?) == kind {
        Ok(made)
    } else {
        Err(Errno::ENOTDIR)
    }
}

fn open_plain(root: impl AsFd, path: &Path) -> nix::Result<OwnedFd> {
    open_resolved(
        root,
        path,
        OFlag::O_PATH,
        ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS,
    )
}

fn open_or_make(parent: &OwnedFd, name: &OsStr, kind: TargetKind) -> nix::Result<OwnedFd> {
    let look = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(parent, name, look, Mode::empty()) {
        Err(Errno::ENOENT) => {}
        result => return result,
    }
    match kind {
        TargetKind::Directory => match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        },
        TargetKind::File => {
            let make = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            match openat(parent, name, make, Mode::from_bits_truncate(0o644)) {
                Ok(_) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    openat(parent, name, look, Mode::empty())
}

fn normal_components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
