//! Downloading a blob into a file: verified, bounded, and resumed where it broke.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use super::{Patience, Repository};
use crate::image::digest::Digest;
use crate::image::error::Error;
use crate::image::manifest::Descriptor;

/// Interruptions in a row with next to nothing between them that are borne.
const MAX_FRUITLESS: u32 = 5;
/// Pieces on their way to the disk; a slow disk slows the download instead of filling memory.
const QUEUE: usize = 32;

impl Repository<'_> {
    /// Downloads `blob` into the new file `path`; `done` hears the bytes received so far.
    ///
    /// # Errors
    /// The content is longer or shorter than promised, does not match its digest, or the registry fails for good. The
    /// file is the caller's to remove.
    pub(in crate::image) async fn download(
        &self,
        blob: &Descriptor,
        path: &Path,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Error> {
        let file = File::create_new(path).map_err(Error::io("make", path))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let algorithm = blob.digest.algorithm();
        let target = path.to_owned();
        let writer = tokio::task::spawn_blocking(move || {
            write(file, receiver, algorithm.hasher()).map_err(Error::io("write", &target))
        });
        let received = self.receive(blob, sender, done).await;
        let lost = |_panic| Error::Worker {
            operation: "write a blob",
        };
        // A full disk shows as a closed queue; its own error says more.
        let actual = writer.await.map_err(lost)??;
        received?;
        if actual != blob.digest {
            let what = format!("blob {} of {}", blob.digest, self.image);
            return Err(Error::DigestMismatch {
                what,
                expected: blob.digest.clone(),
                actual,
            });
        }
        Ok(())
    }

    /// Feeds all bytes of the blob to the writer, over as many connections as it takes.
    async fn receive(
        &self,
        blob: &Descriptor,
        sender: mpsc::Sender<Bytes>,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Error> {
        let (mut received, mut fruitless) = (0, 0);
        loop {
            let before = received;
            let failure = match self.receive_part(blob, &mut received, &sender, done).await {
                Ok(()) if received == blob.size => return Ok(()),
                Ok(()) => self.stalled(&blob.digest.to_string(), "it ends early each time"),
                Err(error) if is_transient(&error) => error,
                Err(error) => return Err(error),
            };
            // A trickle is no progress: otherwise a registry could keep a pull busy for ever.
            let little = received - before < self.patience.least.min(blob.size);
            fruitless = if little { fruitless + 1 } else { 0 };
            if fruitless >= MAX_FRUITLESS {
                return Err(failure);
            }
            tracing::debug!(error = %failure, received, "a download broke and goes on");
            let pause = self.patience.pause * 2_u32.pow(fruitless);
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        }
    }

    /// One connection's worth.
    async fn receive_part(
        &self,
        blob: &Descriptor,
        received: &mut u64,
        sender: &mpsc::Sender<Bytes>,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Error> {
        let what = blob.digest.to_string();
        let answer = self.blob(&blob.digest, *received).await?;
        // A registry that knows no ranges starts over; what is here already is passed over.
        let mut skip = if answer.status() == StatusCode::PARTIAL_CONTENT {
            0
        } else {
            *received
        };
        let mut body = answer.into_body();
        let mut pace = Pace::new(self.patience);
        loop {
            let frame = tokio::time::timeout(self.patience.silence, body.frame()).await;
            let frame = frame.map_err(|_elapsed| self.stalled(&what, "no more bytes came"))?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|source| self.unreachable(&what, source.into()))?;
            let Ok(mut data) = frame.into_data() else {
                continue;
            };
            pace.add(data.len())
                .map_err(|detail| self.stalled(&what, &detail))?;
            let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(data.len());
            skip -= passed as u64;
            let data = data.split_off(passed);
            if data.is_empty() {
                continue;
            }
            *received += data.len() as u64;
            if *received > blob.size {
                let what = format!("blob {what} of {}", self.image);
                return Err(Error::TooLarge {
                    what,
                    limit: blob.size,
                });
            }
            if sender.send(data).await.is_err() {
                return Err(Error::Worker {
                    operation: "write a blob",
                });
            }
            done(*received);
        }
    }
}

/// Runs on a thread that may block.
fn write(
    mut file: File,
    mut pieces: mpsc::Receiver<Bytes>,
    mut hasher: crate::image::digest::Hasher,
) -> std::io::Result<Digest> {
    while let Some(piece) = pieces.blocking_recv() {
        hasher.update(&piece);
        file.write_all(&piece)?;
    }
    Ok(hasher.finish())
}

fn is_transient(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::Stalled { .. } => true,
        Error::Registry { status, .. } => *status == 429 || *status >= 500,
        _ => false,
    }
}

/// Notices a registry that sends just enough to look alive.
struct Pace {
    patience: Patience,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(patience: Patience) -> Self {
        Self {
            patience,
            since: Instant::now(),
            bytes: 0,
        }
    }

    fn add(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes += bytes as u64;
        if self.since.elapsed() < self.patience.window {
            return Ok(());
        }
        let (got, seconds) = (self.bytes, self.patience.window.as_secs());
        (self.since, self.bytes) = (Instant::now(), 0);
        if got < self.patience.least {
            return Err(format!("only {got} bytes came in {seconds} s"));
        }
        Ok(())
    }
}
