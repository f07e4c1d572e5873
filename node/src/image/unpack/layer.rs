//! Writes the entries of one layer's archive beneath a directory.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::whiteout::{self, Mark};
use super::{Budget, UnpackError, Unpacked, shown};
use crate::beneath::{self, Links, Root};
use crate::image::tar::{Archive, Entry, Kind};

/// Takes entries in the archive's order.
pub(super) struct Writer {
    root: Root,
    budget: Budget,
    unpacked: Unpacked,
    /// Implied directories by inode, until an entry of their own comes.
    implied: BTreeMap<u64, PathBuf>,
    /// Directories' times are set last: every entry in a directory changes its time.
    times: Vec<(PathBuf, (i64, u32))>,
    /// The directory of the last entry: archives go directory by directory.
    parent: Option<(PathBuf, OwnedFd)>,
    buffer: Vec<u8>,
}

impl Writer {
    pub(super) fn open(dir: &Path, budget: Budget) -> Result<Self, UnpackError> {
        let begin = || -> io::Result<(Root, u64)> {
            let root = Root::open(dir)?;
            rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755))?;
            let inode = rustix::fs::fstat(&root)?.st_ino;
            Ok((root, inode))
        };
        let (root, inode) = begin().map_err(io_error("begin", b"/"))?;
        Ok(Self {
            root,
            budget,
            unpacked: Unpacked::default(),
            implied: BTreeMap::from([(inode, PathBuf::new())]),
            times: Vec::new(),
            parent: None,
            buffer: vec![0; 1 << 16],
        })
    }

    /// Writes one entry; its data is read from `archive`.
    pub(super) fn apply<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), UnpackError> {
        self.unpacked.entries += 1;
        if self.unpacked.entries > self.budget.entries {
            return Err(UnpackError::TooMany {
                limit: self.budget.entries,
            });
        }
        let path = beneath::clean(&entry.name).ok_or_else(|| UnpackError::Escape {
            entry: shown(&entry.name),
        })?;
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return self.apply_root(entry);
        };
        if whiteout::is_beneath_mark(parent) {
            return Ok(());
        }
        let io = |operation| io_error(operation, &entry.name);
        match whiteout::mark(name) {
            Some(Mark::Ignored) => return Ok(()),
            Some(Mark::Invalid) => {
                return Err(UnpackError::Whiteout {
                    entry: shown(&entry.name),
                });
            }
            Some(Mark::Opaque) => {
                let dir = self.parent(parent).map_err(io("open the directory of"))?;
                return whiteout::make_opaque(dir).map_err(io("mark opaque"));
            }
            Some(Mark::Gone(name)) => {
                let dir = self.parent(parent).map_err(io("open the directory of"))?;
                return whiteout::hide(dir, &name).map_err(io("write whiteout"));
            }
            None => {}
        }
        match entry.kind {
            // Containers get their devices from the runtime; a node from a stranger's layer could be any disk.
            Kind::Device => Ok(()),
            Kind::Directory => self
                .directory(entry, &path, parent, name)
                .map_err(io("make")),
            Kind::File => self.file(entry, archive, parent, name),
            Kind::Symlink => self.symlink(entry, parent, name),
            Kind::HardLink => self.hard_link(entry, &path, parent, name),
            Kind::Fifo => self.fifo(entry, parent, name).map_err(io("make")),
        }
    }

    /// Sets the times of directories and tells what only lower layers can complete.
    pub(super) fn finish(mut self) -> Result<Unpacked, UnpackError> {
        for (path, mtime) in self.times.iter().rev() {
            // The directory may have been replaced by a later entry.
            if let Ok(dir) = self.root.open_dir(path, Links::InRoot) {
                let set = rustix::fs::futimens(&dir, &timestamps(*mtime)).map_err(io::Error::from);
                set.map_err(io_error("set the time of", path.as_os_str().as_bytes()))?;
            }
        }
        let mut implied: Vec<_> = std::mem::take(&mut self.implied).into_values().collect();
        implied.sort();
        self.unpacked.implied = implied;
        Ok(self.unpacked)
    }

    fn apply_root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != Kind::Directory {
            return Err(UnpackError::Escape {
                entry: shown(&entry.name),
            });
        }
        let stat = set_metadata(self.root.as_fd(), entry);
        let stat = stat.and_then(|()| Ok(rustix::fs::fstat(&self.root)?));
        let stat = stat.map_err(io_error("set the owner of", b"/"))?;
        self.implied.remove(&stat.st_ino);
        self.times.push((PathBuf::new(), entry.mtime));
        Ok(())
    }

    /// The directory at `path`, made if the archive has no entry for it.
    fn parent(&mut self, path: &Path) -> io::Result<BorrowedFd<'_>> {
        let cached = self
            .parent
            .as_ref()
            .is_some_and(|(cached, _)| cached == path);
        if !cached {
            let fd = match self.root.open_dir(path, Links::InRoot) {
                Ok(fd) => fd,
                Err(_missing_or_blocked) => self.make_parent(path)?,
            };
            self.parent = Some((path.to_owned(), fd));
        }
        match &self.parent {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => Err(Errno::NOENT.into()),
        }
    }

    fn make_parent(&mut self, path: &Path) -> io::Result<OwnedFd> {
        let mut made = Vec::new();
        // A directory that was whited out and comes back hides what is below.
        let mut reborn = Vec::new();
        let mut replace = |parent: BorrowedFd<'_>, name: &OsStr| {
            let is_whiteout = whiteout::is_whiteout(parent, name)?;
            if is_whiteout {
                rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
                reborn.push((parent.try_clone_to_owned()?, name.to_owned()));
            }
            Ok(is_whiteout)
        };
        let fd = self.root.make_dirs(path, &mut made, &mut replace)?;
        for (parent, name) in reborn {
            let dir = beneath::open_child(parent.as_fd(), &name, OFlags::DIRECTORY)?;
            whiteout::make_opaque(dir.as_fd())?;
        }
        for path in made {
            let dir = self.root.open_dir(&path, Links::Refuse)?;
            self.implied.insert(rustix::fs::fstat(&dir)?.st_ino, path);
        }
        Ok(fd)
    }

    fn directory(
        &mut self,
        entry: &Entry,
        path: &Path,
        parent: &Path,
        name: &OsStr,
    ) -> io::Result<()> {
        let dir = self.parent(parent)?;
        let was = stat(dir, name)?;
        let hidden = was.as_ref().is_some_and(whiteout::is_whiteout_stat);
        if !was.as_ref().is_some_and(is_directory) {
            if was.is_some() {
                rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            }
            rustix::fs::mkdirat(dir, name, Mode::RWXU)?;
        }
        let made = beneath::open_child(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        if hidden {
            whiteout::make_opaque(made.as_fd())?;
        }
        set_metadata(made.as_fd(), entry)?;
        if self.implied.len() > 1 {
            self.implied.remove(&rustix::fs::fstat(&made)?.st_ino);
        }
        self.times.push((path.to_owned(), entry.mtime));
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
        parent: &Path,
        name: &OsStr,
    ) -> Result<(), UnpackError> {
        let io = |operation| io_error(operation, &entry.name);
        let used = self.unpacked.bytes.saturating_add(entry.size);
        if used > self.budget.bytes {
            return Err(UnpackError::TooLarge {
                limit: self.budget.bytes,
            });
        }
        self.unpacked.bytes = used;
        let dir = self.parent(parent).map_err(io("open the directory of"))?;
        clear(dir, name).map_err(io("replace"))?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(fd.map_err(io::Error::from).map_err(io("make"))?);
        match &entry.segments {
            None => self.copy(entry, archive, &mut file, None)?,
            Some(segments) => {
                file.set_len(entry.size).map_err(io("size"))?;
                for segment in segments {
                    file.seek(SeekFrom::Start(segment.offset))
                        .map_err(io("write"))?;
                    self.copy(entry, archive, &mut file, Some(segment.length))?;
                }
            }
        }
        set_metadata(file.as_fd(), entry).map_err(io("set the owner of"))?;
        let times = rustix::fs::futimens(&file, &timestamps(entry.mtime));
        times
            .map_err(io::Error::from)
            .map_err(io("set the time of"))
    }

    /// Copies all data, or exactly `length` bytes of it.
    fn copy<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
        file: &mut File,
        length: Option<u64>,
    ) -> Result<(), UnpackError> {
        let mut left = length.unwrap_or(u64::MAX);
        loop {
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            let buffer = self.buffer.get_mut(..most).unwrap_or_default();
            let read = archive.data(buffer).map_err(UnpackError::Archive)?;
            if read == 0 {
                return Ok(());
            }
            let data = buffer.get(..read).unwrap_or_default();
            file.write_all(data)
                .map_err(io_error("write", &entry.name))?;
            left -= read as u64;
        }
    }

    fn symlink(&mut self, entry: &Entry, parent: &Path, name: &OsStr) -> Result<(), UnpackError> {
        if entry.link.is_empty() {
            return Err(link_error(entry, "a symbolic link needs a target"));
        }
        let mut make = || -> io::Result<()> {
            let dir = self.parent(parent)?;
            clear(dir, name)?;
            rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), dir, name)?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(dir, name, Some(uid(entry)), Some(gid(entry)), flags)?;
            rustix::fs::utimensat(dir, name, &timestamps(entry.mtime), flags)?;
            // A cached directory may have been reached by the name that is now another link.
            self.parent = None;
            Ok(())
        };
        make().map_err(io_error("make", &entry.name))
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        path: &Path,
        parent: &Path,
        name: &OsStr,
    ) -> Result<(), UnpackError> {
        let target = beneath::clean(&entry.link)
            .ok_or_else(|| link_error(entry, "it leads out of the image's root"))?;
        let (Some(target_name), Some(target_parent)) = (target.file_name(), target.parent()) else {
            return Err(link_error(entry, "the root cannot be linked to"));
        };
        if target == path {
            return Err(link_error(entry, "it links to itself"));
        }
        let io = |operation| io_error(operation, &entry.name);
        let found = self.root.open_dir(target_parent, Links::InRoot).ok();
        let found = match found {
            Some(dir) => stat(dir.as_fd(), target_name)
                .map_err(io("find the target of"))?
                .map(|s| (dir, s)),
            None => None,
        };
        let dir = self.parent(parent).map_err(io("open the directory of"))?;
        clear(dir, name).map_err(io("replace"))?;
        match found {
            None => {
                let target = target.clone();
                self.unpacked.links.push((path.to_owned(), target));
            }
            Some((_, stat)) if is_directory(&stat) || whiteout::is_whiteout_stat(&stat) => {
                return Err(link_error(entry, "only files can be linked to"));
            }
            Some((from, _)) => {
                let linked = rustix::fs::linkat(&from, target_name, dir, name, AtFlags::empty());
                linked.map_err(io::Error::from).map_err(io("link"))?;
            }
        }
        Ok(())
    }

    fn fifo(&mut self, entry: &Entry, parent: &Path, name: &OsStr) -> io::Result<()> {
        let dir = self.parent(parent)?;
        clear(dir, name)?;
        rustix::fs::mknodat(dir, name, FileType::Fifo, Mode::RUSR, 0)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(dir, name, Some(uid(entry)), Some(gid(entry)), flags)?;
        let fifo = beneath::open_child(dir, name, OFlags::PATH)?;
        let path = format!("/proc/self/fd/{}", fifo.as_raw_fd());
        rustix::fs::chmod(path, Mode::from_raw_mode(entry.mode))?;
        rustix::fs::utimensat(dir, name, &timestamps(entry.mtime), flags)?;
        Ok(())
    }
}

/// Makes room for an entry that is no directory.
fn clear(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            let mut path = OsString::from(format!("/proc/self/fd/{}/", dir.as_raw_fd()));
            path.push(name);
            beneath::remove_tree(Path::new(&path))
        }
        Err(error) => Err(error.into()),
    }
}

/// Owner, mode and attributes; the mode comes after the owner, which clears set-id bits.
fn set_metadata(fd: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
    rustix::fs::fchown(fd, Some(uid(entry)), Some(gid(entry)))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
        match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// File capabilities and user attributes. Never `trusted.*`: overlayfs would take orders from a layer.
pub(super) fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

pub(super) fn stat(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        result => Ok(Some(result?)),
    }
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn uid(entry: &Entry) -> Uid {
    Uid::from_raw(entry.uid)
}

fn gid(entry: &Entry) -> Gid {
    Gid::from_raw(entry.gid)
}

fn timestamps((seconds, nanos): (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanos.into(),
        },
    }
}

fn link_error(entry: &Entry, reason: &'static str) -> UnpackError {
    UnpackError::Link {
        entry: shown(&entry.name),
        target: shown(&entry.link),
        reason,
    }
}

fn io_error(operation: &'static str, name: &[u8]) -> impl FnOnce(io::Error) -> UnpackError {
    move |source| UnpackError::Io {
        operation,
        entry: shown(name),
        source,
    }
}
