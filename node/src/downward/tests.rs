//! Fields and resources by table.
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde_json::json;

use super::*;

fn with_inputs<T>(test: impl FnOnce(&PodInputs<'_>) -> T) -> T {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u-1",
            "labels": { "b": "2", "a": "1\n\"q\"\\\u{7}\u{1}é" }, "annotations": { "x/y": "z" },
        },
        "spec": {
            "serviceAccountName": "robot",
            "initContainers": [{ "name": "init", "resources": { "limits": { "cpu": "2" } } }],
            "containers": [{
                "name": "main",
                "resources": {
                    "limits": { "cpu": "1500m", "memory": "100Mi", "hugepages-2Mi": "4Mi" },
                    "requests": { "cpu": "250m", "memory": "64Mi" },
                },
            }],
        },
    }))
    .unwrap();
    let allocatable = BTreeMap::from([
        ("cpu".to_owned(), "4".parse().unwrap()),
        ("memory".to_owned(), "8Gi".parse().unwrap()),
    ]);
    let config_maps: BTreeMap<String, Arc<ConfigMap>> = BTreeMap::new();
    let secrets: BTreeMap<String, Arc<Secret>> = BTreeMap::new();
    let ips = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    test(&PodInputs {
        pod: &pod,
        node_name: "node-1",
        host_ips: &ips[..1],
        pod_ips: &ips,
        allocatable: &allocatable,
        config_maps: &config_maps,
        secrets: &secrets,
        service_env: &BTreeMap::new(),
    })
}

#[test]
fn fields_are_those_of_kubernetes() {
    with_inputs(|inputs| {
        let table = [
            ("metadata.name", Some("web")),
            ("metadata.namespace", Some("shop")),
            ("metadata.uid", Some("u-1")),
            (
                "metadata.labels",
                Some("a=\"1\\n\\\"q\\\"\\\\\\a\\x01é\"\nb=\"2\""),
            ),
            ("metadata.annotations", Some("x/y=\"z\"")),
            ("metadata.labels['b']", Some("2")),
            ("metadata.labels['none']", Some("")),
            ("metadata.annotations['x/y']", Some("z")),
            ("spec.nodeName", Some("node-1")),
            ("spec.serviceAccountName", Some("robot")),
            ("status.hostIP", Some("10.0.0.1")),
            ("status.podIP", Some("10.0.0.1")),
            ("status.podIPs", Some("10.0.0.1,fd00::1")),
            ("spec.labels['b']", None),
            ("metadata.labels['b", None),
            ("status.phase", None),
            ("", None),
        ];
        for (path, expected) in table {
            assert_eq!(field(inputs, path).ok().as_deref(), expected, "{path}");
        }
    });
}

#[test]
fn resources_are_divided_and_rounded_up() {
    with_inputs(|inputs| {
        let main = inputs.pod.spec.as_ref().unwrap().containers.first();
        let ask = |container: Option<&str>, name: &str, divisor: Option<&str>| {
            let selector = serde_json::from_value(json!({
                "containerName": container, "resource": name, "divisor": divisor,
            }));
            resource(inputs, main, &selector.unwrap())
        };
        let table = [
            (None, "limits.cpu", None, "2"),
            (None, "limits.cpu", Some("1m"), "1500"),
            (None, "requests.cpu", Some("0"), "1"),
            (None, "limits.memory", None, "104857600"),
            (None, "limits.memory", Some("1Mi"), "100"),
            (None, "requests.memory", Some("1Gi"), "1"),
            (None, "limits.hugepages-2Mi", Some("1Mi"), "4"),
            (Some("init"), "limits.cpu", None, "2"),
            (Some("init"), "limits.memory", Some("1Gi"), "8"),
            (Some("init"), "requests.memory", None, "0"),
        ];
        for (container, name, divisor, expected) in table {
            let value = ask(container, name, divisor).unwrap();
            assert_eq!(value, expected, "{container:?} {name} {divisor:?}");
        }
        assert!(matches!(
            ask(None, "limits.gpu", None),
            Err(DownwardError::Resource(_))
        ));
        assert!(matches!(
            ask(None, "cpu", None),
            Err(DownwardError::Resource(_))
        ));
        assert!(matches!(
            ask(Some("x"), "limits.cpu", None),
            Err(DownwardError::Container(_))
        ));
        assert!(matches!(
            ask(None, "limits.cpu", Some("x")),
            Err(DownwardError::Quantity { .. })
        ));
        let selector = serde_json::from_value(json!({ "resource": "limits.cpu" })).unwrap();
        assert!(matches!(
            resource(inputs, None, &selector),
            Err(DownwardError::Container(_))
        ));
    });
}

#[test]
fn what_volumes_show_of_a_pod_is_followed() {
    type Fields = (&'static str, &'static str, &'static str);
    let pod = |volume: &serde_json::Value, (label, annotation, cpu): Fields| -> Pod {
        let volume = volume.clone();
        serde_json::from_value(json!({
            "metadata": { "name": "p", "labels": { "a": label }, "annotations": { "b": annotation } },
            "spec": {
                "containers": [{ "name": "c", "resources": { "limits": { "cpu": cpu } } }],
                "volumes": [volume],
            },
        }))
        .unwrap()
    };
    let items = json!([{ "path": "l", "fieldRef": { "fieldPath": "metadata.labels" } }]);
    let showing = [
        json!({ "name": "v", "downwardAPI": { "items": items } }),
        json!({ "name": "v", "projected": { "sources": [
            { "configMap": { "name": "x" } }, { "downwardAPI": { "items": items } },
        ] } }),
    ];
    let before = ("1", "1", "1");
    for volume in showing {
        let digest = |fields| shown(&pod(&volume, fields));
        assert!(digest(before).is_some());
        assert_eq!(digest(before), digest(before));
        for after in [("2", "1", "1"), ("1", "2", "1"), ("1", "1", "2")] {
            assert_ne!(digest(before), digest(after), "{volume} {after:?}");
        }
        let mut moved = pod(&volume, before);
        moved.metadata.resource_version = Some("7".to_owned());
        moved.status = Some(Default::default());
        assert_eq!(shown(&moved), digest(before));
    }
    assert_eq!(
        shown(&pod(&json!({ "name": "v", "emptyDir": {} }), before)),
        None
    );
}
