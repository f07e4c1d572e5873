//! Writes after which owners used to be missing.

use super::*;

#[test]
fn one_who_owns_nothing_in_metadata_any_more_leaves_all_of_it() {
    let schema = Schema::builtin("", "v1", "ConfigMap").unwrap();
    let writer = |manager| Writer {
        api_version: "v1",
        status_apart: false,
        ..writer(manager)
    };
    let object = |labels: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"},
        "metadata": {"name": "m", "labels": labels}})
    };
    let mut live = apply(
        &schema,
        None,
        object(json!({"x": "y"})),
        &writer("o"),
        false,
    )
    .unwrap();
    live["metadata"]["uid"] = json!("u");
    live["metadata"]["finalizers"] = json!(["x.io/nobodys"]);
    let mut wish = object(json!({}));
    wish["metadata"].as_object_mut().unwrap().remove("labels");
    let after = apply(&schema, Some(&live), wish.clone(), &writer("o"), false).unwrap();
    assert_eq!(after["metadata"].get("labels"), None);
    assert_eq!(after["metadata"]["finalizers"], json!(["x.io/nobodys"]));
    assert_eq!(fields(&after, "o"), json!({"f:data": {"f:a": {}}}));
    // As kubectl goes over from client-side apply: apply, rename its manager, apply again.
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let mut client_side = wish.clone();
    client_side["metadata"]["annotations"] = json!({annotation: wish.to_string()});
    track_update(
        &schema,
        None,
        &mut client_side,
        &writer("kubectl-client-side-apply"),
    );
    let first = apply(
        &schema,
        Some(&client_side),
        wish.clone(),
        &writer("o"),
        false,
    )
    .unwrap();
    let mut renamed = first.clone();
    let before = client_side["metadata"]["managedFields"][0]["fieldsV1"].clone();
    renamed["metadata"]["managedFields"] = json!([{"manager": "o", "operation": "Apply", "apiVersion": "v1",
        "time": "2023-11-14T22:13:20Z", "fieldsType": "FieldsV1", "fieldsV1": before}]);
    track_update(&schema, Some(&first), &mut renamed, &writer("kubectl"));
    let after = apply(&schema, Some(&renamed), wish, &writer("o"), false).unwrap();
    assert_eq!(after["metadata"].get("annotations"), None);
    assert_eq!(fields(&after, "o"), json!({"f:data": {"f:a": {}}}));
}

#[test]
fn a_write_that_cannot_change_the_status_takes_it_from_nobody() {
    let mut live = put(None, json!({"replicas": 1}), "me").unwrap();
    live["status"] = json!({});
    let mut with_status = live.clone();
    with_status["status"] = json!({"replicas": 1});
    let status = Writer {
        subresource: "status",
        ..later("controller")
    };
    track_update(&deployment(), Some(&live), &mut with_status, &status);
    let mut replaced = with_status.clone();
    replaced.as_object_mut().unwrap().remove("status");
    replaced["spec"]["paused"] = json!(true);
    track_update(
        &deployment(),
        Some(&with_status),
        &mut replaced,
        &later("editor"),
    );
    assert_eq!(
        fields(&replaced, "controller"),
        json!({"f:status": {"f:replicas": {}}})
    );
    // Nor the spec by a status write that leaves it out.
    let mut short = with_status.clone();
    short.as_object_mut().unwrap().remove("spec");
    short["status"]["replicas"] = json!(2);
    track_update(&deployment(), Some(&with_status), &mut short, &status);
    assert_eq!(fields(&short, "me"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn admission_cannot_make_owners_unreadable() {
    let live = put(None, json!({"replicas": 1}), "me").unwrap();
    let before = Some(live["metadata"]["managedFields"].clone());
    let mut broken = live.clone();
    broken["metadata"]["managedFields"][0]["fieldsV1"] = json!({"what": {}});
    assert!(restore_unreadable(&mut broken, before.clone()));
    assert_eq!(broken, live);
    let mut edited = live.clone();
    edited["metadata"]["managedFields"][0]["manager"] = json!("you");
    assert!(!restore_unreadable(&mut edited, before));
    assert_eq!(edited["metadata"]["managedFields"][0]["manager"], "you");
}

#[test]
fn managers_that_were_reset_come_back_with_the_next_apply() {
    let live = put(None, json!({"replicas": 1, "paused": true}), "me").unwrap();
    for reset in [json!([]), json!([{}])] {
        let forgotten = changed(&live, "x", |o| {
            o["metadata"]["managedFields"] = reset.clone()
        });
        assert!(
            forgotten["metadata"].get("managedFields").is_none(),
            "{reset}"
        );
        let edited = changed(&forgotten, "editor", |o| o["spec"]["replicas"] = json!(3));
        assert!(edited["metadata"].get("managedFields").is_none());
        let applied = put(Some(&edited), json!({"replicas": 3}), "me").unwrap();
        assert_eq!(
            fields(&applied, "before-first-apply"),
            json!({"f:spec": {"f:paused": {}, "f:replicas": {}}})
        );
    }
}
