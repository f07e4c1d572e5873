//! The v2 documents of other servers, cut down to what is served through this one, and put into its own.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The parts of a document that others refer to.
const SHARED: [&str; 2] = ["definitions", "parameters"];

/// What a document says of the paths below `root` (`/apis/<group>/<version>`), with all that those refer to.
pub(crate) fn cut(document: &Value, root: &str) -> Value {
    let below = |path: &str| {
        let rest = path.strip_prefix(root);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let paths = document["paths"].as_object().into_iter().flatten();
    let paths: Map<String, Value> = paths
        .filter(|(path, _)| below(path))
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    let mut waiting: Vec<(usize, String)> = Vec::new();
    paths.values().for_each(|item| referred(item, &mut waiting));
    let mut shared = [Map::new(), Map::new()];
    while let Some((section, name)) = waiting.pop() {
        let (Some(kept), Some(key)) = (shared.get_mut(section), SHARED.get(section)) else {
            continue;
        };
        let Some(value) = document[*key]
            .get(&name)
            .filter(|_| !kept.contains_key(&name))
        else {
            continue;
        };
        referred(value, &mut waiting);
        kept.insert(name, value.clone());
    }
    let mut cut = Map::new();
    cut.insert("paths".to_owned(), paths.into());
    for (key, kept) in SHARED.into_iter().zip(shared) {
        if !kept.is_empty() {
            cut.insert(key.to_owned(), kept.into());
        }
    }
    cut.into()
}

/// Puts what was cut out of another document into one. Paths that are there stay as they are; what is shared and means
/// something else under the same name gets another name.
pub(crate) fn merge(own: &mut Value, other: &Value) {
    let mut names = [BTreeMap::new(), BTreeMap::new()];
    for (key, names) in SHARED.into_iter().zip(&mut names) {
        let entries = other[key].as_object().into_iter().flatten();
        for (name, value) in entries {
            let free = |name: &String| own[key].get(name).is_none_or(|have| have == value);
            let numbered = (2_u32..).map(|number| format!("{name}_v{number}"));
            let mut candidates = std::iter::once(name.clone()).chain(numbered);
            let new = candidates.find(free).unwrap_or_else(|| name.clone());
            names.insert(name.clone(), new);
        }
    }
    for (section, key) in SHARED.into_iter().enumerate() {
        for (name, value) in other[key].as_object().into_iter().flatten() {
            let Some(name) = names.get(section).and_then(|names| names.get(name)) else {
                continue;
            };
            insert(own, key, name, renamed(value, &names));
        }
    }
    for (path, item) in other["paths"].as_object().into_iter().flatten() {
        if own["paths"].get(path).is_none() {
            insert(own, "paths", path, renamed(item, &names));
        }
    }
}

fn insert(own: &mut Value, key: &str, name: &str, value: Value) {
    if !own[key].is_object() {
        own[key] = Map::new().into();
    }
    own[key][name] = value;
}

fn reference(text: &str) -> Option<(usize, &str)> {
    let (section, name) = text.strip_prefix("#/")?.split_once('/')?;
    let at = SHARED.iter().position(|key| *key == section)?;
    Some((at, name))
}

fn referred(value: &Value, out: &mut Vec<(usize, String)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| referred(item, out)),
        Value::Object(fields) => {
            let to = fields.get("$ref").and_then(Value::as_str);
            out.extend(
                to.and_then(reference)
                    .map(|(at, name)| (at, name.to_owned())),
            );
            fields.values().for_each(|value| referred(value, out));
        }
        _ => {}
    }
}

fn renamed(value: &Value, names: &[BTreeMap<String, String>; 2]) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| renamed(item, names)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| {
                let to = value.as_str().filter(|_| key == "$ref").and_then(reference);
                let new = to.and_then(|(at, name)| {
                    let new = names.get(at)?.get(name)?;
                    Some(format!("#/{}/{new}", SHARED.get(at)?))
                });
                (
                    key.clone(),
                    new.map_or_else(|| renamed(value, names), Value::from),
                )
            });
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn other() -> Value {
        let uses = |name: &str| {
            json!({"get": {
                "parameters": [{"$ref": "#/parameters/pretty"}],
                "responses": {"200": {"schema": {"$ref": format!("#/definitions/{name}")}}},
            }})
        };
        json!({
            "paths": {
                "/apis/x.example/v1": uses("List"), "/apis/x.example/v1/things": uses("Thing"),
                "/apis/x.example/v10/things": uses("Unused"), "/healthz": uses("Unused"),
            },
            "definitions": {
                "List": {"type": "object"},
                "Thing": {"properties": {"part": {"$ref": "#/definitions/Part"}, "same": {"$ref": "#/definitions/Same"}}},
                "Part": {"properties": {"whole": {"$ref": "#/definitions/Thing"}}},
                "Same": {"type": "string"}, "Unused": {},
            },
            "parameters": {"pretty": {"in": "query"}, "unused": {}},
        })
    }

    #[test]
    fn only_what_is_served_through_here_is_kept() {
        let cut = cut(&other(), "/apis/x.example/v1");
        let names = |key: &str| -> Vec<String> {
            let mut names: Vec<_> = cut[key].as_object().unwrap().keys().cloned().collect();
            names.sort();
            names
        };
        assert_eq!(
            names("paths"),
            ["/apis/x.example/v1", "/apis/x.example/v1/things"]
        );
        assert_eq!(names("definitions"), ["List", "Part", "Same", "Thing"]);
        assert_eq!(names("parameters"), ["pretty"]);
    }

    #[test]
    fn names_that_mean_something_else_are_changed() {
        let mut own = json!({
            "paths": {"/apis/x.example/v1": {"own": true}},
            "definitions": {"Part": {"type": "integer"}, "Part_v2": {"type": "boolean"}, "Same": {"type": "string"}},
        });
        let cut = cut(&other(), "/apis/x.example/v1");
        merge(&mut own, &cut);
        assert_eq!(own["paths"]["/apis/x.example/v1"], json!({"own": true}));
        let definitions = &own["definitions"];
        assert_eq!(definitions["Part"], json!({"type": "integer"}));
        assert_eq!(
            definitions["Thing"]["properties"]["part"]["$ref"],
            "#/definitions/Part_v3"
        );
        assert_eq!(
            definitions["Part_v3"]["properties"]["whole"]["$ref"],
            "#/definitions/Thing"
        );
        assert!(definitions.get("Same_v2").is_none());
        assert_eq!(own["parameters"]["pretty"], json!({"in": "query"}));
        let once = own.clone();
        merge(&mut own, &cut);
        assert_eq!(own["definitions"]["List"], once["definitions"]["List"]);
    }
}
