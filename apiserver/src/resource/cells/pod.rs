//! The columns of pods: what kubectl calls a pod's status is computed from its containers.

use serde_json::Value;

use super::{NONE, int, items, text, with};
use crate::table::{Column, age, at};

pub(in crate::resource) const POD: &[Column] = &[
    Column::name(),
    with("Ready", |pod| Summary::of(pod).ready().into()),
    with("Status", |pod| Summary::of(pod).reason.into()),
    with("Restarts", |pod| Summary::of(pod).restarts().into()),
    Column::age(),
    with("IP", |pod| none(text(pod, "status.podIP"))).wide(),
    with("Node", |pod| none(text(pod, "spec.nodeName"))).wide(),
    with("Nominated Node", |pod| {
        none(text(pod, "status.nominatedNodeName"))
    })
    .wide(),
    with("Readiness Gates", gates).wide(),
];

fn none(value: &str) -> Value {
    if value.is_empty() {
        NONE.into()
    } else {
        value.into()
    }
}

fn gates(pod: &Value) -> Value {
    let gates = items(pod, "spec.readinessGates");
    if gates.is_empty() {
        return NONE.into();
    }
    let holds = |gate: &&Value| condition(pod, text(gate, "conditionType")) == Some("True");
    let true_gates = gates.iter().filter(holds).count();
    format!("{true_gates}/{}", gates.len()).into()
}

fn condition<'v>(pod: &'v Value, kind: &str) -> Option<&'v str> {
    let conditions = items(pod, "status.conditions");
    conditions
        .iter()
        .find(|c| text(c, "type") == kind)
        .map(|c| text(c, "status"))
}

fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

/// What the containers of a pod add up to.
struct Summary {
    total: usize,
    ready: usize,
    restarts: i64,
    last_restart: Option<String>,
    reason: String,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let init = items(pod, "spec.initContainers");
        let sidecars = init
            .iter()
            .filter(|container| is_sidecar(container))
            .count();
        let mut summary = Self {
            total: items(pod, "spec.containers").len() + sidecars,
            ready: 0,
            restarts: 0,
            last_restart: None,
            reason: base_reason(pod),
        };
        let initializing = summary.add_init(pod, init);
        if !initializing || condition(pod, "Initialized") == Some("True") {
            summary.restarts = sidecars_restarts(pod, init);
            summary.add_containers(pod);
        }
        summary.override_deleted(pod);
        summary
    }

    fn ready(&self) -> String {
        format!("{}/{}", self.ready, self.total)
    }

    fn restarts(&self) -> String {
        match &self.last_restart {
            Some(time) if self.restarts != 0 => {
                format!("{} ({} ago)", self.restarts, age::since_text(Some(time)))
            }
            _ => self.restarts.to_string(),
        }
    }

    /// Counts init containers; true when one of them is what the pod is waiting for.
    fn add_init(&mut self, pod: &Value, init: &[Value]) -> bool {
        for (index, status) in items(pod, "status.initContainerStatuses")
            .iter()
            .enumerate()
        {
            self.restarts += int(status, "restartCount");
            self.note_restart(status);
            let name = text(status, "name");
            let sidecar = init
                .iter()
                .any(|c| text(c, "name") == name && is_sidecar(c));
            let terminated = at(status, "state.terminated");
            let waiting = text(status, "state.waiting.reason");
            if terminated.is_object() && int(terminated, "exitCode") == 0 {
                continue;
            }
            if sidecar && status["started"] == true {
                self.ready += usize::from(status["ready"] == true);
                continue;
            }
            self.reason = if terminated.is_object() {
                format!("Init:{}", exit_reason(terminated))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", init.len())
            };
            return true;
        }
        false
    }

    fn add_containers(&mut self, pod: &Value) {
        let mut running = false;
        for status in items(pod, "status.containerStatuses").iter().rev() {
            self.restarts += int(status, "restartCount");
            self.note_restart(status);
            let terminated = at(status, "state.terminated");
            let waiting = text(status, "state.waiting.reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if terminated.is_object() {
                self.reason = exit_reason(terminated);
            } else if status["ready"] == true && at(status, "state.running").is_object() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = condition(pod, "Ready") == Some("True");
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn override_deleted(&mut self, pod: &Value) {
        if at(pod, "metadata.deletionTimestamp").is_null() {
            return;
        }
        if text(pod, "status.reason") == "NodeLost" {
            self.reason = "Unknown".to_owned();
        } else if !matches!(text(pod, "status.phase"), "Succeeded" | "Failed") {
            self.reason = "Terminating".to_owned();
        }
    }

    fn note_restart(&mut self, status: &Value) {
        let finished = text(status, "lastState.terminated.finishedAt");
        if finished > self.last_restart.as_deref().unwrap_or_default() {
            self.last_restart = Some(finished.to_owned());
        }
    }
}

fn base_reason(pod: &Value) -> String {
    let gated = items(pod, "status.conditions")
        .iter()
        .any(|c| text(c, "type") == "PodScheduled" && text(c, "reason") == "SchedulingGated");
    let reason = text(pod, "status.reason");
    if gated {
        "SchedulingGated".to_owned()
    } else if reason.is_empty() {
        text(pod, "status.phase").to_owned()
    } else {
        reason.to_owned()
    }
}

fn sidecars_restarts(pod: &Value, init: &[Value]) -> i64 {
    items(pod, "status.initContainerStatuses")
        .iter()
        .filter(|status| {
            init.iter()
                .any(|c| text(c, "name") == text(status, "name") && is_sidecar(c))
        })
        .map(|status| int(status, "restartCount"))
        .sum()
}

fn exit_reason(terminated: &Value) -> String {
    let reason = text(terminated, "reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match int(terminated, "signal") {
        0 => format!("ExitCode:{}", int(terminated, "exitCode")),
        signal => format!("Signal:{signal}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn status_says_what_the_containers_do() {
        let one = json!([{"name": "a"}]);
        let cases = [
            (json!({"status": {"phase": "Pending"}}), "0/1", "Pending"),
            (
                json!({"status": {"phase": "Running", "containerStatuses":
                    [{"name": "a", "ready": true, "state": {"running": {}}}]}}),
                "1/1",
                "Running",
            ),
            (
                json!({"status": {"phase": "Running", "containerStatuses":
                    [{"name": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}),
                "0/1",
                "CrashLoopBackOff",
            ),
            (
                json!({"status": {"phase": "Running", "containerStatuses":
                    [{"name": "a", "state": {"terminated": {"exitCode": 3}}}]}}),
                "0/1",
                "ExitCode:3",
            ),
            (
                json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}}),
                "0/1",
                "Terminating",
            ),
        ];
        for (mut pod, ready, reason) in cases {
            pod["spec"] = json!({ "containers": one });
            let summary = Summary::of(&pod);
            assert_eq!(
                (summary.ready().as_str(), summary.reason.as_str()),
                (ready, reason)
            );
        }
    }

    #[test]
    fn an_init_container_that_fails_is_named() {
        let pod = json!({
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]},
            "status": {"phase": "Pending", "initContainerStatuses":
                [{"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]},
        });
        let summary = Summary::of(&pod);
        assert_eq!(
            (summary.reason.as_str(), summary.restarts().as_str()),
            ("Init:Error", "2")
        );
    }
}
