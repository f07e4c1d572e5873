//! One call: a fresh instance, bounded in memory, processor and wall time, dropped afterwards.

use super::Loaded;
use super::bindings::davit::plugin::types::Error as WitError;
use super::ticker::TICK;
use crate::error::{CallError, Code};
use crate::imports::CallState;
use davit_api::Quantity;
use futures::future::BoxFuture;
use std::time::Duration;
use wasmtime::component::Instance;
use wasmtime::{Store, Trap, UpdateDeadline};

/// Bytes that one host call may take from the guest at most.
const HOSTCALL_BYTES: usize = 8 << 20;

/// Why a call gave no answer.
#[derive(Debug)]
pub(crate) enum CallFailure {
    /// The driver refused. Its instance was fine.
    Refused(CallError),
    /// The driver trapped, looped or timed out. The breaker counts these.
    Broken(CallError),
}

/// What a driver's export answers, before errors of the two kinds are told apart.
pub(crate) type Answer<R> = wasmtime::Result<Result<R, WitError>>;

/// Runs calls of one component.
pub(crate) trait Calls {
    /// Instantiates the component, lets `call` use the instance, and gives back the call's state.
    /// `what` names the operation in messages.
    fn run<R: Send>(
        &self,
        state: CallState,
        what: &str,
        wall: Duration,
        call: impl for<'a> FnOnce(&'a mut Store<CallState>, Instance) -> BoxFuture<'a, Answer<R>> + Send,
    ) -> impl Future<Output = Result<(R, CallState), CallFailure>> + Send;
}

impl Calls for Loaded {
    async fn run<R: Send>(
        &self,
        state: CallState,
        what: &str,
        wall: Duration,
        call: impl for<'a> FnOnce(&'a mut Store<CallState>, Instance) -> BoxFuture<'a, Answer<R>> + Send,
    ) -> Result<(R, CallState), CallFailure> {
        let cpu = state.grants.limits.cpu;
        let mut store = Store::new(self.engine.wasmtime(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(HOSTCALL_BYTES);
        let mut ticks = (cpu.as_millis() / TICK.as_millis()).max(1);
        store.set_epoch_deadline(1);
        // Called at most once a tick, and only while the guest runs: it counts processor time.
        store.epoch_deadline_callback(move |_| {
            ticks = ticks.saturating_sub(1);
            Ok(if ticks == 0 {
                UpdateDeadline::Interrupt
            } else {
                UpdateDeadline::Yield(1)
            })
        });
        let _slot = self.engine.slot().await;
        let _running = self.engine.ticker().run();
        let work = async {
            let instance = self.pre.instantiate_async(&mut store).await?;
            call(&mut store, instance).await
        };
        match tokio::time::timeout(wall, work).await {
            Ok(Ok(Ok(answer))) => Ok((answer, finish(store))),
            Ok(Ok(Err(refusal))) => {
                finish(store);
                Err(CallFailure::Refused(refusal.into()))
            }
            Ok(Err(trap)) => Err(CallFailure::Broken(self.trapped(
                what,
                &trap,
                store.data(),
                cpu,
            ))),
            Err(_) => Err(CallFailure::Broken(CallError::new(
                Code::DeadlineExceeded,
                format!(
                    "driver {}: {what} took longer than {wall:?}",
                    self.manifest.driver
                ),
            ))),
        }
    }
}

/// Takes the state out of a store whose call returned, and raises the driver's events, unless the call was
/// only to see what it would do.
fn finish(store: Store<CallState>) -> CallState {
    let mut state = store.into_data();
    let events = std::mem::take(&mut state.log.events);
    if !state.facts.dry_run {
        events.into_iter().for_each(|event| state.eyes.event(event));
    }
    state
}

impl Loaded {
    /// The text of a trap: what the guest ran into, or what its panic said.
    fn trapped(
        &self,
        what: &str,
        error: &wasmtime::Error,
        state: &CallState,
        cpu: Duration,
    ) -> CallError {
        let trap = error.downcast_ref::<Trap>();
        let (code, text) = match trap {
            Some(Trap::Interrupt) => (
                Code::DeadlineExceeded,
                format!("used more than {cpu:?} of processor time (spec.grants.limits.cpu)"),
            ),
            Some(Trap::StackOverflow) => (Code::Internal, "recursed too deeply".to_owned()),
            _ => (Code::Internal, self.other_trap(error, state)),
        };
        CallError::new(
            code,
            format!("driver {}: {what} {text}", self.manifest.driver),
        )
    }

    fn other_trap(&self, error: &wasmtime::Error, state: &CallState) -> String {
        if let Some(limit) = state.memory.refused() {
            let limit = Quantity::from_bytes(limit as u64);
            return format!("ran out of its {limit} of memory (spec.grants.limits.memory)");
        }
        match &state.log.panic {
            Some(panic) => format!("panicked: {panic}"),
            None => format!("trapped: {}", error.root_cause()),
        }
    }
}
