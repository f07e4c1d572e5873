//! One process a directory.
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use super::super::Error;

/// The lock of a directory. The kernel lets it go when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DirLock {
    file: File,
}

impl DirLock {
    /// Takes the lock of a directory and writes down who has it.
    pub(super) fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let failed = |error| Error::io(format!("lock {}", path.display()), error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only a hint for the message; a holder that could not be read is not named.
                let _ = file.take(32).read_to_string(&mut holder);
                let holder = holder.trim().parse().ok();
                return Err(Error::Locked {
                    dir: dir.to_owned(),
                    holder,
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let named = file
            .set_len(0)
            .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
        if let Err(error) = named {
            // A full disk takes no note of who holds the lock; it is held all the same.
            tracing::debug!(%error, "the lock does not say who holds it");
        }
        Ok(Self { file })
    }

    /// The locked file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}
