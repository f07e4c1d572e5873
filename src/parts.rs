//! The long-running parts of a process: started by name, stopped in order, none lost silently.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fault::Fault;

/// How long parts get to end after they were told to.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a part is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Talks to the API server; stops first.
    Client,
    /// Is needed by clients until they have ended; stops last.
    Server,
}

/// The parts that run. Dropping it ends them all at once.
#[derive(Debug)]
pub(crate) struct Parts {
    clients: Group,
    servers: Group,
}

#[derive(Debug)]
struct Group {
    stop: CancellationToken,
    tasks: JoinSet<(&'static str, Result<(), Fault>)>,
}

impl Group {
    fn new() -> Self {
        Self {
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        }
    }

    /// The next part that ends, as a failure if it was not told to.
    async fn next(&mut self) -> Option<Result<(), Fault>> {
        let ended = self.tasks.join_next().await?;
        let stopping = self.stop.is_cancelled();
        Some(match ended {
            Ok((_, Ok(()))) if stopping => Ok(()),
            Ok((name, Ok(()))) => Err(Fault::told(name, "it ended by itself", "see the log")),
            Ok((name, Err(fault))) => Err(fault.within(name)),
            Err(error) => Err(Fault::new(
                "a part of davit",
                error,
                "report this as a bug of davit",
            )),
        })
    }

    /// Stops the group: its first failure.
    async fn stop(&mut self) -> Result<(), Fault> {
        self.stop.cancel();
        let mut result = Ok(());
        let all = async {
            while let Some(ended) = self.next().await {
                result = std::mem::replace(&mut result, Ok(())).and(ended);
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("some parts did not end in time");
            self.tasks.abort_all();
        }
        result
    }
}

impl Parts {
    pub(crate) fn new() -> Self {
        Self {
            clients: Group::new(),
            servers: Group::new(),
        }
    }

    /// The token that tells parts of this stage to end.
    pub(crate) fn stop_token(&self, stage: Stage) -> CancellationToken {
        match stage {
            Stage::Client => self.clients.stop.clone(),
            Stage::Server => self.servers.stop.clone(),
        }
    }

    /// Runs a part.
    pub(crate) fn start(
        &mut self,
        stage: Stage,
        name: &'static str,
        part: impl Future<Output = Result<(), Fault>> + Send + 'static,
    ) {
        let group = match stage {
            Stage::Client => &mut self.clients,
            Stage::Server => &mut self.servers,
        };
        group.tasks.spawn(async move { (name, part.await) });
    }

    /// Runs `work` while all parts run.
    ///
    /// # Errors
    /// That of `work`, or the first failure of a part, which ends `work`.
    pub(crate) async fn during<T>(
        &mut self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        tokio::select! {
            result = work => result,
            fault = self.failure() => Err(fault),
        }
    }

    /// Waits for the first part that fails.
    async fn failure(&mut self) -> Fault {
        let ended = tokio::select! {
            Some(ended) = self.clients.next() => ended,
            Some(ended) = self.servers.next() => ended,
            else => std::future::pending().await,
        };
        ended
            .err()
            .unwrap_or_else(|| Fault::told("stopping", "a part ended early", ""))
    }

    /// Stops everything, clients before servers: the first failure on the way.
    pub(crate) async fn stop(mut self) -> Result<(), Fault> {
        let clients = self.clients.stop().await;
        let servers = self.servers.stop().await;
        clients.and(servers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn clients_end_before_servers() {
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut parts = Parts::new();
        for (stage, name) in [(Stage::Server, "server"), (Stage::Client, "client")] {
            let (stop, order) = (parts.stop_token(stage), order.clone());
            parts.start(stage, name, async move {
                stop.cancelled().await;
                order.lock().unwrap().push(name);
                Ok(())
            });
        }
        parts.stop().await.unwrap();
        assert_eq!(*order.lock().unwrap(), ["client", "server"]);
    }

    #[tokio::test]
    async fn a_part_that_ends_early_ends_the_work() {
        let mut parts = Parts::new();
        parts.start(Stage::Client, "node agent", async { Ok(()) });
        let fault = parts
            .during(std::future::pending::<Result<(), Fault>>())
            .await
            .unwrap_err();
        assert_eq!(
            fault.to_string(),
            "node agent: it ended by itself; see the log"
        );
        assert_eq!(parts.during(async { Ok(7) }).await.unwrap(), 7);
    }
}
