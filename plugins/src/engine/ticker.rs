//! The clock of running guests: wakes every ten milliseconds while a call runs, else sleeps.

use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Length of one tick.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Advances the engine's epoch. Its thread ends with it.
pub(super) struct Ticker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: usize,
    stopped: bool,
}

/// Keeps the clock going while it lives.
pub(super) struct Running(Arc<Shared>);

impl Ticker {
    pub(super) fn start(engine: wasmtime::Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let clock = shared.clone();
        std::thread::Builder::new()
            .name("plugin-clock".to_owned())
            .spawn(move || tick(&clock, &engine))?;
        Ok(Self { shared })
    }

    /// To be held while a guest runs.
    pub(super) fn run(&self) -> Running {
        let mut state = self.shared.state.lock();
        state.running += 1;
        if state.running == 1 {
            self.shared.changed.notify_one();
        }
        Running(self.shared.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state.lock().running -= 1;
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.state.lock().stopped = true;
        self.shared.changed.notify_one();
    }
}

fn tick(shared: &Shared, engine: &wasmtime::Engine) {
    let mut state = shared.state.lock();
    while !state.stopped {
        if state.running == 0 {
            shared.changed.wait(&mut state);
        } else {
            // Only the end of the clock is waited for; otherwise the tick's time passes.
            shared.changed.wait_for(&mut state, TICK);
            engine.increment_epoch();
        }
    }
}
