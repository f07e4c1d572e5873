//! Containers that end, fail their probes or change, and what policy makes of it.
use super::*;

#[test]
fn policies_decide_after_an_exit() {
    let cases = [
        ("Always", 0, "rm:a-1 image:a start:a#1"),
        ("Always", 3, "rm:a-1 image:a start:a#1"),
        ("OnFailure", 0, "rm:a-1 stop-sandbox release"),
        ("OnFailure", 3, "rm:a-1 image:a start:a#1"),
        ("Never", 0, "rm:a-1 stop-sandbox release"),
        ("Never", 3, "rm:a-1 stop-sandbox release"),
    ];
    for (policy, code, expected) in cases {
        let mut world = World::new(
            json!({ "restartPolicy": policy, "containers": [{ "name": "a", "image": "x" }] }),
        );
        world.run();
        world.exit("a", code);
        assert_eq!(world.run(), expected, "{policy} after {code}");
    }
}

#[test]
fn a_containers_own_policy_and_rules_come_first() {
    let container = json!({
        "name": "a", "image": "x", "restartPolicy": "Never",
        "restartPolicyRules": [{ "action": "Restart", "exitCodes": { "operator": "In", "values": [42] } }],
    });
    for (code, expected) in [
        (42, "rm:a-1 image:a start:a#1"),
        (1, "rm:a-1 stop-sandbox release"),
    ] {
        let mut world = World::new(json!({ "containers": [container] }));
        world.run();
        world.exit("a", code);
        assert_eq!(world.run(), expected);
    }
}

#[test]
fn a_crash_loop_waits_longer_each_time() {
    let mut world = World::new(one("x"));
    world.run();
    world.exit("a", 1);
    assert_eq!(
        world.run(),
        "rm:a-1 image:a start:a#1",
        "the first restart is immediate"
    );
    world.exit("a", 1);
    assert_eq!(world.run(), "rm:a-2 wake+10");
    assert_eq!(world.after(10), "image:a start:a#2");
    world.exit("a", 1);
    assert_eq!(world.run(), "rm:a-3 wake+20");
    assert_eq!(world.seen.containers["a"].restarts(), 2);
}

#[test]
fn an_init_container_that_fails_is_retried_or_fails_the_pod() {
    for (policy, expected) in [
        ("Always", "rm:i-1 image:i start:i#1"),
        ("Never", "rm:i-1 stop-sandbox release"),
    ] {
        let mut world = World::new(json!({
            "restartPolicy": policy,
            "initContainers": [{ "name": "i", "image": "x" }],
            "containers": [{ "name": "a", "image": "x" }],
        }));
        world.stay.insert("i".into());
        world.run();
        world.exit("i", 1);
        assert_eq!(world.run(), expected, "{policy}");
    }
}

#[test]
fn a_failed_liveness_probe_restarts_with_the_probes_own_grace() {
    let mut world = World::new(json!({ "containers": [{
        "name": "a", "image": "x",
        "livenessProbe": { "tcpSocket": { "port": 1 }, "terminationGracePeriodSeconds": 5 },
    }] }));
    world.run();
    world.held.insert("term:a".into());
    world.probe("a", ProbeKind::Liveness, false);
    assert_eq!(world.run(), "stop:a term:a wake+5");
    assert_eq!(world.after(5), "kill:a rm:a-1 image:a start:a#1");
}

#[test]
fn a_failed_startup_probe_restarts_and_readiness_does_not() {
    let probe = json!({ "tcpSocket": { "port": 1 } });
    let mut world = World::new(json!({ "containers": [{
        "name": "a", "image": "x", "startupProbe": probe, "readinessProbe": probe,
    }] }));
    world.run();
    world.probe("a", ProbeKind::Readiness, false);
    assert_eq!(world.run(), "");
    world.probe("a", ProbeKind::Startup, false);
    assert_eq!(world.run(), "stop:a term:a rm:a-1 image:a start:a#1");
}

#[test]
fn verdicts_about_an_earlier_container_are_dropped() {
    let mut world = World::new(one("x"));
    world.run();
    world.exit("a", 1);
    world.run();
    let kind = ProbeKind::Liveness;
    world.finish(Outcome::Probed {
        container: "a".into(),
        id: "a-1".into(),
        kind,
        passing: false,
    });
    assert_eq!(world.run(), "");
}

#[test]
fn a_changed_image_restarts_whatever_the_policy() {
    let mut world = World::new(
        json!({ "restartPolicy": "Never", "containers": [{ "name": "a", "image": "x" }] }),
    );
    world.run();
    world.pod.spec.as_mut().unwrap().containers[0].image = Some("y".into());
    assert_eq!(world.run(), "stop:a term:a rm:a-1 image:a start:a#1");
    assert_eq!(world.run(), "");
}

#[test]
fn a_lost_sandbox_is_made_again_and_initialisation_with_it() {
    let mut world = World::new(json!({
        "initContainers": [{ "name": "i", "image": "x" }],
        "containers": [{ "name": "a", "image": "x" }],
    }));
    world.run();
    world.finish(Outcome::SandboxLost);
    assert_eq!(
        world.run(),
        "rm:a-2 stop-sandbox image:a sandbox#1 image:i start:i#1 rm:i-3 start:a#1"
    );
}

#[test]
fn a_lost_sandbox_of_a_pod_that_never_restarts_ends_it() {
    let mut world = World::new(
        json!({ "restartPolicy": "Never", "containers": [{ "name": "a", "image": "x" }] }),
    );
    world.run();
    world.finish(Outcome::SandboxLost);
    assert_eq!(world.run(), "rm:a-1 stop-sandbox release");
}

#[test]
fn a_new_agent_goes_on_where_the_old_one_stopped() {
    let mut world = World::new(one("x"));
    world
        .held
        .extend(["volumes", "sandbox#0", "image:a"].map(str::to_owned));
    world.run();
    world.held.clear();
    let saved = serde_json::to_string(&world.seen).unwrap();
    world.seen = serde_json::from_str(&saved).unwrap();
    world.seen.forget_steps();
    assert_eq!(
        world.run(),
        "volumes stop-sandbox image:a sandbox#1 start:a#0"
    );
}

#[test]
fn a_resize_follows_the_spec_and_waits_where_the_node_has_nothing() {
    let spec = |cpu: &str| {
        json!({ "containers": [{
            "name": "a", "image": "x", "resources": { "limits": { "cpu": cpu } },
        }] })
    };
    let mut world = World::new(spec("100m"));
    assert_eq!(world.run(), "volumes sandbox#0 image:a start:a#0");
    world.pod = pod(spec("200m"));
    assert_eq!(world.run(), "resize");
    assert_eq!(world.run(), "");
    let refusal = ("Deferred", "Node didn't have enough resource: cpu");
    world.failing.insert("resize".into(), refusal);
    world.pod = pod(spec("300m"));
    assert_eq!(world.run(), "resize wake+1");
    assert_eq!(world.seen.resize_pending().unwrap().reason, "Deferred");
    world.failing.clear();
    assert_eq!(world.after(1), "resize");
    assert_eq!(world.seen.resize_pending(), None);
    // The old amounts are asked for again before the node could give others.
    world.failing.insert("resize".into(), refusal);
    world.pod = pod(spec("400m"));
    world.run();
    world.pod = pod(spec("300m"));
    assert_eq!(world.run(), "");
    assert_eq!(world.seen.resize_pending(), None);
}

#[test]
fn a_container_that_wants_it_is_started_anew_for_a_resize() {
    let spec = |memory: &str| {
        json!({ "restartPolicy": "Never", "containers": [{
            "name": "a", "image": "x", "resources": { "limits": { "memory": memory } },
        }] })
    };
    let mut world = World::new(spec("1Mi"));
    world.run();
    world.restart.insert("a".into());
    world.pod = pod(spec("2Mi"));
    assert_eq!(world.run(), "resize stop:a term:a rm:a-1 image:a start:a#1");
    assert_eq!(world.seen.resize_in_progress(), None);
}
