//! Lifecycle hooks of containers.
use std::time::Duration;

use k8s_openapi::api::core::v1::{LifecycleHandler, SleepAction};

use super::act::{Act, Subject};
use super::members::{self, Member};
use super::services::chain;
use crate::probe::Target;
use crate::probe::http::{self, Answer, Failure};
use crate::runtime::ExecConfig;

/// Runs a container's `postStart` hook, if it has one.
///
/// # Errors
/// The message for the Event when it failed.
pub(super) async fn post_start(act: &Act, name: &str, subject: &Subject) -> Result<(), String> {
    let Some(member) = members::member(&act.pod, name) else {
        return Ok(());
    };
    let handler = member
        .container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.post_start.as_ref());
    match handler {
        Some(handler) => run(act, &member, handler, subject, "PostStartHook").await,
        None => Ok(()),
    }
}

/// Runs a container's `preStop` hook, if it has one, for at most the time the subject has.
///
/// # Errors
/// The message for the Event when it failed or ran out of time.
pub(super) async fn pre_stop(act: &Act, name: &str, subject: &Subject) -> Result<(), String> {
    let Some(member) = members::member(&act.pod, name) else {
        return Ok(());
    };
    let handler = member
        .container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let Some(handler) = handler else {
        return Ok(());
    };
    match tokio::time::timeout(
        subject.limit,
        run(act, &member, handler, subject, "PreStopHook"),
    )
    .await
    {
        Ok(result) => result,
        Err(_) => Err(format!(
            "PreStopHook did not end within the grace period of {}s",
            subject.limit.as_secs()
        )),
    }
}

async fn run(
    act: &Act,
    member: &Member<'_>,
    handler: &LifecycleHandler,
    subject: &Subject,
    what: &str,
) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        return exec(act, subject, command)
            .await
            .map_err(|cause| format!("{what} failed: {cause}"));
    }
    if let Some(action) = &handler.http_get {
        let target = target(act, member, subject);
        let answer = http::get(&target, action, Duration::from_secs(30)).await;
        return match answer {
            Ok(Answer { status: ..=399 }) => Ok(()),
            Ok(Answer { status }) => Err(format!("{what} failed: HTTP status {status}")),
            Err(Failure::Request(cause) | Failure::Exchange(cause)) => {
                Err(format!("{what} failed: {cause}"))
            }
        };
    }
    if let Some(SleepAction { seconds }) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(*seconds).unwrap_or(0))).await;
        return Ok(());
    }
    Err(format!("{what} failed: give one of exec, httpGet, sleep"))
}

async fn exec(act: &Act, subject: &Subject, command: Vec<String>) -> Result<(), String> {
    let shown = command.join(" ");
    let limit = (!subject.limit.is_zero()).then_some(subject.limit);
    let config = ExecConfig {
        args: command,
        timeout: limit,
        ..ExecConfig::default()
    };
    let uid = members::uid(&act.pod);
    let outcome = act
        .ground
        .services
        .runtime
        .exec(uid, &subject.id, config)
        .await
        .map_err(|error| chain(&error))?;
    if outcome.exit_code == 0 && !outcome.timed_out {
        return Ok(());
    }
    let output = crate::probe::printable(&[outcome.stdout, outcome.stderr].concat());
    Err(format!(
        "command '{shown}' exited with {}: {output}",
        outcome.exit_code
    ))
}

fn target(act: &Act, member: &Member<'_>, subject: &Subject) -> Target {
    let services = &act.ground.services;
    let ip = subject
        .ips
        .first()
        .or_else(|| services.node.ips.first())
        .copied();
    Target {
        ip: ip.unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
        on_host: members::spec(&act.pod).host_network == Some(true),
        pod_uid: members::uid(&act.pod).to_owned(),
        id: subject.id.clone(),
        container: member.container.clone().into_owned(),
        runtime: services.runtime.clone(),
    }
}
