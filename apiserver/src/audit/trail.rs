//! What is gathered of one request on its way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use jiff::Timestamp;

use super::Auditor;
use super::line::{ObjectRef, Record, Request};
use super::policy::{Choice, Level, Stage};
use crate::auth::protocol_token::ProtocolToken;
use crate::auth::{Attributes, Target, UserInfo};

/// Names the request in the log, the answer and, if the client sends it, the request.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Request extension: the address a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RemoteAddress(pub(crate) IpAddr);

/// A request that is logged.
#[derive(Debug)]
pub(crate) struct Trail {
    auditor: Arc<Auditor>,
    choice: Choice,
    request: Arc<Request>,
    impersonated: Option<Arc<UserInfo>>,
    annotations: BTreeMap<String, String>,
    body: Option<Bytes>,
    stream: bool,
}

impl Trail {
    pub(super) fn new(
        auditor: Arc<Auditor>,
        choice: Choice,
        parts: &Parts,
        user: Arc<UserInfo>,
        attributes: &Attributes<'_>,
    ) -> Self {
        let header = |name: HeaderName| {
            let value = parts.headers.get(name);
            value
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let id = Some(header(AUDIT_ID)).filter(|id| !id.is_empty() && id.len() <= 128);
        let object = match attributes.target {
            Target::Resource(target) => Some(ObjectRef::of(&target)),
            Target::Path(_) => None,
        };
        let request = Request {
            id: id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
            uri: parts
                .uri
                .path_and_query()
                .map_or("/", |uri| uri.as_str())
                .to_owned(),
            verb: attributes.verb.to_owned(),
            user,
            addresses: addresses(parts),
            agent: header(header::USER_AGENT),
            content_type: header(header::CONTENT_TYPE),
            object,
            received: Timestamp::now(),
        };
        Self {
            auditor,
            choice,
            request: Arc::new(request),
            impersonated: None,
            annotations: BTreeMap::new(),
            body: None,
            stream: attributes.verb == "watch",
        }
    }

    /// The request acts as somebody else.
    pub(crate) fn impersonates(&mut self, user: Arc<UserInfo>) {
        self.impersonated = Some(user);
    }

    /// Adds an annotation; the first of a name stays.
    pub(crate) fn annotate(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.annotations
            .entry(key.into())
            .or_insert_with(|| value.into());
    }

    /// The request carries this body.
    pub(crate) fn carries(&mut self, body: Bytes) {
        self.body = Some(body).filter(|body| !body.is_empty());
    }

    /// The answer goes on as long as the client wants.
    pub(crate) fn streams(&mut self) {
        self.stream = true;
    }

    fn record(&self, stage: Stage, code: Option<u16>) -> Option<Record> {
        if self.choice.omitted.contains(&stage) {
            return None;
        }
        Some(Record {
            request: self.request.clone(),
            level: self.choice.level,
            stage,
            code,
            message: None,
            impersonated: self.impersonated.clone(),
            annotations: self.annotations.clone(),
            body: self.body.clone(),
            answer: None,
            omit_managed_fields: self.choice.omit_managed_fields,
            at: Timestamp::now(),
        })
    }

    async fn send(&self, record: Option<Record>) {
        if let Some(record) = record {
            // The thread is gone only when the process ends.
            let _ = self.auditor.records.send(record).await;
        }
    }

    pub(super) async fn received(&self) {
        self.send(self.record(Stage::RequestReceived, None)).await;
    }

    pub(super) async fn unauthenticated(&self, parts: &Parts) {
        let by_protocol = parts.extensions.get::<ProtocolToken>().is_some();
        let tried = if by_protocol || parts.headers.contains_key(header::AUTHORIZATION) {
            "Authentication failed, attempted: bearer"
        } else {
            "Authentication failed, no credentials provided"
        };
        let mut record = self.record(Stage::ResponseStarted, Some(401));
        if let Some(record) = &mut record {
            record.message = Some(tried);
        }
        self.send(record).await;
    }

    /// Logs the answer, which goes on to the client. `panicked` when there would have been none.
    pub(crate) async fn finish(self, response: Response<Body>, panicked: bool) -> Response<Body> {
        let code = response.status().as_u16();
        let (mut parts, body) = response.into_parts();
        if let Ok(id) = HeaderValue::from_str(&self.request.id) {
            parts.headers.insert(AUDIT_ID, id);
        }
        if panicked {
            self.send(self.record(Stage::Panic, Some(code))).await;
            return Response::from_parts(parts, body);
        }
        if self.stream && parts.status.as_u16() < 400 {
            self.send(self.record(Stage::ResponseStarted, Some(code)))
                .await;
            let body = Body::new(Followed {
                body,
                code,
                trail: self,
            });
            return Response::from_parts(parts, body);
        }
        let wanted = code >= 400 || self.choice.level == Level::RequestResponse;
        let mut record = self.record(Stage::ResponseComplete, Some(code));
        if !wanted || record.is_none() {
            self.send(record).await;
            return Response::from_parts(parts, body);
        }
        let bytes = body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        if let Some(record) = &mut record {
            record.answer = Some(bytes.clone());
        }
        self.send(record).await;
        Response::from_parts(parts, Body::from(bytes))
    }
}

/// The body of a stream; its end is logged, whoever ends it.
struct Followed {
    body: Body,
    code: u16,
    trail: Trail,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let Some(record) = self.trail.record(Stage::ResponseComplete, Some(self.code)) else {
            return;
        };
        let records = &self.trail.auditor.records;
        if let Err(tokio::sync::mpsc::error::TrySendError::Full(record)) = records.try_send(record)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let records = records.clone();
            runtime.spawn(async move { records.send(record).await });
        }
    }
}

/// Where a request came from, proxies first as they say themselves.
fn addresses(parts: &Parts) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let forwarded = parts.headers.get("x-forwarded-for");
    let forwarded = forwarded
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let said = forwarded
        .split(',')
        .filter_map(|part| part.trim().parse::<IpAddr>().ok());
    found.extend(said.map(|ip| ip.to_string()));
    if let Some(RemoteAddress(ip)) = parts.extensions.get() {
        let ip = ip.to_canonical().to_string();
        if found.last() != Some(&ip) {
            found.push(ip);
        }
    }
    found
}
