//! Filling in what containers do not say.

use davit_api::Quantity;
use serde_json::{Map, Value};

use super::{Amounts, Item};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Gives containers the default requests and limits of `items` and notes in an annotation what was set.
pub(super) fn apply(items: &[Item], pod: &mut Value) {
    let mut limits = Amounts::new();
    let mut requests = Amounts::new();
    for item in items.iter().filter(|item| item.applies_to == "Container") {
        let (default, default_request) = effective(item);
        limits.extend(default);
        requests.extend(default_request);
    }
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    let mut notes = Vec::new();
    for (list, what) in [
        ("containers", "container"),
        ("initContainers", "init container"),
    ] {
        let containers = pod
            .pointer_mut(&format!("/spec/{list}"))
            .and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (part, defaults, word) in [
                ("requests", &requests, "request"),
                ("limits", &limits, "limit"),
            ] {
                let set = fill(container, part, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {word} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        annotate(pod, format!("LimitRanger plugin set: {}", notes.join("; ")));
    }
}

/// The defaults an item stands for: a missing default limit is the maximum, a missing default request the
/// default limit, else the minimum.
fn effective(item: &Item) -> (Amounts, Amounts) {
    let mut default = item.max.clone();
    default.extend(item.default.clone());
    let mut request = item.min.clone();
    request.extend(default.clone());
    request.extend(item.default_request.clone());
    (default, request)
}

/// Adds the amounts the container lacks; their names.
fn fill(container: &mut Value, part: &str, defaults: &Amounts) -> Vec<String> {
    let Some(container) = container.as_object_mut() else {
        return Vec::new();
    };
    let object = || Value::Object(Map::new());
    let resources = container.entry("resources").or_insert_with(object);
    let Some(resources) = resources.as_object_mut() else {
        return Vec::new();
    };
    let amounts = resources.entry(part).or_insert_with(object);
    if amounts.is_null() {
        *amounts = object();
    }
    let Some(amounts) = amounts.as_object_mut() else {
        return Vec::new();
    };
    let mut set = Vec::new();
    for (name, amount) in defaults {
        if !amounts.contains_key(name) {
            amounts.insert(name.clone(), text(amount));
            set.push(name.clone());
        }
    }
    if amounts.is_empty() {
        resources.remove(part);
    }
    set
}

fn text(amount: &Quantity) -> Value {
    Value::String(amount.to_string())
}

fn annotate(pod: &mut Value, note: String) {
    let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    if annotations.is_null() {
        *annotations = Value::Object(Map::new());
    }
    annotations[ANNOTATION] = note.into();
}
