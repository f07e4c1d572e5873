//! Tables of ranges, pods and claims.

use super::*;
use crate::admission::testing::create;
use crate::auth::memory::Memory;
use serde_json::json;

fn plugin(limits: Value) -> LimitRanger {
    let range = json!({"metadata": {"namespace": "a", "name": "r"}, "spec": {"limits": limits}});
    LimitRanger::new(Memory::with([(Kind::LIMIT_RANGES, range)]))
}

fn pod(resources: Value) -> Value {
    json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
}

/// What a range leaves out, or says to be nothing, bounds nothing.
#[tokio::test]
async fn a_range_without_contents_keeps_nobody_from_making_pods() {
    let contents = [
        json!({}),
        json!({"spec": null}),
        json!({"spec": {}}),
        json!({"spec": {"limits": null}}),
        json!({"spec": {"limits": [{"type": "Container", "min": null, "max": null, "default": null,
            "defaultRequest": null, "maxLimitRequestRatio": null}]}}),
    ];
    for mut range in contents {
        range["metadata"] = json!({"namespace": "a", "name": "r"});
        let plugin = LimitRanger::new(Memory::with([(Kind::LIMIT_RANGES, range.clone())]));
        for resource in ["pods", "persistentvolumeclaims"] {
            let made = create(&plugin, resource, pod(json!({}))).await;
            assert!(made.is_ok(), "{range}: {made:?}");
        }
    }
}

#[tokio::test]
async fn defaults_follow_from_one_another() {
    let cases = [
        (
            json!({"default": {"cpu": "1"}}),
            json!({}),
            json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}),
        ),
        (
            json!({"default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m"}}),
            json!({"requests": {"cpu": "100m"}}),
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}}),
        ),
        (
            json!({"max": {"memory": "1Gi"}}),
            json!({}),
            json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}),
        ),
        (
            json!({"min": {"memory": "1Mi"}}),
            json!({"limits": {"memory": "2Mi"}}),
            json!({"requests": {"memory": "1Mi"}, "limits": {"memory": "2Mi"}}),
        ),
    ];
    for (mut item, given, expected) in cases {
        item["type"] = "Container".into();
        let got = create(&plugin(json!([item])), "pods", pod(given))
            .await
            .unwrap();
        assert_eq!(
            got["spec"]["containers"][0]["resources"], expected,
            "{item}"
        );
        let note = got["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
            .as_str()
            .unwrap();
        assert!(note.starts_with("LimitRanger plugin set: "), "{note}");
    }
    let untouched = create(&plugin(json!([])), "pods", pod(json!({})))
        .await
        .unwrap();
    assert_eq!(untouched, pod(json!({})));
}

#[tokio::test]
async fn bounds_are_kept() {
    let cases = [
        (
            json!({"type": "Container", "min": {"cpu": "1"}}),
            json!({"requests": {"cpu": "500m"}}),
            Some("minimum cpu usage per Container is 1, but request is 500m"),
        ),
        (
            json!({"type": "Container", "max": {"cpu": "1"}}),
            json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}),
            Some("maximum cpu usage per Container is 1, but limit is 2"),
        ),
        (
            json!({"type": "Pod", "max": {"memory": "1Gi"}}),
            json!({}),
            Some("maximum memory usage per Pod is 1Gi.  No limit is specified"),
        ),
        (
            json!({"type": "Pod", "max": {"memory": "1Gi"}, "min": {"cpu": "1"}}),
            json!({"limits": {"memory": "2Gi"}}),
            Some(
                "[minimum cpu usage per Pod is 1.  No request is specified, maximum memory usage per Pod is 1Gi, but limit is 2Gi]",
            ),
        ),
        (
            json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
            json!({"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}),
            Some(
                "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
            ),
        ),
        (
            json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
            json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}),
            None,
        ),
    ];
    for (item, given, expected) in cases {
        let got = create(&plugin(json!([item])), "pods", pod(given)).await;
        assert_eq!(
            got.err().map(|error| error.to_string()).as_deref(),
            expected,
            "{item}"
        );
    }
}

#[tokio::test]
async fn claims_are_bounded() {
    let plugin = plugin(
        json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]),
    );
    for (storage, expected) in [
        (
            "500Mi",
            Some("minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"),
        ),
        ("1Gi", None),
        (
            "3Gi",
            Some("maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
        ),
    ] {
        let claim = json!({"spec": {"resources": {"requests": {"storage": storage}}}});
        let got = create(&plugin, "persistentvolumeclaims", claim).await;
        assert_eq!(
            got.err().map(|error| error.to_string()).as_deref(),
            expected
        );
    }
}

#[test]
fn a_pod_asks_for_its_most_demanding_moment() {
    let container = |cpu: &str, policy: Option<&str>| {
        let mut container = json!({"resources": {"requests": {"cpu": cpu}}});
        if let Some(policy) = policy {
            container["restartPolicy"] = policy.into();
        }
        container
    };
    let cases = [
        (vec![], "3"),
        (vec![container("5", None)], "5"),
        (
            vec![container("1", Some("Always")), container("2500m", None)],
            "4",
        ),
        (
            vec![container("1", Some("Always")), container("4", None)],
            "5",
        ),
        (
            vec![container("2", None), container("1", Some("Always"))],
            "4",
        ),
    ];
    for (init, expected) in cases {
        let pod = json!({"spec": {
            "containers": [container("1", None), container("2", None)],
            "initContainers": init,
        }});
        assert_eq!(
            usage::of_pod(&pod, "requests")["cpu"].to_string(),
            expected,
            "{pod}"
        );
    }
}
