//! One server and one agent on a data directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::fault::Fault;

/// What a lock admits once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The API server and the controllers.
    Server,
    /// The node agent.
    Agent,
}

/// A lock that lasts as long as this value and ends with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Role {
    fn file(self) -> &'static str {
        match self {
            Self::Server => "server.lock",
            Self::Agent => "agent.lock",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Agent => "agent",
        }
    }
}

/// Makes the data directory, for its owner only; its absolute path.
pub(crate) fn make_data_dir(dir: &Path) -> Result<PathBuf, Fault> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.and_then(|()| dir.canonicalize())
        .map_err(|error| cannot_use(dir, error))
}

fn cannot_use(dir: &Path, error: std::io::Error) -> Fault {
    let what = format!("using the data directory {}", dir.display());
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => "run davit as root, or name another with --data-dir",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "name a directory with --data-dir, not a file"
        }
        ErrorKind::ReadOnlyFilesystem => "name a writable directory with --data-dir",
        ErrorKind::StorageFull => "free some space, or name another with --data-dir",
        _ => "name another with --data-dir",
    };
    Fault::new(what, error, remedy)
}

/// Takes the lock of `role` on `dir`.
///
/// # Errors
/// One line with the number of the process that has it.
pub(crate) fn take(dir: &Path, role: Role) -> Result<Lock, Fault> {
    let mut file = open(dir, role).map_err(|error| cannot_use(dir, error))?;
    match fcntl(&file, FcntlArg::F_SETLK(&whole_file())) {
        Ok(_) => {}
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
            let holder = holder(dir, role).map_or_else(
                || "another process".to_owned(),
                |pid| format!("process {pid}"),
            );
            return Err(Fault::told(
                format!("using the data directory {}", dir.display()),
                format!("{holder} already runs a davit {} on it", role.name()),
                "stop that one first, or name another directory with --data-dir",
            ));
        }
        Err(errno) => return Err(cannot_use(dir, errno.into())),
    }
    // For people who look; the lock itself is what counts.
    let _ = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(Lock { _file: file })
}

/// Takes the lock of `role` on `dir` as soon as its holder ends. Blocks the thread.
pub(crate) fn wait(dir: &Path, role: Role) -> Result<Lock, Fault> {
    let file = open(dir, role).map_err(|error| cannot_use(dir, error))?;
    match fcntl(&file, FcntlArg::F_SETLKW(&whole_file())) {
        Ok(_) => Ok(Lock { _file: file }),
        Err(errno) => Err(cannot_use(dir, errno.into())),
    }
}

/// The process that has the lock of `role` on `dir`, if any.
pub(crate) fn holder(dir: &Path, role: Role) -> Option<i32> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path(dir, role))
        .ok()?;
    let mut wanted = whole_file();
    fcntl(&file, FcntlArg::F_GETLK(&mut wanted)).ok()?;
    (libc::c_int::from(wanted.l_type) != libc::F_UNLCK).then_some(wanted.l_pid)
}

fn path(dir: &Path, role: Role) -> PathBuf {
    dir.join(role.file())
}

fn open(dir: &Path, role: Role) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options.open(path(dir, role))
}

/// A write lock on everything.
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_directories_are_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for bad in [file.clone(), file.join("below")] {
            let fault = make_data_dir(&bad).map(|_| ());
            let text = fault.unwrap_err().to_string();
            assert!(text.contains("name a directory with --data-dir"), "{text}");
        }
    }

    #[test]
    fn a_lock_of_this_process_has_no_other_holder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(dir.path(), Role::Agent), None);
        let _lock = take(dir.path(), Role::Agent).unwrap();
        let text = std::fs::read_to_string(dir.path().join("agent.lock")).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
        take(dir.path(), Role::Server).unwrap();
    }
}
