//! Events as lines of JSON (audit.k8s.io/v1 Event).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::policy::{Level, Stage};
use crate::auth::{ResourceAttributes, UserInfo};
use crate::protobuf;

/// What all events of a request have in common.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: String,
    pub(super) uri: String,
    pub(super) verb: String,
    pub(super) user: Arc<UserInfo>,
    pub(super) addresses: Vec<String>,
    pub(super) agent: String,
    pub(super) content_type: String,
    pub(super) object: Option<ObjectRef>,
    pub(super) received: Timestamp,
}

/// The object a request is about.
#[derive(Debug, Clone)]
pub(super) struct ObjectRef {
    group: String,
    version: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

impl ObjectRef {
    pub(super) fn of(target: &ResourceAttributes<'_>) -> Self {
        Self {
            group: target.group.to_owned(),
            version: target.version.to_owned(),
            resource: target.resource.to_owned(),
            subresource: target.subresource.to_owned(),
            namespace: target.namespace.to_owned(),
            name: target.name.to_owned(),
        }
    }

    /// With what the object in the request's body adds.
    fn to_json(&self, body: Option<&Value>) -> Value {
        let metadata = body.map_or(&Value::Null, |body| &body["metadata"]);
        let or = |own: &str, field: &str| {
            let said = metadata[field].as_str().unwrap_or_default();
            if own.is_empty() { said } else { own }.to_owned()
        };
        let fields = [
            ("resource", self.resource.clone()),
            ("namespace", or(&self.namespace, "namespace")),
            ("name", or(&self.name, "name")),
            ("uid", or("", "uid")),
            ("apiGroup", self.group.clone()),
            ("apiVersion", self.version.clone()),
            ("resourceVersion", or("", "resourceVersion")),
            ("subresource", self.subresource.clone()),
        ];
        let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
        fields
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect::<Map<_, _>>()
            .into()
    }
}

/// One event, not yet a line.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) request: Arc<Request>,
    pub(super) level: Level,
    pub(super) stage: Stage,
    pub(super) code: Option<u16>,
    pub(super) message: Option<&'static str>,
    pub(super) impersonated: Option<Arc<UserInfo>>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) body: Option<Bytes>,
    pub(super) answer: Option<Bytes>,
    pub(super) omit_managed_fields: bool,
    pub(super) at: Timestamp,
}

impl Record {
    /// The event as a line, its newline included.
    pub(super) fn into_line(self) -> String {
        let request = &self.request;
        let body = self.body.as_deref();
        let body = body.and_then(|bytes| parse_body(bytes, &request.content_type));
        let answer: Option<Value> = self
            .answer
            .as_deref()
            .and_then(|b| serde_json::from_slice(b).ok());
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1",
            "level": format!("{:?}", self.level), "auditID": request.id,
            "stage": format!("{:?}", self.stage), "requestURI": request.uri,
            "verb": request.verb, "user": user(&request.user),
        });
        if let Some(impersonated) = &self.impersonated {
            event["impersonatedUser"] = user(impersonated);
        }
        if !request.addresses.is_empty() {
            event["sourceIPs"] = request.addresses.clone().into();
        }
        if !request.agent.is_empty() {
            event["userAgent"] = request.agent.clone().into();
        }
        if let Some(object) = &request.object {
            event["objectRef"] = object.to_json(body.as_ref());
        }
        if let Some(code) = self.code {
            event["responseStatus"] = status(code, self.message, answer.as_ref());
        }
        let level = self.level;
        let shown = |value: Option<Value>| {
            let mut value = value?;
            if self.omit_managed_fields {
                omit_managed_fields(&mut value);
            }
            Some(value)
        };
        if level >= Level::Request
            && let Some(body) = shown(body)
        {
            event["requestObject"] = body;
        }
        if level >= Level::RequestResponse
            && let Some(answer) = shown(answer)
        {
            event["responseObject"] = answer;
        }
        event["requestReceivedTimestamp"] = micros(request.received).into();
        event["stageTimestamp"] = micros(self.at).into();
        if !self.annotations.is_empty() {
            event["annotations"] = json!(self.annotations);
        }
        let mut line = event.to_string();
        line.push('\n');
        line
    }
}

fn user(user: &UserInfo) -> Value {
    let mut value = json!({});
    if !user.name.is_empty() {
        value["username"] = user.name.clone().into();
    }
    if !user.uid.is_empty() {
        value["uid"] = user.uid.clone().into();
    }
    if !user.groups.is_empty() {
        value["groups"] = user.groups.clone().into();
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

/// The outcome: what a `Status` in the answer says, and the code.
fn status(code: u16, message: Option<&str>, answer: Option<&Value>) -> Value {
    let mut status = json!({ "metadata": {}, "code": code });
    let said = answer.filter(|answer| answer["kind"] == "Status");
    for key in ["status", "message", "reason", "details"] {
        if let Some(value) = said.and_then(|said| said.get(key)) {
            status[key] = value.clone();
        }
    }
    if let Some(message) = message {
        status["message"] = message.into();
    }
    status
}

/// A request's body as JSON; nothing when it is none.
fn parse_body(bytes: &[u8], content_type: &str) -> Option<Value> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    if media == protobuf::MEDIA {
        return protobuf::decode(bytes).ok();
    }
    if media.contains("yaml") {
        let text = std::str::from_utf8(bytes).ok()?;
        return serde_saphyr::from_str(text).ok();
    }
    serde_json::from_slice(bytes).ok()
}

fn omit_managed_fields(value: &mut Value) {
    let of = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    of(value);
    if let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(of);
    }
}

fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
