//! From nothing to running.
use super::*;

#[test]
fn a_simple_pod_starts() {
    let mut world = World::new(one("x"));
    assert_eq!(world.run(), "volumes sandbox#0 image:a start:a#0");
    assert_eq!(world.run(), "", "a running pod asks for nothing");
}

#[test]
fn volumes_sandbox_and_image_are_made_at_the_same_time() {
    let mut world = World::new(one("x"));
    world
        .held
        .extend(["volumes", "sandbox#0", "image:a"].map(str::to_owned));
    assert_eq!(world.run(), "volumes sandbox#0 image:a");
    world.complete(&Step::CreateSandbox { attempt: 0 });
    assert_eq!(world.run(), "");
    world.complete(&Step::PrepareVolumes);
    assert_eq!(world.run(), "");
    world.complete(&Step::EnsureImage {
        container: "a".into(),
    });
    assert_eq!(world.run(), "start:a#0");
}

#[test]
fn init_containers_run_one_after_another_before_the_main_ones() {
    let mut world = World::new(json!({
        "initContainers": [{ "name": "i", "image": "x" }, { "name": "j", "image": "x" }],
        "containers": [{ "name": "a", "image": "x" }, { "name": "b", "image": "x" }],
    }));
    assert_eq!(
        world.run(),
        "volumes sandbox#0 image:i start:i#0 rm:i-1 image:j start:j#0 rm:j-2 image:a image:b start:a#0 start:b#0"
    );
}

#[test]
fn a_sidecar_starts_in_turn_and_holds_the_next_until_its_startup_probe_passes() {
    let mut world = World::new(json!({
        "initContainers": [
            { "name": "s", "image": "x", "restartPolicy": "Always", "startupProbe": { "tcpSocket": { "port": 1 } } },
            { "name": "i", "image": "x" },
        ],
        "containers": [{ "name": "a", "image": "x" }],
    }));
    assert_eq!(world.run(), "volumes sandbox#0 image:s start:s#0");
    world.probe("s", ProbeKind::Startup, true);
    assert_eq!(world.run(), "image:i start:i#0 rm:i-2 image:a start:a#0");
    world.exit("s", 1);
    assert_eq!(
        world.run(),
        "rm:s-1 image:s start:s#1",
        "a sidecar restarts beside the main containers"
    );
}

#[test]
fn a_post_start_hook_holds_the_next_container() {
    let mut world = World::new(json!({ "containers": [
        { "name": "a", "image": "x", "lifecycle": { "postStart": { "exec": { "command": ["true"] } } } },
        { "name": "b", "image": "x" },
    ] }));
    world.held.insert("postStart:a".into());
    assert_eq!(
        world.run(),
        "volumes sandbox#0 image:a image:b start:a#0 postStart:a"
    );
    world.finish(Outcome::PostStarted {
        container: "a".into(),
        result: Ok(()),
    });
    assert_eq!(world.run(), "start:b#0");
}

#[test]
fn a_failed_post_start_hook_ends_the_container_and_the_policy_restarts_it() {
    let mut world = World::new(json!({ "containers": [
        { "name": "a", "image": "x", "lifecycle": { "postStart": { "exec": { "command": ["false"] } } } },
    ] }));
    world.failing.insert("postStart:a".into(), ("", "exit 1"));
    world.held.insert("start:a#1".into());
    assert_eq!(
        world.run(),
        "volumes sandbox#0 image:a start:a#0 postStart:a term:a rm:a-1 image:a start:a#1"
    );
}

#[test]
fn an_image_that_cannot_be_pulled_waits_ten_seconds_then_twenty_and_does_not_hold_its_neighbour() {
    let mut world = World::new(json!({ "containers": [
        { "name": "a", "image": "x" }, { "name": "b", "image": "x" },
    ] }));
    world
        .failing
        .insert("image:a".into(), ("ErrImagePull", "no such image"));
    assert_eq!(
        world.run(),
        "volumes sandbox#0 image:a image:b start:b#0 wake+1"
    );
    assert_eq!(world.after(1), "wake+9");
    assert_eq!(world.after(9), "image:a wake+1");
    assert_eq!(world.after(1), "wake+19");
    world.pod.spec.as_mut().unwrap().containers[0].image = Some("y".into());
    world.failing.clear();
    assert_eq!(
        world.run(),
        "image:a start:a#0",
        "a new image is tried at once"
    );
}

#[test]
fn a_refused_start_is_tried_again_soon_without_counting_as_a_restart() {
    let mut world = World::new(one("x"));
    world.failing.insert(
        "start:a#0".into(),
        ("CreateContainerConfigError", "configmap \"m\" not found"),
    );
    assert_eq!(
        world.run(),
        "volumes sandbox#0 image:a start:a#0 image:a wake+1"
    );
    world.failing.clear();
    assert_eq!(world.after(1), "start:a#0");
    assert_eq!(world.seen.containers["a"].restarts(), 0);
    assert_eq!(world.seen.containers["a"].problem, None);
}

#[test]
fn a_program_that_cannot_be_run_counts_as_an_exit() {
    let mut world = World::new(
        json!({ "restartPolicy": "Never", "containers": [{ "name": "a", "image": "x" }] }),
    );
    world
        .failing
        .insert("start:a#0".into(), ("StartError", "no such file"));
    assert_eq!(
        world.run(),
        "volumes sandbox#0 image:a start:a#0 rm:a-1 stop-sandbox release"
    );
    assert_eq!(
        world.seen.containers["a"]
            .exited()
            .map(|exit| exit.exit_code),
        Some(128)
    );
}

#[test]
fn failing_volumes_and_sandboxes_are_retried_with_backoff() {
    let mut world = World::new(one("x"));
    world
        .failing
        .insert("volumes".into(), ("FailedMount", "gone"));
    assert_eq!(world.run(), "volumes sandbox#0 image:a wake+1");
    assert_eq!(world.after(1), "volumes wake+2");
    world.failing.clear();
    assert_eq!(world.after(2), "volumes start:a#0");

    let mut world = World::new(one("x"));
    world
        .failing
        .insert("sandbox#0".into(), ("FailedCreatePodSandBox", "no address"));
    assert_eq!(world.run(), "volumes sandbox#0 image:a wake+1");
    assert_eq!(world.after(1), "stop-sandbox sandbox#1 start:a#0");
}

#[test]
fn changed_objects_and_ageing_tokens_are_written_anew() {
    let mut world = World::new(one("x"));
    world.refresh_at = Some(at(100));
    assert_eq!(world.run(), "volumes sandbox#0 image:a start:a#0 wake+100");
    world.finish(Outcome::ObjectsChanged);
    assert_eq!(world.run(), "refresh wake+100");
    world.refresh_at = Some(at(300));
    assert_eq!(world.after(100), "refresh wake+200");
    world
        .failing
        .insert("refresh".into(), ("FailedMount", "server away"));
    world.finish(Outcome::ObjectsChanged);
    assert_eq!(world.run(), "refresh wake+1");
}

#[test]
fn an_object_that_appears_ends_the_wait_for_it() {
    let mut world = World::new(one("x"));
    world.failing.insert(
        "volumes".into(),
        ("FailedMount", "configmap \"m\" not found"),
    );
    world.run();
    world.after(1);
    world.failing.clear();
    assert_eq!(world.run(), "wake+2");
    world.finish(Outcome::ObjectsChanged);
    assert_eq!(world.run(), "volumes start:a#0");
}

#[test]
fn what_volumes_show_of_the_pod_is_written_anew_when_it_changes() {
    let item = json!({ "path": "l", "fieldRef": { "fieldPath": "metadata.labels" } });
    let mut spec = one("x");
    spec["volumes"] = json!([{ "name": "v", "downwardAPI": { "items": [item] } }]);
    let mut world = World::new(spec);
    assert_eq!(world.run(), "volumes sandbox#0 image:a start:a#0");
    world.pod.metadata.resource_version = Some("2".into());
    assert_eq!(world.run(), "");
    let labels = std::collections::BTreeMap::from([("a".to_owned(), "1".to_owned())]);
    world.pod.metadata.labels = Some(labels);
    assert_eq!(world.run(), "refresh");
    assert_eq!(world.run(), "");
    let mut plain = World::new(one("x"));
    plain.run();
    plain.pod.metadata.labels = world.pod.metadata.labels;
    assert_eq!(plain.run(), "");
}

#[test]
fn ephemeral_containers_run_once_beside_whatever_the_pod_does() {
    let mut world = World::new(json!({
        "containers": [{ "name": "a", "image": "x" }],
        "initContainers": [{ "name": "i", "image": "x" }],
    }));
    world.stay.insert("i".into());
    assert_eq!(world.run(), "volumes sandbox#0 image:i start:i#0");
    let add = |world: &mut World, name: &str| {
        let added = serde_json::from_value(json!({ "name": name, "image": "x" })).unwrap();
        let spec = world.pod.spec.as_mut().unwrap();
        spec.ephemeral_containers
            .get_or_insert_default()
            .push(added);
    };
    add(&mut world, "debug");
    assert_eq!(world.run(), "image:debug start:debug#0");
    world.exit("debug", 1);
    assert_eq!(world.run(), "rm:debug-2");
    // Its image takes its time, which holds nothing else up.
    add(&mut world, "slow");
    world.held.insert("image:slow".into());
    world.exit("i", 0);
    assert_eq!(world.run(), "rm:i-1 image:a image:slow start:a#0");
    add(&mut world, "third");
    assert_eq!(world.run(), "image:third");
    world.delete(30);
    assert_eq!(
        world.run(),
        "stop:a term:a rm:a-3 stop-sandbox release delete-object forget"
    );
}

#[test]
fn ephemeral_containers_end_with_their_pod_and_never_keep_it() {
    let mut spec = one("x");
    spec["restartPolicy"] = json!("Never");
    spec["ephemeralContainers"] = json!([{ "name": "debug", "image": "x" }]);
    let mut world = World::new(spec);
    assert_eq!(
        world.run(),
        "volumes sandbox#0 image:a image:debug start:a#0 start:debug#0"
    );
    world.exit("a", 0);
    assert_eq!(
        world.run(),
        "rm:a-1 stop:debug term:debug rm:debug-2 stop-sandbox release"
    );
}
