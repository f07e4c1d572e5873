//! The room of a store: how much its file system has left, and a file that keeps some of it back.
//!
//! Writes are refused while there is less than the reserve. Half of the reserve lies in a file beside the database, so that no other
//! program can take it; it is given back when a deletion, an opening or a rebuild would not get by otherwise, and laid out again
//! when there is room. File systems that cannot lay out a file keep nothing back.
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use super::super::Error;

const NAME: &str = "reserve";
/// Deletions get by with this part of the reserve, for what the database writes beside them.
const FLOOR: u64 = 16;

/// The room of one store.
#[derive(Debug)]
pub(super) struct Room {
    dir: PathBuf,
    reserve: u64,
    /// Bytes that the file holds.
    held: u64,
    /// Whether the last write found too little.
    short: bool,
    /// Whether the file system lays files out.
    lays_out: bool,
}

impl Room {
    /// The room of the store in a directory, as it was left.
    pub(super) fn of(dir: &Path, reserve: u64) -> Self {
        let held = fs::metadata(dir.join(NAME)).map_or(0, |file| file.blocks() * 512);
        Self {
            dir: dir.to_owned(),
            reserve,
            held,
            short: false,
            lays_out: true,
        }
    }

    /// Refuses writes while there is little room, before they touch anything. Deletions may use all of the reserve but a little.
    pub(super) fn admit(&mut self, deletion: bool) -> Result<(), Error> {
        if deletion {
            return self.clear(self.reserve / FLOOR);
        }
        let free = self.free()?;
        self.short = free.saturating_add(self.held) < self.reserve;
        if self.short {
            return Err(self.full(free, self.reserve.saturating_sub(self.held)));
        }
        Ok(())
    }

    /// Whether the last write found too little room.
    pub(super) fn is_short(&self) -> bool {
        self.short
    }

    /// Makes sure of some free room, by giving back what is kept if that helps.
    pub(super) fn clear(&mut self, needed: u64) -> Result<(), Error> {
        let mut free = self.free()?;
        if free < needed && self.held > 0 && free.saturating_add(self.held) >= needed {
            fs::remove_file(self.path())
                .map_err(|error| Error::io(format!("remove {}", self.path().display()), error))?;
            tracing::warn!(
                bytes = self.held,
                "the disk is nearly full: what the store keeps back is used up now"
            );
            self.held = 0;
            free = self.free()?;
        }
        if free < needed {
            return Err(self.full(free, needed));
        }
        Ok(())
    }

    /// Whether [`Room::clear`] would find so much.
    pub(super) fn can_clear(&self, needed: u64) -> bool {
        let free = self.free().unwrap_or_default();
        free.saturating_add(self.held) >= needed
    }

    /// What an error is due to, if there is less room than was needed.
    pub(super) fn blame(&self, error: Error, needed: u64) -> Error {
        match self.free() {
            Ok(free) if free < needed => {
                tracing::warn!(error = &error as &dyn std::error::Error, "without room");
                self.full(free, needed)
            }
            _ => error,
        }
    }

    /// Keeps room back again, if there is enough.
    pub(super) fn restock(&mut self) {
        let wanted = self.reserve / 2;
        let enough = || self.free().is_ok_and(|free| free >= self.reserve);
        if self.held > 0 || wanted == 0 || !self.lays_out || !enough() {
            return;
        }
        let made = File::create(self.path()).and_then(|file| {
            let bytes = i64::try_from(wanted).map_err(std::io::Error::other)?;
            Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes)?)
        });
        match made {
            Ok(()) => self.held = wanted,
            Err(error) => {
                self.lays_out = false;
                // A part of it would only be in the way.
                let removed = fs::remove_file(self.path());
                tracing::debug!(%error, ?removed, "no room is kept back for deletions");
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    fn full(&self, free: u64, needed: u64) -> Error {
        Error::Full {
            dir: self.dir.clone(),
            free,
            needed,
        }
    }

    fn free(&self) -> Result<u64, Error> {
        let stat = statvfs(&self.dir).map_err(|errno| {
            Error::io(
                format!("ask for the room in {}", self.dir.display()),
                errno.into(),
            )
        })?;
        Ok(stat.blocks_available() as u64 * stat.fragment_size() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_back_is_given_for_deletions_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut room = Room::of(dir.path(), 1 << 20);
        room.restock();
        assert_eq!(room.held, 1 << 19);
        assert!(Room::of(dir.path(), 1 << 20).held >= 1 << 19);
        let free = room.free().unwrap();
        // What others do on this file system moves the rest; these margins are far larger.
        room.reserve = free + (64 << 30);
        assert!(matches!(room.admit(false), Err(Error::Full { .. })));
        assert!(room.is_short() && room.path().exists());
        room.held = 128 << 30;
        room.clear(free + (32 << 30)).unwrap_err();
        assert!(!room.path().exists() && room.held == 0);
        room.reserve = 16 << 10;
        room.admit(true).unwrap();
        room.admit(false).unwrap();
        assert!(!room.is_short());
    }

    #[test]
    fn nothing_is_kept_back_of_too_little() {
        let dir = tempfile::tempdir().unwrap();
        let mut room = Room::of(dir.path(), u64::MAX);
        room.restock();
        assert!(room.held == 0 && !room.path().exists());
    }
}
