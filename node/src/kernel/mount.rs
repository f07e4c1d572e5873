//! The mount API that works on descriptors: a mount is made detached, changed, and attached by one call.
//!
//! A detached mount has no path that could be swapped meanwhile, and dies with its descriptor if a later step fails.
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_SET_FD: libc::c_uint = 5;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;

/// Attributes of a mount, by the kernel's numbers (`MOUNT_ATTR_*`).
pub(crate) mod attr {
    /// No writes.
    pub(crate) const READ_ONLY: u64 = 0x1;
    /// Set-user-id bits mean nothing.
    pub(crate) const NO_SUID: u64 = 0x2;
    /// Device nodes mean nothing.
    pub(crate) const NO_DEV: u64 = 0x4;
    /// Nothing can be executed.
    pub(crate) const NO_EXEC: u64 = 0x8;
}

/// A file system being configured.
#[derive(Debug)]
pub(crate) struct FsContext(OwnedFd);

impl FsContext {
    /// Starts configuring a file system of the named type.
    pub(crate) fn open(fs_type: &str) -> nix::Result<Self> {
        let name = CString::new(fs_type).map_err(|_| Errno::EINVAL)?;
        // SAFETY: `name` is a NUL-terminated string that outlives the call.
        super::owned(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) })
            .map(Self)
    }

    /// Sets a parameter that takes a value.
    pub(crate) fn set(&self, key: &str, value: &[u8]) -> nix::Result<()> {
        let value = CString::new(value).map_err(|_| Errno::EINVAL)?;
        self.configure(FSCONFIG_SET_STRING, Some(key), Some(&value))
    }

    /// Sets a parameter that has no value.
    pub(crate) fn set_flag(&self, key: &str) -> nix::Result<()> {
        self.configure(FSCONFIG_SET_FLAG, Some(key), None)
    }

    /// Sets a parameter that takes a descriptor.
    pub(crate) fn set_fd(&self, key: &str, fd: impl AsFd) -> nix::Result<()> {
        let key = CString::new(key).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the key is NUL-terminated and both descriptors are open during the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                FSCONFIG_SET_FD,
                key.as_ptr(),
                std::ptr::null::<libc::c_char>(),
                fd.as_fd().as_raw_fd(),
            )
        };
        Errno::result(result).map(drop)
    }

    /// Makes the file system and a detached mount of it with the given attributes.
    pub(crate) fn mount(&self, attributes: u64) -> nix::Result<OwnedFd> {
        self.configure(FSCONFIG_CMD_CREATE, None, None)?;
        // SAFETY: takes three integers.
        super::owned(unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attributes,
            )
        })
    }

    /// What the file system said about the last failure, if it said anything.
    pub(crate) fn complaint(&self) -> Option<String> {
        let mut buffer = [0u8; 512];
        let length = nix::unistd::read(&self.0, &mut buffer).ok()?;
        let text = String::from_utf8_lossy(buffer.get(..length)?);
        Some(text.trim().trim_start_matches("e ").to_owned())
    }

    fn configure(
        &self,
        command: libc::c_uint,
        key: Option<&str>,
        value: Option<&CString>,
    ) -> nix::Result<()> {
        let key = key
            .map(CString::new)
            .transpose()
            .map_err(|_| Errno::EINVAL)?;
        // SAFETY: both strings are NUL-terminated or null and outlive the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                key.as_ref().map_or(std::ptr::null(), |k| k.as_ptr()),
                value.map_or(std::ptr::null(), |v| v.as_ptr()),
                0,
            )
        };
        Errno::result(result).map(drop)
    }
}

/// A detached copy of the mount at `path` (beneath `dir` if relative, `dir` itself if empty), with all mounts beneath it
/// if `recursive`.
pub(crate) fn clone_tree(
    dir: BorrowedFd<'_>,
    path: &Path,
    recursive: bool,
) -> nix::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint;
    if recursive {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    super::owned(unsafe {
        libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags)
    })
}

/// Attaches a detached mount on top of the file or directory that `target` refers to.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> nix::Result<()> {
    // SAFETY: both paths are the empty string and the descriptors are borrowed for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            target.as_fd().as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    Errno::result(result).map(drop)
}

/// How mounts made later travel between copies of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    /// As it is.
    Keep,
    /// Neither way.
    Private,
    /// From the original to the copy.
    Slave,
    /// Both ways.
    Shared,
}

/// Adds attributes to a mount (and those beneath it if `recursive`) and sets how it spreads.
pub(crate) fn set_attributes(
    mount: impl AsFd,
    set: u64,
    spread: Spread,
    recursive: bool,
) -> nix::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let attributes = MountAttr {
        set,
        clear: 0,
        propagation: match spread {
            Spread::Keep => 0,
            Spread::Private => libc::MS_PRIVATE,
            Spread::Slave => libc::MS_SLAVE,
            Spread::Shared => libc::MS_SHARED,
        },
        userns: 0,
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the structure outlives the call and its size is passed along.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    Errno::result(result).map(drop)
}
