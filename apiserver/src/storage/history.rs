//! The changes since the last compaction, in order, and the rule for how long they are kept.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::clock::Millis;
use super::state::Change;
use super::{Event, Revision};

/// What an entry costs beside the value it keeps alive.
const ENTRY_BYTES: usize = 256;

/// How much history is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    /// Bytes of superseded values.
    pub(super) bytes: usize,
    /// Age of a change.
    pub(super) age: Duration,
}

/// All changes after the compacted revision.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    change: Change,
    at: Instant,
}

impl History {
    /// Appends a change; they come in the order of their revisions.
    pub(super) fn push(&mut self, change: Change, at: Instant) {
        self.bytes += cost(&change.event);
        self.entries.push_back(Entry { change, at });
    }

    /// The changes after a revision.
    pub(super) fn after(&self, revision: Revision) -> impl Iterator<Item = &Change> {
        let start = self
            .entries
            .partition_point(|e| e.change.place.revision <= revision);
        self.entries.range(start..).map(|entry| &entry.change)
    }

    /// The changes up to a revision, oldest first.
    pub(super) fn upto(&self, revision: Revision) -> impl Iterator<Item = &Change> {
        let all = self.entries.iter().map(|entry| &entry.change);
        all.take_while(move |change| change.place.revision <= revision)
    }

    /// The newest revision that was made at or before a time. Times never go back; unknown ones are 0 and come first.
    pub(super) fn upto_time(&self, time: Millis) -> Option<Revision> {
        let end = self.entries.partition_point(|e| e.change.at <= time);
        let newest = self.entries.get(end.checked_sub(1)?)?;
        (newest.change.at > 0).then_some(newest.change.place.revision)
    }

    /// Forgets the changes up to a revision.
    pub(super) fn forget(&mut self, revision: Revision) {
        while let Some(entry) = self.entries.front()
            && entry.change.place.revision <= revision
        {
            self.bytes -= cost(&entry.change.event);
            self.entries.pop_front();
        }
    }

    /// Bytes kept for the sake of the past.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The revision up to which history should be forgotten by now. Lets it grow an eighth over its limits first, so that
    /// forgetting is done in batches.
    pub(super) fn due(&self, keep: Retention, now: Instant) -> Option<Revision> {
        let oldest = self.entries.front()?;
        let slack = keep.age + keep.age / 8;
        let aged = now.saturating_duration_since(oldest.at) > slack;
        if self.bytes <= keep.bytes + keep.bytes / 8 && !aged {
            return None;
        }
        let mut left = self.bytes;
        let mut floor = None;
        for entry in &self.entries {
            if left <= keep.bytes && now.saturating_duration_since(entry.at) <= keep.age {
                break;
            }
            left -= cost(&entry.change.event);
            floor = Some(entry.change.place.revision);
        }
        floor
    }
}

fn cost(event: &Event) -> usize {
    let superseded = match event {
        Event::Put { prev, .. } => prev.as_ref().map_or(0, |prev| prev.value.len()),
        Event::Delete { prev, .. } => prev.value.len(),
    };
    ENTRY_BYTES + superseded
}
