//! Where the last lines of a log begin.

use std::io;
use std::os::unix::fs::FileExt as _;

use super::cri;
use super::files::Piece;

const BLOCK: u64 = 1 << 16;
/// A line's time, stream and tags are within so many bytes.
const MAX_HEAD: usize = 128;

/// A position in a log: which file, and which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) piece: usize,
    pub(super) offset: u64,
}

/// Finds the begin of the last `lines` lines by reading backwards. The parts of a long line count as one, and so do those at
/// the end of the log whose line has not ended, or never will.
///
/// # Errors
/// A file cannot be read.
pub(super) fn find(pieces: &[Piece], lines: u64) -> io::Result<Position> {
    let mut left = lines;
    // A part belongs to the line that ends after it, which may be in the next file.
    let mut start = end(pieces)?;
    if left == 0 {
        return Ok(start);
    }
    let mut at_end = true;
    for (piece, file) in pieces.iter().enumerate().rev() {
        let size = file.file.metadata()?.len();
        let mut lines = Backwards::new(file, size);
        while let Some((offset, head)) = lines.next_line()? {
            if at_end || !cri::is_partial(&head) {
                if left == 0 {
                    return Ok(start);
                }
                left -= 1;
            }
            at_end = false;
            start = Position { piece, offset };
        }
    }
    Ok(start)
}

/// The end of the last file.
fn end(pieces: &[Piece]) -> io::Result<Position> {
    match pieces.last() {
        Some(last) => Ok(Position {
            piece: pieces.len() - 1,
            offset: last.file.metadata()?.len(),
        }),
        None => Ok(Position {
            piece: 0,
            offset: 0,
        }),
    }
}

/// The lines of a file, last first: where each begins, and its first bytes.
struct Backwards<'p> {
    piece: &'p Piece,
    /// Where the block begins.
    block_at: u64,
    block: Vec<u8>,
    /// Bytes of the block not passed yet.
    rest: usize,
    /// The first bytes of the line that is being passed.
    head: Vec<u8>,
    /// Whether anything of that line was seen.
    inside: bool,
}

impl<'p> Backwards<'p> {
    fn new(piece: &'p Piece, size: u64) -> Self {
        let (block, head) = (Vec::new(), Vec::new());
        Self {
            piece,
            block_at: size,
            block,
            rest: 0,
            head,
            inside: false,
        }
    }

    fn next_line(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            if self.rest == 0 {
                if self.block_at == 0 {
                    let line = std::mem::take(&mut self.inside).then(|| self.take_head(0));
                    return Ok(line);
                }
                self.load()?;
            }
            let window = self.block.get(..self.rest).unwrap_or_default();
            // The newline that ends the line being passed is not its begin.
            let newline = window.iter().rposition(|b| *b == b'\n');
            let Some(newline) = newline else {
                self.keep_head(0);
                self.inside |= self.rest > 0;
                self.rest = 0;
                continue;
            };
            let begin = newline + 1;
            if begin < self.rest {
                self.keep_head(begin);
                self.inside = true;
            }
            self.rest = newline;
            if self.inside {
                self.inside = false;
                let offset = self.block_at + begin as u64;
                // What follows is the end of the line before, its newline passed.
                let line = self.take_head(offset);
                self.inside = true;
                return Ok(Some(line));
            }
            self.inside = true;
        }
    }

    /// Puts the bytes from `begin` on before what is known of the line, and keeps the first of them.
    fn keep_head(&mut self, begin: usize) {
        let end = self.rest.min(begin.saturating_add(MAX_HEAD));
        let mut head = self.block.get(begin..end).unwrap_or_default().to_vec();
        let room = MAX_HEAD.saturating_sub(self.rest.saturating_sub(begin));
        head.extend(self.head.iter().take(room));
        self.head = head;
    }

    fn take_head(&mut self, offset: u64) -> (u64, Vec<u8>) {
        (offset, std::mem::take(&mut self.head))
    }

    fn load(&mut self) -> io::Result<()> {
        let begin = self.block_at.saturating_sub(BLOCK);
        let length = usize::try_from(self.block_at - begin).unwrap_or(0);
        self.block.resize(length, 0);
        // A file that was emptied meanwhile reads short; what is missing counts as no line.
        let mut read = 0;
        while let Some(buffer) = self
            .block
            .get_mut(read..)
            .filter(|buffer| !buffer.is_empty())
        {
            match self.piece.file.read_at(buffer, begin + read as u64)? {
                0 => break,
                count => read += count,
            }
        }
        self.block.truncate(read);
        self.block_at = begin;
        self.rest = read;
        Ok(())
    }
}
