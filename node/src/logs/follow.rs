//! Reads a log from file to file, and waits for more where that is asked for.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::files::{self, Piece};
use super::filter::Filter;
use super::tail;
use super::watch::Subscription;
use super::{Error, LogOptions};

/// Bytes read at a time: enough to be quick, little enough for a thousand readers.
const CHUNK: usize = 1 << 16;

/// A reader on its way through a log.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    /// The file being read, then those after it that were open from the start.
    pieces: VecDeque<Piece>,
    offset: u64,
    filter: Filter,
    watch: Option<Subscription>,
    ended: CancellationToken,
}

/// What one look at the files gave.
enum Step {
    Shown(Vec<u8>),
    /// Bytes were read, but nothing of them is shown.
    Hidden,
    /// Everything written so far was read.
    AtEnd,
}

impl Reader {
    pub(super) async fn open(
        path: &Path,
        options: LogOptions,
        ended: CancellationToken,
    ) -> Result<Self, Error> {
        let path = path.to_owned();
        blocking(move || {
            let dir = path.parent().unwrap_or(Path::new(".")).to_owned();
            // Before the first read, so that no change is missed.
            let watch = match options.follow {
                true => Some(Subscription::new(&dir).map_err(Error::io("watch", &dir))?),
                false => None,
            };
            let mut pieces = VecDeque::from(files::open_all(&path)?);
            let mut offset = 0;
            if let Some(lines) = options.tail_lines {
                let start = tail::find(pieces.make_contiguous(), lines);
                let start = start.map_err(Error::io("read", &path))?;
                pieces.drain(..start.piece);
                offset = start.offset;
            }
            Ok(Self {
                path,
                pieces,
                offset,
                filter: Filter::new(options),
                watch,
                ended,
            })
        })
        .await
    }

    /// The next text to be shown; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.filter.is_full() {
                return Ok(None);
            }
            // Asked before reading: what was written before the container's end is then read for certain.
            let is_over = self.watch.is_none() || self.ended.is_cancelled();
            match self.step().await? {
                Step::Shown(bytes) => return Ok(Some(bytes.into())),
                Step::Hidden => {}
                Step::AtEnd if is_over => return Ok(None),
                Step::AtEnd => self.wait().await,
            }
        }
    }

    async fn wait(&mut self) {
        match &mut self.watch {
            Some(watch) => tokio::select! {
                () = watch.changed() => {}
                () = self.ended.cancelled() => {}
            },
            None => self.ended.cancelled().await,
        }
    }

    /// Reads one chunk on a thread that may block: logs can be on slow disks.
    async fn step(&mut self) -> Result<Step, Error> {
        let path = self.path.clone();
        let (pieces, offset) = (std::mem::take(&mut self.pieces), self.offset);
        let mut place = Place {
            path,
            pieces,
            offset,
        };
        let (place, read) = blocking(move || {
            let read = place.read()?;
            Ok((place, read))
        })
        .await?;
        (self.pieces, self.offset) = (place.pieces, place.offset);
        match read {
            Read::Nothing => Ok(Step::AtEnd),
            Read::NextFile => {
                self.filter.begin_file();
                Ok(Step::Hidden)
            }
            Read::Bytes(bytes) => {
                let mut shown = Vec::new();
                self.filter.feed(&bytes, &mut shown);
                Ok(if shown.is_empty() {
                    Step::Hidden
                } else {
                    Step::Shown(shown)
                })
            }
        }
    }
}

/// The part of a reader that goes to a thread and comes back.
struct Place {
    path: PathBuf,
    pieces: VecDeque<Piece>,
    offset: u64,
}

enum Read {
    Bytes(Vec<u8>),
    NextFile,
    Nothing,
}

impl Place {
    fn read(&mut self) -> Result<Read, Error> {
        let fail = |operation| Error::io(operation, &self.path);
        let Some(piece) = self.pieces.front() else {
            return Ok(Read::Nothing);
        };
        let size = piece.file.metadata().map_err(fail("read"))?.len();
        if size < self.offset {
            // Rotation without a second file empties the log.
            self.offset = 0;
        }
        let mut chunk = vec![0; CHUNK];
        let count = piece
            .file
            .read_at(&mut chunk, self.offset)
            .map_err(fail("read"))?;
        if count > 0 {
            self.offset += count as u64;
            chunk.truncate(count);
            return Ok(Read::Bytes(chunk));
        }
        self.turn()
    }

    /// Goes to the next file if there is one and this one is read to its end.
    fn turn(&mut self) -> Result<Read, Error> {
        let Some(piece) = self.pieces.front() else {
            return Ok(Read::Nothing);
        };
        if self.pieces.len() == 1 {
            let next = match files::next(&self.path, piece.inode) {
                // The log was removed with its container.
                Err(Error::NotFound { .. }) => return Ok(Read::Nothing),
                next => next?,
            };
            let Some(next) = next else {
                return Ok(Read::Nothing);
            };
            self.pieces.push_back(next);
        }
        // Nothing is written to a file that was put aside; what came between the last read and the renaming is still
        // to be read.
        let size = match self.pieces.front() {
            Some(piece) => piece
                .file
                .metadata()
                .map_err(Error::io("read", &self.path))?
                .len(),
            None => 0,
        };
        if size > self.offset {
            return self.read();
        }
        self.pieces.pop_front();
        self.offset = 0;
        Ok(Read::NextFile)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let lost = |error: tokio::task::JoinError| Error::Io {
        operation: "read",
        path: PathBuf::new(),
        source: std::io::Error::other(error),
    };
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}
