//! An append-only file of frames, each a transaction: length, checksum, JSON.
//!
//! A frame that the file ends in the middle of was never acknowledged and is cut off at open. Damage
//! before that is an error, because what follows it was acknowledged.

use super::Record;
use crate::plan::ScopeId;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
/// Length and checksum, four bytes each, little endian.
const FRAME_HEADER: usize = 8;

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Entry {
    /// A record as it is now.
    Put(Box<Record>),
    /// A scope that is gone.
    Remove(ScopeId),
    /// A value of a driver; `None` when deleted.
    Value {
        driver: String,
        key: String,
        value: Option<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    /// The boot the file is valid in; empty when it survives reboots.
    boot: String,
}

/// An open journal. Its directory is locked while it is.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    /// Whether frames are synced to the disk before they count.
    durable: bool,
    boot: String,
    length: u64,
    /// Length right after the last rewrite.
    compact_length: u64,
    /// A failed sync: what is on the disk is unknown, so nothing more is written.
    broken: bool,
    _lock: File,
}

impl Journal {
    /// Opens or makes the journal; `boot` is the current boot's id for journals void after a reboot.
    pub(super) fn open(path: &Path, boot: Option<&str>) -> io::Result<(Self, Vec<Entry>)> {
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let lock = lock(&path.with_extension("lock"))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let boot = boot.unwrap_or_default();
        let (entries, length) = read(&bytes, boot, path)?;
        let mut journal = Self {
            file,
            path: path.to_owned(),
            durable: boot.is_empty(),
            boot: boot.to_owned(),
            length,
            compact_length: length,
            broken: false,
            _lock: lock,
        };
        if length == 0 {
            journal.rewrite(&[])?;
        } else {
            journal.file.set_len(length)?;
        }
        journal.file.seek(SeekFrom::End(0))?;
        Ok((journal, entries))
    }

    /// Adds a transaction: all of it is there after a crash, or none. An error leaves the journal
    /// as it was.
    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other(format!(
                "{} could not be synced before; restart the agent",
                self.path.display()
            )));
        }
        let frame = frame(entries)?;
        if let Err(error) = self.file.write_all(&frame) {
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::End(0))?;
            return Err(error);
        }
        if self.durable
            && let Err(error) = self.file.sync_data()
        {
            self.broken = true;
            return Err(error);
        }
        self.length += frame.len() as u64;
        Ok(())
    }

    /// Whether most of the file is history.
    pub(super) fn is_due(&self) -> bool {
        self.length > 1 << 20 && self.length > self.compact_length.saturating_mul(4)
    }

    /// Replaces the file by one with these entries only.
    pub(super) fn rewrite(&mut self, entries: &[Entry]) -> io::Result<()> {
        let header = Header {
            format: FORMAT,
            boot: self.boot.clone(),
        };
        let mut bytes = frame(&header)?;
        if !entries.is_empty() {
            bytes.extend(frame(entries)?);
        }
        let fresh = self.path.with_extension("new");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&fresh)?;
        file.write_all(&bytes)?;
        if self.durable {
            file.sync_all()?;
        }
        std::fs::rename(&fresh, &self.path)?;
        if self.durable
            && let Some(directory) = self.path.parent()
        {
            File::open(directory)?.sync_all()?;
        }
        self.file = file;
        self.length = bytes.len() as u64;
        self.compact_length = self.length;
        Ok(())
    }
}

fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!(
                "{} is locked: another davit uses this directory",
                path.display()
            ),
        ),
        std::fs::TryLockError::Error(error) => error,
    })?;
    Ok(file)
}

fn frame<T: Serialize + ?Sized>(content: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; FRAME_HEADER];
    serde_json::to_writer(&mut bytes, content)?;
    let (header, content) = bytes.split_at_mut(FRAME_HEADER);
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    let (first, second) = header.split_at_mut(4);
    first.copy_from_slice(&length.to_le_bytes());
    second.copy_from_slice(&crc32fast::hash(content).to_le_bytes());
    Ok(bytes)
}

/// The entries of a file, and the length up to which it is whole. Length 0 asks for a new file.
fn read(bytes: &[u8], boot: &str, path: &Path) -> io::Result<(Vec<Entry>, u64)> {
    let damaged = |at: usize, what: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} is damaged at byte {at} ({what}): put a copy from a backup in its place or, once no pod of this node uses \
                 the driver, move it aside to start with no records; data of volumes is not touched",
                path.display()
            ),
        )
    };
    let Some((header, mut at)) = next_frame(bytes, 0).map_err(|what| damaged(0, what))? else {
        return Ok((Vec::new(), 0));
    };
    let header: Header =
        serde_json::from_slice(header).map_err(|_| damaged(0, "unreadable header"))?;
    if header.format > FORMAT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} was written by a newer davit: use that one",
                path.display()
            ),
        ));
    }
    if header.boot != boot {
        return Ok((Vec::new(), 0));
    }
    let mut entries = Vec::new();
    while let Some((content, end)) = next_frame(bytes, at).map_err(|what| damaged(at, what))? {
        let read: Vec<Entry> =
            serde_json::from_slice(content).map_err(|_| damaged(at, "unreadable record"))?;
        entries.extend(read);
        at = end;
    }
    Ok((entries, at as u64))
}

/// The frame at a position and where it ends; `None` at the end or at a frame cut short.
fn next_frame(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, &'static str> {
    let number = |from: usize| -> Option<u32> {
        bytes
            .get(from..from + 4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_le_bytes)
    };
    let (Some(length), Some(checksum)) = (number(at), number(at + 4)) else {
        return Ok(None);
    };
    let start = at + FRAME_HEADER;
    let end = start + length as usize;
    let Some(content) = bytes.get(start..end) else {
        return Ok(None);
    };
    if crc32fast::hash(content) == checksum && length > 0 {
        return Ok(Some((content, end)));
    }
    // A file system may have extended the file before it wrote the last frame's blocks.
    let unwritten = bytes
        .get(at..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
    if unwritten || end == bytes.len() {
        Ok(None)
    } else {
        Err("wrong checksum")
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
