//! Renders paths as either edition writes them.

use serde_json::{Map, Value, json};

use super::Edition;
use super::operations::{Item, Operation, PATCHES, PRETTY, Parameter};

const MEDIA: [&str; 2] = ["application/json", "application/yaml"];

/// One path.
pub(super) fn item(item: &Item, edition: Edition) -> Value {
    let mut out = Map::new();
    let mut parameters: Vec<Value> = item
        .in_path
        .iter()
        .map(|name| {
            let description = match *name {
                "name" => "name of the object",
                _ => "object name and auth scope, such as for teams and projects",
            };
            place(
                Parameter {
                    name,
                    kind: "string",
                    description,
                },
                "path",
                edition,
            )
        })
        .collect();
    parameters.push(place(PRETTY, "query", edition));
    for operation in &item.operations {
        out.insert(operation.method.to_owned(), render(operation, edition));
    }
    out.insert("parameters".to_owned(), Value::Array(parameters));
    Value::Object(out)
}

fn place(parameter: Parameter, location: &str, edition: Edition) -> Value {
    let mut out = json!({
        "name": parameter.name, "in": location, "description": parameter.description,
        "uniqueItems": true,
    });
    if location == "path" {
        out["required"] = true.into();
    }
    match edition {
        Edition::V2 => out["type"] = parameter.kind.into(),
        Edition::V3 => {
            out["schema"] = json!({"type": parameter.kind, "uniqueItems": true});
            if let Some(map) = out.as_object_mut() {
                map.remove("uniqueItems");
            }
        }
    }
    out
}

fn body_types(operation: &Operation) -> Vec<&'static str> {
    match operation.method {
        "patch" if operation.custom => PATCHES
            .into_iter()
            .filter(|p| !p.contains("strategic"))
            .collect(),
        "patch" => PATCHES.to_vec(),
        _ => MEDIA.to_vec(),
    }
}

fn render(operation: &Operation, edition: Edition) -> Value {
    let mut out = json!({
        "description": operation.description,
        "operationId": operation.id,
        "tags": [operation.tag],
    });
    let mut parameters: Vec<Value> = operation
        .parameters
        .iter()
        .map(|p| place(*p, "query", edition))
        .collect();
    let required = matches!(operation.method, "post" | "put" | "patch");
    match edition {
        Edition::V2 => {
            if let Some(body) = &operation.body {
                parameters.push(json!({"name": "body", "in": "body", "required": required,
                    "schema": edition.reference(body)}));
            }
            let consumes = if operation.body.is_some() {
                body_types(operation)
            } else {
                vec!["*/*"]
            };
            out["consumes"] = json!(consumes);
            out["produces"] = json!(MEDIA);
            out["schemes"] = json!(["https"]);
        }
        Edition::V3 => {
            if let Some(body) = &operation.body {
                let schema = edition.reference(body);
                let content = body_types(operation).into_iter();
                let content: Map<String, Value> = content
                    .map(|t| (t.to_owned(), json!({"schema": schema})))
                    .collect();
                out["requestBody"] = json!({"content": content, "required": required});
            }
        }
    }
    if !parameters.is_empty() {
        out["parameters"] = Value::Array(parameters);
    }
    out["responses"] = responses(operation, edition);
    if !operation.action.is_empty() {
        let (group, version, kind) = &operation.kind;
        out["x-kubernetes-action"] = operation.action.into();
        out["x-kubernetes-group-version-kind"] =
            json!({"group": group, "kind": kind, "version": version});
    }
    out
}

fn responses(operation: &Operation, edition: Edition) -> Value {
    let answer = match (&operation.answer, edition) {
        (Some(name), Edition::V2) => {
            json!({"description": "OK", "schema": edition.reference(name)})
        }
        (None, Edition::V2) => json!({"description": "OK", "schema": {"type": "string"}}),
        (Some(name), Edition::V3) => {
            let schema = edition.reference(name);
            let content: Map<String, Value> = MEDIA
                .into_iter()
                .map(|t| (t.to_owned(), json!({"schema": schema})))
                .collect();
            json!({"description": "OK", "content": content})
        }
        (None, Edition::V3) => {
            json!({"description": "OK", "content": {"*/*": {"schema": {"type": "string"}}}})
        }
    };
    let mut out = json!({"200": answer, "401": {"description": "Unauthorized"}});
    let extra: &[(&str, &str)] = match operation.action {
        "post" => &[("201", "Created"), ("202", "Accepted")],
        "put" | "patch" => &[("201", "Created")],
        "delete" => &[("202", "Accepted")],
        _ => &[],
    };
    for (code, word) in extra {
        let mut answer = out["200"].clone();
        answer["description"] = (*word).into();
        out[*code] = answer;
    }
    out
}
