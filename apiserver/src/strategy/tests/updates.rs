//! Updates: what may change, what is carried over, generations.

use serde_json::{Value, json};

use super::{containers, context, create, update};
use crate::schema::{Path, Schema};
use crate::strategy::{CustomOptions, custom};

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "namespace": "default", "uid": "u"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[test]
fn a_running_pod_changes_its_image_and_little_else() {
    let (pod, errors) = update("", containers(json!({})), |p| {
        p["spec"]["containers"][0]["image"] = json!("busybox:2");
        p["metadata"]["labels"] = json!({"a": "b"});
        p["spec"]["tolerations"] = json!([{"key": "a", "operator": "Exists"}]);
    });
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(pod["metadata"]["generation"], 2);
    let (_, errors) = update("", containers(json!({})), |p| {
        p["spec"]["containers"][0]["command"] = json!(["a"]);
    });
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"), "{errors:?}");
    assert!(
        errors[0].ends_with("changed: spec.containers[0].command"),
        "{errors:?}"
    );
    let (_, errors) = update("", containers(json!({})), |p| {
        p["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "d", "image": "i"}));
    });
    assert_eq!(
        errors,
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    let (_, errors) = update("", containers(json!({})), |p| {
        p["spec"]["hostNetwork"] = json!(false);
    });
    assert_eq!(
        errors,
        Vec::<String>::new(),
        "absent and false are the same"
    );
}

#[test]
fn spec_and_status_are_kept_apart() {
    let (pod, errors) = update("status", containers(json!({})), |p| {
        p["status"]["phase"] = json!("Running");
        p["spec"]["nodeName"] = json!("n");
        p["metadata"]["annotations"] = json!({"a": "b"});
    });
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(pod["status"]["phase"], "Running");
    assert!(pod["spec"].get("nodeName").is_none());
    assert_eq!(pod["metadata"]["generation"], 1);
    let (deployment_, errors) = update("", deployment(), |d| {
        d["status"] = json!({"replicas": 9});
        d["metadata"]["generation"] = json!(70);
    });
    assert_eq!(errors, Vec::<String>::new());
    assert!(deployment_.get("status").is_none());
    assert_eq!(
        deployment_["metadata"]["generation"], 1,
        "nothing but metadata changed"
    );
    let (deployment_, _) = update("", deployment(), |d| d["spec"]["replicas"] = json!(3));
    assert_eq!(deployment_["metadata"]["generation"], 2);
}

#[test]
fn what_is_immutable_stays() {
    let meta = |kind: &str, version: &str, more: Value| {
        let mut o = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}});
        if kind != "StorageClass" && kind != "PersistentVolume" {
            o["metadata"]["namespace"] = json!("default");
        }
        for (k, v) in more.as_object().unwrap() {
            o[k] = v.clone();
        }
        o
    };
    let set = |path: &'static str, value: Value| {
        move |o: &mut Value| *o.pointer_mut(path).unwrap() = value
    };
    let (_, errors) = update("", deployment(), |d| {
        d["spec"]["selector"]["matchLabels"] = json!({"a": "b", "c": "d"});
        d["spec"]["template"]["metadata"]["labels"] = json!({"a": "b", "c": "d"});
    });
    assert_eq!(
        errors,
        [
            "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"c\":\"d\"}}: field is immutable"
        ]
    );
    let (_, errors) = update("", deployment(), set("/metadata/uid", json!("other")));
    assert_eq!(
        errors,
        ["metadata.uid: Invalid value: \"other\": field is immutable"]
    );
    let class = meta(
        "StorageClass",
        "storage.k8s.io/v1",
        json!({"provisioner": "a.b"}),
    );
    let (_, errors) = update("", class, set("/provisioner", json!("c.d")));
    assert_eq!(
        errors,
        ["provisioner: Forbidden: updates to provisioner are forbidden."]
    );
    let map = meta(
        "ConfigMap",
        "v1",
        json!({"data": {"a": "b"}, "immutable": true}),
    );
    let (_, errors) = update("", map, set("/data/a", json!("c")));
    assert_eq!(
        errors,
        ["data: Forbidden: field is immutable when `immutable` is set"]
    );
    let secret = meta("Secret", "v1", json!({"type": "Opaque"}));
    let (_, errors) = update("", secret, set("/type", json!("x")));
    assert_eq!(errors, ["type: Invalid value: \"x\": field is immutable"]);
    let claim = meta(
        "PersistentVolumeClaim",
        "v1",
        json!({"spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}}),
    );
    let (_, errors) = update(
        "",
        claim,
        set("/spec/accessModes/0", json!("ReadWriteMany")),
    );
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("spec: Forbidden: spec is immutable after creation"));
}

#[test]
fn a_service_keeps_what_was_allocated() {
    let service = |kind: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "default"},
            "spec": {"type": kind, "clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": if kind == "ClusterIP" {Value::Null} else {json!(30000)}}]}})
    };
    let (new, errors) = update("", service("NodePort"), |s| {
        s["spec"] = json!({"type": "NodePort", "ports": [{"port": 80}]});
    });
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new["spec"]["clusterIP"], "10.0.0.1");
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.1"]));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30000);
    let (new, errors) = update("", service("NodePort"), |s| {
        s["spec"]["type"] = json!("ClusterIP")
    });
    assert_eq!(errors, Vec::<String>::new());
    assert!(new["spec"]["ports"][0].get("nodePort").is_none());
    assert!(new["spec"].get("externalTrafficPolicy").is_none());
    let (_, errors) = update("", service("ClusterIP"), |s| {
        s["spec"]["clusterIP"] = json!("10.0.0.2")
    });
    assert_eq!(
        errors,
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
    );
    let (new, errors) = update("", service("ClusterIP"), |s| {
        s["spec"]["type"] = json!("ExternalName");
        s["spec"]["externalName"] = json!("a.b");
    });
    assert_eq!(errors, Vec::<String>::new());
    assert!(new["spec"].get("clusterIP").is_none());
}

#[test]
fn finalizers_cannot_be_added_to_what_is_being_deleted() {
    let (mut old, _) = create(deployment());
    old["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
    old["metadata"]["finalizers"] = json!(["x.io/a"]);
    let strategy = super::strategy_of(&old);
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!(["x.io/a", "x.io/b"]);
    let errors = strategy.validate_update(&context(""), &new, &old);
    assert_eq!(
        errors[0].to_string(),
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being \
         deleted, found new finalizers []string{\"x.io/b\"}"
    );
}

#[test]
fn custom_kinds_isolate_their_status() {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = Schema::from_crd("x.io", "v1", "Foo", &schema, &Path::new("s")).unwrap();
    let old = json!({"metadata": {"name": "a", "generation": 4, "labels": {"a": "b"}}, "spec": {"x": 1}, "status": {"y": 1}});
    let change = |status: bool, subresource: &str, new: Value| {
        let strategy = custom(
            schema.clone(),
            CustomOptions {
                namespaced: false,
                status,
            },
        );
        let mut new = new;
        strategy.prepare_update(&context(subresource), &mut new, &old);
        assert_eq!(
            strategy.validate_update(&context(subresource), &new, &old),
            []
        );
        new
    };
    let both = json!({"metadata": {"name": "a", "labels": {"c": "d"}}, "spec": {"x": 2}, "status": {"y": 2}});
    let new = change(true, "", both.clone());
    assert_eq!(
        (
            &new["spec"]["x"],
            &new["status"]["y"],
            &new["metadata"]["generation"]
        ),
        (&json!(2), &json!(1), &json!(5))
    );
    let new = change(true, "status", both.clone());
    assert_eq!(
        (
            &new["spec"]["x"],
            &new["status"]["y"],
            &new["metadata"]["generation"]
        ),
        (&json!(1), &json!(2), &json!(4))
    );
    assert_eq!(new["metadata"]["labels"], json!({"a": "b"}));
    let new = change(
        false,
        "",
        json!({"metadata": {"name": "a"}, "spec": {"x": 1}, "status": {"y": 2}}),
    );
    assert_eq!(
        (&new["status"]["y"], &new["metadata"]["generation"]),
        (&json!(2), &json!(5))
    );
}

#[test]
fn a_resize_changes_amounts_and_nothing_else() {
    let amounts = |requests: Value, limits: Value| json!({"resources": {"requests": requests, "limits": limits}});
    let before = || {
        containers(amounts(
            json!({"cpu": "1", "memory": "1Mi"}),
            json!({"cpu": "2", "memory": "1Gi"}),
        ))
    };
    let table = [
        (
            amounts(
                json!({"cpu": "2", "memory": "1Mi"}),
                json!({"cpu": "3", "memory": "2Gi"}),
            ),
            None,
        ),
        (json!({"image": "other"}), None),
        (
            amounts(json!({"cpu": "1", "memory": "1Mi"}), json!({"cpu": "2"})),
            Some(
                "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
            ),
        ),
        (
            amounts(
                json!({"cpu": "1", "memory": "1Mi", "example.com/x": "1"}),
                json!({"cpu": "2", "memory": "1Gi"}),
            ),
            Some(
                "spec.containers[0].resources.requests: Forbidden: only cpu and memory resources are mutable",
            ),
        ),
        (
            amounts(
                json!({"cpu": "2", "memory": "1Gi"}),
                json!({"cpu": "2", "memory": "1Gi"}),
            ),
            Some(
                "spec: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing",
            ),
        ),
    ];
    for (change, expected) in table {
        let (pod, errors) = update("resize", before(), |pod| {
            for (key, value) in change.as_object().unwrap() {
                pod["spec"]["containers"][0][key] = value.clone();
            }
        });
        match expected {
            None => assert!(errors.is_empty(), "{change}: {errors:?}"),
            Some(text) => assert!(
                errors.iter().any(|error| error == text),
                "{change}: {errors:?}"
            ),
        }
        assert_ne!(pod["spec"]["containers"][0]["image"], "other");
    }
}

#[test]
fn finalizers_of_custom_kinds_may_be_plain() {
    let at = Path::new("schema");
    let schema =
        Schema::from_crd("example.com", "v1", "X", &json!({"type": "object"}), &at).unwrap();
    let options = CustomOptions {
        namespaced: false,
        status: false,
    };
    let strategy = custom(schema, options);
    let object = |finalizer: &str| json!({"apiVersion": "example.com/v1", "kind": "X", "metadata": {"name": "x", "finalizers": [finalizer]}});
    let plain = object("plain");
    assert_eq!(strategy.validate(&context(""), &plain), []);
    let warnings = strategy.warnings(&plain, None);
    assert!(
        warnings[0].starts_with(
            "metadata.finalizers: \"plain\": prefer a domain-qualified finalizer name"
        )
    );
    assert!(strategy.warnings(&plain, Some(&plain)).is_empty());
    assert!(strategy.warnings(&object("example.com/x"), None).is_empty());
    assert_eq!(strategy.validate(&context(""), &object("-bad")).len(), 1);
}
