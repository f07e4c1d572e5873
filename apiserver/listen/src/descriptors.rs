//! The limit of open descriptors of this process.

use std::io;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A soft and a hard limit, as `getrlimit(2)` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What counts.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

/// What it was before [`raise`].
static ORIGINAL: OnceLock<Limit> = OnceLock::new();

/// Raises the soft limit to the hard one. Soft limits are low for the sake of programs that use `select(2)`; a server
/// needs a descriptor for each of its clients. Programs that are started for others get [`original`] back.
///
/// # Errors
/// What the system says; the limit is as before then.
pub fn raise() -> io::Result<()> {
    let now = current()?;
    let _ = ORIGINAL.set(now);
    if now.soft < now.hard {
        setrlimit(Resource::RLIMIT_NOFILE, now.hard, now.hard)?;
    }
    Ok(())
}

/// The limit that this process was started with; `None` if it was never raised, so that it still counts.
pub fn original() -> Option<Limit> {
    ORIGINAL.get().copied()
}

/// How many descriptors this process may have now.
///
/// # Errors
/// What the system says.
pub fn current() -> io::Result<Limit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(Limit { soft, hard })
}
