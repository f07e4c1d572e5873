//! Pods that are there already when a namespace becomes stricter.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use super::checks::{in_short, violations};
use super::pod::{Pod, items, text};
use super::policy::Standard;

/// Pods looked at, at most.
const MOST_PODS: usize = 3000;
/// How long that may take.
const MOST_TIME: Duration = Duration::from_secs(1);

/// What the client is told of pods that do not keep to the standard: those that violate it in the same way as one line, with
/// the first of their names.
pub(super) fn warnings(namespace: &str, enforce: Standard, pods: &[Bytes]) -> Vec<String> {
    let started = Instant::now();
    let parsed = pods
        .iter()
        .filter_map(|pod| serde_json::from_slice(pod).ok());
    let mut looked_at = 0;
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in different_first(parsed.collect()).iter().take(MOST_PODS) {
        looked_at += 1;
        let violations = violations(enforce, &Pod::of(pod));
        if !violations.is_empty() {
            let name = text(&pod["metadata"], "name");
            let (first, count) = found.entry(in_short(&violations)).or_default();
            if *count == 0 || name < first.as_str() {
                name.clone_into(first);
            }
            *count += 1;
        }
        if started.elapsed() > MOST_TIME {
            break;
        }
    }
    let mut warnings = Vec::new();
    if looked_at < pods.len() {
        let all = pods.len();
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {looked_at} of {all} existing pods"
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut lines: Vec<String> = found.into_iter().map(line).collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}

fn line((what, (first, count)): (String, (String, usize))) -> String {
    match count {
        0 | 1 => format!("{first}: {what}"),
        2 => format!("{first} (and 1 other pod): {what}"),
        _ => format!("{first} (and {} other pods): {what}", count - 1),
    }
}

/// One pod of each owner before all others, since those of one owner are alike.
fn different_first(pods: Vec<Value>) -> Vec<Value> {
    let mut owners = HashSet::new();
    let (mut first, others): (Vec<Value>, Vec<Value>) = pods.into_iter().partition(|pod| {
        let mut references = items(&pod["metadata"]["ownerReferences"]);
        let owner = references.find(|owner| owner["controller"] == true);
        owner.is_none_or(|owner| owners.insert(text(owner, "uid").to_owned()))
    });
    first.extend(others);
    first
}
