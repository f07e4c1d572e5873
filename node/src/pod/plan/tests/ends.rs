//! Deletion, deadlines, completion.
use super::*;

#[test]
fn a_deleted_pod_ends_gracefully_and_leaves_nothing() {
    let mut world = World::new(one("x"));
    world.run();
    world.delete(30);
    assert_eq!(
        world.run(),
        "stop:a term:a rm:a-1 stop-sandbox release delete-object forget"
    );
}

#[test]
fn a_container_that_ignores_the_signal_is_killed_when_the_grace_is_over() {
    let mut world = World::new(one("x"));
    world.run();
    world.held.insert("term:a".into());
    world.delete(30);
    assert_eq!(world.run(), "stop:a term:a wake+30");
    assert_eq!(world.after(29), "wake+1");
    assert_eq!(
        world.after(1),
        "kill:a rm:a-1 stop-sandbox release delete-object forget"
    );
}

#[test]
fn a_second_deletion_shortens_the_grace() {
    let mut world = World::new(one("x"));
    world.run();
    world.held.insert("term:a".into());
    world.delete(30);
    world.run();
    world.now = at(5);
    world.delete(0);
    assert_eq!(
        world.run(),
        "stop:a kill:a rm:a-1 stop-sandbox release delete-object forget"
    );
}

#[test]
fn a_pre_stop_hook_uses_the_grace_and_the_signal_still_gets_two_seconds() {
    let mut world = World::new(json!({ "containers": [
        { "name": "a", "image": "x", "lifecycle": { "preStop": { "exec": { "command": ["sleep", "60"] } } } },
    ] }));
    world.run();
    world
        .held
        .extend(["preStop:a", "term:a"].map(str::to_owned));
    world.delete(30);
    assert_eq!(world.run(), "stop:a preStop:a wake+30");
    assert_eq!(world.after(30), "term:a wake+2");
    assert_eq!(
        world.after(2),
        "kill:a rm:a-1 stop-sandbox release delete-object forget"
    );
}

#[test]
fn a_short_pre_stop_hook_is_followed_by_the_signal_at_once() {
    let mut world = World::new(json!({ "containers": [
        { "name": "a", "image": "x", "lifecycle": { "preStop": { "exec": { "command": ["true"] } } } },
    ] }));
    world.run();
    world.delete(30);
    assert_eq!(
        world.run(),
        "stop:a preStop:a term:a rm:a-1 stop-sandbox release delete-object forget"
    );
}

#[test]
fn sidecars_end_after_the_main_containers_in_reverse_order() {
    let sidecar = |name: &str| json!({ "name": name, "image": "x", "restartPolicy": "Always" });
    let mut world = World::new(json!({
        "initContainers": [sidecar("s"), sidecar("t")],
        "containers": [{ "name": "a", "image": "x" }],
    }));
    world.run();
    world.delete(30);
    assert_eq!(
        world.run(),
        "stop:a term:a rm:a-3 stop:t term:t rm:t-2 stop:s term:s rm:s-1 stop-sandbox release delete-object forget"
    );
}

#[test]
fn sidecars_of_a_pod_that_ran_to_completion_are_ended() {
    let mut world = World::new(json!({
        "restartPolicy": "OnFailure",
        "initContainers": [{ "name": "s", "image": "x", "restartPolicy": "Always" }],
        "containers": [{ "name": "a", "image": "x" }],
    }));
    world.run();
    world.exit("a", 0);
    assert_eq!(
        world.run(),
        "rm:a-2 stop:s term:s rm:s-1 stop-sandbox release"
    );
    world.delete(0);
    assert_eq!(world.run(), "delete-object forget");
}

#[test]
fn the_deadline_fails_the_pod_and_stops_it() {
    let mut world = World::new(json!({
        "activeDeadlineSeconds": 60, "terminationGracePeriodSeconds": 3,
        "containers": [{ "name": "a", "image": "x" }],
    }));
    assert_eq!(world.run(), "volumes sandbox#0 image:a start:a#0 wake+60");
    assert_eq!(
        world.after(60),
        "fail:DeadlineExceeded stop:a term:a rm:a-1 stop-sandbox release"
    );
    assert_eq!(
        world
            .seen
            .failure
            .as_ref()
            .map(|failure| failure.reason.as_str()),
        Some("DeadlineExceeded")
    );
    assert_eq!(
        world.run(),
        "",
        "the object stays until somebody deletes it"
    );
}

#[test]
fn a_pod_deleted_before_it_ran_waits_only_for_what_is_in_flight() {
    let mut world = World::new(one("x"));
    world
        .held
        .extend(["volumes", "sandbox#0", "image:a"].map(str::to_owned));
    world.run();
    world.delete(30);
    assert_eq!(world.run(), "");
    world.complete(&Step::CreateSandbox { attempt: 0 });
    world.complete(&Step::PrepareVolumes);
    assert_eq!(world.run(), "stop-sandbox release delete-object forget");
}

#[test]
fn a_start_in_flight_is_stopped_once_it_is_known() {
    let mut world = World::new(one("x"));
    world.held.insert("start:a#0".into());
    world.run();
    world.delete(30);
    assert_eq!(world.run(), "wake+30");
    world.complete(&Step::StartContainer {
        container: "a".into(),
        attempt: 0,
    });
    assert_eq!(
        world.run(),
        "stop:a term:a rm:a-1 stop-sandbox release delete-object forget"
    );
}

#[test]
fn a_pod_whose_object_is_gone_is_ended_and_forgotten() {
    let mut world = World::new(one("x"));
    world.run();
    world.seen.removed = true;
    assert_eq!(
        world.run(),
        "stop:a term:a rm:a-1 stop-sandbox release forget"
    );
}

#[test]
fn a_deletion_that_fails_is_retried() {
    let mut world = World::new(one("x"));
    world.run();
    world
        .failing
        .insert("delete-object".into(), ("FailedDelete", "server away"));
    world.delete(1);
    assert_eq!(
        world.run(),
        "stop:a term:a rm:a-1 stop-sandbox release delete-object wake+1"
    );
    world.failing.clear();
    assert_eq!(world.after(1), "delete-object forget");
}

#[test]
fn a_mount_that_failed_does_not_delay_the_deletion() {
    let mut world = World::new(one("x"));
    world
        .failing
        .insert("volumes".into(), ("FailedMount", "gone"));
    world.run();
    world.after(1);
    world.delete(30);
    assert_eq!(world.run(), "stop-sandbox release delete-object forget");
}

#[test]
fn what_cannot_be_removed_is_retried_and_keeps_the_object() {
    let mut world = World::new(one("x"));
    world.run();
    world
        .failing
        .insert("release".into(), ("FailedUnmount", "busy"));
    world.delete(1);
    assert_eq!(
        world.run(),
        "stop:a term:a rm:a-1 stop-sandbox release wake+1"
    );
    world.failing.clear();
    assert_eq!(world.after(1), "release delete-object forget");
}

#[test]
fn a_hook_running_when_the_agent_changed_is_not_waited_for() {
    let mut world = World::new(json!({ "containers": [
        { "name": "a", "image": "x", "lifecycle": { "preStop": { "exec": { "command": ["sleep"] } } } },
    ] }));
    world.run();
    world.held.insert("preStop:a".into());
    world.delete(30);
    world.run();
    world.seen.forget_steps();
    let stop = world.seen.containers["a"]
        .running()
        .unwrap()
        .stop
        .clone()
        .unwrap();
    assert_eq!(
        stop.stage,
        StopStage::PreStop(super::super::super::observed::Hook::Done)
    );
    assert_eq!(
        world.run(),
        "term:a rm:a-1 stop-sandbox release delete-object forget"
    );
}

#[test]
fn a_pod_the_node_cannot_run_fails_at_once() {
    let mut world = World::new(json!({
        "securityContext": { "sysctls": [{ "name": "kernel.panic", "value": "1" }] },
        "containers": [{ "name": "a", "image": "x" }],
    }));
    assert_eq!(world.run(), "fail:SysctlForbidden");
}
