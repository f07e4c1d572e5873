//! The highest acknowledged revision, in a file outside the database, so that a database that comes back older is refused.
//!
//! It is written after every commit and synced about once a second: a crash of the process leaves it exact, a power cut at most
//! that much behind. It never runs ahead of the database.
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::{Error, Revision};
use super::sync;

const NAME: &str = "mark";
const MAGIC: &[u8; 8] = b"davitmk1";
const SLOT_BYTES: usize = 20;
/// Each slot has a block of its own, so tearing one leaves the other.
const SLOT_DISTANCE: u64 = 4096;
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The open mark of a directory.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    revision: Revision,
    /// Written since the last sync; the other slot holds what was synced.
    slot: u64,
    unsynced_since: Option<Instant>,
}

impl Mark {
    /// Makes the mark of a new store: nothing was acknowledged.
    pub(super) fn create(dir: &Path) -> Result<Self, Error> {
        let content = [slot(0), [0; SLOT_BYTES]].map(|slot| {
            let mut block = slot.to_vec();
            block.resize(SLOT_DISTANCE as usize, 0);
            block
        });
        sync::replace_file(dir, NAME, &content.concat())
            .map_err(|error| failed(dir, "make", error))?;
        Self::open(dir)?.ok_or_else(|| failed(dir, "find", io::ErrorKind::NotFound.into()))
    }

    /// Opens the mark of a store, or says that there is none.
    pub(super) fn open(dir: &Path) -> Result<Option<Self>, Error> {
        let file = match OpenOptions::new()
            .read(true)
            .write(true)
            .open(dir.join(NAME))
        {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(dir, "open", error)),
        };
        let slots = [read_slot(&file, 0), read_slot(&file, 1)];
        let newest = (0..)
            .zip(slots)
            .filter_map(|(n, read)| read.map(|revision| (revision, n)))
            .max();
        let Some((revision, slot)) = newest else {
            let detail = "its mark of the highest revision is not readable".to_owned();
            return Err(Error::Corrupt {
                dir: dir.to_owned(),
                detail,
            });
        };
        Ok(Some(Self {
            file,
            revision,
            slot: 1 - slot,
            unsynced_since: None,
        }))
    }

    /// The highest revision that was acknowledged, as far as is known here.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Notes a durable revision.
    pub(super) fn raise(&mut self, revision: Revision) -> io::Result<()> {
        self.file
            .write_all_at(&slot(revision), self.slot * SLOT_DISTANCE)?;
        self.revision = revision;
        self.unsynced_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// When the next sync is due.
    pub(super) fn sync_at(&self) -> Option<Instant> {
        self.unsynced_since.map(|since| since + SYNC_EVERY)
    }

    /// Makes what was noted survive a power cut.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced_since.take().is_some() {
            self.file.sync_data()?;
            self.slot = 1 - self.slot;
        }
        Ok(())
    }
}

fn failed(dir: &Path, verb: &str, error: io::Error) -> Error {
    Error::io(format!("{verb} {}", dir.join(NAME).display()), error)
}

fn slot(revision: Revision) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&revision.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn read_slot(file: &File, number: u64) -> Option<Revision> {
    let mut bytes = [0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, number * SLOT_DISTANCE)
        .ok()?;
    let revision = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
    (slot(revision) == bytes).then_some(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_both_slots_counts_and_a_torn_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = Mark::create(dir.path()).unwrap();
        for revision in 1..=4 {
            mark.raise(revision).unwrap();
            mark.sync().unwrap();
        }
        mark.raise(5).unwrap();
        drop(mark);
        let mut mark = Mark::open(dir.path()).unwrap().unwrap();
        assert_eq!(mark.revision(), 5);
        let newest = 1 - mark.slot;
        mark.file
            .write_all_at(b"torn", newest * SLOT_DISTANCE + 10)
            .unwrap();
        assert_eq!(Mark::open(dir.path()).unwrap().unwrap().revision(), 4);
        mark.slot = newest;
        mark.raise(9).unwrap();
        assert_eq!(Mark::open(dir.path()).unwrap().unwrap().revision(), 9);
    }

    #[test]
    fn no_mark_is_not_an_unreadable_mark() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Mark::open(dir.path()).unwrap().is_none());
        std::fs::write(dir.path().join(NAME), vec![0; 8192]).unwrap();
        assert!(matches!(Mark::open(dir.path()), Err(Error::Corrupt { .. })));
        std::fs::write(dir.path().join(NAME), b"").unwrap();
        assert!(matches!(Mark::open(dir.path()), Err(Error::Corrupt { .. })));
    }
}
