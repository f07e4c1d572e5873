//! Whether the controllers and the scheduler run, for whoever is asked about them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// Everything but the scheduler.
    Controllers,
    /// The scheduler.
    Scheduler,
}

impl Component {
    pub(crate) const ALL: &[Self] = &[Self::Controllers, Self::Scheduler];
}

const WAITING: u8 = 1;
const RUNNING: u8 = 2;
const ENDED: u8 = 3;
const BROKEN: u8 = 4;

/// The state of [`run`](crate::run), shared between it and others. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<[AtomicU8; 2]>);

impl Pulse {
    /// Whether a component does its work, or waits for another process to stop doing it.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check(&self, component: Component) -> Result<(), &'static str> {
        match self.slot(component).load(Ordering::Acquire) {
            WAITING | RUNNING => Ok(()),
            ENDED => Err("it has ended"),
            BROKEN => Err("a task of it has broken; the log says how"),
            _ => Err("it has not started"),
        }
    }

    /// Waits to become the one process that works.
    pub(crate) fn waiting(&self) {
        self.all(WAITING);
    }

    /// Works until the guard is dropped.
    pub(crate) fn running(&self) -> Ending {
        self.all(RUNNING);
        Ending(self.clone())
    }

    /// For a task of these components: when it panics, they count as broken.
    pub(crate) fn task(&self, of: &'static [Component]) -> Task {
        Task(self.clone(), of)
    }

    fn all(&self, state: u8) {
        for component in Component::ALL {
            self.slot(*component).store(state, Ordering::Release);
        }
    }

    fn slot(&self, component: Component) -> &AtomicU8 {
        let [controllers, scheduler] = &*self.0;
        match component {
            Component::Controllers => controllers,
            Component::Scheduler => scheduler,
        }
    }
}

/// Says that all have ended.
#[derive(Debug)]
pub(crate) struct Ending(Pulse);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.all(ENDED);
    }
}

/// Notices how a task ends.
#[derive(Debug)]
pub(crate) struct Task(Pulse, &'static [Component]);

impl Drop for Task {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for component in self.1 {
                self.0.slot(*component).store(BROKEN, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_breaks_its_own_component_and_an_end_all() {
        let pulse = Pulse::default();
        assert!(pulse.check(Component::Scheduler).is_err());
        pulse.waiting();
        assert_eq!(pulse.check(Component::Controllers), Ok(()));
        let running = pulse.running();
        drop(pulse.task(Component::ALL));
        let task = pulse.task(&[Component::Scheduler]);
        let broken = std::thread::spawn(move || {
            let _task = task;
            panic!("a bug");
        });
        assert!(broken.join().is_err());
        assert!(pulse.check(Component::Scheduler).is_err());
        assert_eq!(pulse.check(Component::Controllers), Ok(()));
        drop(running);
        assert_eq!(pulse.check(Component::Controllers), Err("it has ended"));
    }
}
