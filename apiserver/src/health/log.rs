//! Whether the log of the process can be written: one that nobody reads any more stops everybody who logs.

use std::io::Write as _;
use std::time::Duration;

use tokio::sync::Mutex;

use super::report::Outcome;

/// A line that cannot be written for so long is not going to be.
const PATIENCE: Duration = Duration::from_secs(2);

/// There is one standard error, and never more than one thread that waits for it.
static LOOKING: Mutex<()> = Mutex::const_new(());

/// Standard error is free, or becomes free soon: a writer that is stuck keeps it locked.
pub(super) async fn is_written() -> Outcome {
    probe(&LOOKING, PATIENCE, || {
        // An error means that the log is lost, not that it holds anybody up.
        let _ = std::io::stderr().lock().flush();
    })
    .await
}

/// Looks on another thread, one look at a time, and waits that long for the end.
pub(super) async fn probe(
    looking: &'static Mutex<()>,
    patience: Duration,
    look: impl FnOnce() + Send + 'static,
) -> Outcome {
    let looked = async {
        let turn = looking.lock().await;
        // The turn ends with the look and not with whoever waits for it.
        let task = tokio::task::spawn_blocking(move || {
            look();
            drop(turn);
        });
        task.await.map_err(|error| error.to_string())
    };
    match tokio::time::timeout(patience, looked).await {
        Ok(outcome) => outcome,
        Err(_) => Err("the log is blocked".to_owned()),
    }
}
