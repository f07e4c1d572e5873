//! Any object as an indented text.

use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::{Map, Value};

/// Fields of the metadata that the head of the text shows, or nobody wants to read.
const IN_HEAD: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "managedFields",
];
/// Maps whose keys are the user's own words, which stay as they are.
const OF_USERS: &[&str] = &[
    "allocatable",
    "binaryData",
    "capacity",
    "config",
    "data",
    "limits",
    "matchLabels",
    "nodeSelector",
    "parameters",
    "requests",
    "selector",
    "stringData",
];
/// The annotation in which kubectl keeps the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The lines of the text, without events.
pub(super) fn describe(object: &DynamicObject) -> Vec<String> {
    let types = object.types.clone().unwrap_or_default();
    let mut lines = vec![head("Name", &object.name_any())];
    lines.extend(
        object
            .namespace()
            .map(|namespace| head("Namespace", &namespace)),
    );
    lines.extend(pairs(
        "Labels",
        object.labels().iter().map(|(k, v)| format!("{k}={v}")),
    ));
    let annotations = object
        .annotations()
        .iter()
        .filter(|(key, _)| *key != LAST_APPLIED);
    lines.extend(pairs(
        "Annotations",
        annotations.map(|(k, v)| format!("{k}: {v}")),
    ));
    lines.push(head("API Version", &types.api_version));
    lines.push(head("Kind", &types.kind));
    let mut fields = Map::new();
    if let Ok(Value::Object(mut metadata)) = serde_json::to_value(&object.metadata) {
        IN_HEAD.iter().for_each(|field| {
            metadata.remove(*field);
        });
        fields.insert("metadata".into(), metadata.into());
    }
    if let Value::Object(data) = &object.data {
        fields.extend(data.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    let is_secret = types.kind == "Secret";
    for (key, value) in &fields {
        match (is_secret, key.as_str(), value) {
            (true, "data", Value::Object(data)) => lines.extend(sizes(data)),
            _ => write_field(&mut lines, 0, &title_of(key), key, value),
        }
    }
    lines
}

fn head(name: &str, value: &str) -> String {
    format!("{:<14}{value}", format!("{name}:"))
}

fn pairs(name: &str, values: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<_> = values
        .map(|value| format!("{:<14}{}", "", one_line(&value)))
        .collect();
    match lines.first_mut() {
        None => lines.push(head(name, "<none>")),
        Some(first) => first.replace_range(..=name.len(), &format!("{name}:")),
    }
    lines
}

/// What a Secret holds, without telling.
fn sizes(data: &Map<String, Value>) -> Vec<String> {
    let size = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        text.len() / 4 * 3
            - text
                .bytes()
                .rev()
                .take(2)
                .filter(|byte| *byte == b'=')
                .count()
    };
    let lines = data
        .iter()
        .map(|(key, value)| format!("  {key}:  {} bytes", size(value)));
    std::iter::once("Data:".to_owned()).chain(lines).collect()
}

fn write_field(lines: &mut Vec<String>, depth: usize, title: &str, key: &str, value: &Value) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if fields.is_empty() => lines.push(format!("{indent}{title}:")),
        Value::Object(fields) => {
            lines.push(format!("{indent}{title}:"));
            let is_own = OF_USERS.contains(&key);
            for (key, value) in fields {
                let title = if is_own { key.clone() } else { title_of(key) };
                write_field(lines, depth + 1, &title, key, value);
            }
        }
        Value::Array(items) => {
            lines.push(format!("{indent}{title}:"));
            for item in items {
                write_item(lines, depth + 1, item);
            }
        }
        Value::String(text) if text.contains('\n') => {
            lines.push(format!("{indent}{title}:"));
            lines.extend(text.lines().map(|line| format!("{indent}  {line}")));
        }
        scalar => lines.push(format!("{indent}{title}:  {}", scalar_text(scalar))),
    }
}

/// An item of a list: its fields in a block, the first marked with a dash.
fn write_item(lines: &mut Vec<String>, depth: usize, item: &Value) {
    let start = lines.len();
    match item {
        Value::Object(fields) => {
            fields
                .iter()
                .for_each(|(key, value)| write_field(lines, depth + 1, &title_of(key), key, value));
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| write_item(lines, depth + 1, item)),
        scalar => lines.push(format!("{}{}", "  ".repeat(depth + 1), scalar_text(scalar))),
    }
    if let Some(first) = lines.get_mut(start) {
        let dash = depth * 2;
        first.replace_range(dash..dash + 1, "-");
    }
}

fn scalar_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<none>".into(),
        other => other.to_string(),
    }
}

/// `hostIP` becomes `Host IP`; keys that are no field names stay.
fn title_of(key: &str) -> String {
    if !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return key.to_owned();
    }
    let mut title = String::new();
    let mut previous = ' ';
    for (number, character) in key.chars().enumerate() {
        if number == 0 {
            title.extend(character.to_uppercase());
        } else {
            if character.is_ascii_uppercase() && !previous.is_ascii_uppercase() {
                title.push(' ');
            }
            title.push(character);
        }
        previous = character;
    }
    title
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// How long ago `at` was, as kubectl writes it: the two largest units while they say something.
pub(super) fn age(at: jiff::Timestamp, now: jiff::Timestamp) -> String {
    let seconds = (now.as_second() - at.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large}{unit}")
        } else {
            format!("{large}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        _ => two(days / 365, "y", days % 365, "d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_becomes_an_indented_text() {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "a", "labels": {"app": "web", "tier": "x"}, "uid": "u"},
            "spec": {"containers": [{"image": "i", "args": ["a", "b"]}], "hostIP": null},
            "status": {},
        }))
        .unwrap();
        let expected = [
            "Name:         web",
            "Namespace:    a",
            "Labels:       app=web",
            "              tier=x",
            "Annotations:  <none>",
            "API Version:  v1",
            "Kind:         Pod",
            "Metadata:",
            "  Uid:  u",
            "Spec:",
            "  Containers:",
            "    - Args:",
            "        - a",
            "        - b",
            "      Image:  i",
            "  Host IP:  <none>",
            "Status:",
        ];
        assert_eq!(describe(&object), expected);
    }

    #[test]
    fn secrets_are_not_shown() {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": "aGVsbG8="},
        }))
        .unwrap();
        let text = describe(&object).join("\n");
        assert!(
            text.contains("  key:  5 bytes") && !text.contains("aGVsbG8"),
            "{text}"
        );
    }

    #[test]
    fn ages_are_short() {
        let cases = [
            (5, "5s"),
            (119, "119s"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600 + 60, "3h1m"),
            (86_400, "24h"),
            (3 * 86_400, "3d"),
            (30 * 86_400, "30d"),
            (800 * 86_400, "2y70d"),
        ];
        let now = jiff::Timestamp::from_second(2_000_000_000).unwrap();
        for (seconds, expected) in cases {
            let at = jiff::Timestamp::from_second(now.as_second() - seconds).unwrap();
            assert_eq!(age(at, now), expected);
        }
    }
}
