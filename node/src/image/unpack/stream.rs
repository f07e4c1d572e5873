//! The byte stream of a layer: decompressed, counted and hashed while it passes.

use std::io::{self, BufRead, Read};

use crate::image::digest::{Algorithm, Digest, Hasher};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Skippable frames, which begin zstd archives with a table of contents.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];
/// A window of 128 MiB: what the zstd command accepts, and the most memory a layer can make the decoder take.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Decompresses by what the bytes are, not by what a media type claims; anything but gzip and zstd passes as it is.
pub(in crate::image) fn decompress<'r>(
    mut reader: impl BufRead + 'r,
) -> io::Result<Box<dyn Read + 'r>> {
    let start = reader.fill_buf()?;
    if start.starts_with(GZIP) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader)));
    }
    if start.starts_with(ZSTD)
        || start
            .get(1..)
            .is_some_and(|s| s.starts_with(ZSTD_SKIPPABLE))
    {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(reader))
}

/// Hashes what is read, and ends with an error when it gets longer than allowed.
pub(super) struct Hashed<R> {
    inner: R,
    hasher: Hasher,
    left: u64,
}

impl<R: Read> Hashed<R> {
    pub(super) fn new(inner: R, algorithm: Algorithm, limit: u64) -> Self {
        Self {
            inner,
            hasher: algorithm.hasher(),
            left: limit,
        }
    }

    /// Reads to the end.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }

    pub(super) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..read).unwrap_or_default());
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                "the archive is longer than its limit",
            )
        })?;
        Ok(read)
    }
}
