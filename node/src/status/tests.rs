//! Statuses of pods in every state of their life.
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition};
use serde_json::{Value, json};

use super::*;
use crate::pod::observed::{Exit, ImageId, Problem};
use crate::pod::step::{Outcome, ProbeKind, StartFailure, Started, Step};

mod later;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn pod(spec: Value) -> Pod {
    let metadata = json!({ "name": "p", "namespace": "ns", "uid": "u", "generation": 3 });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
}

/// What happened to a pod, and its status at the end of it.
struct Story {
    pod: Pod,
    seen: Observed,
    now: Timestamp,
}

impl Story {
    fn new(spec: Value) -> Self {
        let mut story = Self {
            pod: pod(spec),
            seen: Observed::default(),
            now: at(0),
        };
        story.seen.note(&story.pod, story.now);
        story
    }

    fn sandbox(mut self) -> Self {
        self.seen
            .begin(&self.pod, &Step::CreateSandbox { attempt: 0 }, self.now);
        self.finish(Outcome::SandboxCreated(Ok(vec![
            "10.1.0.2".parse().unwrap(),
        ])))
    }

    fn finish(mut self, outcome: Outcome) -> Self {
        self.seen.finish(&self.pod, outcome, self.now);
        self
    }

    fn image(mut self, container: &str, result: Result<ImageId, Problem>) -> Self {
        let container = container.to_owned();
        self.seen.begin(
            &self.pod,
            &Step::EnsureImage {
                container: container.clone(),
            },
            self.now,
        );
        self.finish(Outcome::Image { container, result })
    }

    fn start(self, container: &str) -> Self {
        let image = ImageId {
            name: "docker.io/library/x:latest".into(),
            id: "sha256:1".into(),
            digest: "docker.io/library/x@sha256:2".into(),
        };
        let mut story = self.image(container, Ok(image));
        let (container, at) = (container.to_owned(), story.now);
        story.seen.begin(
            &story.pod,
            &Step::StartContainer {
                container: container.clone(),
                attempt: 0,
            },
            at,
        );
        let id = format!("{container}-id");
        story.finish(Outcome::Started {
            container,
            result: Ok(Started {
                id,
                pid: 7,
                at,
                limits: None,
            }),
        })
    }

    fn refuse(mut self, container: &str, failure: StartFailure) -> Self {
        let container = container.to_owned();
        let step = Step::StartContainer {
            container: container.clone(),
            attempt: 0,
        };
        self.seen.begin(&self.pod, &step, self.now);
        self.finish(Outcome::Started {
            container,
            result: Err(failure),
        })
    }

    fn exit(self, container: &str, code: i32, reason: &str) -> Self {
        let exit = Exit {
            id: format!("{container}-id"),
            exit_code: code,
            reason: reason.into(),
            finished_at: Some(self.now),
            ..Exit::default()
        };
        self.finish(Outcome::Exited {
            container: container.into(),
            exit,
        })
    }

    fn probe(self, container: &str, kind: ProbeKind, passing: bool) -> Self {
        let id = format!("{container}-id");
        self.finish(Outcome::Probed {
            container: container.into(),
            id,
            kind,
            passing,
        })
    }

    fn after(mut self, seconds: i64) -> Self {
        self.now = self
            .now
            .checked_add(k8s_openapi::jiff::SignedDuration::from_secs(seconds))
            .unwrap();
        self
    }

    fn status(&self) -> PodStatus {
        compute(
            &self.pod,
            &self.seen,
            &["192.168.0.5".parse().unwrap()],
            self.now,
        )
    }

    /// `phase; name=state …; True conditions`.
    fn summary(&self) -> String {
        let status = self.status();
        let all = status
            .init_container_statuses
            .iter()
            .flatten()
            .chain(status.container_statuses.iter().flatten());
        let containers: Vec<String> = all.map(container_summary).collect();
        let conditions: Vec<&str> = status
            .conditions
            .iter()
            .flatten()
            .filter(|c| c.status == "True")
            .map(|c| short(&c.type_))
            .collect();
        format!(
            "{}; {}; {}",
            status.phase.unwrap(),
            containers.join(" "),
            conditions.join(" ")
        )
    }
}

fn short(type_: &str) -> &str {
    match type_ {
        "PodReadyToStartContainers" => "sandbox",
        "Initialized" => "init",
        "Ready" => "ready",
        "ContainersReady" => "containers",
        "PodScheduled" => "scheduled",
        other => other,
    }
}

fn container_summary(status: &ContainerStatus) -> String {
    let state = status.state.clone().unwrap();
    let what = if state.running.is_some() {
        "running".to_owned()
    } else if let Some(terminated) = state.terminated {
        format!("{}({})", terminated.reason.unwrap(), terminated.exit_code)
    } else {
        state.waiting.unwrap().reason.unwrap()
    };
    let last = status
        .last_state
        .as_ref()
        .and_then(|last| last.terminated.as_ref());
    let last = last
        .map(|last| format!("<{}({})", last.reason.clone().unwrap(), last.exit_code))
        .unwrap_or_default();
    let restarts = if status.restart_count > 0 {
        format!("x{}", status.restart_count)
    } else {
        String::new()
    };
    let ready = if status.ready { "+" } else { "" };
    format!("{}={what}{last}{restarts}{ready}", status.name)
}

fn one() -> Value {
    json!({ "containers": [{ "name": "a", "image": "x" }] })
}

fn with_init(policy: &str) -> Value {
    json!({
        "restartPolicy": policy,
        "initContainers": [{ "name": "i", "image": "x" }],
        "containers": [{ "name": "a", "image": "x" }],
    })
}

fn condition(status: &PodStatus, type_: &str) -> PodCondition {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == type_)
        .cloned()
        .unwrap()
}

#[test]
fn a_pods_way_to_ready() {
    let story = Story::new(one());
    assert_eq!(
        story.summary(),
        "Pending; a=ContainerCreating; init scheduled"
    );
    let story = story.sandbox();
    assert_eq!(
        story.summary(),
        "Pending; a=ContainerCreating; sandbox init scheduled"
    );
    let story = story.start("a");
    assert_eq!(
        story.summary(),
        "Running; a=running+; sandbox init ready containers scheduled"
    );
    let status = story.status();
    assert_eq!(status.pod_ip.as_deref(), Some("10.1.0.2"));
    assert_eq!(status.host_ip.as_deref(), Some("192.168.0.5"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    assert_eq!(status.observed_generation, Some(3));
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.container_id.as_deref(), Some("davit://a-id"));
    assert_eq!(container.image, "docker.io/library/x:latest");
    assert_eq!(container.image_id, "docker.io/library/x@sha256:2");
    assert_eq!(container.started, Some(true));
}

#[test]
fn initialisation_shows_in_reasons_and_conditions() {
    let story = Story::new(with_init("Always")).sandbox();
    assert_eq!(
        story.summary(),
        "Pending; i=PodInitializing a=PodInitializing; sandbox scheduled"
    );
    let initialized = condition(&story.status(), "Initialized");
    assert_eq!(
        initialized.reason.as_deref(),
        Some("ContainersNotInitialized")
    );
    assert_eq!(
        initialized.message.as_deref(),
        Some("containers with incomplete status: [i]")
    );
    let story = story.start("i");
    assert_eq!(
        story.summary(),
        "Pending; i=running a=PodInitializing; sandbox scheduled"
    );
    let story = story.exit("i", 0, "Completed");
    assert_eq!(
        story.summary(),
        "Pending; i=Completed(0)+ a=PodInitializing; sandbox init scheduled"
    );
    let story = story.start("a");
    assert_eq!(
        story.summary(),
        "Running; i=Completed(0)+ a=running+; sandbox init ready containers scheduled"
    );
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts_it() {
    let story = Story::new(with_init("Never"))
        .sandbox()
        .start("i")
        .exit("i", 1, "Error");
    assert_eq!(
        story.summary(),
        "Failed; i=Error(1) a=PodInitializing; sandbox scheduled"
    );
    let story = Story::new(with_init("Always"))
        .sandbox()
        .start("i")
        .exit("i", 1, "Error");
    assert_eq!(
        story.summary(),
        "Pending; i=Error(1) a=PodInitializing; sandbox scheduled"
    );
}

#[test]
fn a_crash_loop_reads_as_kubectl_users_know_it() {
    let story = Story::new(one()).sandbox().start("a").exit("a", 1, "Error");
    assert_eq!(
        story.summary(),
        "Running; a=Error(1); sandbox init scheduled",
        "restarts at once"
    );
    let story = story.start("a");
    assert_eq!(
        story.summary(),
        "Running; a=running<Error(1)x1+; sandbox init ready containers scheduled"
    );
    let story = story.exit("a", 137, "OOMKilled");
    assert_eq!(
        story.summary(),
        "Running; a=CrashLoopBackOff<OOMKilled(137)x1; sandbox init scheduled"
    );
    let status = story.status();
    let waiting = status.container_statuses.unwrap()[0]
        .state
        .clone()
        .unwrap()
        .waiting
        .unwrap();
    assert_eq!(
        waiting.message.as_deref(),
        Some("back-off 10s restarting failed container=a pod=p_ns(u)")
    );
    let story = story.after(10);
    assert_eq!(
        story.summary(),
        "Running; a=OOMKilled(137)<Error(1)x1; sandbox init scheduled"
    );
}

#[test]
fn a_missing_image_goes_from_error_to_back_off() {
    let problem = Problem::new("ErrImagePull", "not found");
    let story = Story::new(one()).sandbox().image("a", Err(problem));
    assert_eq!(
        story.summary(),
        "Pending; a=ErrImagePull; sandbox init scheduled"
    );
    let story = story.after(1);
    assert_eq!(
        story.summary(),
        "Pending; a=ImagePullBackOff; sandbox init scheduled"
    );
    let status = story.status();
    let waiting = status.container_statuses.unwrap()[0]
        .state
        .clone()
        .unwrap()
        .waiting
        .unwrap();
    assert_eq!(
        waiting.message.as_deref(),
        Some("Back-off pulling image \"x\": ErrImagePull: not found")
    );
    for reason in ["InvalidImageName", "ErrImageNeverPull"] {
        let story = Story::new(one())
            .sandbox()
            .image("a", Err(Problem::new(reason, "m")))
            .after(5);
        assert_eq!(
            story.summary(),
            format!("Pending; a={reason}; sandbox init scheduled")
        );
    }
}

#[test]
fn failed_starts_show_their_reason() {
    let refused = StartFailure::Refused(Problem::new(
        "CreateContainerConfigError",
        "configmap \"m\" not found",
    ));
    let story = Story::new(one()).sandbox().refuse("a", refused);
    assert_eq!(
        story.summary(),
        "Pending; a=CreateContainerConfigError; sandbox init scheduled"
    );
    let not_run = || StartFailure::NotRun {
        id: "a-id".into(),
        message: "no such file".into(),
    };
    let story = Story::new(one()).sandbox().refuse("a", not_run());
    assert_eq!(
        story.summary(),
        "Running; a=RunContainerError<StartError(128); sandbox init scheduled"
    );
    let story = story.refuse("a", not_run());
    assert_eq!(
        story.summary(),
        "Running; a=CrashLoopBackOff<StartError(128)x1; sandbox init scheduled"
    );
}

#[test]
fn completion_by_policy() {
    for (policy, code, expected) in [
        (
            "Never",
            0,
            "Succeeded; a=Completed(0); sandbox init scheduled",
        ),
        ("Never", 2, "Failed; a=Error(2); sandbox init scheduled"),
        (
            "OnFailure",
            0,
            "Succeeded; a=Completed(0); sandbox init scheduled",
        ),
    ] {
        let spec =
            json!({ "restartPolicy": policy, "containers": [{ "name": "a", "image": "x" }] });
        let reason = if code == 0 { "Completed" } else { "Error" };
        let story = Story::new(spec)
            .sandbox()
            .start("a")
            .exit("a", code, reason);
        assert_eq!(story.summary(), expected, "{policy} {code}");
        let ready = condition(&story.status(), "Ready");
        assert_eq!(
            ready.reason.as_deref(),
            Some(if code == 0 {
                "PodCompleted"
            } else {
                "PodFailed"
            })
        );
    }
}

#[test]
fn probes_and_gates_decide_readiness() {
    let probe = json!({ "tcpSocket": { "port": 1 } });
    let story = Story::new(json!({
        "readinessGates": [{ "conditionType": "example.com/gate" }],
        "containers": [{ "name": "a", "image": "x", "startupProbe": probe, "readinessProbe": probe }],
    }));
    let story = story.sandbox().start("a");
    assert_eq!(
        story.summary(),
        "Running; a=running; sandbox init scheduled"
    );
    assert_eq!(
        condition(&story.status(), "Ready").message.as_deref(),
        Some("containers with unready status: [a]")
    );
    let story = story
        .probe("a", ProbeKind::Startup, true)
        .probe("a", ProbeKind::Readiness, true);
    assert_eq!(
        story.summary(),
        "Running; a=running+; sandbox init containers scheduled"
    );
    assert_eq!(
        condition(&story.status(), "Ready").reason.as_deref(),
        Some("ReadinessGatesNotReady")
    );
    let mut story = story;
    let gate = json!({ "conditions": [{ "type": "example.com/gate", "status": "True" }] });
    story.pod.status = serde_json::from_value(gate).unwrap();
    assert_eq!(
        story.summary(),
        "Running; a=running+; example.com/gate sandbox init ready containers scheduled"
    );
}

#[test]
fn a_sidecar_counts_for_readiness_and_initialisation() {
    let story = Story::new(json!({
        "initContainers": [{ "name": "s", "image": "x", "restartPolicy": "Always" }],
        "containers": [{ "name": "a", "image": "x" }],
    }));
    let story = story.sandbox().start("s");
    assert_eq!(
        story.summary(),
        "Pending; s=running+ a=PodInitializing; sandbox init scheduled"
    );
    let story = story.start("a");
    assert_eq!(
        story.summary(),
        "Running; s=running+ a=running+; sandbox init ready containers scheduled"
    );
    let story = story.exit("s", 1, "Error");
    assert_eq!(
        story.summary(),
        "Running; s=Error(1) a=running+; sandbox init scheduled"
    );
}

#[test]
fn a_deleted_pod_ends_failed_unless_all_succeeded() {
    for (code, phase) in [(0, "Succeeded"), (143, "Failed")] {
        let mut story = Story::new(one()).sandbox().start("a");
        story.pod.metadata.deletion_timestamp = Some(Time(at(1)));
        assert!(story.summary().starts_with("Running; a=running+;"));
        let story = story.exit("a", code, "Error");
        assert_eq!(story.status().phase.as_deref(), Some(phase));
    }
    let mut never_ran = Story::new(one());
    never_ran.pod.metadata.deletion_timestamp = Some(Time(at(1)));
    assert_eq!(never_ran.status().phase.as_deref(), Some("Failed"));
}

#[test]
fn a_pod_that_failed_as_a_whole_says_why_and_stays_failed() {
    let mut story = Story::new(one()).sandbox().start("a");
    let fail = Step::Fail {
        reason: "DeadlineExceeded".into(),
        message: "too long".into(),
    };
    story.seen.begin(&story.pod, &fail, story.now);
    let status = story.status();
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    story.pod.status = Some(status);
    story.seen.failure = None;
    assert_eq!(story.status().phase.as_deref(), Some("Failed"));
}

#[test]
fn transition_times_move_only_with_the_status() {
    let mut story = Story::new(one()).sandbox();
    story.pod.status = Some(story.status());
    let story = story.after(5).start("a");
    let status = story.status();
    assert_eq!(
        condition(&status, "Initialized").last_transition_time,
        Some(Time(at(0)))
    );
    assert_eq!(
        condition(&status, "Ready").last_transition_time,
        Some(Time(at(5)))
    );
}

#[test]
fn patches_hold_only_what_changed() {
    let story = Story::new(one()).sandbox();
    let old = story.status();
    assert_eq!(patch("u", &old, &old), None);
    let mut story = story;
    story.pod.status = Some(old.clone());
    let new = story.start("a").status();
    let patch = patch("u", &old, &new).unwrap();
    assert_eq!(patch["metadata"], json!({ "uid": "u" }));
    let status = patch["status"].as_object().unwrap();
    assert_eq!(
        status.keys().collect::<Vec<_>>(),
        ["conditions", "containerStatuses", "phase"]
    );
    let types: Vec<_> = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].clone())
        .collect();
    assert_eq!(types, ["Ready", "ContainersReady"]);
    assert_eq!(
        status["conditions"][0]["reason"],
        Value::Null,
        "a reason that is gone is removed"
    );
}

#[test]
fn changed_addresses_replace_the_old_ones() {
    let old: PodStatus =
        serde_json::from_value(json!({ "podIP": "10.1.0.1", "podIPs": [{ "ip": "10.1.0.1" }] }))
            .unwrap();
    let new: PodStatus =
        serde_json::from_value(json!({ "podIP": "10.1.0.2", "podIPs": [{ "ip": "10.1.0.2" }] }))
            .unwrap();
    let patch = patch("u", &old, &new).unwrap();
    assert_eq!(
        patch["status"]["podIPs"],
        json!([{ "$patch": "replace" }, { "ip": "10.1.0.2" }])
    );
}
