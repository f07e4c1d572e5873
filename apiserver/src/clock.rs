//! The time that decides what is issued, what is due and what has expired.
//!
//! The clock of a machine may be wrong: a flat battery, a typing error, a virtual machine that was asleep. So it is believed only while
//! it fits what is known: at a start, when this davit was last running, noted in `<data-dir>/clock`; afterwards, how long the
//! machine has run since. A clock that does not fit is told about, and [`Clock::now`] goes on from the time that was known,
//! so nothing is renewed and nothing expires by it. Once it fits again, everything is as before.
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::pki::file;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A machine that was off for longer is asked whether its clock is right: nobody renewed its certificates meanwhile.
const LONGEST_OFF: Duration = Duration::from_secs(120 * 24 * 3600);
/// How far a clock may be corrected while davit runs, or lie behind when it starts.
const CORRECTION: Duration = DAY;
/// How often a wrong clock is looked at, and whether somebody said that it is right.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the time is noted.
const NOTE_EVERY: Duration = Duration::from_secs(600);

const FILE: &str = "clock";
const ACCEPT: &str = "accept-clock";

/// What the machine says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The time of day, which people and programs set.
    pub wall: SystemTime,
    /// How long the machine has run, asleep or awake; nobody sets it.
    pub running: Duration,
}

impl Reading {
    fn of_this_machine() -> Self {
        let running = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        Self {
            wall: SystemTime::now(),
            running,
        }
    }
}

/// A clock that is believed while it fits what is known. Clones are the same clock.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    read: Box<dyn Fn() -> Reading + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    dir: Option<PathBuf>,
    /// Nothing is known yet: every time is believed.
    known: Option<Known>,
    wrong: Option<Wrong>,
    noted: Option<Duration>,
    /// Whether another process does the noting.
    beside: bool,
}

/// A time that was right, and what has been believed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    time: SystemTime,
    /// How long the machine had run then.
    running: Duration,
    /// Whether davit was running ever since.
    watched: bool,
    /// From where to where the clock had moved when davit started; a clock that is found in between takes this back.
    leap: Option<(SystemTime, SystemTime)>,
}

/// Why a clock is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock of this machine says {says}, but davit last ran with {known}: set the clock, or, if it is right, \
     make an empty file {} ; until then nothing is issued and nothing expires", accept.display()
)]
pub struct Wrong {
    says: Timestamp,
    known: Timestamp,
    accept: PathBuf,
}

impl Default for Clock {
    fn default() -> Self {
        Self::reading(Reading::of_this_machine)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&*self.0.state.lock()).finish()
    }
}

impl Clock {
    /// A clock that is read in this way. It is believed until something is known.
    pub fn reading(read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            read: Box::new(read),
            state: Mutex::default(),
        }))
    }

    /// Holds the clock against what is noted in a data directory or, if nothing is, against the newest time in its store.
    pub fn start(&self, data_dir: &Path, newest: Option<SystemTime>) {
        let reading = (self.0.read)();
        let mut state = self.0.state.lock();
        state.dir = Some(data_dir.to_owned());
        let (time, leap) = match noted(data_dir) {
            Some(noted) => noted,
            None => (newest.unwrap_or(reading.wall), None),
        };
        state.known = Some(Known {
            time,
            running: reading.running,
            watched: false,
            leap,
        });
        state.accept(reading);
        state.judge(reading);
        state.note(reading);
    }

    /// The same beside the process that the directory belongs to, which does the noting.
    pub fn start_beside(&self, data_dir: &Path) {
        self.0.state.lock().beside = true;
        self.start(data_dir, None);
    }

    /// The time: the machine's, or what it would be if the machine's clock fitted.
    pub fn now(&self) -> SystemTime {
        let reading = (self.0.read)();
        self.0.state.lock().judge(reading)
    }

    /// [`Clock::now`] as the API writes it.
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::try_from(self.now()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Why the machine's clock is not believed, if so.
    pub fn wrong(&self) -> Option<Wrong> {
        self.now();
        self.0.state.lock().wrong.clone()
    }

    /// Waits until the machine's clock is believed.
    pub async fn is_right(&self) {
        // The kernel has no event for a clock that was set in another way than by this process's timers.
        while self.wrong().is_some() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Notes the time now and then, and takes a wrong clock as right when told to, until `shutdown`.
    pub(crate) async fn keep(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let reading = (self.0.read)();
            let mut state = self.0.state.lock();
            if state.wrong.is_some() {
                state.accept(reading);
            }
            state.judge(reading);
            state.note(reading);
        }
    }
}

impl State {
    /// The time by a reading. What fits becomes what is known.
    fn judge(&mut self, reading: Reading) -> SystemTime {
        let Some(known) = &mut self.known else {
            return reading.wall;
        };
        if let Some(fitting) = known.with(reading) {
            *known = fitting;
            if self.wrong.take().is_some() {
                tracing::info!("the clock of this machine is right again");
            }
            return reading.wall;
        }
        let expected = known.expected(reading);
        if self.wrong.is_none() {
            let text = |time| Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
            let wrong = Wrong {
                says: text(reading.wall),
                known: text(expected),
                accept: self.dir.clone().unwrap_or_default().join(ACCEPT),
            };
            tracing::error!("{wrong}");
            self.wrong = Some(wrong);
        }
        expected
    }

    /// Believes the clock if somebody put the file there that says so. It counts once.
    fn accept(&mut self, reading: Reading) {
        let dir = self.dir.as_ref().filter(|_| !self.beside);
        let file = dir.map(|dir| dir.join(ACCEPT));
        if file.is_some_and(|file| std::fs::remove_file(file).is_ok()) {
            tracing::warn!("the clock of this machine is taken as right, as told");
            self.known = Some(Known {
                time: reading.wall,
                running: reading.running,
                watched: true,
                leap: None,
            });
            self.noted = None;
        }
    }

    fn note(&mut self, reading: Reading) {
        let due = self
            .noted
            .is_none_or(|noted| reading.running.saturating_sub(noted) >= NOTE_EVERY);
        let (Some(dir), Some(known), None, true) = (&self.dir, &self.known, &self.wrong, due)
        else {
            return;
        };
        if self.beside {
            return;
        }
        self.noted = Some(reading.running);
        if let Err(error) = file::replace(&dir.join(FILE), &known.text()) {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the time is not noted"
            );
        }
    }
}

impl Known {
    /// The time by a reading of a clock that fits.
    fn expected(&self, reading: Reading) -> SystemTime {
        self.time + reading.running.saturating_sub(self.running)
    }

    /// What is known after a reading, if that fits.
    fn with(self, reading: Reading) -> Option<Self> {
        let expected = self.expected(reading);
        let ahead = if self.watched {
            CORRECTION
        } else {
            LONGEST_OFF
        };
        let wall = reading.wall;
        let refuted = |(from, to)| wall + CORRECTION >= from && wall < to;
        let leap = if wall > expected + ahead {
            return None;
        } else if wall + CORRECTION < expected {
            // Either the clock is wrong now, or it was when it moved ahead; the latter does no harm any more.
            self.leap.filter(|&leap| refuted(leap))?;
            None
        } else if !self.watched && wall > expected + CORRECTION {
            Some((self.time, wall))
        } else {
            self.leap.filter(|&(_, to)| wall < to + CORRECTION)
        };
        Some(Self {
            time: wall,
            running: reading.running,
            watched: true,
            leap,
        })
    }

    fn text(&self) -> String {
        let text = |time: SystemTime| Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
        let leap = self
            .leap
            .map(|(from, to)| format!("leap {} {}\n", text(from), text(to)));
        format!("last {}\n{}", text(self.time), leap.unwrap_or_default())
    }
}

/// What is noted in a data directory; a note that cannot be read is none.
fn noted(data_dir: &Path) -> Option<(SystemTime, Option<(SystemTime, SystemTime)>)> {
    let text = file::read(&data_dir.join(FILE)).ok()??;
    let time = |word: Option<&str>| Some(SystemTime::from(word?.parse::<Timestamp>().ok()?));
    let mut lines = text.lines().map(|line| line.split(' '));
    let mut last = lines.next()?;
    let last = time((last.next() == Some("last")).then(|| last.next())?)?;
    let leap = lines.next().and_then(|mut leap| {
        (leap.next() == Some("leap")).then(|| Some((time(leap.next())?, time(leap.next())?)))?
    });
    Some((last, leap))
}

#[cfg(test)]
mod tests;
