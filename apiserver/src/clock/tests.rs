//! Clocks that are ahead, behind, corrected and told to be right.
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

/// A clock that shows so many hours after a certain moment, on a machine that was just started.
fn set(hours: &Arc<AtomicI64>) -> Clock {
    let hours = hours.clone();
    Clock::reading(move || {
        let hours = hours.load(Ordering::Relaxed);
        reading(hours, 0)
    })
}

fn at(hours: i64) -> SystemTime {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    SystemTime::from(start + jiff::SignedDuration::from_hours(hours))
}

fn reading(hours: i64, running: u64) -> Reading {
    Reading {
        wall: at(hours),
        running: Duration::from_secs(3600 * running),
    }
}

const YEAR: i64 = 365 * 24;

#[test]
fn a_clock_fits_or_does_not() {
    let left = Known {
        time: at(0),
        running: Duration::ZERO,
        watched: false,
        leap: None,
    };
    let watched = Known {
        watched: true,
        ..left
    };
    let moved = Known {
        leap: Some((at(-720), at(0))),
        ..left
    };
    for (what, known, hours, running, fits) in [
        ("a start at once", left, 0, 0, true),
        ("a start a month later", left, 720, 0, true),
        ("a start a year later", left, YEAR, 0, false),
        ("a start ten years later", left, 10 * YEAR, 0, false),
        (
            "a start with a clock corrected by hours",
            left,
            -20,
            0,
            true,
        ),
        ("a start two days back", left, -48, 0, false),
        ("a start a year back", left, -YEAR, 0, false),
        ("a start in 1970", left, -56 * YEAR, 0, false),
        ("running for a year", watched, YEAR, YEAR as u64, true),
        ("asleep for a year", watched, YEAR, YEAR as u64, true),
        ("set two days ahead while running", watched, 49, 1, false),
        ("set two days back while running", watched, -47, 1, false),
        ("set an hour back while running", watched, 0, 1, true),
        ("back after a month ahead", moved, -700, 0, true),
        (
            "further back than before the month ahead",
            moved,
            -800,
            0,
            false,
        ),
    ] {
        assert_eq!(
            known.with(reading(hours, running)).is_some(),
            fits,
            "{what}"
        );
    }
}

#[test]
fn a_month_ahead_is_taken_back_once() {
    let left = Known {
        time: at(0),
        running: Duration::ZERO,
        watched: false,
        leap: None,
    };
    let ahead = left.with(reading(720, 0)).unwrap();
    assert_eq!(ahead.leap, Some((at(0), at(720))));
    let back = ahead.with(reading(1, 1)).unwrap();
    assert_eq!((back.time, back.leap), (at(1), None));
    // After a day with the later time nobody doubts it any more.
    let later = ahead.with(reading(745, 25)).unwrap();
    assert_eq!(later.leap, None);
    assert_eq!(later.with(reading(1, 26)), None);
}

#[test]
fn a_wrong_clock_is_told_of_and_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let hours = Arc::new(AtomicI64::new(0));
    set(&hours).start(dir.path(), None);
    hours.store(10 * YEAR, Ordering::Relaxed);
    let clock = set(&hours);
    clock.start(dir.path(), Some(at(0)));
    assert_eq!(clock.now(), at(0));
    let said = clock.wrong().unwrap().to_string();
    assert!(
        said.contains("2035-12-30") && said.contains("accept-clock"),
        "{said}"
    );
    // Set right while it runs, and at the next start.
    hours.store(1, Ordering::Relaxed);
    assert_eq!((clock.wrong(), clock.now()), (None, at(1)));
    let clock = set(&hours);
    clock.start(dir.path(), None);
    assert_eq!((clock.wrong(), clock.now()), (None, at(1)));
}

#[test]
fn a_wrong_clock_is_believed_when_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let hours = Arc::new(AtomicI64::new(0));
    set(&hours).start(dir.path(), None);
    hours.store(YEAR, Ordering::Relaxed);
    std::fs::write(dir.path().join(ACCEPT), "").unwrap();
    for _ in 0..2 {
        let clock = set(&hours);
        clock.start(dir.path(), None);
        assert_eq!((clock.wrong(), clock.now()), (None, at(YEAR)));
    }
    assert!(!dir.path().join(ACCEPT).exists());
}

#[test]
fn what_is_not_noted_is_known_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let hours = Arc::new(AtomicI64::new(-YEAR));
    let clock = set(&hours);
    clock.start(dir.path(), Some(at(0)));
    assert_eq!(clock.now(), at(0));
    assert!(clock.wrong().is_some() && !dir.path().join(FILE).exists());
    std::fs::write(dir.path().join(FILE), "no such note").unwrap();
    set(&hours).start(dir.path(), None);
    assert_eq!(noted(dir.path()), Some((at(-YEAR), None)));
    let leap = Known {
        time: at(5),
        running: Duration::ZERO,
        watched: true,
        leap: Some((at(1), at(4))),
    };
    std::fs::write(dir.path().join(FILE), leap.text()).unwrap();
    assert_eq!(noted(dir.path()), Some((at(5), Some((at(1), at(4))))));
}
