//! Lives of pods, played on a world without a machine: each test reads as the list of steps a pod's worker takes.
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::observed::{Exit, ImageId, Problem, StopStage};
use super::super::resize::{Changes, Resized, all_asked};
use super::super::step::{Outcome, StartFailure, Started};
use super::*;

mod ends;
mod restarts;
mod starts;

/// A pod and a node that does at once whatever it is asked, unless told otherwise.
pub(super) struct World {
    pub(super) pod: Pod,
    pub(super) seen: Observed,
    pub(super) now: Timestamp,
    /// Steps whose outcome is held back, by their text.
    pub(super) held: BTreeSet<String>,
    /// Steps that fail, by their text, with reason and message.
    pub(super) failing: BTreeMap<String, (&'static str, &'static str)>,
    /// Init containers end well at once unless they are in here.
    pub(super) stay: BTreeSet<String>,
    /// When the pod's tokens are to be renewed.
    pub(super) refresh_at: Option<Timestamp>,
    /// Containers that a resize wants started anew.
    pub(super) restart: BTreeSet<String>,
    log: Vec<String>,
    serial: u32,
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub(super) fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "ns", "uid": "u", "generation": 1 },
        "spec": spec,
    }))
    .unwrap()
}

impl World {
    pub(super) fn new(spec: Value) -> Self {
        let mut world = Self {
            pod: pod(spec),
            seen: Observed::default(),
            now: at(0),
            held: BTreeSet::new(),
            failing: BTreeMap::new(),
            stay: BTreeSet::new(),
            refresh_at: None,
            restart: BTreeSet::new(),
            log: Vec::new(),
            serial: 0,
        };
        world.seen.note(&world.pod, world.now);
        world
    }

    /// Runs plans until they ask for nothing but to wait, and tells what was done; the time of the next wake comes last.
    pub(super) fn run(&mut self) -> String {
        for _ in 0..60 {
            self.seen.note(&self.pod, self.now);
            let steps = plan(&self.pod, &self.seen, self.now);
            let (wakes, work): (Vec<_>, Vec<_>) = steps
                .into_iter()
                .partition(|step| matches!(step, Step::WakeAt(_)));
            if work.is_empty() || work == [Step::Forget] {
                self.log.extend(work.iter().map(text));
                if let Some(wake) = wakes.iter().filter_map(wake_time).min() {
                    assert!(wake > self.now, "a wake must lie ahead");
                    self.log
                        .push(format!("wake+{}", wake.duration_since(self.now).as_secs()));
                }
                return std::mem::take(&mut self.log).join(" ");
            }
            for step in &work {
                self.log.push(text(step));
                self.seen.begin(&self.pod, step, self.now);
            }
            for step in work {
                if !self.held.contains(&text(&step)) {
                    self.complete(&step);
                }
            }
        }
        panic!("the plan never rests: {}", self.log.join(" "));
    }

    /// Lets time pass, then runs.
    pub(super) fn after(&mut self, seconds: i64) -> String {
        self.now = self
            .now
            .checked_add(SignedDuration::from_secs(seconds))
            .unwrap();
        self.run()
    }

    pub(super) fn finish(&mut self, outcome: Outcome) {
        self.seen.finish(&self.pod, outcome, self.now);
    }

    pub(super) fn exit(&mut self, name: &str, code: i32) {
        let id = self.seen.containers[name]
            .running()
            .expect("a running container")
            .id
            .clone();
        let reason = if code == 0 { "Completed" } else { "Error" };
        let exit = Exit {
            id,
            exit_code: code,
            reason: reason.into(),
            finished_at: Some(self.now),
            ..Exit::default()
        };
        self.finish(Outcome::Exited {
            container: name.to_owned(),
            exit,
        });
    }

    pub(super) fn probe(&mut self, name: &str, kind: ProbeKind, passing: bool) {
        let id = self.seen.containers[name]
            .running()
            .expect("a running container")
            .id
            .clone();
        self.finish(Outcome::Probed {
            container: name.to_owned(),
            id,
            kind,
            passing,
        });
    }

    pub(super) fn delete(&mut self, grace: i64) {
        let text = self.now.to_string();
        self.pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!(text)).unwrap());
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
    }

    fn fails(&self, step: &Step) -> Option<Problem> {
        self.failing
            .get(&text(step))
            .map(|(reason, message)| Problem::new(*reason, *message))
    }

    pub(super) fn complete(&mut self, step: &Step) {
        let failure = self.fails(step);
        let done = failure.clone().map_or(Ok(()), Err);
        let outcome = match step.clone() {
            Step::PrepareVolumes => Outcome::VolumesPrepared(done.map(|()| self.refresh_at)),
            Step::RefreshVolumes => Outcome::VolumesRefreshed(done.map(|()| self.refresh_at)),
            Step::ReleaseVolumes => Outcome::VolumesReleased(done),
            Step::CreateSandbox { .. } => {
                Outcome::SandboxCreated(done.map(|()| vec!["10.1.0.2".parse().unwrap()]))
            }
            Step::Resize => Outcome::Resized(match failure {
                Some(pending) => Resized::Pending(pending),
                None => Resized::Given(Changes {
                    allotted: all_asked(&self.pod),
                    restart: self.restart.clone(),
                    ..Changes::default()
                }),
            }),
            Step::StopSandbox => Outcome::SandboxStopped(done),
            Step::DeleteObject => Outcome::ObjectDeleted(done),
            Step::EnsureImage { container } => {
                let image = ImageId {
                    name: "image".into(),
                    id: "sha256:1".into(),
                    digest: "image@sha256:2".into(),
                };
                Outcome::Image {
                    container,
                    result: failure.map_or(Ok(image), Err),
                }
            }
            Step::StartContainer { container, .. } => return self.start(container, failure),
            Step::PostStart { container } => Outcome::PostStarted {
                container,
                result: done.map_err(|problem| problem.message),
            },
            Step::PreStop { container } => Outcome::PreStopped { container },
            Step::Terminate { container } | Step::Kill { container } => {
                return self.exit(
                    &container,
                    if matches!(step, Step::Kill { .. }) {
                        137
                    } else {
                        143
                    },
                );
            }
            Step::RemoveContainer { container, id } => Outcome::Removed { container, id },
            Step::Stop { .. } | Step::Fail { .. } | Step::Forget | Step::WakeAt(_) => return,
        };
        self.finish(outcome);
    }

    fn start(&mut self, container: String, failure: Option<Problem>) {
        self.serial += 1;
        let id = format!("{container}-{}", self.serial);
        let result = match failure {
            Some(problem) if problem.reason == "StartError" => Err(StartFailure::NotRun {
                id,
                message: problem.message,
            }),
            Some(problem) => Err(StartFailure::Refused(problem)),
            None => Ok(Started {
                id,
                pid: 1,
                at: self.now,
                limits: None,
            }),
        };
        let runs = result.is_ok();
        self.finish(Outcome::Started {
            container: container.clone(),
            result,
        });
        let init =
            members::member(&self.pod, &container).is_some_and(|member| member.role == Role::Init);
        if runs && init && !self.stay.contains(&container) {
            self.exit(&container, 0);
        }
    }
}

fn wake_time(step: &Step) -> Option<Timestamp> {
    match step {
        Step::WakeAt(time) => Some(*time),
        _ => None,
    }
}

/// A step as these tests write it.
pub(super) fn text(step: &Step) -> String {
    match step {
        Step::PrepareVolumes => "volumes".into(),
        Step::RefreshVolumes => "refresh".into(),
        Step::CreateSandbox { attempt } => format!("sandbox#{attempt}"),
        Step::EnsureImage { container } => format!("image:{container}"),
        Step::StartContainer { container, attempt } => format!("start:{container}#{attempt}"),
        Step::PostStart { container } => format!("postStart:{container}"),
        Step::Stop { container, .. } => format!("stop:{container}"),
        Step::PreStop { container } => format!("preStop:{container}"),
        Step::Terminate { container } => format!("term:{container}"),
        Step::Kill { container } => format!("kill:{container}"),
        Step::RemoveContainer { id, .. } => format!("rm:{id}"),
        Step::Resize => "resize".into(),
        Step::StopSandbox => "stop-sandbox".into(),
        Step::ReleaseVolumes => "release".into(),
        Step::Fail { reason, .. } => format!("fail:{reason}"),
        Step::DeleteObject => "delete-object".into(),
        Step::Forget => "forget".into(),
        Step::WakeAt(_) => "wake".into(),
    }
}

pub(super) fn one(image: &str) -> Value {
    json!({ "containers": [{ "name": "a", "image": image }] })
}
