//! The log in front of a database: what is in it is durable, and the database follows behind.
//!
//! It is two files of a size that is laid out beforehand, so that a commit is one write into blocks that exist and one sync of
//! data alone. They are filled in turn; one is written over only when the database has durably taken in all that it holds. A
//! commit is a frame, which begins a block of its own: no write touches a block that holds an acknowledged frame.
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::Error;
use super::sync;

const NAMES: [&str; 2] = ["log-0", "log-1"];
const BLOCK_BYTES: u64 = 4096;
/// Length, checksum, epoch, number and settled number.
const HEADER_BYTES: usize = 4 + 4 + 8 + 8 + 8;

/// The number of a frame; they count up without gaps.
pub(super) type Number = u64;

/// The open log of a database.
#[derive(Debug)]
pub(super) struct Log {
    files: [File; 2],
    /// A file with this many bytes is full. A frame may reach beyond.
    full: u64,
    /// How often the files were changed; its parity says which is written to.
    epoch: u64,
    /// Where the next frame goes in the current file.
    end: u64,
    /// Of the newest frame.
    number: Number,
    /// The newest frame in the other file. It must be settled before that file is written over.
    other: Number,
}

/// A frame as it was read back.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    epoch: u64,
    number: Number,
    /// The newest frame that the database held durably when this one was written.
    settled: Number,
    payload: Vec<u8>,
}

/// What a log held when it was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) log: Log,
    /// Frames that the database may lack, oldest first. It may have some of the first already.
    pub(super) unsettled: Vec<Vec<u8>>,
}

impl Log {
    /// Makes the log of a new database, durably. Its files are full with so many bytes each.
    pub(super) fn create(dir: &Path, full: u64) -> Result<Self, Error> {
        let make = |name: &str| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(dir.join(name))?;
            file.write_all_at(&vec![0; full as usize], 0)?;
            file.sync_all()?;
            Ok(file)
        };
        let files = NAMES.map(|name| make(name).map_err(|error| failed(dir, "make", name, error)));
        let [first, second] = files;
        let files = [first?, second?];
        sync::sync_dir(dir).map_err(|error| failed(dir, "sync", "", error))?;
        Ok(Self {
            files,
            full,
            epoch: 1,
            end: 0,
            number: 0,
            other: 0,
        })
    }

    /// Opens the log of a database, or says that there is none.
    ///
    /// # Errors
    /// `Corrupt` when frames between others are missing.
    pub(super) fn open(dir: &Path, full: u64) -> Result<Option<Opened>, Error> {
        let open = |name: &str| {
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .open(dir.join(name));
            match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                opened => opened
                    .map(Some)
                    .map_err(|error| failed(dir, "open", name, error)),
            }
        };
        let [first, second] = NAMES.map(open);
        let (Some(first), Some(second)) = (first?, second?) else {
            return Ok(None);
        };
        let files = [first, second];
        let mut frames = Vec::new();
        for (name, file) in NAMES.into_iter().zip(&files) {
            let read = read_frames(file).map_err(|error| failed(dir, "read", name, error))?;
            frames.push(read);
        }
        frames.sort_by_key(|frames| frames.first().map(|frame| frame.epoch));
        let frames: Vec<Frame> = frames.into_iter().flatten().collect();
        let settled = frames.last().map_or(0, |frame| frame.settled);
        let newest = frames.last().map_or(0, |frame| frame.number);
        let epoch = frames.last().map_or(0, |frame| frame.epoch);
        let unsettled: Vec<Frame> = frames
            .into_iter()
            .filter(|frame| frame.number > settled)
            .collect();
        // The first may be those that the database has and that were being written over. That none is missing there shows when
        // the database is read: its records build on each other.
        let gap = unsettled
            .windows(2)
            .find(|pair| matches!(pair, [a, b] if a.number + 1 != b.number));
        if let Some([before, ..]) = gap {
            return Err(Error::Corrupt {
                dir: dir.to_owned(),
                detail: format!(
                    "what follows commit {} is missing in its log",
                    before.number
                ),
            });
        }
        Ok(Some(Opened {
            // What was found must be settled before the first frame is written, so it does not matter which file that goes to.
            log: Self {
                files,
                full,
                epoch: epoch + 1,
                end: 0,
                number: newest,
                other: newest,
            },
            unsettled: unsettled
                .into_iter()
                .map(|frame| frame.payload)
                .filter(|payload| !payload.is_empty())
                .collect(),
        }))
    }

    /// Bytes of the files of a log.
    pub(super) fn file_bytes(dir: &Path) -> u64 {
        let sizes = NAMES.map(|name| std::fs::metadata(dir.join(name)));
        sizes.into_iter().flatten().map(|file| file.len()).sum()
    }

    /// The number of the newest frame.
    pub(super) fn number(&self) -> Number {
        self.number
    }

    /// The frame that must be settled before the next one can be written, if the current file is full.
    pub(super) fn awaits(&self) -> Option<Number> {
        (self.end >= self.full).then_some(self.other)
    }

    /// Writes a frame durably. `settled` is the newest one that the database holds durably. Returns the frame's number.
    ///
    /// # Errors
    /// It is unknown then what the log holds: nothing more may be written.
    pub(super) fn append(&mut self, payload: &[u8], settled: Number) -> io::Result<Number> {
        if self.awaits().is_some_and(|awaited| awaited > settled) {
            return Err(io::Error::other("the log is full of what is not settled"));
        }
        if self.end >= self.full {
            self.epoch += 1;
            self.end = 0;
            self.other = self.number;
        }
        let number = self.number + 1;
        let bytes = encode(self.epoch, number, settled, payload)?;
        let file = &self.files[(self.epoch % 2) as usize];
        file.write_all_at(&bytes, self.end)?;
        file.sync_data()?;
        self.end += bytes.len() as u64;
        self.number = number;
        Ok(number)
    }
}

fn failed(dir: &Path, verb: &str, name: &str, error: io::Error) -> Error {
    Error::io(format!("{verb} {}", dir.join(name).display()), error)
}

/// A frame, filled up to whole blocks.
fn encode(epoch: u64, number: Number, settled: Number, payload: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let whole = (HEADER_BYTES + payload.len()).next_multiple_of(BLOCK_BYTES as usize);
    let mut out = Vec::with_capacity(whole);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for word in [epoch, number, settled] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(payload);
    let sum = checksum(&out);
    out[4..8].copy_from_slice(&sum.to_le_bytes());
    out.resize(whole, 0);
    Ok(out)
}

/// Of a frame's bytes, but for those of the checksum itself.
fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(frame.get(..4).unwrap_or_default());
    hasher.update(frame.get(8..).unwrap_or_default());
    hasher.finalize()
}

/// The frames from the beginning of a file up to the first that is not whole, or not of the same turn and next in number.
fn read_frames(file: &File) -> io::Result<Vec<Frame>> {
    let length = file.metadata()?.len();
    let mut frames: Vec<Frame> = Vec::new();
    let mut at = 0;
    while let Some((frame, bytes)) = read_frame(file, at, length)? {
        let follows = frames
            .last()
            .is_none_or(|last| (frame.epoch, frame.number) == (last.epoch, last.number + 1));
        if !follows {
            break;
        }
        frames.push(frame);
        at += bytes;
    }
    Ok(frames)
}

/// The frame at a place, with the bytes that it takes there.
fn read_frame(file: &File, at: u64, length: u64) -> io::Result<Option<(Frame, u64)>> {
    let room = length.saturating_sub(at);
    if room < HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, at)?;
    let (lengths, words) = header.split_at(8);
    let (halves, _) = lengths.as_chunks::<4>();
    let [payload, sum] = [0, 1].map(|n| halves.get(n).map_or(0, |b| u32::from_le_bytes(*b)));
    let (words, _) = words.as_chunks::<8>();
    let [epoch, number, settled] =
        [0, 1, 2].map(|n| words.get(n).map_or(0, |b| u64::from_le_bytes(*b)));
    let whole = HEADER_BYTES as u64 + u64::from(payload);
    if epoch == 0 || whole > room {
        return Ok(None);
    }
    let mut bytes = vec![0; whole as usize];
    file.read_exact_at(&mut bytes, at)?;
    if checksum(&bytes) != sum {
        return Ok(None);
    }
    bytes.drain(..HEADER_BYTES);
    let frame = Frame {
        epoch,
        number,
        settled,
        payload: bytes,
    };
    Ok(Some((frame, whole.next_multiple_of(BLOCK_BYTES))))
}

#[cfg(test)]
mod tests;
