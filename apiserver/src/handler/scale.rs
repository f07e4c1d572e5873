//! `/scale`: replica counts of any scalable kind as one shape, `autoscaling/v1` Scale.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::patch::{self, Kind};
use super::write::{self, Draft, Outcome};
use super::{Answer, Call, admit, answer, body, metadata};
use crate::admission::Operation;
use crate::apply;
use crate::error::StatusError;
use crate::resource::ScalePaths;
use crate::schema::{FieldError, Schema};
use crate::table::at;

pub(super) async fn get(call: &Call, paths: &ScalePaths) -> Result<Response<Body>, StatusError> {
    let name = &call.path.name;
    let current = write::current(call, name)
        .await?
        .ok_or_else(|| call.not_found(name))?;
    Ok(
        Answer::document(call.accept, StatusCode::OK, view(&current.object, paths))?
            .into_response(),
    )
}

pub(super) async fn update(
    call: &Call,
    paths: &ScalePaths,
    body: &[u8],
) -> Result<Response<Body>, StatusError> {
    let mut scale = body::decode_other(call, body, "autoscaling", "v1", "Scale")?;
    metadata::check_place(call, &mut scale)?;
    change(call, paths, |_| Ok(scale.clone())).await
}

pub(super) async fn patch(
    call: &Call,
    paths: &ScalePaths,
    body: &[u8],
) -> Result<Response<Body>, StatusError> {
    let kind = Kind::of(call)?;
    let schema = Schema::builtin("autoscaling", "v1", "Scale");
    let schema = schema.as_deref();
    change(call, paths, |scale| {
        if kind == Kind::Apply {
            let config = serde_saphyr::from_slice(body).map_err(|error: serde_saphyr::Error| {
                StatusError::bad_request(error.to_string())
            })?;
            let schema = schema.ok_or_else(|| StatusError::internal("Scale has no schema"))?;
            let writer = call.writer("autoscaling/v1");
            let force = call.options.force == Some(true);
            return apply::apply(schema, Some(scale), config, &writer, force)
                .map_err(|error| StatusError::bad_request(error.to_string()));
        }
        patch::change(kind, schema, scale, body, &mut Vec::new()).map_err(patch::refused)
    })
    .await
}

/// Carries what a new Scale says over to the object.
async fn change(
    call: &Call,
    paths: &ScalePaths,
    make: impl Fn(&Value) -> Result<Value, StatusError>,
) -> Result<Response<Body>, StatusError> {
    let name = &call.path.name;
    for _ in 0..write::TRIES {
        let current = write::current(call, name)
            .await?
            .ok_or_else(|| call.not_found(name))?;
        let before = view(&current.object, paths);
        let mut scale = make(&before)?;
        let request = call.admission(Operation::Update, name, Some(&before));
        admit::all(call, &request, &mut scale).await?;
        let replicas = replicas(call, &scale)?;
        let based_on = metadata::text(&scale, "resourceVersion");
        if !based_on.is_empty() && based_on.parse() != Ok(current.kv.mod_revision) {
            return Err(StatusError::modified(&call.resource, name));
        }
        let mut object = current.object.clone();
        set(&mut object, &paths.spec_replicas, replicas.into());
        let mut draft = Draft {
            object,
            warnings: Vec::new(),
            tracked: false,
        };
        match write::update(call, &current, &mut draft).await? {
            Outcome::Stored(bytes) | Outcome::Removed(bytes) => {
                let stored: Bytes = bytes;
                let object = call.served(answer::parse(&stored)?).await?;
                return Ok(
                    Answer::document(call.accept, StatusCode::OK, view(&object, paths))?
                        .into_response(),
                );
            }
            Outcome::Raced => {}
        }
    }
    Err(StatusError::modified(&call.resource, name))
}

fn replicas(call: &Call, scale: &Value) -> Result<i64, StatusError> {
    let replicas = scale
        .pointer("/spec/replicas")
        .map_or(Some(0), Value::as_i64);
    match replicas {
        Some(replicas @ 0..=2_147_483_647) => Ok(replicas),
        _ => {
            let value = scale.pointer("/spec/replicas").cloned().unwrap_or_default();
            let detail = "must be greater than or equal to 0";
            let error = FieldError::invalid("spec.replicas", value, detail);
            Err(StatusError::invalid(
                &call.resource,
                &call.path.name,
                &[error],
            ))
        }
    }
}

/// The Scale of an object.
fn view(object: &Value, paths: &ScalePaths) -> Value {
    let metadata = metadata::of(object);
    let kept = [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ];
    let kept: serde_json::Map<String, Value> = kept
        .into_iter()
        .filter_map(|field| Some((field.to_owned(), metadata.get(field)?.clone())))
        .collect();
    let count = |path: &str| at(object, path).as_i64().unwrap_or_default();
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept,
        "spec": { "replicas": count(&paths.spec_replicas) },
        "status": { "replicas": count(&paths.status_replicas) },
    });
    let selector = paths
        .selector
        .as_deref()
        .map(|path| selector_text(at(object, path)));
    if let Some(selector) = selector.filter(|text| !text.is_empty()) {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// A selector of any shape as the string that clients put into list calls.
fn selector_text(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    let plain = selector
        .as_object()
        .filter(|map| map.values().all(Value::is_string));
    let labels = plain.or_else(|| selector["matchLabels"].as_object());
    let mut parts: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let key = expression["key"].as_str().unwrap_or_default();
        let values = expression["values"].as_array().into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("Exists") => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.sort();
    parts.join(",")
}

fn set(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    for step in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[step];
    }
    *place = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_become_text() {
        let cases = [
            (json!("a=b"), "a=b"),
            (json!({"app": "web", "tier": "x"}), "app=web,tier=x"),
            (
                json!({"matchLabels": {"a": "b"}, "matchExpressions":
                [{"key": "c", "operator": "In", "values": ["d", "e"]}]}),
                "a=b,c in (d,e)",
            ),
        ];
        for (selector, text) in cases {
            assert_eq!(selector_text(&selector), text);
        }
    }

    #[test]
    fn a_path_is_made_on_the_way() {
        let mut object = json!({});
        set(&mut object, "spec.size", 3.into());
        assert_eq!(object, json!({"spec": {"size": 3}}));
    }
}
