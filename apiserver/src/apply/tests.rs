//! Apply and ownership, by stories.

use std::sync::Arc;

use serde_json::json;

use super::*;

mod losses;

fn deployment() -> Arc<Schema> {
    Schema::builtin("apps", "v1", "Deployment").unwrap()
}

fn writer(manager: &str) -> Writer<'_> {
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    Writer {
        manager,
        api_version: "apps/v1",
        subresource: "",
        status_apart: true,
        now,
    }
}

fn later(manager: &str) -> Writer<'_> {
    Writer {
        now: Timestamp::from_second(1_700_000_060).unwrap(),
        ..writer(manager)
    }
}

fn config(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"}, "spec": spec})
}

fn put(live: Option<&Value>, spec: Value, manager: &str) -> Result<Value, ApplyError> {
    apply(&deployment(), live, config(spec), &writer(manager), false)
}

fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|e| e["manager"] == manager);
    entry.map_or(Value::Null, |e| e["fieldsV1"].clone())
}

fn changed(object: &Value, manager: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut new = object.clone();
    change(&mut new);
    track_update(&deployment(), Some(object), &mut new, &later(manager));
    new
}

#[test]
fn an_applier_owns_what_it_says() {
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "resources": {}}]}}});
    let object = put(None, spec.clone(), "me").unwrap();
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{"manager": "me", "operation": "Apply", "apiVersion": "apps/v1", "time": "2023-11-14T22:13:20Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {
                "f:replicas": {}, "f:selector": {},
                "f:template": {"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:containers": {
                    "k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}, "f:resources": {}, "f:ports": {
                        "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}}}])
    );
    let again = apply(
        &deployment(),
        Some(&object),
        config(spec),
        &later("me"),
        false,
    )
    .unwrap();
    assert_eq!(
        again, object,
        "the same configuration changes nothing, not even the time"
    );
}

#[test]
fn others_are_asked_before_their_fields_change() {
    let a = put(None, json!({"replicas": 1, "paused": true}), "a").unwrap();
    let error = put(Some(&a), json!({"replicas": 2}), "b").unwrap_err();
    assert_eq!(
        error,
        ApplyError::Conflicts(vec![Conflict {
            manager: "\"a\"".into(),
            field: ".spec.replicas".into()
        }])
    );
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas"
    );
    let forced = apply(
        &deployment(),
        Some(&a),
        config(json!({"replicas": 2})),
        &later("b"),
        true,
    )
    .unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(fields(&forced, "a"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(fields(&forced, "b"), json!({"f:spec": {"f:replicas": {}}}));
    let error = apply(
        &deployment(),
        Some(&forced),
        config(json!({"replicas": 3, "paused": false})),
        &later("c"),
        false,
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.paused\nconflicts with \"b\":\n- .spec.replicas"
    );
    let updated = changed(&a, "kubectl-edit", |o| o["spec"]["replicas"] = json!(5));
    let error = put(Some(&updated), json!({"replicas": 1, "paused": true}), "a").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using apps/v1 at \
         2023-11-14T22:14:20Z: .spec.replicas"
    );
}

#[test]
fn the_same_value_is_shared() {
    let a = put(None, json!({"replicas": 1}), "a").unwrap();
    let both = put(Some(&a), json!({"replicas": 1}), "b").unwrap();
    assert_eq!(fields(&both, "a"), fields(&both, "b"));
    // One of them lets go: the other still says it.
    let left = put(Some(&both), json!({"paused": true}), "a").unwrap();
    assert_eq!(left["spec"]["replicas"], 1);
    assert_eq!(fields(&left, "a"), json!({"f:spec": {"f:paused": {}}}));
    // Both let go: nobody says it.
    let gone = put(Some(&left), json!({"minReadySeconds": 1}), "b").unwrap();
    assert!(gone["spec"].get("replicas").is_none(), "{gone}");
}

#[test]
fn what_an_applier_no_longer_says_goes_unless_others_own_it() {
    let two = json!({"template": {"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [
        {"name": "x", "image": "i"}, {"name": "y", "image": "j", "env": [{"name": "E", "value": "1"}]}]}}});
    let object = put(None, two, "me").unwrap();
    // Defaulting fills in what nobody owns.
    let mut object = object;
    object["spec"]["template"]["spec"]["containers"][1]["terminationMessagePath"] = json!("/dev/x");
    let object = changed(&object, "other", |o| {
        o["spec"]["template"]["metadata"]["labels"]["c"] = json!("3");
        o["spec"]["template"]["spec"]["containers"][0]["workingDir"] = json!("/w");
    });
    let one = json!({"template": {"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "x", "image": "i"}]}}});
    let after = put(Some(&object), one, "me").unwrap();
    assert_eq!(
        after["spec"]["template"]["metadata"]["labels"],
        json!({"a": "1", "c": "3"})
    );
    assert_eq!(
        after["spec"]["template"]["spec"]["containers"],
        json!([{"name": "x", "image": "i", "workingDir": "/w"}]),
        "the item goes with its defaults"
    );
    // An item that somebody else owns a part of stays, with that part.
    let object = changed(&object, "other", |o| {
        o["spec"]["template"]["spec"]["containers"][1]["workingDir"] = json!("/v");
    });
    let one = json!({"template": {"spec": {"containers": [{"name": "x", "image": "i"}]}}});
    let after = put(Some(&object), one, "me").unwrap();
    let containers = after["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap();
    assert_eq!(
        containers.len(),
        1,
        "nobody else owns the item itself: {containers:?}"
    );
    // Nothing left to say.
    let after = put(Some(&after), json!({"paused": true}), "me").unwrap();
    assert_eq!(
        after["spec"]["template"]["metadata"]["labels"],
        json!({"c": "3"})
    );
}

#[test]
fn lists_merge_by_their_kind() {
    let pod = Schema::builtin("", "v1", "Pod").unwrap();
    let object = |spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec});
    let by = |live: Option<&Value>, spec: Value, name: &str| {
        apply(
            &pod,
            live,
            object(spec),
            &Writer {
                api_version: "v1",
                ..writer(name)
            },
            false,
        )
    };
    let ports = |list: Value| json!({"containers": [{"name": "c", "ports": list}]});
    let tcp = by(None, ports(json!([{"containerPort": 53}])), "a").unwrap();
    let both = by(
        Some(&tcp),
        ports(json!([{"containerPort": 53, "protocol": "UDP"}])),
        "b",
    )
    .unwrap();
    assert_eq!(
        both["spec"]["containers"][0]["ports"],
        json!([{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]),
        "a port is named by number and protocol, and protocol has a default"
    );
    // Atomic lists and maps have one owner as a whole.
    let command = |list: Value| json!({"containers": [{"name": "c", "command": list}], "nodeSelector": {"a": "b"}});
    let live = by(None, command(json!(["a", "b"])), "a").unwrap();
    let error = by(
        Some(&live),
        json!({"containers": [{"name": "c", "command": ["c"]}], "nodeSelector": {"c": "d"}}),
        "b",
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.containers[name=\"c\"].command\n- .spec.nodeSelector"
    );
    // Sets merge by value.
    let finalizers = |list: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "finalizers": list}});
    let set = |live: Option<&Value>, list: Value, name: &str| {
        apply(&pod, live, finalizers(list), &writer(name), false).unwrap()
    };
    let live = set(None, json!(["x/a", "x/b"]), "a");
    let live = set(Some(&live), json!(["x/c", "x/b"]), "b");
    assert_eq!(live["metadata"]["finalizers"], json!(["x/a", "x/c", "x/b"]));
    assert_eq!(
        fields(&live, "b"),
        json!({"f:metadata": {"f:finalizers": {"v:\"x/b\"": {}, "v:\"x/c\"": {}}}})
    );
    let live = set(Some(&live), json!(["x/b"]), "a");
    assert_eq!(live["metadata"]["finalizers"], json!(["x/c", "x/b"]));
}

#[test]
fn items_take_the_order_of_the_configuration() {
    let names = |list: &[&str]| -> Value {
        let items: Vec<Value> = list.iter().map(|n| json!({"name": n})).collect();
        json!({"template": {"spec": {"containers": items}}})
    };
    let table: [(&[&str], &[&str], &[&str]); 6] = [
        (&["a", "b", "c"], &["c", "a"], &["b", "c", "a"]),
        (&["a", "b"], &["a", "x", "b"], &["a", "x", "b"]),
        (&["a", "b"], &["x"], &["a", "b", "x"]),
        (&[], &["x", "y"], &["x", "y"]),
        (&["a", "m", "b"], &["b", "a"], &["m", "b", "a"]),
        (&["m", "a"], &["a", "x"], &["m", "a", "x"]),
    ];
    for (own, wanted, expected) in table {
        let live = put(None, names(own), "a").unwrap();
        let merged = put(Some(&live), names(wanted), "b").unwrap();
        assert_eq!(merged["spec"], names(expected), "{own:?} {wanted:?}");
    }
}

#[test]
fn updates_own_what_they_change() {
    let schema = deployment();
    let mut object = config(
        json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "strategy": {"rollingUpdate": {"maxSurge": 1}}}),
    );
    object["metadata"]["labels"] = json!({"x": "y"});
    object["metadata"]["uid"] = json!("u");
    object["status"] = json!({"replicas": 3});
    track_update(&schema, None, &mut object, &writer("kubectl-create"));
    assert_eq!(
        fields(&object, "kubectl-create"),
        json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}},
            "f:spec": {"f:replicas": {}, "f:selector": {}, "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}}}})
    );
    let scaled = changed(&object, "scaler", |o| o["spec"]["replicas"] = json!(2));
    assert_eq!(
        fields(&scaled, "scaler"),
        json!({"f:spec": {"f:replicas": {}}})
    );
    assert_eq!(
        fields(&scaled, "kubectl-create")["f:spec"].get("f:replicas"),
        None
    );
    let same = changed(&scaled, "nobody", |o| {
        o["metadata"]["resourceVersion"] = json!("9")
    });
    assert_eq!(
        same["metadata"]["managedFields"],
        scaled["metadata"]["managedFields"]
    );
    let removed = changed(&scaled, "remover", |o| {
        o["metadata"].as_object_mut().unwrap().remove("labels");
    });
    assert_eq!(
        fields(&removed, "remover"),
        Value::Null,
        "removing owns nothing"
    );
    assert_eq!(fields(&removed, "kubectl-create").get("f:metadata"), None);
    // Clients that do not know managedFields do not lose them.
    let mut blind = scaled.clone();
    blind["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    track_update(&schema, Some(&scaled), &mut blind, &later("blind"));
    assert_eq!(blind, scaled);
    // Status is owned through its subresource.
    let mut status = scaled.clone();
    status["status"] =
        json!({"replicas": 4, "conditions": [{"type": "Available", "status": "True"}]});
    let controller = Writer {
        subresource: "status",
        ..later("controller")
    };
    track_update(&schema, Some(&scaled), &mut status, &controller);
    let entries = status["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries
        .iter()
        .find(|e| e["manager"] == "controller")
        .unwrap();
    assert_eq!(entry["subresource"], "status");
    assert_eq!(
        entry["fieldsV1"],
        json!({"f:status": {"f:replicas": {}, "f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:status": {}, "f:type": {}}}}})
    );
}

#[test]
fn status_applies_touch_status_only() {
    let live = put(None, json!({"replicas": 1}), "me").unwrap();
    let mut wish = config(json!({"replicas": 9}));
    wish["status"] = json!({"observedGeneration": 1});
    let status = Writer {
        subresource: "status",
        ..later("me")
    };
    let after = apply(&deployment(), Some(&live), wish.clone(), &status, false).unwrap();
    assert_eq!(after["spec"]["replicas"], 1);
    assert_eq!(after["status"], json!({"observedGeneration": 1}));
    assert_eq!(
        after["metadata"]["managedFields"].as_array().unwrap().len(),
        2
    );
    let main = apply(&deployment(), Some(&live), wish, &later("me"), false).unwrap();
    assert_eq!(main["spec"]["replicas"], 9);
    assert!(main.get("status").is_none());
}

#[test]
fn objects_nobody_manages_belong_to_the_past() {
    let live = config(json!({"replicas": 1}));
    let after = put(Some(&live), json!({"replicas": 1}), "me").unwrap();
    assert_eq!(
        fields(&after, "before-first-apply"),
        json!({"f:spec": {"f:replicas": {}}})
    );
    let error = put(Some(&live), json!({"replicas": 2}), "me").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"before-first-apply\" using apps/v1"),
        "{error}"
    );
}

#[test]
fn kubectl_may_move_from_client_side_apply() {
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let mut object = config(json!({"replicas": 1, "paused": true}));
    let text = object.to_string();
    object["metadata"]["annotations"] = json!({annotation: text});
    track_update(
        &deployment(),
        None,
        &mut object,
        &writer("kubectl-client-side-apply"),
    );
    let after = put(
        Some(&object),
        json!({"replicas": 2, "paused": true}),
        "kubectl",
    )
    .unwrap();
    assert_eq!(after["spec"]["replicas"], 2);
    let written = after["metadata"]["annotations"][annotation]
        .as_str()
        .unwrap();
    assert!(
        written.contains("\"replicas\":2") && written.ends_with('\n'),
        "{written}"
    );
    // Others, and fields changed since, still conflict.
    assert!(put(Some(&object), json!({"replicas": 2}), "other").is_err());
    let edited = changed(&object, "editor", |o| o["spec"]["replicas"] = json!(7));
    assert!(put(Some(&edited), json!({"replicas": 2}), "kubectl").is_err());
    // kubectl itself rewrites managedFields to move its entry over.
    let mut moved = object.clone();
    moved["metadata"]["managedFields"][0]["operation"] = json!("Apply");
    moved["metadata"]["managedFields"][0]["manager"] = json!("kubectl");
    let wish = moved["metadata"]["managedFields"].clone();
    track_update(&deployment(), Some(&object), &mut moved, &later("kubectl"));
    assert_eq!(moved["metadata"]["managedFields"], wish);
}

#[test]
fn configurations_that_cannot_be_owned_are_refused() {
    let list = |items: Value| json!({"template": {"spec": {"containers": items}}});
    let table = [
        (
            list(json!([{"image": "i"}])),
            ".spec.template.spec.containers: associative list with keys has an element that omits all key fields [\"name\"]",
        ),
        (
            list(json!([{"name": "a"}, {"name": "a"}])),
            ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
    ];
    for (spec, part) in table {
        let error = put(None, spec, "me").unwrap_err().to_string();
        assert!(
            error.starts_with(
                "failed to create typed patch object (default/d; apps/v1, Kind=Deployment)"
            ),
            "{error}"
        );
        assert!(error.contains(part), "{error}");
    }
    let mut bad = config(json!({}));
    bad["metadata"]["managedFields"] = json!([{}]);
    let error = apply(&deployment(), None, bad, &writer("me"), false).unwrap_err();
    assert_eq!(
        error,
        ApplyError::BadRequest("metadata.managedFields must be nil".into())
    );
}

#[test]
fn custom_objects_are_owned_by_their_schema() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
            "items": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "plain": {"type": "array", "items": {"type": "string"}}}}}});
    let schema =
        Schema::from_crd("x.io", "v1", "Foo", &schema, &crate::schema::Path::new("s")).unwrap();
    let by = |live: Option<&Value>, spec: Value, name: &str| {
        let config = json!({"apiVersion": "x.io/v1", "kind": "Foo", "metadata": {"name": "f"}, "spec": spec});
        apply(
            &schema,
            live,
            config,
            &Writer {
                api_version: "x.io/v1",
                ..writer(name)
            },
            false,
        )
    };
    let a = by(
        None,
        json!({"items": [{"id": "1", "n": 1}], "free": {"x": {"y": 1}}, "plain": ["p"]}),
        "a",
    )
    .unwrap();
    assert_eq!(
        fields(&a, "a"),
        json!({"f:spec": {"f:items": {"k:{\"id\":\"1\"}": {".": {}, "f:id": {}, "f:n": {}}},
            "f:free": {"f:x": {".": {}, "f:y": {}}}, "f:plain": {}}})
    );
    let b = by(
        Some(&a),
        json!({"items": [{"id": "2", "n": 2}], "free": {"x": {"z": 2}}}),
        "b",
    )
    .unwrap();
    assert_eq!(
        b["spec"]["items"],
        json!([{"id": "1", "n": 1}, {"id": "2", "n": 2}])
    );
    assert_eq!(b["spec"]["free"], json!({"x": {"y": 1, "z": 2}}));
    let c = by(Some(&b), json!({"items": [{"id": "1", "n": 1}]}), "a").unwrap();
    assert_eq!(
        c["spec"],
        json!({"items": [{"id": "1", "n": 1}, {"id": "2", "n": 2}], "free": {"x": {"z": 2}}})
    );
}

proptest::proptest! {
    #[test]
    fn nothing_breaks_apply(live in crate::schema::any_json(), config in crate::schema::any_json(), other in crate::schema::any_json()) {
        let schema = deployment();
        let object = |spec: &Value| json!({"metadata": {"name": "d"}, "spec": spec});
        let (live, config, other) = (object(&live), object(&config), object(&other));
        let mut known = [live, config, other];
        if known.iter_mut().all(|o| schema.check(o, crate::schema::FieldValidation::Ignore).is_ok()) {
            let [live, config, other] = known;
            if let Ok(first) = apply(&schema, Some(&live), config.clone(), &writer("a"), true) {
                let again = apply(&schema, Some(&first), config.clone(), &later("a"), false);
                proptest::prop_assert_eq!(again.as_ref(), Ok(&first));
                if let Ok(second) = apply(&schema, Some(&first), other, &writer("b"), true) {
                    let _ = apply(&schema, Some(&second), config, &writer("a"), true);
                }
            }
        }
    }

    #[test]
    fn stored_ownership_never_panics(fields in crate::schema::any_json(), text in "\\PC{0,20}") {
        let schema = deployment();
        let mut live = config(json!({"replicas": 1}));
        live["metadata"]["managedFields"] = json!([{"manager": text, "operation": "Apply", "fieldsV1": fields},
            {"manager": "x", "operation": "Update", "fieldsV1": {text.clone(): {}}}]);
        let _ = apply(&schema, Some(&live), config(json!({"paused": true})), &writer("a"), true);
        let mut new = live.clone();
        new["spec"]["replicas"] = json!(3);
        track_update(&schema, Some(&live), &mut new, &writer("a"));
    }
}
