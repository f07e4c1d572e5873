//! Container logs in the CRI format: naming, reading and following.
//!
//! A container's log is `<pod>/logs/<container>/<attempt>.log`; files put aside by the shim's rotation are its siblings
//! `<attempt>.log.<number>`, where a greater number is newer.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

mod cri;
mod files;
mod filter;
mod follow;
mod tail;
#[cfg(test)]
mod tests;
mod watch;

pub use cri::LogStream;

/// What `kubectl logs` asks for. `previous` is not among it: the caller names the log of the attempt before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what is written later, until the stream is dropped or the container ended.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail_lines: Option<u64>,
    /// Only lines written at or after this time.
    pub since: Option<Timestamp>,
    /// At most so many bytes; the last line may be cut.
    pub limit_bytes: Option<u64>,
    /// Put the time before each line, RFC 3339 with nanoseconds.
    pub timestamps: bool,
    /// Only standard output or only standard error.
    pub stream: Option<LogStream>,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such log. A retry helps when the container has started.
    #[error("no log at {}", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The kernel refused an operation.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Wraps an I/O error with what was tried; made for `map_err`.
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            _ => Self::Io {
                operation,
                path,
                source,
            },
        }
    }
}

/// The log file of a container's attempt beneath its pod's log directory.
pub fn log_path(pod_logs: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_logs.join(container).join(format!("{attempt}.log"))
}

/// Reads a log, oldest line first, across its rotated files. With `follow`, the stream ends once `ended` is cancelled and
/// everything written before was delivered; nothing is polled.
///
/// Lines that are not in the CRI format are passed over, as kubelet does.
///
/// # Errors
/// There is no such log; errors while reading come in the stream and end it.
pub async fn read(
    path: &Path,
    options: LogOptions,
    ended: CancellationToken,
) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
    let reader = follow::Reader::open(path, options, ended).await?;
    Ok(futures::stream::try_unfold(
        reader,
        |mut reader| async move { Ok(reader.next().await?.map(|bytes| (bytes, reader))) },
    ))
}
