//! One change of one object, and the bytes every watcher of it shares.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::object::Object;
use crate::selection::Selection;
use crate::storage::Revision;

/// `type` of a watch event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

impl EventType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
            Self::Error => "ERROR",
        }
    }

    /// A whole event line around an object's JSON.
    pub(crate) fn line(self, object: &[u8]) -> Bytes {
        let head = br#"{"type":""#;
        let mut out = Vec::with_capacity(head.len() + 32 + object.len());
        out.extend_from_slice(head);
        out.extend_from_slice(self.as_str().as_bytes());
        out.extend_from_slice(br#"","object":"#);
        out.extend_from_slice(object);
        out.extend_from_slice(b"}\n");
        out.into()
    }
}

/// A change of one object.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) revision: Revision,
    /// The object after the change; `None` when it was deleted.
    pub(crate) now: Option<Object>,
    /// The object before; `None` when it was made.
    pub(crate) before: Option<Object>,
    line: OnceLock<Bytes>,
    lean_line: OnceLock<Bytes>,
}

impl Change {
    pub(crate) fn new(revision: Revision, now: Option<Object>, before: Option<Object>) -> Self {
        Self {
            revision,
            now,
            before,
            line: OnceLock::new(),
            lean_line: OnceLock::new(),
        }
    }

    /// How a watcher with this selection sees the change, with the object's JSON; `None`: not at all. Who wants it `lean` gets it
    /// without `managedFields`, but for what is deleted.
    ///
    /// An object that comes into the selection is added, one that leaves it is deleted.
    pub(crate) fn seen_by(&self, selection: &Selection, lean: bool) -> Option<(EventType, Bytes)> {
        let event = self.event_for(selection)?;
        let object = match event {
            EventType::Deleted => self.before.as_ref()?.at_revision(self.revision),
            _ => self.now.as_ref()?.for_reader(lean),
        };
        Some((event, object))
    }

    /// The same as one line of a JSON watch stream. Watchers that see the change for what it was share
    /// the bytes.
    pub(crate) fn line_for(&self, selection: &Selection, lean: bool) -> Option<Bytes> {
        let event = self.event_for(selection)?;
        if event == self.natural() {
            let kept = if lean { &self.lean_line } else { &self.line };
            let line = kept.get_or_init(|| {
                let seen = self.seen_by(selection, lean);
                seen.map_or_else(Bytes::new, |(event, object)| event.line(&object))
            });
            return Some(line.clone());
        }
        let (event, object) = self.seen_by(selection, lean)?;
        Some(event.line(&object))
    }

    /// Bytes kept alive by remembering the change.
    pub(super) fn weight(&self) -> usize {
        let size = |object: &Option<Object>| object.as_ref().map_or(0, |object| object.bytes.len());
        // The lines are counted before they exist, because they may be made at any time.
        size(&self.before) + 3 * size(&self.now) + 128
    }

    fn natural(&self) -> EventType {
        match (&self.before, &self.now) {
            (_, None) => EventType::Deleted,
            (None, Some(_)) => EventType::Added,
            (Some(_), Some(_)) => EventType::Modified,
        }
    }

    fn event_for(&self, selection: &Selection) -> Option<EventType> {
        let had = self
            .before
            .as_ref()
            .is_some_and(|object| selection.has(object));
        let has = self
            .now
            .as_ref()
            .is_some_and(|object| selection.has(object));
        match (had, has) {
            (false, false) => None,
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
        }
    }
}
