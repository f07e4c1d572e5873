//! Whether a container that ended is started again.
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod};

use super::members::{self, Member, Role};
use super::observed::Exit;

/// Whether the declared policies want `member` started again after `exit`.
pub fn restarts(pod: &Pod, member: &Member<'_>, exit: &Exit) -> bool {
    let policy = || policy(pod, &member.container, exit);
    match member.role {
        Role::Sidecar => true,
        Role::Ephemeral => false,
        Role::Init => exit.exit_code != 0 && policy() != Policy::Never,
        Role::Main if exit.redefined => true,
        Role::Main => match policy() {
            Policy::Always => true,
            Policy::OnFailure => exit.exit_code != 0,
            Policy::Never => false,
        },
    }
}

/// `restartPolicy` in force for one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Whatever the exit code.
    Always,
    /// After a failure.
    OnFailure,
    /// Not at all.
    Never,
}

impl Policy {
    fn parse(text: &str) -> Self {
        match text {
            "Never" => Self::Never,
            "OnFailure" => Self::OnFailure,
            _ => Self::Always,
        }
    }
}

/// The pod's own policy.
pub fn pod_policy(pod: &Pod) -> Policy {
    Policy::parse(
        members::spec(pod)
            .restart_policy
            .as_deref()
            .unwrap_or("Always"),
    )
}

/// The container's rules come first, then its own policy, then the pod's.
fn policy(pod: &Pod, container: &Container, exit: &Exit) -> Policy {
    if container
        .restart_policy_rules
        .iter()
        .flatten()
        .any(|rule| rule_matches(rule, exit.exit_code))
    {
        return Policy::Always;
    }
    container
        .restart_policy
        .as_deref()
        .map_or_else(|| pod_policy(pod), Policy::parse)
}

fn rule_matches(rule: &ContainerRestartRule, code: i32) -> bool {
    let Some(on) = rule
        .exit_codes
        .as_ref()
        .filter(|_| rule.action == "Restart")
    else {
        return false;
    };
    let listed = on.values.iter().flatten().any(|value| *value == code);
    match on.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}
