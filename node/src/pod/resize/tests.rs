//! Decisions about resizes, and what they do to what is known.
use serde_json::json;

use super::*;

fn pod(cpu: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "ns", "uid": "u" },
        "spec": { "containers": [
            { "name": "a", "resources": { "requests": { "cpu": cpu, "memory": "64Mi" }, "limits": { "cpu": cpu } } },
            { "name": "b" },
        ] },
    }))
    .unwrap()
}

#[test]
fn limits_grow_before_and_shrink_after() {
    let one = |memory, quota, shares| Resources {
        memory_bytes: memory,
        cpu_quota_us: quota,
        cpu_shares: shares,
        ..Resources::default()
    };
    let big = one(Some(5), None, Some(9));
    let small = one(Some(3), Some(7), Some(4));
    assert_eq!(greater(&big, &small), big);
    assert_eq!(greater(&small, &big), big);
}

#[test]
fn only_the_named_resource_asks_for_a_new_start() {
    let container: Container = serde_json::from_value(json!({ "name": "a", "resizePolicy": [
        { "resourceName": "memory", "restartPolicy": "RestartContainer" },
        { "resourceName": "cpu", "restartPolicy": "NotRequired" },
    ] }))
    .unwrap();
    let now = Resources {
        memory_bytes: Some(1),
        ..Resources::default()
    };
    let more_cpu = Resources {
        cpu_quota_us: Some(1),
        ..now.clone()
    };
    let more_memory = Resources {
        memory_bytes: Some(2),
        ..now.clone()
    };
    assert!(!needs_restart(&container, &now, &more_cpu));
    assert!(needs_restart(&container, &now, &more_memory));
    assert!(!needs_restart(&Container::default(), &now, &more_memory));
    assert_eq!(too_small(&more_memory, &now, Some(1)), None);
    assert!(too_small(&more_memory, &now, Some(2)).is_some());
    assert_eq!(too_small(&now, &more_memory, Some(9)), None);
}

#[test]
fn what_was_allotted_stays_until_the_node_agrees() {
    let (before, after) = (pod("100m"), pod("200m"));
    let now = Timestamp::UNIX_EPOCH;
    let mut seen = Observed::default();
    for name in ["a", "b"] {
        seen.known_mut(name).allotted = asked(&before, name);
    }
    assert!(!seen.asks_for_other_resources(&before));
    assert!(matches!(seen.as_allotted(&before), Cow::Borrowed(_)));
    assert!(seen.asks_for_other_resources(&after));
    assert_eq!(*seen.as_allotted(&after), before);

    let refusal = Problem::new("Deferred", "later");
    seen.resized(Resized::Pending(refusal.clone()), now);
    assert_eq!(seen.resize_pending(), Some(&refusal));
    assert!(seen.resize.backoff.holds_until(now).is_some());
    assert_eq!(*seen.as_allotted(&after), before);

    seen.note_resources(&pod("150m"));
    assert!(
        seen.resize.backoff.holds_until(now).is_none(),
        "a new wish is looked at anew"
    );

    let failed = Problem::new("Error", "EBUSY");
    let mut changes = Changes {
        allotted: all_asked(&after),
        problem: Some(failed.clone()),
        ..Changes::default()
    };
    seen.resized(Resized::Given(changes.clone()), now);
    assert_eq!(seen.resize_pending(), None);
    assert_eq!(seen.resize_in_progress(), Some(Some(&failed)));
    assert!(!seen.asks_for_other_resources(&after));
    changes.problem = None;
    seen.resized(Resized::Given(changes), now);
    assert_eq!(seen.resize_in_progress(), None);
}
