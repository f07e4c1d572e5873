//! A streaming reader of tar archives for hostile input: ustar, GNU and pax, with sparse files.
//!
//! The `tar` crate reads extension headers of any size into memory, splits pax values at newlines (which binary
//! attributes contain) and knows only GNU's old sparse format; layers come from strangers, so this reader bounds what a
//! header may cost and follows POSIX's length-prefixed records.

use std::io::{self, Read};

use header::{BLOCK, Header};
use pax::Records;

mod header;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;

pub(super) use sparse::Segment;

/// Most bytes of one extension header: a path, a link target or pax records.
const MAX_EXTENSION: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file with data.
    File,
    /// Another name of a file earlier in the archive.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character or block device.
    Device,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One member of an archive; its data follows in [`Archive::data`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name as written.
    pub(super) name: Vec<u8>,
    /// The link's target as written.
    pub(super) link: Vec<u8>,
    /// What it is.
    pub(super) kind: Kind,
    /// Permission bits, with set-id and sticky.
    pub(super) mode: u32,
    /// Owner.
    pub(super) uid: u32,
    /// Group.
    pub(super) gid: u32,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub(super) mtime: (i64, u32),
    /// Size of the file, its holes counted.
    pub(super) size: u64,
    /// Where the data goes, for sparse files; none means all from the start.
    pub(super) segments: Option<Vec<Segment>>,
    /// Extended attributes.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The archive is broken, or costs more than any honest one.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream failed or ended early.
    #[error("the archive cannot be read on")]
    Read(#[source] io::Error),
    /// A block is no header.
    #[error("no tar header at byte {offset}: {reason}")]
    Header {
        /// Where in the archive.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// An extension header is too long.
    #[error("an extension header of {size} bytes at byte {offset} (limit {MAX_EXTENSION})")]
    Extension {
        /// Where in the archive.
        offset: u64,
        /// Its size.
        size: u64,
    },
    /// The type of an entry is unknown.
    #[error("an entry of unknown type {kind:?} at byte {offset}")]
    Kind {
        /// Where in the archive.
        offset: u64,
        /// The type flag.
        kind: char,
    },
}

/// Reads an archive member by member.
#[derive(Debug)]
pub(super) struct Archive<R> {
    inner: R,
    /// Bytes read so far.
    offset: u64,
    /// Data of the current member not read yet.
    left: u64,
    /// Padding after that data.
    padding: u64,
}

/// What extension headers say of the member they precede.
#[derive(Default)]
struct Pending {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Records,
}

impl<R: Read> Archive<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            offset: 0,
            left: 0,
            padding: 0,
        }
    }

    /// The next member, skipping what is unread of the one before; none at the end of the archive.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut pending = Pending::default();
        loop {
            self.skip()?;
            let at = self.offset;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            match header.kind() {
                b'x' => pending
                    .records
                    .add(&self.extension(at, &header)?)
                    .map_err(bad(at))?,
                b'g' => {
                    self.begin_data(header.size().map_err(bad(at))?);
                }
                b'L' => pending.name = Some(trimmed(self.extension(at, &header)?)),
                b'K' => pending.link = Some(trimmed(self.extension(at, &header)?)),
                _ => return self.member(at, &header, pending).map(Some),
            }
        }
    }

    /// Reads data of the current member; 0 at its end.
    pub(super) fn data(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let read = self.inner.read(buffer).map_err(TarError::Read)?;
        if read == 0 {
            return Err(TarError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        self.left -= read as u64;
        self.offset += read as u64;
        Ok(read)
    }

    /// The reader, after the end of the archive, so that what follows can be hashed too.
    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    fn member(&mut self, at: u64, header: &Header, pending: Pending) -> Result<Entry, TarError> {
        let records = &pending.records;
        let stored = match records.number(b"size").map_err(bad(at))? {
            Some(size) => size,
            None => header.size().map_err(bad(at))?,
        };
        let name = pending
            .name
            .or_else(|| records.text(b"path"))
            .unwrap_or_else(|| header.name());
        let link = pending.link.or_else(|| records.text(b"linkpath"));
        let link = link.unwrap_or_else(|| header.link());
        let kind = kind(at, header.kind(), &name)?;
        let has_data = kind == Kind::File;
        let old_sparse = if header.kind() == b'S' {
            self.old_sparse(at, header)?
        } else {
            None
        };
        self.begin_data(if has_data { stored } else { 0 });
        let (size, segments) = match old_sparse {
            Some((size, segments)) => (size, Some(segments)),
            None if has_data => match self.pax_sparse(at, records)? {
                Some((size, segments)) => (size, Some(segments)),
                None => (stored, None),
            },
            None => (0, None),
        };
        let uid = records.number(b"uid").map_err(bad(at))?;
        let gid = records.number(b"gid").map_err(bad(at))?;
        let id =
            |id: u64| u32::try_from(id).map_err(|_too_big| bad(at)("an owner is above 4294967295"));
        let mtime = match records.time(b"mtime").map_err(bad(at))? {
            Some(mtime) => mtime,
            None => (header.mtime().map_err(bad(at))?, 0),
        };
        let name = records.text(b"GNU.sparse.name").unwrap_or(name);
        if name.contains(&0) || link.contains(&0) {
            return Err(bad(at)("a name contains NUL"));
        }
        Ok(Entry {
            name,
            link,
            kind,
            mode: header.mode().map_err(bad(at))? & 0o7777,
            uid: id(uid.map_or_else(|| header.uid().map_err(bad(at)), Ok)?)?,
            gid: id(gid.map_or_else(|| header.gid().map_err(bad(at)), Ok)?)?,
            mtime,
            size,
            segments,
            xattrs: pending.records.xattrs(),
        })
    }

    fn old_sparse(
        &mut self,
        at: u64,
        header: &Header,
    ) -> Result<Option<(u64, Vec<Segment>)>, TarError> {
        let mut map = sparse::OldMap::new(header).map_err(bad(at))?;
        while map.is_continued() {
            let block = self
                .block()?
                .ok_or_else(|| bad(at)("a sparse map ends early"))?;
            map.add(&block).map_err(bad(at))?;
        }
        let stored = header.size().map_err(bad(at))?;
        map.finish(stored).map(Some).map_err(bad(at))
    }

    /// Sparse files as GNU tar writes them in pax archives, formats 0.0, 0.1 and 1.0.
    fn pax_sparse(
        &mut self,
        at: u64,
        records: &Records,
    ) -> Result<Option<(u64, Vec<Segment>)>, TarError> {
        let Some(size) = records.sparse_size().map_err(bad(at))? else {
            return Ok(None);
        };
        let segments = if records.is_sparse_1_0() {
            let mut map = sparse::StreamMap::default();
            let mut block = [0; BLOCK];
            while !map.is_complete() {
                let mut filled = 0;
                while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                    match self.data(rest)? {
                        0 => return Err(bad(at)("a sparse map ends early")),
                        read => filled += read,
                    }
                }
                map.add(&block).map_err(bad(at))?;
            }
            map.segments
        } else {
            records.sparse_map().map_err(bad(at))?
        };
        sparse::check(&segments, size, self.left).map_err(bad(at))?;
        Ok(Some((size, segments)))
    }

    fn begin_data(&mut self, size: u64) {
        self.left = size;
        let block = BLOCK as u64;
        self.padding = (block - size % block) % block;
    }

    fn extension(&mut self, at: u64, header: &Header) -> Result<Vec<u8>, TarError> {
        let size = header.size().map_err(bad(at))?;
        if size > MAX_EXTENSION {
            return Err(TarError::Extension { offset: at, size });
        }
        self.begin_data(size);
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        let mut filled = 0;
        while let Some(rest) = data.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled += self.data(rest)?;
        }
        Ok(data)
    }

    /// Passes over the unread data and the padding of the current member.
    fn skip(&mut self) -> Result<(), TarError> {
        let rest = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut self.inner.by_ref().take(rest), &mut io::sink());
        let skipped = skipped.map_err(TarError::Read)?;
        self.offset += skipped;
        // Some writers leave out the padding of the last member.
        if skipped < self.left {
            return Err(TarError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let at = self.offset;
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        Header::new(block).map(Some).map_err(bad(at))
    }

    /// The next block; none if the stream ends at a block's border.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.inner.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Read(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }
}

fn bad(offset: u64) -> impl Fn(&'static str) -> TarError {
    move |reason| TarError::Header { offset, reason }
}

/// GNU's long names end with a NUL.
fn trimmed(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}

fn kind(offset: u64, flag: u8, name: &[u8]) -> Result<Kind, TarError> {
    Ok(match flag {
        // Before ustar, a directory was a file whose name ends with a slash.
        b'0' | 0 if name.ends_with(b"/") => Kind::Directory,
        b'0' | 0 | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' | b'4' => Kind::Device,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        kind => {
            return Err(TarError::Kind {
                offset,
                kind: char::from(kind),
            });
        }
    })
}
