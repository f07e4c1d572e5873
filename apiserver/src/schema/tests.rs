//! Decoding, defaulting, pruning and validating by schema.

use serde_json::{Value, json};

use super::*;

fn pod() -> Arc<Schema> {
    Schema::builtin("", "v1", "Pod").unwrap()
}

fn strict(schema: &Schema, body: &str) -> Result<Decoded, DecodeError> {
    schema.decode_checked(body.as_bytes(), Media::Json, FieldValidation::Strict)
}

#[test]
fn every_built_in_kind_compiles_and_knows_its_metadata() {
    for kind in kinds::KINDS {
        let schema = Schema::builtin(kind.group, kind.version, kind.kind).unwrap();
        let root = schema
            .root()
            .object()
            .unwrap_or_else(|| panic!("{}", kind.kind));
        assert!(
            root.field("kind").is_some() || kind.kind == "DeleteOptions",
            "{}",
            kind.kind
        );
        assert!(root.fields.iter().all(|f| f.node.typed), "{}", kind.kind);
    }
}

/// The short names of the types that some kinds are made of.
pub(crate) fn definitions_of(kinds: &[&kinds::Kind]) -> Vec<String> {
    kinds::definitions(kinds, |_| false)
        .keys()
        .map(|name| lists::short(name).to_owned())
        .collect()
}

#[test]
fn the_tables_name_types_and_fields_that_exist() {
    let all: Vec<&kinds::Kind> = kinds::KINDS.iter().collect();
    let definitions = kinds::definitions(&all, |_| false);
    // Parts of other types that only protobuf has as types.
    let parts = [
        "core.v1.EphemeralContainerCommon.",
        "admissionregistration.v1.Rule.",
    ];
    let has = |subject: &str| {
        if parts.iter().any(|part| subject.starts_with(part)) {
            return true;
        }
        definitions.iter().any(|(name, schema)| {
            let short = lists::short(name);
            let field = subject
                .strip_prefix(short)
                .and_then(|f| f.strip_prefix('.'));
            short == subject || field.is_some_and(|f| schema["properties"].get(f).is_some())
        })
    };
    let listed: Vec<&str> = lists::subjects().map(|(s, _)| s).collect();
    let missing: Vec<&str> = listed
        .into_iter()
        .chain(tables::subjects())
        .filter(|s| !has(s))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    // Keys of list maps are fields of the items.
    for (subject, note) in lists::subjects() {
        let (node::ListKind::Map(keys), Some((owner, field))) =
            (&note.list, subject.rsplit_once('.'))
        else {
            continue;
        };
        let (_, owner) = definitions
            .iter()
            .find(|(n, _)| lists::short(n) == owner)
            .unwrap();
        let item = owner["properties"][field]["items"]["$ref"]
            .as_str()
            .unwrap();
        let item = &definitions[item.rsplit('/').next().unwrap()];
        for key in keys {
            assert!(item["properties"].get(&**key).is_some(), "{subject}: {key}");
        }
    }
}

#[test]
fn unknown_and_duplicate_fields_are_named() {
    let body = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","foo":1},
        "spec":{"containers":[{"name":"c","imagee":"x"}],"hostNetwork":true,"hostNetwork":false}}"#;
    let error = strict(&pod(), body).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: \
         unknown field \"metadata.foo\", unknown field \"spec.containers[0].imagee\", \
         duplicate field \"spec.hostNetwork\""
    );
    let warned = pod()
        .decode_checked(body.as_bytes(), Media::Json, FieldValidation::Warn)
        .unwrap();
    assert_eq!(warned.warnings.len(), 3);
    assert_eq!(warned.warnings[0], "unknown field \"metadata.foo\"");
    assert_eq!(warned.value["spec"]["containers"], json!([{"name": "c"}]));
    assert_eq!(warned.value["spec"]["hostNetwork"], json!(false));
    let ignored = pod()
        .decode_checked(body.as_bytes(), Media::Json, FieldValidation::Ignore)
        .unwrap();
    assert!(ignored.warnings.is_empty());
}

#[test]
fn wrong_types_name_the_field() {
    let table = [
        (
            r#"{"spec":{"containers":"x"}}"#,
            "cannot unmarshal string into field spec.containers of type array",
        ),
        (
            r#"{"spec":{"hostNetwork":"yes"}}"#,
            "cannot unmarshal string into field spec.hostNetwork of type bool",
        ),
        (
            r#"{"spec":{"priority":1.5}}"#,
            "cannot unmarshal number 1.5 into field spec.priority of type int32",
        ),
        (
            r#"{"spec":{"priority":3000000000}}"#,
            "cannot unmarshal number 3000000000 into field spec.priority",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "cannot unmarshal number into field metadata.labels.a of type string",
        ),
        (
            r#"{"metadata":{"labels":[]}}"#,
            "cannot unmarshal array into field metadata.labels of type map",
        ),
        (
            r#"{"metadata":{"creationTimestamp":"today"}}"#,
            "metadata.creationTimestamp: parsing time",
        ),
        (
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"lots"}}}]}}"#,
            "quantities must match",
        ),
        (
            r#"{"spec":{"terminationGracePeriodSeconds":1e40}}"#,
            "of type int64",
        ),
    ];
    for (body, part) in table {
        let error = strict(&pod(), body).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(
            error.starts_with("Pod in version \"v1\" cannot be handled as a Pod: "),
            "{error}"
        );
    }
    let secret = Schema::builtin("", "v1", "Secret").unwrap();
    let error = strict(&secret, r#"{"data":{"a":"%%"}}"#)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("data.a: illegal base64 data at input byte 0"),
        "{error}"
    );
}

#[test]
fn malformed_bodies_are_one_clear_error() {
    let deep = format!(
        "{{\"metadata\":{}{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let nested = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    for body in [
        "",
        "{",
        "[]",
        "nul",
        "\"x\"",
        "{}{}",
        "{\"a\":NaN}",
        &deep,
        &nested,
    ] {
        assert!(strict(&pod(), body).is_err(), "{body:.40}");
    }
}

#[test]
fn nulls_vanish_from_built_in_objects_and_quantities_become_canonical() {
    let body = r#"{"metadata":{"creationTimestamp":null,"labels":{"a":null}},"spec":{"containers":
        [{"name":"c","resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}}}],"nodeSelector":null}}"#;
    let value = strict(&pod(), body).unwrap().value;
    assert_eq!(
        value,
        json!({"metadata": {"labels": {"a": ""}}, "spec": {"containers": [
            {"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}]}})
    );
}

#[test]
fn yaml_is_taken_within_limits() {
    let yaml = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  hostNetwork: yes\n  \
                containers:\n  - name: c\n    command: [\"true\"]\n    ports: [{containerPort: 80}]\n";
    let decoded = pod()
        .decode_checked(yaml.as_bytes(), Media::Yaml, FieldValidation::Strict)
        .unwrap();
    assert_eq!(decoded.value["spec"]["hostNetwork"], json!(true));
    assert_eq!(
        decoded.value["spec"]["containers"][0]["ports"][0]["containerPort"],
        json!(80)
    );
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for i in 1..20 {
        let alias = format!("*a{},", i - 1).repeat(9);
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", alias.trim_end_matches(',')));
    }
    let deep = format!("a: {}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let bad = [
        bomb.as_str(),
        &deep,
        "a: b\n---\nc: d\n",
        "a: [",
        "- x",
        "",
        "a: .nan",
        "a: *b",
    ];
    for body in bad {
        let result = pod().decode_checked(body.as_bytes(), Media::Yaml, FieldValidation::Ignore);
        assert!(result.is_err(), "{body:.60}");
    }
    let duplicate = "metadata:\n  name: a\n  name: b\n";
    let error = pod().decode_checked(duplicate.as_bytes(), Media::Yaml, FieldValidation::Strict);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("key \"name\" already set in map")
    );
}

#[test]
fn defaults_reach_into_templates() {
    let schema = Schema::builtin("apps", "v1", "Deployment").unwrap();
    let mut value = json!({"spec": {"replicas": 0, "template": {"spec": {"containers": [
        {"name": "c", "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 0}}]}}}});
    schema.default(&mut value);
    let spec = &value["spec"];
    assert_eq!(spec["replicas"], 0);
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Always");
    let probe = &pod["containers"][0]["livenessProbe"];
    assert_eq!(probe["periodSeconds"], 10);
    assert_eq!(probe["httpGet"]["path"], "/");
    let once = value.clone();
    schema.default(&mut value);
    assert_eq!(value, once);
}

fn custom(schema: Value) -> Arc<Schema> {
    Schema::from_crd("x.io", "v1", "Foo", &schema, &Path::new("schema")).unwrap()
}

fn widget() -> Arc<Schema> {
    custom(json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}},
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "maximum": 10, "default": 3},
                    "color": {"type": "string", "enum": ["red", "blue"]},
                    "name": {"type": "string", "pattern": "^a+$", "maxLength": 4, "nullable": true},
                    "when": {"type": "string", "format": "date-time"},
                    "port": {"x-kubernetes-int-or-string": true},
                    "ratio": {"type": "number", "exclusiveMinimum": true, "minimum": 0, "multipleOf": 0.5},
                    "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set", "maxItems": 3},
                    "items": {
                        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id", "kind"],
                        "items": {"type": "object", "required": ["id"], "properties": {
                            "id": {"type": "string"}, "kind": {"type": "string", "default": "k"}}}
                    },
                    "map": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "any": {"x-kubernetes-preserve-unknown-fields": true},
                    "object": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
                    "choice": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                        "oneOf": [{"required": ["a"]}, {"required": ["b"]}], "not": {"properties": {"a": {"enum": ["no"]}}, "required": ["a"]}}
                }
            }
        }
    }))
}

#[test]
fn custom_objects_are_validated_with_kubernetes_words() {
    let table = [
        (json!({}), "spec: Required value"),
        (
            json!({"spec": 1}),
            "spec: Invalid value: \"integer\": spec in body must be of type object: \"integer\"",
        ),
        (
            json!({"spec": {"size": "x"}}),
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (
            json!({"spec": {"size": 0}}),
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (
            json!({"spec": {"size": 11}}),
            "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10",
        ),
        (
            json!({"spec": {"size": 1, "color": "green"}}),
            "spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\"",
        ),
        (
            json!({"spec": {"size": 1, "name": "b"}}),
            "spec.name: Invalid value: \"b\": spec.name in body should match '^a+$'",
        ),
        (
            json!({"spec": {"size": 1, "name": "aaaaa"}}),
            "spec.name: Too long: may not be more than 4 bytes",
        ),
        (
            json!({"spec": {"size": 1, "when": "now"}}),
            "spec.when: Invalid value: \"now\": spec.when in body must be of type date-time: \"now\"",
        ),
        (
            json!({"spec": {"size": 1, "port": 1.5}}),
            "spec.port: Invalid value: \"number\": spec.port in body must be of type integer,string: \"number\"",
        ),
        (
            json!({"spec": {"size": 1, "ratio": 0}}),
            "spec.ratio: Invalid value: 0: spec.ratio in body should be greater than 0",
        ),
        (
            json!({"spec": {"size": 1, "ratio": 0.7}}),
            "spec.ratio: Invalid value: 0.7: spec.ratio in body should be a multiple of 0.5",
        ),
        (
            json!({"spec": {"size": 1, "tags": ["a", "a"]}}),
            "spec.tags[1]: Duplicate value: \"a\"",
        ),
        (
            json!({"spec": {"size": 1, "tags": ["a", "b", "c", "d"]}}),
            "spec.tags: Too many: 4: must have at most 3 items",
        ),
        (
            json!({"spec": {"size": 1, "items": [{"id": "1"}, {"id": "1", "kind": "k"}]}}),
            "spec.items[1]: Duplicate value: {\"id\":\"1\",\"kind\":\"k\"}",
        ),
        (
            json!({"spec": {"size": 1, "map": {}}}),
            "spec.map: Invalid value: {}: spec.map in body should have at least 1 properties",
        ),
        (
            json!({"spec": {"size": 1, "map": {"a": "b"}}}),
            "spec.map.a: Invalid value: \"string\": spec.map.a in body must be of type integer: \"string\"",
        ),
        (
            json!({"spec": {"size": 1, "object": {"kind": "X"}}}),
            "spec.object.apiVersion: Required value: must not be empty",
        ),
        (
            json!({"spec": {"size": 1, "choice": {}}}),
            "spec.choice: Invalid value: {}: spec.choice in body must validate one and only one schema (oneOf). Found none valid",
        ),
        (
            json!({"spec": {"size": 1, "choice": {"a": "no"}}}),
            "spec.choice: Invalid value: {\"a\":\"no\"}: spec.choice in body must not validate the schema (not)",
        ),
        (
            json!({"metadata": {"name": "toolong"}, "spec": {"size": 1}}),
            "metadata.name: Too long: may not be more than 5 bytes",
        ),
    ];
    let schema = widget();
    for (value, expected) in table {
        let errors: Vec<String> = schema
            .validate(&value, None)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors, [expected], "{value}");
    }
    let good = json!({"metadata": {"name": "a"}, "spec": {"size": 1, "name": null, "port": "http",
        "any": [1, {"x": null}], "tags": ["a"], "ratio": 1.5, "choice": {"b": "x"}}});
    assert_eq!(schema.validate(&good, None), []);
}

#[test]
fn unchanged_parts_of_custom_objects_may_stay_invalid() {
    let old = json!({"spec": {"size": 99, "color": "green"}});
    let new = json!({"spec": {"size": 99, "color": "pink"}});
    let errors = widget().validate(&new, Some(&old));
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].path, "spec.color");
}

#[test]
fn custom_objects_are_pruned_and_defaulted() {
    let body = r#"{"apiVersion":"x.io/v1","kind":"Foo","junk":1,"metadata":{"name":"a","junk":2},
        "spec":{"name":null,"color":null,"junk":3,"free":{"junk":4},"any":{"x":null},
        "object":{"apiVersion":"v1","kind":"X","metadata":{"junk":5},"junk":6},"items":[{"id":"1","junk":7}]}}"#;
    let decoded = widget()
        .decode_checked(body.as_bytes(), Media::Json, FieldValidation::Warn)
        .unwrap();
    assert_eq!(
        decoded.warnings,
        [
            "junk",
            "metadata.junk",
            "spec.junk",
            "spec.object.metadata.junk",
            "spec.items[0].junk"
        ]
        .map(|f| format!("unknown field \"{f}\""))
    );
    let mut value = decoded.value;
    widget().default(&mut value);
    assert_eq!(
        value["spec"],
        json!({"name": null, "free": {"junk": 4}, "any": {"x": null}, "size": 3,
            "object": {"apiVersion": "v1", "kind": "X", "metadata": {}, "junk": 6},
            "items": [{"id": "1", "kind": "k"}]})
    );
}

#[test]
fn schemas_that_are_not_structural_are_refused() {
    let table = [
        (
            json!({"type": "object", "properties": {"a": {}}}),
            "s.properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (
            json!({"type": "string"}),
            "s.type: Invalid value: \"string\": must be object at the root",
        ),
        (
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}}),
            "s.properties[a].$ref: Forbidden: $ref is not supported",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}),
            "s.properties[a].pattern: Invalid value: \"(\": must be a valid regular expression",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "(a{1000}){1000}"}}}),
            "must be a valid regular expression",
        ),
        (
            json!({"type": "object", "allOf": [{"properties": {"a": {"type": "string"}}}]}),
            "s.allOf[0].properties[a].type: Forbidden: must be empty to be structural",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"}}}),
            "must be atomic as item of a list",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"}}}),
            "must not be empty if x-kubernetes-list-type is map",
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            "must not specify anything other than name and generateName",
        ),
    ];
    for (schema, part) in table {
        let errors = Schema::from_crd("x.io", "v1", "Foo", &schema, &Path::new("s")).unwrap_err();
        assert!(
            errors.iter().any(|e| e.to_string().contains(part)),
            "{errors:?}"
        );
    }
    let defaults = [
        (
            json!({"type": "integer", "default": "x"}),
            "s.properties[a].default: Invalid value: \"string\"",
        ),
        (
            json!({"type": "integer", "default": 0, "minimum": 1}),
            "should be greater than or equal to 1",
        ),
        (
            json!({"type": "object", "default": {"b": 1}, "properties": {"c": {"type": "integer"}}}),
            "must not have unknown fields",
        ),
    ];
    for (property, part) in defaults {
        let schema = json!({"type": "object", "properties": {"a": property}});
        let errors = Schema::from_crd("x.io", "v1", "Foo", &schema, &Path::new("s")).unwrap_err();
        assert!(errors[0].to_string().contains(part), "{errors:?}");
    }
    let mut deep = json!({"type": "string"});
    for _ in 0..100 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    assert!(Schema::from_crd("x.io", "v1", "Foo", &deep, &Path::new("s")).is_err());
}

pub(crate) fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9.%-]{0,8}".prop_map(Value::from),
    ];
    let names = prop_oneof![
        Just("spec"),
        Just("metadata"),
        Just("name"),
        Just("size"),
        Just("items"),
        Just("tags"),
        Just("containers"),
        Just("object"),
        Just("choice"),
        Just("a"),
        Just("labels"),
        Just("template")
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((names.clone(), inner), 0..5).prop_map(|entries| entries
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect()),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn no_value_breaks_a_walk(value in any_json(), other in any_json()) {
        for schema in [pod(), widget(), Schema::builtin("apps", "v1", "Deployment").unwrap()] {
            let mut checked = value.clone();
            if schema.check(&mut checked, FieldValidation::Ignore).is_ok() {
                schema.default(&mut checked);
                let _ = schema.validate(&checked, Some(&other));
                let again = checked.clone();
                schema.default(&mut checked);
                proptest::prop_assert_eq!(&checked, &again);
            }
            let mut pruned = value.clone();
            schema.prune(&mut pruned);
        }
    }

    #[test]
    fn no_body_breaks_the_decoder(body in "\\PC{0,60}") {
        for media in [Media::Json, Media::Yaml] {
            let _ = pod().decode_checked(body.as_bytes(), media, FieldValidation::Strict);
            let _ = widget().decode_checked(body.as_bytes(), media, FieldValidation::Warn);
        }
    }

    #[test]
    fn no_schema_breaks_the_compiler(schema in any_json()) {
        let _ = Schema::from_crd("x.io", "v1", "Foo", &schema, &Path::new("s"));
    }
}
