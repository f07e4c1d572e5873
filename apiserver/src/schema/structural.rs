//! Whether a custom schema is structural: typed at every level, constraints without structure in
//! the logical junctors, and no keyword the API server cannot honour.

use serde_json::{Map, Value};

use super::cel;
use super::field::{FieldError, Path};
use super::rules::Pattern;

/// Deeper schemas are refused.
const MAX_DEPTH: usize = 64;

/// Keywords of JSON schema that are refused everywhere.
const REFUSED: [&str; 8] = [
    "$ref",
    "additionalItems",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
];

/// Whether a refused keyword is used. Kubernetes cannot tell some that are empty from none.
fn is_given(keyword: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !(text.is_empty() && keyword == "id"),
        Value::Object(map) => {
            let may_be_empty = matches!(keyword, "definitions" | "patternProperties");
            !(map.is_empty() && may_be_empty)
        }
        _ => true,
    }
}

/// Keywords that declare structure and so may not stand inside a junctor.
const STRUCTURE: [(&str, &str); 12] = [
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("description", "must be empty to be structural"),
    ("title", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("type", "must be empty to be structural"),
    (
        "x-kubernetes-embedded-resource",
        "must be false to be structural",
    ),
    (
        "x-kubernetes-int-or-string",
        "must be false to be structural",
    ),
    (
        "x-kubernetes-list-map-keys",
        "must be undefined to be structural",
    ),
    (
        "x-kubernetes-list-type",
        "must be undefined to be structural",
    ),
    (
        "x-kubernetes-map-type",
        "must be undefined to be structural",
    ),
    (
        "x-kubernetes-preserve-unknown-fields",
        "must be undefined to be structural",
    ),
];

/// Every reason why `schema` is not structural.
pub(crate) fn check(schema: &Value, at: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(root) = schema.as_object() else {
        return vec![FieldError::required(at, "schemas are required")];
    };
    match text(root, "type") {
        "object" => {}
        "" => errors.push(FieldError::required(
            at.field("type"),
            "must not be empty at the root",
        )),
        other => errors.push(FieldError::invalid(
            at.field("type"),
            other,
            "must be object at the root",
        )),
    }
    if flag(root, "nullable") {
        errors.push(FieldError::forbidden(
            at.field("nullable"),
            "nullable cannot be true at the root",
        ));
    }
    Checker {
        errors: &mut errors,
        depth: 0,
    }
    .node(root, at, Place::Root);
    errors
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Field,
    Item,
}

struct Checker<'e> {
    errors: &'e mut Vec<FieldError>,
    depth: usize,
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or_default()
}

impl Checker<'_> {
    fn forbid(&mut self, path: impl ToString, detail: &str) {
        self.errors.push(FieldError::forbidden(path, detail));
    }

    fn descend(&mut self, at: &Path<'_>) -> bool {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.forbid(at, "the schema is nested too deeply");
            self.depth -= 1;
            return false;
        }
        true
    }

    fn node(&mut self, node: &Map<String, Value>, at: &Path<'_>, place: Place) {
        if !self.descend(at) {
            return;
        }
        self.keywords(node, at);
        self.kind(node, at, place);
        self.extensions(node, at);
        cel::check(node, at, self.errors);
        self.lists(node, at);
        self.junctors(node, at);
        self.children(node, at, place);
        self.depth -= 1;
    }

    fn keywords(&mut self, node: &Map<String, Value>, at: &Path<'_>) {
        for keyword in REFUSED {
            let given = node.get(keyword);
            if given.is_some_and(|value| is_given(keyword, value)) {
                self.forbid(at.field(keyword), &format!("{keyword} is not supported"));
            }
        }
        if flag(node, "uniqueItems") {
            self.forbid(
                at.field("uniqueItems"),
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            );
        }
        if node.contains_key("additionalProperties") && node.contains_key("properties") {
            let both = "additionalProperties and properties are mutual exclusive";
            self.forbid(at.field("additionalProperties"), both);
        }
        if node.get("additionalProperties") == Some(&Value::Bool(false)) {
            let detail = "additionalProperties cannot be set to false";
            self.forbid(at.field("additionalProperties"), detail);
        }
        if node.get("items").is_some_and(Value::is_array) {
            self.forbid(
                at.field("items"),
                "items must be a schema object and not an array",
            );
        }
        if let Some(source) = node.get("pattern").and_then(Value::as_str)
            && let Err(reason) = Pattern::new(source)
        {
            let detail = format!("must be a valid regular expression, but isn't: {reason}");
            self.errors
                .push(FieldError::invalid(at.field("pattern"), source, detail));
        }
    }

    fn kind(&mut self, node: &Map<String, Value>, at: &Path<'_>, place: Place) {
        let kind = text(node, "type");
        let at_type = at.field("type");
        if flag(node, "x-kubernetes-int-or-string") {
            if !kind.is_empty() {
                let detail = "must be empty if x-kubernetes-int-or-string is true";
                self.errors.push(FieldError::invalid(at_type, kind, detail));
            }
            return;
        }
        match kind {
            "object" | "array" | "string" | "integer" | "number" | "boolean" => {}
            "null" => self.forbid(
                at_type,
                "type cannot be set to null, use nullable as an alternative",
            ),
            "" if flag(node, "x-kubernetes-preserve-unknown-fields") => {}
            "" => {
                let detail = match place {
                    Place::Root => return,
                    Place::Field => "must not be empty for specified object fields",
                    Place::Item => "must not be empty for specified array items",
                };
                self.errors.push(FieldError::required(at_type, detail));
            }
            other => {
                let known = ["object", "array", "string", "integer", "number", "boolean"];
                self.errors
                    .push(FieldError::not_supported(at_type, other, &known));
            }
        }
        if kind == "array" && !node.get("items").is_some_and(Value::is_object) {
            self.errors
                .push(FieldError::required(at.field("items"), "must be specified"));
        }
    }

    fn extensions(&mut self, node: &Map<String, Value>, at: &Path<'_>) {
        const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
        if node.get(PRESERVE) == Some(&Value::Bool(false)) {
            let detail = "must be true or undefined";
            self.errors
                .push(FieldError::invalid(at.field(PRESERVE), false, detail));
        }
        if flag(node, "x-kubernetes-embedded-resource") {
            if text(node, "type") != "object" {
                let detail = "must be object if x-kubernetes-embedded-resource is true";
                self.errors.push(FieldError::invalid(
                    at.field("type"),
                    text(node, "type"),
                    detail,
                ));
            }
            if !node.contains_key("properties") && !flag(node, PRESERVE) {
                let detail = "must not be empty if x-kubernetes-embedded-resource is true \
                              without x-kubernetes-preserve-unknown-fields";
                self.errors
                    .push(FieldError::required(at.field("properties"), detail));
            }
        }
        match node.get("x-kubernetes-map-type").and_then(Value::as_str) {
            None => {}
            Some("granular" | "atomic") if text(node, "type") == "object" => {}
            Some("granular" | "atomic") => {
                let detail = "must be object if x-kubernetes-map-type is specified";
                self.errors.push(FieldError::invalid(
                    at.field("type"),
                    text(node, "type"),
                    detail,
                ));
            }
            Some(other) => self.errors.push(FieldError::not_supported(
                at.field("x-kubernetes-map-type"),
                other,
                &["granular", "atomic"],
            )),
        }
    }

    fn lists(&mut self, node: &Map<String, Value>, at: &Path<'_>) {
        let at_keys = at.field("x-kubernetes-list-map-keys");
        let keys: Vec<&str> = node
            .get("x-kubernetes-list-map-keys")
            .and_then(Value::as_array)
            .map(|keys| keys.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let Some(list_type) = node.get("x-kubernetes-list-type").and_then(Value::as_str) else {
            if !keys.is_empty() {
                let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
                self.errors.push(FieldError::required(
                    at.field("x-kubernetes-list-type"),
                    detail,
                ));
            }
            return;
        };
        if text(node, "type") != "array" {
            let detail = "must be array if x-kubernetes-list-type is specified";
            self.errors.push(FieldError::invalid(
                at.field("type"),
                text(node, "type"),
                detail,
            ));
        }
        let items = node.get("items").and_then(Value::as_object);
        match list_type {
            "atomic" => {}
            "set" => self.set_items(items, at),
            "map" if keys.is_empty() => {
                let detail = "must not be empty if x-kubernetes-list-type is map";
                self.errors.push(FieldError::required(at_keys, detail));
            }
            "map" => self.map_items(items, &keys, at),
            other => self.errors.push(FieldError::not_supported(
                at.field("x-kubernetes-list-type"),
                other,
                &["atomic", "map", "set"],
            )),
        }
        if list_type != "map" && !keys.is_empty() {
            self.forbid(
                at_keys,
                "must be empty if x-kubernetes-list-type is not map",
            );
        }
    }

    fn set_items(&mut self, items: Option<&Map<String, Value>>, at: &Path<'_>) {
        let Some(items) = items else { return };
        let at = at.field("items");
        if flag(items, "nullable") {
            self.forbid(
                at.field("nullable"),
                "cannot be nullable when x-kubernetes-list-type is set",
            );
        }
        match text(items, "type") {
            "object" if text(items, "x-kubernetes-map-type") != "atomic" => {
                let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
                let value = text(items, "x-kubernetes-map-type");
                self.errors.push(FieldError::invalid(
                    at.field("x-kubernetes-map-type"),
                    value,
                    detail,
                ));
            }
            "array" if !matches!(text(items, "x-kubernetes-list-type"), "" | "atomic") => {
                let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
                let value = text(items, "x-kubernetes-list-type");
                self.errors.push(FieldError::invalid(
                    at.field("x-kubernetes-list-type"),
                    value,
                    detail,
                ));
            }
            _ => {}
        }
    }

    fn map_items(&mut self, items: Option<&Map<String, Value>>, keys: &[&str], at: &Path<'_>) {
        let Some(items) = items else { return };
        let at_items = at.field("items");
        if text(items, "type") != "object" {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            let value = text(items, "type");
            self.errors
                .push(FieldError::invalid(at_items.field("type"), value, detail));
        }
        let properties = items.get("properties").and_then(Value::as_object);
        let required = items.get("required").and_then(Value::as_array);
        for (index, key) in keys.iter().enumerate() {
            if keys.iter().take(index).any(|k| k == key) {
                let at_keys = at.field("x-kubernetes-list-map-keys");
                self.errors
                    .push(FieldError::duplicate(at_keys.index(index), *key));
            }
            let Some(property) = properties
                .and_then(|p| p.get(*key))
                .and_then(Value::as_object)
            else {
                let at_keys = at.field("x-kubernetes-list-map-keys");
                let detail = "entries must all be names of item properties";
                self.errors
                    .push(FieldError::invalid(at_keys.index(index), *key, detail));
                continue;
            };
            let properties_path = at_items.field("properties");
            let at_property = properties_path.key(key);
            if matches!(text(property, "type"), "array" | "object") {
                let detail =
                    "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let value = text(property, "type");
                self.errors.push(FieldError::invalid(
                    at_property.field("type"),
                    value,
                    detail,
                ));
            }
            let is_required = required.is_some_and(|r| r.iter().any(|r| r == key));
            if !is_required && !property.contains_key("default") {
                let detail = "this property is in x-kubernetes-list-map-keys, so it must have a \
                              default or be a required property";
                self.errors
                    .push(FieldError::required(at_property.field("default"), detail));
            }
        }
    }

    fn junctors(&mut self, node: &Map<String, Value>, at: &Path<'_>) {
        let int_or_string = flag(node, "x-kubernetes-int-or-string");
        for junctor in ["allOf", "anyOf", "oneOf"] {
            let at = at.field(junctor);
            let branches = node.get(junctor).and_then(Value::as_array);
            for (index, branch) in branches.into_iter().flatten().enumerate() {
                if let Some(branch) = branch.as_object() {
                    self.branch(branch, &at.index(index), int_or_string);
                }
            }
        }
        if let Some(branch) = node.get("not").and_then(Value::as_object) {
            self.branch(branch, &at.field("not"), false);
        }
    }

    fn branch(&mut self, node: &Map<String, Value>, at: &Path<'_>, int_or_string: bool) {
        if !self.descend(at) {
            return;
        }
        self.keywords(node, at);
        for (keyword, detail) in STRUCTURE {
            // The one shape that may name types: the two branches of an int-or-string.
            if keyword == "type" && int_or_string {
                continue;
            }
            let set =
                |v: &Value| !v.is_null() && *v != Value::Bool(false) && v.as_str() != Some("");
            if node.get(keyword).is_some_and(set) {
                self.forbid(at.field(keyword), detail);
            }
        }
        if let Some(items) = node.get("items").and_then(Value::as_object) {
            self.branch(items, &at.field("items"), false);
        }
        let at_properties = at.field("properties");
        let properties = node.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            if let Some(property) = property.as_object() {
                self.branch(property, &at_properties.key(name), false);
            }
        }
        self.junctors(node, at);
        self.depth -= 1;
    }

    fn children(&mut self, node: &Map<String, Value>, at: &Path<'_>, place: Place) {
        let at_properties = at.field("properties");
        let resource = place == Place::Root || flag(node, "x-kubernetes-embedded-resource");
        let properties = node.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            let Some(property) = property.as_object() else {
                continue;
            };
            let at = at_properties.key(name);
            if resource && name == "metadata" {
                self.metadata(property, &at);
            } else {
                self.node(property, &at, Place::Field);
            }
        }
        if let Some(values) = node.get("additionalProperties").and_then(Value::as_object) {
            self.node(values, &at.field("additionalProperties"), Place::Field);
        }
        if let Some(items) = node.get("items").and_then(Value::as_object) {
            self.node(items, &at.field("items"), Place::Item);
        }
    }

    fn metadata(&mut self, node: &Map<String, Value>, at: &Path<'_>) {
        let properties = node.get("properties").and_then(Value::as_object);
        for (name, _) in properties.into_iter().flatten() {
            if name != "name" && name != "generateName" {
                let detail = "must not specify anything other than name and generateName, but \
                              metadata is implicitly specified";
                self.forbid(at.field("properties"), detail);
                return;
            }
        }
        if !matches!(text(node, "type"), "" | "object") {
            let detail = "must be object for metadata";
            self.errors.push(FieldError::invalid(
                at.field("type"),
                text(node, "type"),
                detail,
            ));
        }
    }
}
