//! A disk's contents as blocks, the log of what was done to it, and what of it a power cut leaves.
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

/// A disk keeps or loses blocks of this size as a whole.
pub const BLOCK_BYTES: usize = 4096;

/// The contents of a disk. Cloning shares the blocks.
#[derive(Debug, Clone, Default)]
pub struct Image {
    blocks: HashMap<u64, Arc<[u8; BLOCK_BYTES]>>,
}

impl Image {
    /// The bytes at an offset; what was never written is zero.
    pub fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        for (block, start, range) in pieces(offset, length) {
            if let Some(content) = self.blocks.get(&block) {
                let bytes = range.len();
                out[range].copy_from_slice(&content[start..start + bytes]);
            }
        }
        out
    }

    /// How many blocks were ever written.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Whether all blocks of a stretch were.
    pub fn has(&self, offset: u64, length: usize) -> bool {
        pieces(offset, length).all(|(block, ..)| self.blocks.contains_key(&block))
    }

    /// Makes the blocks of a stretch that are missing, without changing what is read.
    pub fn allocate(&mut self, offset: u64, length: usize) {
        for (block, ..) in pieces(offset, length) {
            let empty = || Arc::new([0; BLOCK_BYTES]);
            self.blocks.entry(block).or_insert_with(empty);
        }
    }

    /// Forgets everything from an offset on.
    pub fn truncate(&mut self, length: u64) {
        let last = length / BLOCK_BYTES as u64;
        self.blocks.retain(|&block, _| block <= last);
        if let Some(content) = self.blocks.get_mut(&last) {
            let kept = (length % BLOCK_BYTES as u64) as usize;
            if kept == 0 {
                self.blocks.remove(&last);
            } else {
                Arc::make_mut(content)[kept..].fill(0);
            }
        }
    }

    /// Writes bytes at an offset.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        for (block, start, range) in pieces(offset, data.len()) {
            let content = self
                .blocks
                .entry(block)
                .or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
            Arc::make_mut(content)[start..start + range.len()].copy_from_slice(&data[range]);
        }
    }
}

/// Splits a stretch at the borders of blocks: the block, where in it, and which part of the stretch.
fn pieces(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let position = offset + at as u64;
        let start = (position % BLOCK_BYTES as u64) as usize;
        let bytes = (BLOCK_BYTES - start).min(length - at);
        let range = at..at + bytes;
        at += bytes;
        (bytes > 0).then_some((position / BLOCK_BYTES as u64, start, range))
    })
}

/// One thing that happened to the disk, or that was promised about it.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Bytes were written; a flush must follow before they are safe.
    Write {
        /// Where.
        offset: u64,
        /// What.
        data: Bytes,
    },
    /// Everything written before is safe.
    Flush,
    /// The store acknowledged this step of a writer.
    Ack {
        /// The writer.
        writer: usize,
        /// Its step.
        step: u64,
    },
}

/// What becomes of blocks that were written but not flushed when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unflushed {
    /// All are lost: a disk with a volatile cache.
    Dropped,
    /// Each is kept or lost by chance: a disk that writes in its own order.
    Random,
    /// All are kept: the crash of the machine alone.
    Kept,
}

/// Follows a log and knows at each place what is safe and what is not.
#[derive(Debug)]
pub struct Replay<'l> {
    log: &'l [Entry],
    at: usize,
    safe: Image,
    unsafe_writes: Vec<(u64, Bytes)>,
    acked: Vec<u64>,
    /// From here on flushes do nothing: the disk lies, and the store must be seen to lose.
    lies_from: usize,
}

impl<'l> Replay<'l> {
    /// Starts before the first entry of a log with so many writers.
    pub fn new(log: &'l [Entry], writers: usize, lies_from: Option<usize>) -> Self {
        let lies_from = lies_from.unwrap_or(usize::MAX);
        let unsafe_writes = Vec::new();
        let (safe, acked) = (Image::default(), vec![0; writers]);
        Self {
            log,
            at: 0,
            safe,
            unsafe_writes,
            acked,
            lies_from,
        }
    }

    /// Goes on up to and without an entry.
    pub fn advance(&mut self, to: usize) {
        while self.at < to.min(self.log.len()) {
            match &self.log[self.at] {
                Entry::Write { offset, data } => self.unsafe_writes.push((*offset, data.clone())),
                Entry::Flush if self.at < self.lies_from => {
                    for (offset, data) in self.unsafe_writes.drain(..) {
                        self.safe.write(offset, &data);
                    }
                }
                Entry::Flush => {}
                Entry::Ack { writer, step } => self.acked[*writer] = *step,
            }
            self.at += 1;
        }
    }

    /// The last acknowledged step of each writer.
    pub fn acked(&self) -> &[u64] {
        &self.acked
    }

    /// The disk after a power cut here.
    pub fn cut(&self, unflushed: Unflushed, chance: &mut Chance) -> Image {
        let mut image = self.safe.clone();
        for (offset, data) in &self.unsafe_writes {
            for (block, start, range) in pieces(*offset, data.len()) {
                let kept = match unflushed {
                    Unflushed::Dropped => false,
                    Unflushed::Random => chance.below(2) == 0,
                    Unflushed::Kept => true,
                };
                if kept {
                    image.write(block * BLOCK_BYTES as u64 + start as u64, &data[range]);
                }
            }
        }
        image
    }
}

/// Repeatable random numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number below a limit, which must not be 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, byte: u8, length: usize) -> Entry {
        Entry::Write {
            offset,
            data: vec![byte; length].into(),
        }
    }

    #[test]
    fn only_flushed_blocks_are_sure_to_survive() {
        let block = BLOCK_BYTES as u64;
        let ack = Entry::Ack { writer: 0, step: 1 };
        let log = [
            write(0, 1, 5000),
            Entry::Flush,
            ack,
            write(block, 2, 100 * BLOCK_BYTES),
        ];
        let mut replay = Replay::new(&log, 1, None);
        replay.advance(4);
        assert_eq!(replay.acked(), [1]);
        let count = |unflushed| {
            let image = replay.cut(unflushed, &mut Chance(1));
            assert_eq!(image.read(0, 1), [1]);
            (1..=100)
                .filter(|n| image.read(n * block, 1) == [2])
                .count()
        };
        assert_eq!(count(Unflushed::Dropped), 0);
        assert_eq!(count(Unflushed::Kept), 100);
        assert!((20..80).contains(&count(Unflushed::Random)));
        assert_eq!(
            replay.cut(Unflushed::Dropped, &mut Chance(1)).read(4998, 4),
            [1, 1, 0, 0]
        );
    }

    #[test]
    fn a_lying_disk_keeps_nothing() {
        let log = [write(0, 1, 1), Entry::Flush, write(0, 2, 1), Entry::Flush];
        let mut replay = Replay::new(&log, 0, Some(2));
        replay.advance(4);
        assert_eq!(
            replay.cut(Unflushed::Dropped, &mut Chance(1)).read(0, 1),
            [1]
        );
    }
}
