//! Usage, scopes and writes as tables.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn kind(text: &str) -> Counting {
    let (group, plural) = text.rsplit_once('/').unwrap_or(("", text));
    Counting::new(group, plural)
}

fn counted(text: &str, object: &Value) -> Counted {
    Counted::of(&kind(text), object, at("2026-01-01T00:00:00Z"))
}

fn amounts(value: &Value) -> Amounts {
    serde_json::from_value(value.clone()).unwrap()
}

fn shows(text: &str, object: Value) -> String {
    shown(&counted(text, &object).usage)
}

fn resources(requests: Value, limits: Value) -> Value {
    json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
}

#[test]
fn pods_count_what_they_ask_for() {
    let one = resources(json!({"cpu": "100m", "memory": "1Gi"}), json!({"cpu": "1"}));
    let cases = [
        (
            json!({"containers": [{"name": "c"}]}),
            "count/pods=1,pods=1",
        ),
        (
            json!({"containers": [one, one]}),
            "count/pods=1,cpu=200m,limits.cpu=2,memory=2Gi,pods=1,requests.cpu=200m,requests.memory=2Gi",
        ),
        // The start needs more than all that runs later; a sidecar is there in both.
        (
            json!({
                "initContainers": [
                    {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
                    {"name": "i", "resources": {"requests": {"cpu": "3"}}},
                ],
                "containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}],
                "overhead": {"cpu": "250m"},
            }),
            "count/pods=1,cpu=4250m,pods=1,requests.cpu=4250m",
        ),
        (
            json!({
                "resources": {"requests": {"cpu": "5"}},
                "containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}],
            }),
            "count/pods=1,cpu=5,pods=1,requests.cpu=5",
        ),
        (
            json!({"containers": [resources(
                json!({"hugepages-2Mi": "4Mi", "example.com/gpu": "2", "ephemeral-storage": "1Gi"}), json!({}),
            )]}),
            "count/pods=1,ephemeral-storage=1Gi,hugepages-2Mi=4Mi,pods=1,requests.ephemeral-storage=1Gi,\
             requests.example.com/gpu=2,requests.hugepages-2Mi=4Mi",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(shows("pods", json!({"spec": spec})), expected);
    }
}

#[test]
fn pods_that_ended_count_as_objects_only() {
    let going = |grace: i64| json!({"deletionTimestamp": "2025-12-31T23:59:50Z", "deletionGracePeriodSeconds": grace});
    let cases = [
        (json!({}), json!({"phase": "Running"}), true),
        (json!({}), json!({"phase": "Succeeded"}), false),
        (json!({}), json!({"phase": "Failed"}), false),
        (going(30), json!({}), true),
        (going(5), json!({}), false),
    ];
    for (metadata, status, counts) in cases {
        let pod = json!({"metadata": metadata, "spec": {"containers": []}, "status": status});
        let expected = if counts {
            "count/pods=1,pods=1"
        } else {
            "count/pods=1"
        };
        assert_eq!(shows("pods", pod), expected);
    }
}

#[test]
fn a_resize_counts_the_larger_of_both() {
    let pod = |reason: &str| {
        json!({
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "4"}}}]},
            "status": {
                "containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}],
                "conditions": [{"type": "PodResizePending", "reason": reason}],
            },
        })
    };
    for (reason, expected) in [("Deferred", "4"), ("Infeasible", "2")] {
        let counted = counted("pods", &pod(reason));
        assert_eq!(counted.usage["requests.cpu"].to_string(), expected);
    }
}

#[test]
fn other_kinds_count_their_own() {
    let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30000}]);
    let service = |kind: &str| json!({"spec": {"type": kind, "ports": ports}});
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}}});
    let claims = json!({"spec": {"devices": {"requests": [
        {"exactly": {"deviceClassName": "gpu", "count": 2}},
        {"firstAvailable": [{"deviceClassName": "gpu", "count": 4}, {"deviceClassName": "cpu"}]},
        {"exactly": {"deviceClassName": "cpu", "allocationMode": "All"}},
    ]}}});
    let balanced = json!({"spec": {
        "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports,
    }});
    let cases = [
        ("secrets", json!({}), "count/secrets=1,secrets=1"),
        ("endpoints", json!({}), "count/endpoints=1"),
        ("apps/deployments", json!({}), "count/deployments.apps=1"),
        (
            "services",
            service("ClusterIP"),
            "count/services=1,services=1,services.loadbalancers=0,services.nodeports=0",
        ),
        (
            "services",
            service("NodePort"),
            "count/services=1,services=1,services.loadbalancers=0,services.nodeports=2",
        ),
        (
            "services",
            balanced,
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1",
        ),
        (
            "persistentvolumeclaims",
            claim,
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=2,persistentvolumeclaims=1,requests.storage=2",
        ),
        (
            "resource.k8s.io/resourceclaims",
            claims,
            "count/resourceclaims.resource.k8s.io=1,cpu.deviceclass.resource.k8s.io/devices=33,\
             gpu.deviceclass.resource.k8s.io/devices=6",
        ),
    ];
    for (text, object, expected) in cases {
        assert_eq!(shows(text, object.clone()), expected, "{text}");
        for name in counted(text, &object).usage.keys() {
            assert!(counts(&kind(text), name), "{text} {name}");
        }
    }
    assert!(!counts(&kind("pods"), "secrets"));
    assert!(!counts(&kind("apps/secrets"), "secrets"));
    assert!(!counts(&kind("pods"), "requests.storage"));
    assert!(counts(&kind("pods"), "requests.example.com/gpu"));
}

#[test]
fn scopes_choose_the_objects() {
    let quota = |scopes: Value, expressions: Value| {
        let spec = json!({"scopes": scopes, "scopeSelector": {"matchExpressions": expressions}});
        Quota::read(&json!({"spec": spec})).unwrap()
    };
    let priority = |operator: &str, values: Value| json!([{"scopeName": "PriorityClass", "operator": operator, "values": values}]);
    let best = json!({"containers": [{"name": "c"}]});
    let high = json!({"priorityClassName": "high", "activeDeadlineSeconds": 5,
        "containers": [resources(json!({"cpu": "1"}), json!({}))]});
    let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"namespaces": ["b"], "topologyKey": "k"}]}}, "containers": []});
    // Which of the three pods are included.
    let cases = [
        (json!([]), json!([]), [true, true, true]),
        (json!(["BestEffort"]), json!([]), [true, false, true]),
        (json!(["NotBestEffort"]), json!([]), [false, true, false]),
        (json!(["Terminating"]), json!([]), [false, true, false]),
        (
            json!(["NotTerminating", "BestEffort"]),
            json!([]),
            [true, false, true],
        ),
        (
            json!(["CrossNamespacePodAffinity"]),
            json!([]),
            [false, false, true],
        ),
        (
            json!([]),
            priority("In", json!(["high"])),
            [false, true, false],
        ),
        (
            json!([]),
            priority("NotIn", json!(["high"])),
            [true, false, true],
        ),
        (
            json!([]),
            priority("Exists", json!([])),
            [false, true, false],
        ),
        (
            json!([]),
            priority("DoesNotExist", json!([])),
            [true, false, true],
        ),
        (json!(["Unknown"]), json!([]), [false, false, false]),
    ];
    for (scopes, expressions, expected) in cases {
        let quota = quota(scopes.clone(), expressions.clone());
        let got = [&best, &high, &near]
            .map(|spec| quota.includes(&counted("pods", &json!({"spec": spec}))));
        assert_eq!(got, expected, "{scopes} {expressions}");
    }
    let fast =
        json!([{"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["fast"]}]);
    let claim = |class: &str| {
        counted(
            "persistentvolumeclaims",
            &json!({"spec": {"volumeAttributesClassName": class}}),
        )
    };
    assert!(quota(json!([]), fast.clone()).includes(&claim("fast")));
    assert!(!quota(json!([]), fast).includes(&claim("slow")));
    assert!(!quota(json!(["BestEffort"]), json!([])).includes(&claim("slow")));
    assert!(!quota(json!(["BestEffort"]), json!([])).includes(&counted("secrets", &json!({}))));
}

fn quota(hard: &Value, used: &Value) -> Quota {
    let object = json!({
        "metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used},
    });
    Quota::read(&object).unwrap()
}

fn write(old: Option<&Value>, new: Option<&Value>, enforced: bool) -> Write {
    let counted = |object: &Value| counted("pods", object);
    Write {
        kind: kind("pods"),
        old: old.map(counted),
        new: new.map(counted),
        enforced,
    }
}

#[test]
fn writes_are_bounded_and_counted() {
    let pod =
        |cpu: &str| json!({"spec": {"containers": [resources(json!({"cpu": cpu}), json!({}))]}});
    let (small, large) = (pod("1"), pod("3"));
    let plain = json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}});
    let ended = json!({"spec": plain["spec"], "status": {"phase": "Failed"}});
    let both = json!({"pods": "2", "requests.cpu": "4"});
    let limits = json!({"requests.cpu": "4", "limits.memory": "1Gi"});
    let used = |pods: &str, cpu: &str| {
        Ok(Effect::Used(amounts(
            &json!({"pods": pods, "requests.cpu": cpu}),
        )))
    };
    let cases = [
        (
            &both,
            json!({"pods": "1", "requests.cpu": "1"}),
            None,
            Some(&small),
            true,
            used("2", "2"),
        ),
        (
            &both,
            json!({"pods": "2", "requests.cpu": "2"}),
            None,
            Some(&large),
            true,
            Err(
                "exceeded quota: q, requested: pods=1,requests.cpu=3, used: pods=2,requests.cpu=2, limited: pods=2,requests.cpu=4",
            ),
        ),
        (
            &both,
            json!({"pods": "2", "requests.cpu": "0"}),
            None,
            Some(&small),
            true,
            Err("exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"),
        ),
        // Where the bounds do not hold, usage follows anyway.
        (
            &both,
            json!({"pods": "2", "requests.cpu": "0"}),
            None,
            Some(&small),
            false,
            used("3", "1"),
        ),
        (
            &limits,
            json!({"requests.cpu": "0", "limits.memory": "0"}),
            None,
            Some(&plain),
            true,
            Err("failed quota: q: must specify limits.memory for: a,b; requests.cpu for: a,b"),
        ),
        (
            &both,
            json!({"pods": "2", "requests.cpu": "4"}),
            Some(&small),
            None,
            true,
            used("1", "3"),
        ),
        (
            &both,
            json!({"pods": "2", "requests.cpu": "4"}),
            Some(&large),
            Some(&small),
            true,
            used("2", "2"),
        ),
        // A quota that is over its bounds stops only what makes it worse.
        (
            &both,
            json!({"pods": "9", "requests.cpu": "4"}),
            Some(&large),
            Some(&small),
            true,
            used("9", "2"),
        ),
        (
            &both,
            json!({"pods": "1", "requests.cpu": "3"}),
            Some(&plain),
            Some(&ended),
            false,
            used("0", "3"),
        ),
        (
            &both,
            json!({"pods": "0", "requests.cpu": "0"}),
            Some(&small),
            Some(&small),
            true,
            Ok(Effect::None),
        ),
        (
            &json!({"secrets": "1"}),
            json!({"secrets": "1"}),
            None,
            Some(&small),
            true,
            Ok(Effect::None),
        ),
        (
            &both,
            json!({"pods": "0"}),
            None,
            Some(&small),
            true,
            Err("status unknown for quota: q, resources: pods,requests.cpu"),
        ),
    ];
    for (hard, used, old, new, enforced, expected) in cases {
        let got = quota(hard, &used).after(&write(old, new, enforced));
        assert_eq!(got, expected.map_err(str::to_owned), "{hard} {used}");
    }
}

#[test]
fn a_quota_that_is_not_counted_yet_is_touched() {
    let pod = json!({"spec": {"containers": []}});
    let fresh =
        Quota::read(&json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}})).unwrap();
    assert_eq!(
        fresh.after(&write(None, Some(&pod), true)),
        Ok(Effect::Touch)
    );
    let fresh =
        Quota::read(&json!({"metadata": {"name": "q"}, "spec": {"hard": {"secrets": "0"}}}))
            .unwrap();
    assert_eq!(
        fresh.after(&write(None, Some(&pod), true)),
        Ok(Effect::None)
    );
}

#[test]
fn a_pod_moves_between_scopes() {
    let spec = json!({"hard": {"pods": "1"}, "scopes": ["Terminating"]});
    let status = json!({"hard": {"pods": "1"}, "used": {"pods": "0"}});
    let quota =
        Quota::read(&json!({"metadata": {"name": "q"}, "spec": spec, "status": status})).unwrap();
    let pod = json!({"spec": {"containers": []}});
    let bounded = json!({"spec": {"containers": [], "activeDeadlineSeconds": 1}});
    let effect = quota.after(&write(Some(&pod), Some(&bounded), false));
    assert_eq!(effect, Ok(Effect::Used(amounts(&json!({"pods": "1"})))));
}
