//! Watches: a stream of events that never ends by itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, header};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::parse;
use super::{Call, list, page, past, selected};
use crate::cache::{Change, EventType, Start, Watcher};
use crate::error::{Reason, StatusError};
use crate::object::{Object, Paths};
use crate::protobuf;
use crate::request::{Accept, Form, Syntax};
use crate::selection::Selection;
use crate::storage::Revision;
use crate::table::{self, Printer};

/// How often a quiet watch that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A watch without a timeout ends after this at least, so that clients spread over servers.
const LEAST_SECONDS: u64 = 1800;
/// Frames of the first state grow to about this many bytes.
const FRAME: usize = 64 << 10;

/// Marks the bookmark that ends the first state of a streaming list.
const INITIAL_END: &str = "k8s.io/initial-events-end";

pub(super) async fn watch(call: &Call) -> Result<Response<Body>, StatusError> {
    let plan = Plan::read(call)?;
    if let Some(revision) = plan.reach {
        page::reach(call, revision).await?;
    }
    let mut selection = list::selection(call)?;
    let mut narrow = None;
    if selected::is_needed(&call.resource, &selection) {
        let wider = selection.without_fields();
        narrow = Some((
            std::mem::replace(&mut selection, wider),
            call.kind().paths(),
        ));
    }
    let cache = call.server.cache.clone();
    let may = match plan.start {
        Start::After(revision) => past::require_since(call, revision).await,
        Start::Now => Ok(()),
    };
    let open = || Watcher::open(cache, call.kind(), selection, plan.start);
    let opened = may.and_then(|()| open().map_err(StatusError::from));
    let (watcher, mut objects) = match opened {
        Ok(opened) => opened,
        // As in Kubernetes, a watch tells of this itself: some clients ask again for ever after a plain 410.
        Err(error) if error.reason() == Some(Reason::Expired) => {
            let event = Shape::of(call).failure(&error);
            return Ok(answered(call, Body::from(event)));
        }
        Err(error) => return Err(error),
    };
    if let Some((selection, paths)) = &narrow {
        objects = selected::among(&call.resource, paths, selection, objects).await?;
    }
    let seconds = call.options.timeout_seconds.filter(|seconds| *seconds > 0);
    let seconds =
        seconds.unwrap_or_else(|| rand::rng().random_range(LEAST_SECONDS..2 * LEAST_SECONDS));
    let now = Instant::now();
    let stream = Stream {
        shape: Shape::of(call),
        watcher,
        narrow,
        first: objects.into_iter(),
        state: if plan.bookmark_end {
            State::First
        } else {
            State::FirstQuiet
        },
        bookmarks: call.options.bookmarks,
        next_bookmark: now + BOOKMARK_EVERY,
        end: now + Duration::from_secs(seconds.min(7 * 24 * 3600)),
        shutdown: call.server.shutdown.clone(),
    };
    let frames = futures::stream::unfold(stream, |mut stream| async move {
        let frame = stream.next_frame().await?;
        Some((Ok::<_, Infallible>(frame), stream))
    });
    Ok(answered(call, Body::from_stream(frames)))
}

/// The answer whose body are events.
fn answered(call: &Call, events: Body) -> Response<Body> {
    let mut response = Response::new(events);
    let headers = response.headers_mut();
    let media = match call.accept.syntax {
        Syntax::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Syntax::Json | Syntax::Yaml => "application/json",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

/// Where a watch starts, by its options.
struct Plan {
    start: Start,
    /// A revision that the first state must not be older than.
    reach: Option<Revision>,
    /// The first state ends with a bookmark (`sendInitialEvents=true`).
    bookmark_end: bool,
}

impl Plan {
    fn read(call: &Call) -> Result<Self, StatusError> {
        let options = &call.options;
        let revision = page::not_older_than(call)?;
        if options.send_initial_events == Some(true) {
            // The end of the first state could not be told otherwise.
            if !options.bookmarks {
                return Err(StatusError::bad_request(
                    "allowWatchBookmarks: Forbidden: sendInitialEvents requires setting \
                     allowWatchBookmarks to true",
                ));
            }
            return Ok(Self {
                start: Start::Now,
                reach: revision.filter(|revision| *revision > 0),
                bookmark_end: true,
            });
        }
        Ok(match revision {
            Some(revision) if revision > 0 => Self {
                start: Start::After(revision),
                reach: Some(revision),
                bookmark_end: false,
            },
            _ if options.send_initial_events == Some(false) => {
                let start = Start::After(call.server.store.revision());
                Self {
                    start,
                    reach: None,
                    bookmark_end: false,
                }
            }
            _ => Self {
                start: Start::Now,
                reach: None,
                bookmark_end: false,
            },
        })
    }
}

/// What events look like on the wire.
struct Shape {
    resource: Arc<crate::resource::Resource>,
    accept: Accept,
    include: table::Include,
    /// Column definitions are sent with the first table only.
    header_sent: bool,
}

impl Shape {
    fn of(call: &Call) -> Self {
        Self {
            resource: call.resource.clone(),
            accept: call.accept,
            include: call.options.include,
            header_sent: false,
        }
    }

    fn shares_bytes(&self) -> bool {
        let plain = self.accept.form == Form::Plain && self.accept.syntax != Syntax::Protobuf;
        plain && self.resource.conversion.is_none()
    }

    /// Metadata is a part of the object's bytes.
    fn cuts_bytes(&self) -> bool {
        let plain = self.accept.syntax != Syntax::Protobuf && !self.accept.beta;
        self.accept.form == Form::Partial && plain && self.resource.conversion.is_none()
    }

    /// The event that a watch ends with when it fails.
    fn failure(&self, error: &StatusError) -> Bytes {
        let status = parse(&error.to_json()).unwrap_or_default();
        self.written(EventType::Error, &status)
    }

    async fn line(&mut self, event: EventType, object: &Bytes) -> Result<Bytes, StatusError> {
        if self.shares_bytes() {
            return Ok(event.line(object));
        }
        if self.cuts_bytes() {
            let partial = table::partial_bytes(object).map_err(StatusError::internal)?;
            return Ok(event.line(&partial));
        }
        let mut value = parse(object)?;
        if let Some(conversion) = &self.resource.conversion {
            let served = conversion.serve_one(value).await;
            value = served.map_err(StatusError::internal)?;
        }
        let shaped = match self.accept.form {
            Form::Plain => value,
            Form::Partial => table::partial(value),
            Form::Table => {
                let printer = Printer::new(&self.resource, self.include);
                let revision = value["metadata"]["resourceVersion"].clone();
                let header = !std::mem::replace(&mut self.header_sent, true);
                printer.table(json!({ "resourceVersion": revision }), [value], header)
            }
        };
        Ok(self.written(event, &self.named(shaped)))
    }

    fn named(&self, object: Value) -> Value {
        if self.accept.beta {
            table::as_beta(object)
        } else {
            object
        }
    }

    /// An event in the syntax of the stream.
    fn written(&self, event: EventType, object: &Value) -> Bytes {
        let binary = (self.accept.syntax == Syntax::Protobuf)
            .then(|| protobuf::event(event.as_str(), object))
            .flatten();
        binary.unwrap_or_else(|| event.line(object.to_string().as_bytes()))
    }

    fn bookmark(&self, revision: Revision, initial_end: bool) -> Bytes {
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        if initial_end {
            metadata["annotations"] = json!({ INITIAL_END: "true" });
        }
        let object = match self.accept.form {
            Form::Plain => json!({
                "kind": self.resource.kind, "apiVersion": self.resource.api_version(),
                "metadata": bookmark_metadata(metadata),
            }),
            Form::Partial => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": bookmark_metadata(metadata),
            }),
            Form::Table => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1",
                "metadata": { "resourceVersion": revision.to_string() },
                "columnDefinitions": [],
                "rows": [{ "cells": [], "object": {
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                    "metadata": bookmark_metadata(metadata),
                }}],
            }),
        };
        self.written(EventType::Bookmark, &self.named(object))
    }
}

/// Kubernetes' bookmarks carry an explicit null here, which typed clients accept.
fn bookmark_metadata(mut metadata: Value) -> Value {
    metadata["creationTimestamp"] = Value::Null;
    metadata
}

/// What comes next in a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first state, then a bookmark that ends it.
    First,
    /// The first state, then changes.
    FirstQuiet,
    Changes,
    /// A last event was sent.
    Over,
}

struct Stream {
    shape: Shape,
    watcher: Watcher,
    /// What narrows the watcher's selection by fields of the served version.
    narrow: Option<(Selection, Arc<Paths>)>,
    first: std::vec::IntoIter<Object>,
    state: State,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    shutdown: tokio_util::sync::CancellationToken,
}

/// Why waiting for changes ended.
enum Wake {
    Changes(Vec<Arc<Change>>),
    Bookmark,
    End,
    Failed(StatusError),
}

impl Stream {
    /// The next bytes to send; `None` ends the watch. Never none at all: clients take empty frames for an attack.
    async fn next_frame(&mut self) -> Option<Bytes> {
        loop {
            let frame = match self.state {
                State::Over => return None,
                State::First | State::FirstQuiet => self.first_frame().await,
                State::Changes => self.change_frame().await,
            };
            match frame {
                Ok(Some(frame)) if frame.is_empty() => {}
                Ok(frame) => return frame,
                Err(error) => {
                    self.state = State::Over;
                    return Some(self.shape.failure(&error));
                }
            }
        }
    }

    async fn first_frame(&mut self) -> Result<Option<Bytes>, StatusError> {
        let mut frame = BytesMut::new();
        while frame.len() < FRAME {
            let Some(object) = self.first.next() else {
                if self.state == State::First {
                    frame.extend_from_slice(&self.shape.bookmark(self.watcher.position(), true));
                }
                self.state = State::Changes;
                break;
            };
            let bytes = object.for_reader(self.shape.accept.lean);
            let line = self.shape.line(EventType::Added, &bytes).await?;
            frame.extend_from_slice(&line);
        }
        Ok(Some(frame.freeze()))
    }

    /// Waits for changes that concern the selection.
    async fn change_frame(&mut self) -> Result<Option<Bytes>, StatusError> {
        loop {
            match self.wait().await {
                Wake::Changes(changes) => {
                    if let Some(frame) = self.lines(&changes).await? {
                        return Ok(Some(frame));
                    }
                }
                Wake::Bookmark => {
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    if self.watcher.settle() {
                        return Ok(Some(self.shape.bookmark(self.watcher.position(), false)));
                    }
                }
                Wake::End => {
                    self.state = State::Over;
                    let settled = self.bookmarks && self.watcher.settle();
                    let position = self.watcher.position();
                    return Ok(settled.then(|| self.shape.bookmark(position, false)));
                }
                Wake::Failed(error) => return Err(error),
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        tokio::select! {
            biased;
            changes = self.watcher.next() => match changes {
                Ok(changes) => Wake::Changes(changes),
                Err(error) => Wake::Failed(error.into()),
            },
            () = self.shutdown.cancelled() => Wake::End,
            () = tokio::time::sleep_until(self.end) => Wake::End,
            () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => Wake::Bookmark,
        }
    }

    /// One frame with all changes that concern the selection. A single one shares its bytes with every
    /// other watcher.
    async fn lines(&mut self, changes: &[Arc<Change>]) -> Result<Option<Bytes>, StatusError> {
        let (shared, lean) = (self.shape.shares_bytes(), self.shape.accept.lean);
        let mut first: Option<Bytes> = None;
        let mut frame: Option<BytesMut> = None;
        for change in changes {
            let line = if shared {
                change.line_for(self.watcher.selection(), lean)
            } else {
                let seen = match &self.narrow {
                    Some((selection, paths)) => {
                        let resource = &self.shape.resource;
                        selected::seen(resource, paths, selection, change, lean).await?
                    }
                    None => change.seen_by(self.watcher.selection(), lean),
                };
                match seen {
                    Some((event, object)) => Some(self.shape.line(event, &object).await?),
                    None => None,
                }
            };
            let Some(line) = line else { continue };
            match (&mut frame, &first) {
                (Some(frame), _) => frame.extend_from_slice(&line),
                (None, None) => first = Some(line),
                (None, Some(head)) => {
                    let mut joined = BytesMut::with_capacity(head.len() + line.len());
                    joined.extend_from_slice(head);
                    joined.extend_from_slice(&line);
                    frame = Some(joined);
                }
            }
        }
        Ok(frame.map(BytesMut::freeze).or(first))
    }
}
