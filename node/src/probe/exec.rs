//! Probing by a command inside the container.
use std::time::Duration;

use k8s_openapi::api::core::v1::ExecAction;

use super::{Target, Verdict};
use crate::pod::services::chain;
use crate::runtime::ExecConfig;

pub(super) async fn check(target: &Target, action: &ExecAction, timeout: Duration) -> Verdict {
    let args = action.command.clone().unwrap_or_default();
    let config = ExecConfig {
        args: args.clone(),
        timeout: Some(timeout),
        ..ExecConfig::default()
    };
    match target
        .runtime
        .exec(&target.pod_uid, &target.id, config)
        .await
    {
        Ok(outcome) if outcome.timed_out => {
            let command = args.join(" ");
            Verdict::Fail(format!(
                "command timed out: \"{command}\" timed out after {}s",
                timeout.as_secs()
            ))
        }
        Ok(outcome) if outcome.exit_code == 0 => Verdict::Pass,
        Ok(outcome) => {
            let mut output = outcome.stdout;
            output.extend(outcome.stderr);
            let text = printable(&output);
            Verdict::Fail(if text.is_empty() {
                format!("command exited with {}", outcome.exit_code)
            } else {
                text
            })
        }
        Err(error) => Verdict::Error(chain(&error)),
    }
}

/// Output of a container as text for an Event: no control characters, so that it cannot steer anybody's terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let clean: String = text
        .chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                ' '
            } else {
                c
            }
        })
        .collect();
    clean.trim().to_owned()
}
