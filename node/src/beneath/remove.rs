//! Removing trees that others grew: any depth, any number of files, no link followed.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

/// Directories open at a time; deeper ones are lifted.
const MAX_DEPTH: usize = 48;

/// Removes a file or a whole tree; fine if nothing is there.
///
/// A container can nest directories deeper than a path can be long or a stack be deep. Therefore what lies
/// [`MAX_DEPTH`] levels down is first moved up to the top and emptied from there: depth costs neither stack nor
/// descriptors.
///
/// # Errors
/// What the kernel says, `EBUSY` for a mount inside the tree.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    empty_dir(path)?;
    Ok(rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)?)
}

/// Removes everything inside a directory, and keeps the directory.
///
/// # Errors
/// As [`remove_tree`].
pub(crate) fn empty_dir(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    let mut removal = Removal {
        top: top.as_fd(),
        lifted: VecDeque::new(),
        next: 0,
    };
    removal.clear(top.as_fd(), 0)?;
    while let Some(name) = removal.lifted.pop_front() {
        removal.remove_dir(top.as_fd(), &name, 0)?;
    }
    Ok(())
}

/// A tree being removed, with the directories that were moved up under its top.
struct Removal<'a> {
    top: BorrowedFd<'a>,
    lifted: VecDeque<CString>,
    next: u64,
}

impl Removal<'_> {
    fn remove_dir(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CString,
        depth: usize,
    ) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // What is mounted in the tree is somebody's data, not part of it, even if it is of the same file system.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
        let dir = match rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve) {
            // Somebody else removes the same tree.
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::XDEV) => return Err(Errno::BUSY.into()),
            dir => dir?,
        };
        self.clear(dir.as_fd(), depth + 1)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn clear(&mut self, dir: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        for name in list(dir)? {
            match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) if depth < MAX_DEPTH => {
                    self.remove_dir(dir, &name, depth)?;
                }
                Err(Errno::ISDIR | Errno::PERM) => self.lift(dir, &name)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn lift(&mut self, dir: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
        loop {
            let lifted = CString::new(format!(".davit-removing-{}", self.next))?;
            self.next += 1;
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(dir, name, self.top, &lifted, flags) {
                Ok(()) => {
                    self.lifted.push_back(lifted);
                    return Ok(());
                }
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// All names in a directory but `.` and `..`, read before anything changes.
fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
