//! Conversion by a server of the user's (`spec.conversion.strategy: Webhook` of a definition).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::Conversion;
use crate::callout::{Callouts, Target};

/// As long as Kubernetes waits.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The way between one served version of a custom kind and the stored one.
#[derive(Debug)]
pub(crate) struct Hook {
    callouts: Arc<Callouts>,
    target: Result<Target, String>,
    /// The version of ConversionReview the server knows.
    review: &'static str,
    /// The apiVersion in which objects are stored.
    stored: String,
    /// The apiVersion served.
    served: String,
}

impl Hook {
    /// From the `webhook` of a definition's conversion.
    pub(crate) fn new(
        callouts: Arc<Callouts>,
        webhook: &Value,
        group: &str,
        stored: &str,
        served: &str,
    ) -> Self {
        let versions = webhook["conversionReviewVersions"].as_array();
        let known = versions
            .into_iter()
            .flatten()
            .find_map(|v| match v.as_str() {
                Some("v1") => Some("v1"),
                Some("v1beta1") => Some("v1beta1"),
                _ => None,
            });
        Self {
            callouts,
            target: Target::from_client_config(&webhook["clientConfig"]),
            review: known.unwrap_or("v1"),
            stored: format!("{group}/{stored}"),
            served: format!("{group}/{served}"),
        }
    }

    /// Converts those that are in another version; the others stay as they are.
    async fn convert(&self, objects: Vec<Value>, wanted: &str) -> Result<Vec<Value>, String> {
        let is_due = |object: &Value| object["apiVersion"] != wanted;
        let due: Vec<&Value> = objects.iter().filter(|object| is_due(object)).collect();
        let Some(first) = due.first() else {
            return Ok(objects);
        };
        let text = |key: &str| first[key].as_str().unwrap_or_default();
        let what = format!("{}, Kind={}", text("apiVersion"), text("kind"));
        let failed = |why: String| format!("conversion webhook for {what} failed: {why}");
        let target = self.target.as_ref().map_err(|why| failed(why.clone()))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": format!("apiextensions.k8s.io/{}", self.review),
            "request": { "uid": uid, "desiredAPIVersion": wanted, "objects": due },
        });
        let document = review.to_string().into_bytes();
        let answered = self
            .callouts
            .post(target, "?timeout=30s", TIMEOUT, document);
        let answered = answered.await.map_err(|error| failed(error.to_string()))?;
        let mut answered: Value =
            serde_json::from_slice(&answered).map_err(|error| failed(error.to_string()))?;
        let converted = converted(&mut answered, &uid, self.review).map_err(failed)?;
        if converted.len() != due.len() {
            return Err(format!(
                "conversion webhook for {what} returned {} objects, expected {}",
                converted.len(),
                due.len()
            ));
        }
        let mut converted = converted.into_iter();
        let mut out = Vec::with_capacity(objects.len());
        for (index, object) in objects.into_iter().enumerate() {
            if !is_due(&object) {
                out.push(object);
                continue;
            }
            let new = converted.next().unwrap_or_default();
            let checked = accept(object, new, wanted).map_err(|why| {
                format!(
                    "conversion webhook for {what} returned invalid converted object at index \
                     {index}: {why}"
                )
            })?;
            out.push(checked);
        }
        Ok(out)
    }
}

/// The objects of an answer.
fn converted(answered: &mut Value, uid: &str, version: &str) -> Result<Vec<Value>, String> {
    let wanted = format!("apiextensions.k8s.io/{version}");
    if answered["kind"] != "ConversionReview" || answered["apiVersion"] != wanted.as_str() {
        let text = |key: &str| answered[key].as_str().unwrap_or_default();
        return Err(format!(
            "expected webhook response of {wanted}, Kind=ConversionReview, got {}, Kind={}",
            text("apiVersion"),
            text("kind")
        ));
    }
    let mut response = answered["response"].take();
    if response.is_null() {
        return Err("no response provided".to_owned());
    }
    let got = response["uid"].as_str().unwrap_or_default();
    if version == "v1" && got != uid {
        return Err(format!("expected response.uid={uid:?}, got {got:?}"));
    }
    if response["result"]["status"] != "Success" {
        let message = response["result"]["message"].as_str().unwrap_or_default();
        return Err(if message.is_empty() {
            "response.result.status was not 'Success'".to_owned()
        } else {
            message.to_owned()
        });
    }
    match response["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// The converted object, if it is still the same one. Of the metadata only labels and annotations may change.
fn accept(old: Value, mut new: Value, wanted: &str) -> Result<Value, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let got = text(&new["apiVersion"]);
    if got != wanted {
        return Err(format!(
            "invalid groupVersion (expected {wanted}, received {got})"
        ));
    }
    if new["kind"] != old["kind"] {
        let (expected, got) = (text(&old["kind"]), text(&new["kind"]));
        return Err(format!(
            "invalid kind (expected {expected}, received {got})"
        ));
    }
    let empty = Map::new();
    let (before, after) = (old["metadata"].as_object(), new["metadata"].as_object());
    let (before, after) = (before.unwrap_or(&empty), after.unwrap_or(&empty));
    for key in ["name", "namespace", "uid"] {
        if before.get(key) != after.get(key) {
            let show = |map: &Map<String, Value>| map.get(key).map(text).unwrap_or_default();
            let (old, new) = (show(before), show(after));
            return Err(format!("must have the same {key}: {old} != {new}"));
        }
    }
    let mut metadata = before.clone();
    for key in ["labels", "annotations"] {
        match after.get(key) {
            Some(value) => metadata.insert(key.to_owned(), value.clone()),
            None => metadata.remove(key),
        };
    }
    new["metadata"] = metadata.into();
    Ok(new)
}

#[async_trait]
impl Conversion for Hook {
    async fn store(&self, object: Value) -> Result<Value, String> {
        let stored = self.convert(vec![object], &self.stored).await?;
        let stored = stored.into_iter().next();
        stored.ok_or_else(|| "the conversion gave no object".to_owned())
    }

    async fn serve(&self, objects: Vec<Value>) -> Result<Vec<Value>, String> {
        self.convert(objects, &self.served).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_stays_itself() {
        let old = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a", "uid": "u",
            "resourceVersion": "7", "labels": {"x": "1"}}});
        let new = json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "a", "uid": "u",
            "labels": {"y": "2"}, "generation": 9}, "spec": {}});
        let accepted = accept(old.clone(), new.clone(), "g/v2").unwrap();
        let metadata =
            json!({"name": "a", "uid": "u", "resourceVersion": "7", "labels": {"y": "2"}});
        assert_eq!(accepted["metadata"], metadata);
        let table = [
            (
                "/apiVersion",
                "g/v3",
                "invalid groupVersion (expected g/v2, received g/v3)",
            ),
            ("/kind", "L", "invalid kind (expected K, received L)"),
            ("/metadata/name", "b", "must have the same name: a != b"),
        ];
        for (pointer, value, message) in table {
            let mut wrong = new.clone();
            *wrong.pointer_mut(pointer).unwrap() = value.into();
            assert_eq!(accept(old.clone(), wrong, "g/v2").unwrap_err(), message);
        }
    }
}
