//! The store of one process: an engine in memory and a committer thread with its journal.
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::SystemTime;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::clock;
use super::committer::{Committer, Request};
use super::engine::Engine;
use super::history::Retention;
use super::journal::Journal;
use super::state::State;
use super::waiting::{Announced, Waiting};
use super::{
    Error, KeyValue, MAX_KEY_BYTES, MAX_OPS, MAX_VALUE_BYTES, Op, Options, Range, RangeResponse,
    Revision, Status, Store, Txn, TxnOutcome, WatchStream,
};

/// The store of one process. Dropping it waits until all that was asked is answered and the journal is closed.
#[derive(Debug)]
pub(super) struct LocalStore {
    engine: Arc<Engine>,
    announced: Arc<AtomicUsize>,
    requests: Option<Sender<Request>>,
    committer: Option<JoinHandle<()>>,
}

impl LocalStore {
    /// Starts the committer over a state that the journal holds already.
    pub(super) fn start(
        state: State,
        journal: Box<dyn Journal>,
        options: &Options,
    ) -> Result<Self, Error> {
        let engine = Arc::new(Engine::new(state, options.clock.clone()));
        let (requests, receiver) = channel();
        let keep = Retention {
            bytes: options.history_bytes,
            age: options.history_age,
        };
        let announced = Arc::default();
        let waiting = Waiting::new(receiver, Arc::clone(&announced));
        let committer = Committer::new(engine.clone(), journal, keep, waiting);
        let thread = std::thread::Builder::new().name("store-commit".to_owned());
        let committer = thread
            .spawn(move || committer.run())
            .map_err(|error| Error::io("start the thread of the store", error))?;
        Ok(Self {
            engine,
            announced,
            requests: Some(requests),
            committer: Some(committer),
        })
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or(Error::Closed)?;
        requests.send(request(answer)).map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

#[async_trait]
impl Store for LocalStore {
    fn revision(&self) -> Revision {
        self.engine.revision()
    }

    async fn get(&self, key: &str, at: Option<Revision>) -> Result<Option<KeyValue>, Error> {
        self.engine.get(key, at)
    }

    async fn range(&self, range: Range) -> Result<RangeResponse, Error> {
        self.engine.range(&range)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        check(&txn)?;
        self.ask(|answer| Request::Txn { txn, answer }).await
    }

    fn announce(&self) -> Announced {
        Announced::new(&self.announced)
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, Error> {
        self.engine.watch(prefix, after)
    }

    fn revision_at(&self, time: SystemTime) -> Option<Revision> {
        self.engine.revision_at(clock::millis(time))
    }

    async fn compact(&self, upto: Revision) -> Result<(), Error> {
        self.ask(|answer| Request::Compact { upto, answer }).await
    }

    async fn rewrite(&self) -> Result<(), Error> {
        self.ask(|answer| Request::Rewrite { answer }).await
    }

    fn status(&self) -> Status {
        self.engine.status()
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(committer) = self.committer.take() {
            // A panic of the thread was already reported by the panic hook; there is nothing left to close.
            let _ = committer.join();
        }
    }
}

/// Refuses a transaction that could never be carried out.
fn check(txn: &Txn) -> Result<(), Error> {
    let invalid = |reason: String| Err(Error::Invalid { reason });
    if txn.ops.len() > MAX_OPS {
        return invalid(format!(
            "it has {} operations, at most {MAX_OPS} are allowed",
            txn.ops.len()
        ));
    }
    let mut keys = HashSet::with_capacity(txn.ops.len());
    for op in &txn.ops {
        let key = op.key();
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return invalid(format!(
                "a key has {} bytes, 1 to {MAX_KEY_BYTES} are allowed",
                key.len()
            ));
        }
        if !keys.insert(key) {
            return invalid(format!("it writes {key} twice"));
        }
        if let Op::Put { value, .. } = op {
            let size = value.bytes.len();
            if size > MAX_VALUE_BYTES {
                return Err(Error::TooLarge {
                    key: key.clone(),
                    size,
                    limit: MAX_VALUE_BYTES,
                });
            }
            if value.revision_slot.is_some_and(|slot| slot as usize > size) {
                return invalid(format!(
                    "the revision's place in {key} lies outside its value"
                ));
            }
        }
    }
    Ok(())
}
