//! Maps of sparse files: where the stored bytes belong in a file with holes.

use super::header::{BLOCK, Header, number};
use super::pax::decimal;

/// No honest file has more pieces; each costs memory.
const MAX_SEGMENTS: usize = 1 << 16;
const TOO_MANY: &str = "a sparse map has too many pieces";

/// A run of stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::image) struct Segment {
    /// Where it goes in the file.
    pub(in crate::image) offset: u64,
    /// How many bytes it has.
    pub(in crate::image) length: u64,
}

/// Checks that pieces are in order, inside `size`, and together as long as the `stored` data.
pub(super) fn check(segments: &[Segment], size: u64, stored: u64) -> Result<(), &'static str> {
    const WRONG: &str = "a sparse map does not fit its file";
    if segments.len() > MAX_SEGMENTS {
        return Err(TOO_MANY);
    }
    let (mut end, mut sum) = (0_u64, 0_u64);
    for segment in segments {
        if segment.offset < end {
            return Err(WRONG);
        }
        end = segment.offset.checked_add(segment.length).ok_or(WRONG)?;
        sum = sum.checked_add(segment.length).ok_or(WRONG)?;
    }
    if end > size || sum != stored {
        return Err(WRONG);
    }
    Ok(())
}

/// The map of GNU's old format: four pieces in the header, more in blocks after it.
pub(super) struct OldMap {
    segments: Vec<Segment>,
    size: u64,
    continued: bool,
}

impl OldMap {
    pub(super) fn new(header: &Header) -> Result<Self, &'static str> {
        let mut map = Self {
            segments: Vec::new(),
            size: number(header.field(483, 12))?,
            continued: header.field(482, 1) != [0],
        };
        map.pieces(header.field(386, 96))?;
        Ok(map)
    }

    pub(super) fn is_continued(&self) -> bool {
        self.continued
    }

    pub(super) fn add(&mut self, block: &[u8; BLOCK]) -> Result<(), &'static str> {
        let (pieces, rest) = block.split_at(504);
        self.continued = rest.first() != Some(&0);
        self.pieces(pieces)
    }

    pub(super) fn finish(self, stored: u64) -> Result<(u64, Vec<Segment>), &'static str> {
        check(&self.segments, self.size, stored)?;
        Ok((self.size, self.segments))
    }

    fn pieces(&mut self, fields: &[u8]) -> Result<(), &'static str> {
        let (fields, _) = fields.as_chunks::<24>();
        for field in fields {
            let (offset, length) = field.split_at(12);
            if length.first() == Some(&0) {
                return Ok(());
            }
            if self.segments.len() == MAX_SEGMENTS {
                return Err(TOO_MANY);
            }
            self.segments.push(Segment {
                offset: number(offset)?,
                length: number(length)?,
            });
        }
        Ok(())
    }
}

/// The map of format 1.0: decimal lines in whole blocks before the data; first how many pieces.
#[derive(Default)]
pub(super) struct StreamMap {
    pub(super) segments: Vec<Segment>,
    line: Vec<u8>,
    pieces: Option<u64>,
    offset: Option<u64>,
}

impl StreamMap {
    pub(super) fn is_complete(&self) -> bool {
        self.pieces
            .is_some_and(|pieces| pieces == self.segments.len() as u64)
    }

    pub(super) fn add(&mut self, block: &[u8; BLOCK]) -> Result<(), &'static str> {
        for byte in block {
            if self.is_complete() {
                return Ok(());
            }
            if *byte != b'\n' {
                if self.line.len() > 20 {
                    return Err("a number is too big");
                }
                self.line.push(*byte);
                continue;
            }
            let number = decimal(&std::mem::take(&mut self.line))?;
            match (self.pieces, self.offset.take()) {
                (None, _) if number > MAX_SEGMENTS as u64 => return Err(TOO_MANY),
                (None, _) => self.pieces = Some(number),
                (Some(_), None) => self.offset = Some(number),
                (Some(_), Some(offset)) => self.segments.push(Segment {
                    offset,
                    length: number,
                }),
            }
        }
        Ok(())
    }
}
