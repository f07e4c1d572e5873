//! What comes to a pod that runs: ephemeral containers, other resources.
use super::*;
use crate::pod::resize::{Changes, Resized, all_asked};
use crate::runtime::Resources;

#[test]
fn ephemeral_containers_have_statuses_that_nothing_waits_for() {
    let spec = json!({
        "containers": [{ "name": "a", "image": "x" }],
        "ephemeralContainers": [{ "name": "debug", "image": "x", "targetContainerName": "a" }],
    });
    let story = Story::new(spec).sandbox().start("a");
    let status = story.status();
    assert_eq!(condition(&status, "Ready").status, "True");
    let added = &status.ephemeral_container_statuses.as_ref().unwrap()[0];
    let waiting = added.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("ContainerCreating"));
    let story = story.start("debug");
    let status = story.status();
    let added = &status.ephemeral_container_statuses.as_ref().unwrap()[0];
    assert!(added.state.as_ref().unwrap().running.is_some());
    assert_eq!((added.ready, added.started), (false, None));
    let status = story.exit("debug", 3, "Error").status();
    let added = &status.ephemeral_container_statuses.as_ref().unwrap()[0];
    let ended = added.state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((ended.exit_code, added.restart_count), (3, 0));
    assert_eq!(condition(&status, "Ready").status, "True");
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn a_resize_is_told_as_the_kernel_has_it_and_its_conditions_come_and_go() {
    let spec = |cpu: &str| json!({ "containers": [{ "name": "a", "image": "x", "resources": { "limits": { "cpu": cpu } } }] });
    let kernel = |quota| Resources {
        cpu_quota_us: Some(quota),
        cpu_shares: Some(204),
        ..Resources::default()
    };
    let told = |status: &PodStatus| {
        let own = &status.container_statuses.as_ref().unwrap()[0];
        let limits = own.resources.as_ref().and_then(|own| own.limits.clone());
        limits.and_then(|limits| limits.get("cpu").map(|cpu| cpu.0.clone()))
    };
    let has = |status: &PodStatus, type_: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.any(|condition| condition.type_ == type_)
    };
    let mut story = Story::new(spec("200m")).sandbox().start("a");
    assert_eq!(
        told(&story.status()),
        None,
        "nothing is claimed before the kernel was asked"
    );
    story.seen.note_limits("a", kernel(20_000));
    assert_eq!(told(&story.status()).as_deref(), Some("200m"));

    // The spec alone changes nothing.
    story.pod = pod(spec("400m"));
    let before = story.status();
    assert_eq!(told(&before).as_deref(), Some("200m"));
    let refusal = Problem::new("Deferred", "later");
    let story = story.finish(Outcome::Resized(Resized::Pending(refusal)));
    let status = story.status();
    let pending = condition(&status, "PodResizePending");
    assert_eq!(
        (pending.status.as_str(), pending.reason.as_deref()),
        ("True", Some("Deferred"))
    );
    assert_eq!(told(&status).as_deref(), Some("200m"));

    let failure = Problem::new("Error", "EBUSY");
    let changes = |quota, problem: Option<Problem>| Changes {
        allotted: all_asked(&pod(spec("400m"))),
        limits: [("a".to_owned(), kernel(quota))].into(),
        problem,
        ..Changes::default()
    };
    let given = Resized::Given(changes(20_000, Some(failure)));
    let mut story = story.finish(Outcome::Resized(given));
    let status = story.status();
    assert!(!has(&status, "PodResizePending"));
    assert_eq!(
        condition(&status, "PodResizeInProgress").reason.as_deref(),
        Some("Error")
    );
    assert_eq!(
        told(&status).as_deref(),
        Some("200m"),
        "the kernel did not take it"
    );

    story.pod.status = Some(status.clone());
    let story = story.finish(Outcome::Resized(Resized::Given(changes(40_000, None))));
    let done = story.status();
    assert_eq!(told(&done).as_deref(), Some("400m"));
    assert!(!has(&done, "PodResizeInProgress"));
    let patch = patch("u", &status, &done).unwrap();
    let gone = json!({ "type": "PodResizeInProgress", "$patch": "delete" });
    assert!(
        patch["status"]["conditions"]
            .as_array()
            .unwrap()
            .contains(&gone),
        "{patch}"
    );
}
