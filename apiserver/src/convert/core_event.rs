//! `events.k8s.io/v1` Event: the core Event under other field names.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Conversion, Mapping, shared};

/// Served name, stored name.
const NAMES: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

#[derive(Debug)]
struct CoreEvent;

pub(crate) fn core_event() -> Arc<dyn Conversion> {
    shared(CoreEvent)
}

impl Mapping for CoreEvent {
    fn to_stored(&self, object: Value) -> Result<Value, String> {
        Ok(rename(object, "v1", |(served, stored)| (*served, *stored)))
    }

    fn to_served(&self, object: Value) -> Result<Value, String> {
        Ok(rename(object, "events.k8s.io/v1", |(served, stored)| {
            (*stored, *served)
        }))
    }
}

fn rename(
    object: Value,
    api_version: &str,
    order: impl Fn(&(&'static str, &'static str)) -> (&'static str, &'static str),
) -> Value {
    let Value::Object(fields) = object else {
        return object;
    };
    let mut out = Map::with_capacity(fields.len());
    for (key, value) in fields {
        let new = NAMES.iter().map(&order).find(|(from, _)| *from == key);
        out.insert(new.map_or(key, |(_, to)| to.to_owned()), value);
    }
    out.insert("apiVersion".into(), api_version.into());
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_and_back_changes_nothing() {
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"},
            "regarding": {"kind": "Pod"}, "note": "text", "deprecatedCount": 2, "type": "Normal",
        });
        let stored = CoreEvent.to_stored(event.clone()).unwrap();
        assert_eq!(stored["involvedObject"]["kind"], "Pod");
        assert_eq!(stored["message"], "text");
        assert_eq!(stored["apiVersion"], "v1");
        assert_eq!(CoreEvent.to_served(stored).unwrap(), event);
    }
}
