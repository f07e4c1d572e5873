//! Ending when asked to.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::fault::Fault;

/// A token that is cancelled by SIGINT or SIGTERM. A second signal ends the process at once.
pub(crate) fn on_signal() -> Result<CancellationToken, Fault> {
    let failed = |error| Fault::new("watching for signals", error, "");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if last {
                std::process::exit(130);
            }
            cancel.cancel();
        }
    });
    Ok(token)
}
