//! An executable that a container cannot overwrite (CVE-2019-5736).
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::mount::{Spread, attr, clone_tree, set_attributes};

/// One version of an executable, held open: replacing or removing the file changes nothing for who runs this.
///
/// It is a detached read-only mount of the file, so that `/proc/<pid>/exe` of what runs it cannot be opened for writing
/// even by root, while its pages are shared with everybody who runs the file. Where the kernel refuses such a mount it
/// is a sealed copy in memory.
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

impl Program {
    /// Holds the executable at `path`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match read_only_mount(path) {
            Ok(fd) => Ok(Self(fd)),
            Err(_) => sealed_copy(path).map(Self),
        }
    }

    /// A path that executes it, in this process and in children that inherit its descriptors.
    pub(crate) fn exec_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

fn read_only_mount(path: &Path) -> nix::Result<OwnedFd> {
    let fd = clone_tree(AT_FDCWD, path, false)?;
    set_attributes(&fd, attr::READ_ONLY, Spread::Private, false)?;
    Ok(fd)
}

fn sealed_copy(path: &Path) -> io::Result<OwnedFd> {
    let mut source = std::fs::File::open(path)?;
    let fd = memfd_create(
        c"davit",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    )?;
    let mut copy = std::fs::File::from(fd);
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let length = source.read(&mut buffer)?;
        match buffer.get(..length) {
            Some([]) | None => break,
            Some(bytes) => copy.write_all(bytes)?,
        }
    }
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(copy.as_fd(), FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sealed_copy_runs_and_refuses_writes() {
        let copy = sealed_copy(Path::new("/proc/self/exe")).unwrap();
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let error = std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut f| f.write_all(b"x"))
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn the_mount_refuses_writes_while_the_file_itself_allows_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("program");
        std::fs::write(&file, "x").unwrap();
        let held = read_only_mount(&file).unwrap();
        let path = format!("/proc/self/fd/{}", held.as_raw_fd());
        let error = std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        std::fs::write(&file, "y").unwrap();
    }
}
