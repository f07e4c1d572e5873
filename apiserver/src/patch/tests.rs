//! The three patch formats, by tables.

use serde_json::json;

use super::*;

fn pod() -> std::sync::Arc<Schema> {
    Schema::builtin("", "v1", "Pod").unwrap()
}

fn smp(kind: (&str, &str, &str), current: &Value, patch: &Value) -> Result<Value, PatchError> {
    let schema = Schema::builtin(kind.0, kind.1, kind.2).unwrap();
    strategic(
        &schema,
        current,
        patch.to_string().as_bytes(),
        &mut Vec::new(),
    )
}

const POD: (&str, &str, &str) = ("", "v1", "Pod");
const SERVICE: (&str, &str, &str) = ("", "v1", "Service");
const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");
const BUDGET: (&str, &str, &str) = ("policy", "v1", "PodDisruptionBudget");

#[test]
fn strategic_merges() {
    let two =
        json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}});
    let table = [
        // Items merge by key and keep the order of the server.
        (
            POD,
            two.clone(),
            json!({"spec": {"containers": [{"name": "b", "image": "3"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "3"}]}}),
        ),
        // New items go to the end.
        (
            POD,
            two.clone(),
            json!({"spec": {"containers": [{"name": "c", "image": "3"}]}}),
            json!({"spec": {"containers": [{"name": "c", "image": "3"}, {"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}}),
        ),
        (
            POD,
            two.clone(),
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}], "containers": [{"name": "c", "image": "3"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}}),
        ),
        // An order alone reorders.
        (
            POD,
            two.clone(),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "1"}]}}),
        ),
        // Items the order does not name stay beside their neighbours.
        (
            POD,
            json!({"spec": {"containers": [{"name": "x"}, {"name": "a"}, {"name": "y"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}], "containers": [{"name": "b"}]}}),
            json!({"spec": {"containers": [{"name": "x"}, {"name": "a"}, {"name": "b"}, {"name": "y"}]}}),
        ),
        (
            POD,
            two.clone(),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "2"}]}}),
        ),
        (
            POD,
            two.clone(),
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z", "image": "9"}]}}),
            json!({"spec": {"containers": [{"name": "z", "image": "9"}]}}),
        ),
        (
            POD,
            two.clone(),
            json!({"spec": {"containers": [{"name": "a", "image": null}]}}),
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "image": "2"}]}}),
        ),
        (
            POD,
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"b": null, "c": "3"}}}),
            json!({"metadata": {"labels": {"a": "1", "c": "3"}}}),
        ),
        (
            POD,
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
            json!({"metadata": {"labels": {"c": "3"}}}),
        ),
        (
            POD,
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "delete"}}}),
            json!({"metadata": {"labels": {}}}),
        ),
        // Nulls and directives never get into an object.
        (
            POD,
            json!({}),
            json!({"spec": {"hostNetwork": null, "containers": [{"name": "a", "image": null}, {"name": "b", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"name": "a"}]}}),
        ),
        // Scalars that merge, and those that do not.
        (
            POD,
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["b", "c"]}}),
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
        ),
        (
            POD,
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["b"]}}),
        ),
        (
            POD,
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$setElementOrder/finalizers": ["c", "b"], "$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}}),
            json!({"metadata": {"finalizers": ["c", "b"]}}),
        ),
        (
            POD,
            json!({"spec": {"containers": [{"name": "a", "args": ["1", "2"]}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["3"]}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["3"]}]}}),
        ),
        (
            POD,
            json!({"spec": {"tolerations": [{"key": "a"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
        ),
        // One port in two protocols is one item to a patch.
        (
            POD,
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP"}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 53, "protocol": "TCP"}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 53, "protocol": "TCP"}]}]}}),
        ),
        (
            SERVICE,
            json!({"spec": {"ports": [{"port": 80, "name": "a"}], "selector": {"a": "b"}}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}], "selector": {"c": "d"}}}),
            json!({"spec": {"ports": [{"port": 80, "name": "a", "targetPort": 8080}], "selector": {"a": "b", "c": "d"}}}),
        ),
        // A volume's source is exchanged, not added to.
        (
            POD,
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}),
        ),
        (
            DEPLOYMENT,
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        ),
        (
            BUDGET,
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}),
            json!({"spec": {"selector": {"matchLabels": {"c": "d"}}}}),
            json!({"spec": {"selector": {"matchLabels": {"c": "d"}}}}),
        ),
    ];
    for (kind, current, patch, expected) in table {
        assert_eq!(
            smp(kind, &current, &patch),
            Ok(expected),
            "{current}\n{patch}"
        );
    }
}

#[test]
fn strategic_patches_that_contradict_themselves_are_refused() {
    let current = json!({"spec": {"containers": [{"name": "a"}], "volumes": [{"name": "v"}]}});
    let table = [
        (
            json!({"spec": {"containers": [{"image": "x"}]}}),
            "does not contain declared merge key: name",
        ),
        (
            json!({"spec": {"containers": [{"$patch": "delete"}]}}),
            "does not contain declared merge key: name",
        ),
        (
            json!({"spec": {"containers": [{"$patch": "merge", "name": "a"}]}}),
            "merging lists cannot yet be specified",
        ),
        (
            json!({"spec": {"containers": [{"$patch": "eat", "name": "a"}]}}),
            "unknown patch type 'eat'",
        ),
        (
            json!({"spec": {"$patch": "merge"}}),
            "unknown patch type: \"merge\"",
        ),
        (
            json!({"spec": {"containers": ["a"]}}),
            "must hold objects only",
        ),
        (
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name"], "emptyDir": {}}]}}),
            "invalid patch format of retainKeys",
        ),
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}}),
            "doesn't match $setElementOrder list",
        ),
        (
            json!({"spec": {"$setElementOrder/containers": 1}}),
            "must be a list",
        ),
        (json!([]), "must be an object"),
    ];
    for (patch, part) in table {
        let error = smp(POD, &current, &patch).unwrap_err();
        assert!(
            matches!(&error, PatchError::Malformed(text) if text.contains(part)),
            "{error:?}"
        );
    }
}

#[test]
fn json_patches() {
    let current = json!({"a": {"b": [1, 2]}, "c": "d"});
    let apply = |patch: Value| super::json(&current, patch.to_string().as_bytes(), &mut Vec::new());
    let table = [
        (
            json!([{"op": "add", "path": "/a/b/1", "value": 9}]),
            json!({"a": {"b": [1, 9, 2]}, "c": "d"}),
        ),
        (
            json!([{"op": "add", "path": "/a/b/-", "value": 9}]),
            json!({"a": {"b": [1, 2, 9]}, "c": "d"}),
        ),
        (
            json!([{"op": "remove", "path": "/c"}]),
            json!({"a": {"b": [1, 2]}}),
        ),
        (
            json!([{"op": "replace", "path": "/c", "value": null}]),
            json!({"a": {"b": [1, 2]}, "c": null}),
        ),
        (
            json!([{"op": "move", "from": "/c", "path": "/e"}]),
            json!({"a": {"b": [1, 2]}, "e": "d"}),
        ),
        (
            json!([{"op": "copy", "from": "/a/b", "path": "/f~1g"}]),
            json!({"a": {"b": [1, 2]}, "c": "d", "f/g": [1, 2]}),
        ),
        (
            json!([{"op": "test", "path": "/c", "value": "d"}]),
            current.clone(),
        ),
    ];
    for (patch, expected) in table {
        assert_eq!(apply(patch.clone()), Ok(expected), "{patch}");
    }
    let bad = [
        json!([{"op": "remove", "path": "/x"}]),
        json!([{"op": "replace", "path": "/x/y", "value": 1}]),
        json!([{"op": "test", "path": "/c", "value": "x"}]),
        json!([{"op": "add", "path": "/a/b/9", "value": 1}]),
    ];
    for patch in bad {
        assert!(
            matches!(apply(patch.clone()), Err(PatchError::Unprocessable(_))),
            "{patch}"
        );
    }
    for patch in [
        json!({}),
        json!([{"op": "fly", "path": "/a"}]),
        json!([{"op": "add", "path": "a", "value": 1}]),
    ] {
        assert!(
            matches!(apply(patch.clone()), Err(PatchError::Malformed(_))),
            "{patch}"
        );
    }
}

#[test]
fn json_patches_cannot_explode() {
    let current = json!({"a": ["x".repeat(1000)]});
    let double = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    let patch = Value::Array(vec![double; 64]);
    let error = super::json(&current, patch.to_string().as_bytes(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, PatchError::TooLarge(_)), "{error:?}");
    let deeper = json!({"op": "add", "path": "/a", "value": {"a": 1}});
    let nest = |n: usize| json!({"op": "add", "path": "/a".repeat(n), "value": {"a": {}}});
    let patch: Vec<Value> = std::iter::once(deeper).chain((1..5000).map(nest)).collect();
    let error = super::json(
        &json!({}),
        Value::from(patch).to_string().as_bytes(),
        &mut Vec::new(),
    )
    .unwrap_err();
    assert!(matches!(error, PatchError::TooLarge(_)), "{error:?}");
    let many = Value::Array(vec![
        json!({"op": "test", "path": "/a", "value": 1});
        10_001
    ]);
    let error = super::json(&current, many.to_string().as_bytes(), &mut Vec::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
}

#[test]
fn merge_patches() {
    let table = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (
            json!({"a": "b", "b": 1}),
            json!({"a": null}),
            json!({"b": 1}),
        ),
        (
            json!({"a": {"b": 1, "c": 2}}),
            json!({"a": {"b": null, "d": {"e": null}}}),
            json!({"a": {"c": 2, "d": {}}}),
        ),
        (
            json!({"a": [1]}),
            json!({"a": {"b": 1}}),
            json!({"a": {"b": 1}}),
        ),
        (
            json!({"a": [{"b": 1}]}),
            json!({"a": [1]}),
            json!({"a": [1]}),
        ),
    ];
    for (current, patch, expected) in table {
        assert_eq!(
            super::merge(&current, patch.to_string().as_bytes(), &mut Vec::new()),
            Ok(expected)
        );
    }
    assert!(super::merge(&json!({}), b"[]", &mut Vec::new()).is_err());
    assert!(super::merge(&json!({}), b"{", &mut Vec::new()).is_err());
}

fn any_patch() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!("delete")),
        Just(json!("replace")),
        Just(json!("a")),
        any::<u8>().prop_map(Value::from)
    ];
    let keys = prop_oneof![
        Just("spec"),
        Just("containers"),
        Just("name"),
        Just("$patch"),
        Just("$retainKeys"),
        Just("metadata"),
        Just("finalizers"),
        Just("$setElementOrder/containers"),
        Just("$setElementOrder/finalizers"),
        Just("$deleteFromPrimitiveList/finalizers"),
        Just("ports"),
        Just("containerPort"),
        Just("volumes")
    ];
    leaf.prop_recursive(5, 30, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((keys.clone(), inner), 0..5).prop_map(|entries| entries
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect()),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn no_patch_panics(current in any_patch(), patch in any_patch()) {
        let body = patch.to_string();
        let _ = strategic(&pod(), &current, body.as_bytes(), &mut Vec::new());
        let _ = super::merge(&current, body.as_bytes(), &mut Vec::new());
        let _ = super::json(&current, body.as_bytes(), &mut Vec::new());
    }

    #[test]
    fn a_merge_patch_is_idempotent(current in any_patch(), patch in any_patch()) {
        if let Ok(once) = super::merge(&current, patch.to_string().as_bytes(), &mut Vec::new()) {
            let twice = super::merge(&once, patch.to_string().as_bytes(), &mut Vec::new()).unwrap();
            proptest::prop_assert_eq!(once, twice);
        }
    }
}

#[test]
fn what_a_patch_says_twice_is_complained_about() {
    let table: [(&str, &[&str]); 4] = [
        (r#"{"a": 1, "b": {"a": 2}}"#, &[]),
        (
            r#"{"a": 1, "a": 2, "b": {"c": 1, "c": 2}}"#,
            &["duplicate field \"a\"", "duplicate field \"b.c\""],
        ),
        (
            r#"[{"op": "add", "path": "/a", "value": {"x": 1, "x": 2}}]"#,
            &["json patch duplicate field \"[0].value.x\""],
        ),
        (
            r#"[{"op": "add", "path": "/a", "value": 1, "foo": 1}]"#,
            &["json patch unknown field \"[0].foo\""],
        ),
    ];
    for (patch, expected) in table {
        let mut complaints = Vec::new();
        let apply = if patch.starts_with('[') {
            super::json
        } else {
            super::merge
        };
        apply(&json!({}), patch.as_bytes(), &mut complaints).unwrap();
        assert_eq!(complaints, expected, "{patch}");
    }
}
