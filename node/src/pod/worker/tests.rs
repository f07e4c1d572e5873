//! Whole lives of pods on a node without a machine.
use super::super::double::Double;
use super::*;
use k8s_openapi::api::core::v1::{ContainerStatus as ApiStatus, PodStatus};
use serde_json::{Value, json};

struct Life {
    double: Arc<Double>,
    view: watch::Sender<PodView>,
    task: tokio::task::JoinHandle<Ended>,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

fn pod(spec: Value) -> Pod {
    let metadata = json!({ "name": "p", "namespace": "ns", "uid": "u" });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
}

fn one(image: &str) -> Value {
    json!({ "containers": [{ "name": "a", "image": image }] })
}

impl Life {
    async fn new(spec: Value, prepare: impl FnOnce(&Double)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let double = Double::new(dir.path().to_owned());
        prepare(&double);
        let pod = double.put(&pod(spec));
        let (view, receiver) = watch::channel(PodView {
            pod: Arc::new(pod),
            removed: false,
        });
        let shutdown = CancellationToken::new();
        let worker = Worker::new(double.services(), receiver, watch::Sender::default()).await;
        let task = tokio::spawn(worker.run(shutdown.clone()));
        Self {
            double,
            view,
            task,
            shutdown,
            _dir: dir,
        }
    }

    /// The agent is replaced; what runs runs on.
    async fn restart(&mut self, meanwhile: impl FnOnce(&Double)) {
        self.shutdown.cancel();
        assert_eq!((&mut self.task).await.unwrap(), Ended::Left);
        meanwhile(&self.double);
        self.shutdown = CancellationToken::new();
        let worker = Worker::new(
            self.double.services(),
            self.view.subscribe(),
            watch::Sender::default(),
        )
        .await;
        self.task = tokio::spawn(worker.run(self.shutdown.clone()));
    }

    fn delete(&self, grace: i64) {
        let mut pod = self.double.object.borrow().clone().unwrap();
        pod.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        let pod = self.double.put(&pod);
        self.view.send_replace(PodView {
            pod: Arc::new(pod),
            removed: false,
        });
    }

    async fn ended(self) -> Arc<Double> {
        assert_eq!(self.task.await.unwrap(), Ended::Gone);
        self.double
    }
}

fn first(status: &PodStatus) -> &ApiStatus {
    &status.container_statuses.as_ref().unwrap()[0]
}

fn waiting(status: &PodStatus) -> String {
    let state = first(status).state.clone().unwrap();
    state
        .waiting
        .and_then(|waiting| waiting.reason)
        .unwrap_or_default()
}

fn ready(status: &PodStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[tokio::test]
async fn a_pod_runs_and_is_deleted() {
    let life = Life::new(one("x:1"), |_| {}).await;
    let status = life.double.status(ready).await;
    assert_eq!(status.pod_ip.as_deref(), Some("10.1.0.2"));
    life.delete(1);
    let double = life.ended().await;
    let log = double.log();
    assert_eq!(log.iter().filter(|entry| *entry == "start:a#0").count(), 1);
    let end = log
        .iter()
        .position(|entry| entry.starts_with("signal"))
        .unwrap();
    assert_eq!(
        log[end..],
        [
            "signal:a:2",
            "remove:a",
            "stop-sandbox",
            "detach",
            "release",
            "delete"
        ]
    );
    assert!(double.object.borrow().is_none());
    let reasons: Vec<_> = double
        .events()
        .iter()
        .map(|event| event.split(':').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        reasons,
        ["Pulling", "Pulled", "Created", "Started", "Killing"]
    );
}

#[tokio::test]
async fn a_pods_files_are_written_and_go_with_it() {
    let life = Life::new(one("here:1"), |_| {}).await;
    life.double.status(ready).await;
    let dir = life._dir.path().join("u");
    let hosts = std::fs::read_to_string(dir.join("etc/hosts")).unwrap();
    assert!(hosts.contains("10.1.0.2\tp\n"), "{hosts}");
    assert_eq!(
        std::fs::read_to_string(dir.join("etc/hostname")).unwrap(),
        "p\n"
    );
    let config = life.double.config("a");
    assert!(
        config
            .mounts
            .iter()
            .any(|mount| mount.destination == "/etc/resolv.conf")
    );
    assert!(
        life.double
            .events()
            .contains(&"Pulled: Container image \"here:1\" already present on machine".to_owned())
    );
    life.delete(1);
    life.double.asked("delete").await;
    assert_eq!(life.task.await.unwrap(), Ended::Gone);
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_stubborn_container_is_killed_after_its_grace() {
    let life = Life::new(one("x:1"), |double| double.stubborn("a")).await;
    life.double.status(ready).await;
    let begun = std::time::Instant::now();
    life.delete(1);
    life.double.asked("kill:a").await;
    assert!(
        begun.elapsed() >= Duration::from_millis(900),
        "{:?}",
        begun.elapsed()
    );
    life.ended().await;
}

#[tokio::test]
async fn an_oom_kill_is_told_and_the_container_restarted() {
    let life = Life::new(one("x:1"), |_| {}).await;
    life.double.status(ready).await;
    life.double.exit("a", 137, true);
    let status = life
        .double
        .status(|status| first(status).restart_count == 1)
        .await;
    let last = first(&status)
        .last_state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!(
        (last.reason.as_deref(), last.exit_code),
        (Some("OOMKilled"), 137)
    );
}

#[tokio::test]
async fn a_missing_image_is_told_with_its_cause() {
    let life = Life::new(one("y:1"), |double| double.fail("pull:y:1", "y:1")).await;
    let status = life
        .double
        .status(|status| waiting(status) == "ErrImagePull")
        .await;
    let message = first(&status)
        .state
        .clone()
        .unwrap()
        .waiting
        .unwrap()
        .message
        .unwrap();
    assert!(message.contains("not found"), "{message}");
    assert!(
        life.double
            .events()
            .iter()
            .any(|event| event.starts_with("!Failed: Failed to pull image \"y:1\": "))
    );
}

#[tokio::test]
async fn a_volume_waits_for_its_config_map() {
    let life = Life::new(one("x:1"), |double| double.fail("volumes", "settings")).await;
    life.double.asked("volumes").await;
    life.double
        .status(|status| waiting(status) == "ContainerCreating")
        .await;
    life.double.change_objects(|objects| {
        objects
            .config_maps
            .insert("settings".into(), Arc::default());
    });
    life.double.status(ready).await;
    assert!(
        life.double
            .events()
            .contains(&"!FailedMount: configmap \"settings\" not found".to_owned())
    );
}

#[tokio::test]
async fn a_start_that_fails_shows_as_run_container_error() {
    let life = Life::new(one("x:1"), |double| {
        double.fail("start:a#0", "no such file")
    })
    .await;
    life.double
        .status(|status| first(status).restart_count == 1 || waiting(status) == "RunContainerError")
        .await;
    life.double.status(ready).await;
    assert!(
        life.double
            .events()
            .iter()
            .any(|event| event.starts_with("!Failed: Error: ") && event.contains("no such file"))
    );
}

#[tokio::test]
async fn a_job_like_pod_completes_and_stays_until_deleted() {
    let spec = json!({ "restartPolicy": "Never", "containers": [{ "name": "a", "image": "x:1" }] });
    let life = Life::new(spec, |_| {}).await;
    life.double.status(ready).await;
    life.double.exit("a", 0, false);
    life.double
        .status(|status| status.phase.as_deref() == Some("Succeeded"))
        .await;
    life.double.asked("release").await;
    life.delete(0);
    life.ended().await;
}

#[tokio::test]
async fn hooks_run_and_failures_are_told() {
    let hook = |command: &str| json!({ "exec": { "command": [command] } });
    let container = json!({
        "name": "a", "image": "x:1", "lifecycle": { "postStart": hook("begin"), "preStop": hook("end") },
    });
    let life = Life::new(json!({ "containers": [container] }), |double| {
        double.fail("exec:end", "sorry")
    })
    .await;
    life.double.status(ready).await;
    life.delete(1);
    let double = life.ended().await;
    let log = double.log();
    let at = |what: &str| log.iter().position(|entry| entry == what).unwrap();
    assert!(at("exec:begin") < at("exec:end") && at("exec:end") < at("signal:a:2"));
    assert!(double.events().contains(
        &"!FailedPreStopHook: PreStopHook failed: command 'end' exited with 1: sorry".to_owned()
    ));
}

#[tokio::test]
async fn liveness_failures_restart_and_are_told() {
    let probe =
        json!({ "exec": { "command": ["alive"] }, "periodSeconds": 1, "failureThreshold": 2 });
    let container = json!({ "name": "a", "image": "x:1", "livenessProbe": probe });
    let life = Life::new(json!({ "containers": [container] }), |_| {}).await;
    life.double.asked("exec:alive").await;
    life.double.fail("exec:alive", "dead");
    life.double.asked("start:a#1").await;
    life.double.mend("exec:alive");
    life.double
        .status(|status| first(status).restart_count == 1 && ready(status))
        .await;
    let events = life.double.events();
    assert!(
        events.contains(&"!Unhealthy: Liveness probe failed: dead".to_owned()),
        "{events:?}"
    );
    assert!(
        events
            .contains(&"Killing: Container a failed liveness probe, will be restarted".to_owned())
    );
}

#[tokio::test]
async fn a_new_agent_adopts_what_runs_and_learns_of_exits() {
    let mut life = Life::new(one("x:1"), |_| {}).await;
    let before = life.double.status(ready).await;
    life.restart(|_| {}).await;
    life.double.asked("volumes").await;
    assert_eq!(
        life.double
            .log()
            .iter()
            .filter(|entry| entry.starts_with("start:"))
            .count(),
        1
    );
    assert_eq!(life.double.status(ready).await, before);
    life.restart(|double| double.exit("a", 3, false)).await;
    let status = life
        .double
        .status(|status| first(status).restart_count == 1)
        .await;
    assert_eq!(
        first(&status)
            .last_state
            .clone()
            .unwrap()
            .terminated
            .unwrap()
            .exit_code,
        3
    );
}

#[tokio::test]
async fn a_dead_shim_is_replaced() {
    let life = Life::new(one("x:1"), |_| {}).await;
    life.double.status(ready).await;
    life.double.lose_sandbox();
    life.double.asked("start:a#1").await;
    let status = life
        .double
        .status(|status| first(status).restart_count == 1 && ready(status))
        .await;
    let last = first(&status)
        .last_state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!(
        (last.exit_code, last.reason.as_deref()),
        (137, Some("ContainerStatusUnknown"))
    );
    assert!(
        life.double
            .events()
            .iter()
            .any(|event| event.starts_with("SandboxChanged"))
    );
}

#[tokio::test]
async fn a_pod_removed_from_the_server_is_cleaned_up() {
    let life = Life::new(one("x:1"), |_| {}).await;
    life.double.status(ready).await;
    let pod = life.view.borrow().pod.clone();
    life.double.object.send_replace(None);
    life.view.send_replace(PodView { pod, removed: true });
    let double = life.ended().await;
    assert!(double.log().contains(&"stop-sandbox".to_owned()));
    assert!(!double.log().contains(&"delete".to_owned()));
}

#[tokio::test]
async fn a_server_that_is_away_does_not_stop_the_pod() {
    let life = Life::new(one("x:1"), |double| double.fail("patch", "away")).await;
    life.double.asked("start:a#0").await;
    life.double.mend("patch");
    life.double.status(ready).await;
}

#[tokio::test]
async fn a_pod_known_from_its_status_alone_starts_anew() {
    let status = json!({
        "phase": "Running", "startTime": "2026-01-01T00:00:00Z",
        "containerStatuses": [{
            "name": "a", "image": "x", "imageID": "", "ready": true, "restartCount": 2, "containerID": "davit://old",
            "state": { "running": { "startedAt": "2026-01-01T00:00:01Z" } },
        }],
    });
    let mut pod = pod(one("x:1"));
    pod.status = serde_json::from_value(status).unwrap();
    let seen = adopt::from_status(&pod);
    let known = &seen.containers["a"];
    assert_eq!(
        (known.attempts, known.exited().unwrap().id.as_str()),
        (3, "old")
    );
    assert!(seen.main_started);
    let steps = plan(&pod, &seen, Timestamp::now());
    assert!(
        steps.contains(&Step::CreateSandbox { attempt: 1 }),
        "{steps:?}"
    );
}
