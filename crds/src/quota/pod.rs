//! What a pod counts: itself, and what its containers ask for.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Amounts;
use super::scope::PodFacts;
use super::usage::Counted;
use crate::Quantity;

/// Amounts of a pod that are counted under these names: the part, the name there, the name in a quota.
const COMPUTE: [(&str, &str, &str); 9] = [
    ("requests", "cpu", "cpu"),
    ("requests", "memory", "memory"),
    ("requests", "ephemeral-storage", "ephemeral-storage"),
    ("requests", "cpu", "requests.cpu"),
    ("requests", "memory", "requests.memory"),
    (
        "requests",
        "ephemeral-storage",
        "requests.ephemeral-storage",
    ),
    ("limits", "cpu", "limits.cpu"),
    ("limits", "memory", "limits.memory"),
    ("limits", "ephemeral-storage", "limits.ephemeral-storage"),
];
const HUGE_PAGES: &str = "hugepages-";
/// Resources that a pod may set as a whole.
const POD_LEVEL: [&str; 2] = ["cpu", "memory"];

/// Whether pods count against a resource of this name.
pub(super) fn counts(name: &str) -> bool {
    if name == "pods" || COMPUTE.iter().any(|(.., counted)| *counted == name) {
        return true;
    }
    let asked = name.strip_prefix("requests.");
    name.starts_with(HUGE_PAGES)
        || asked.is_some_and(|asked| asked.starts_with(HUGE_PAGES))
        || asked.is_some() && !is_native(name)
}

/// Names that Kubernetes itself gives a meaning.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Adds what a pod counts, beside its own number, and the facts about it.
pub(super) fn count(counted: &mut Counted, pod: &Value, now: Timestamp) {
    counted.facts.pod = Some(facts(pod));
    if has_ended(pod, now) {
        return;
    }
    counted.add("pods".to_owned(), Quantity::from_int(1));
    let (requests, limits) = (total(pod, "requests"), total(pod, "limits"));
    count_amounts(&mut counted.usage, &requests, &limits);
    counted.unset = unset(pod);
}

/// The names in quotas of a set of requests and limits.
fn count_amounts(usage: &mut Amounts, requests: &Amounts, limits: &Amounts) {
    for (part, name, counted) in COMPUTE {
        let amounts = if part == "limits" { limits } else { requests };
        if let Some(amount) = amounts.get(name) {
            usage.insert(counted.to_owned(), *amount);
        }
    }
    for (name, amount) in requests {
        if name.starts_with(HUGE_PAGES) {
            usage.insert(name.clone(), *amount);
        }
        if name.starts_with(HUGE_PAGES) || !is_native(name) && !name.starts_with("requests.") {
            usage.insert(format!("requests.{name}"), *amount);
        }
    }
}

/// A quota on cpu or memory makes every container name them, unless the pod does so as a whole: those that do not, by
/// resource.
fn unset(pod: &Value) -> Vec<(&'static str, Vec<String>)> {
    if ["requests", "limits"]
        .iter()
        .any(|part| !of_all(pod, part).is_empty())
    {
        return Vec::new();
    }
    let mandatory = COMPUTE
        .iter()
        .filter(|(_, name, _)| POD_LEVEL.contains(name));
    let mut missing = Vec::new();
    for (part, name, counted) in mandatory {
        let all = items(pod, "containers").chain(items(pod, "initContainers"));
        let without = all.filter(|container| container["resources"][part].get(name).is_none());
        let mut names: Vec<String> = without.map(|c| text(c, "name").to_owned()).collect();
        names.sort();
        names.dedup();
        if !names.is_empty() {
            missing.push((*counted, names));
        }
    }
    missing.sort();
    missing
}

fn has_ended(pod: &Value, now: Timestamp) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str);
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return true;
    }
    let deletion = text(&pod["metadata"], "deletionTimestamp").parse::<Timestamp>();
    let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64();
    match (deletion, grace) {
        (Ok(deletion), Some(grace)) => deletion
            .checked_add(SignedDuration::from_secs(grace))
            .is_ok_and(|end| now > end),
        _ => false,
    }
}

fn facts(pod: &Value) -> PodFacts {
    let spec = &pod["spec"];
    PodFacts {
        terminating: spec["activeDeadlineSeconds"]
            .as_i64()
            .is_some_and(|seconds| seconds >= 0),
        best_effort: is_best_effort(pod),
        priority_class: text(spec, "priorityClassName").to_owned(),
        crosses_namespaces: crosses_namespaces(&spec["affinity"]),
    }
}

fn is_best_effort(pod: &Value) -> bool {
    let class = pod.pointer("/status/qosClass").and_then(Value::as_str);
    if let Some(class) = class.filter(|class| !class.is_empty()) {
        return class == "BestEffort";
    }
    let containers = items(pod, "containers").chain(items(pod, "initContainers"));
    let mut owners = containers.chain([&pod["spec"]]);
    !owners.any(|owner| {
        ["requests", "limits"].into_iter().any(|part| {
            let amounts = read(&owner["resources"][part]);
            let asks = |name: &&str| amounts.get(*name).is_some_and(|amount| !amount.is_zero());
            POD_LEVEL.iter().any(asks)
        })
    })
}

fn crosses_namespaces(affinity: &Value) -> bool {
    let crosses = |term: &Value| {
        let named = term["namespaces"]
            .as_array()
            .is_some_and(|names| !names.is_empty());
        named || term.get("namespaceSelector").is_some_and(|s| !s.is_null())
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    ["podAffinity", "podAntiAffinity"].into_iter().any(|which| {
        let terms = &affinity[which];
        let required = list(&terms["requiredDuringSchedulingIgnoredDuringExecution"]);
        let preferred = list(&terms["preferredDuringSchedulingIgnoredDuringExecution"]);
        required.iter().any(crosses)
            || preferred
                .iter()
                .any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}

/// `requests` or `limits` of a whole pod: its containers together with its sidecars, or the most demanding moment of its
/// start, whichever is more; what the pod sets as a whole instead; and its overhead.
fn total(pod: &Value, part: &str) -> Amounts {
    let mut running = Amounts::new();
    for container in items(pod, "containers") {
        add(
            &mut running,
            &of_container(pod, container, "containerStatuses", part),
        );
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in items(pod, "initContainers") {
        let mut now = of_container(pod, container, "initContainerStatuses", part);
        if container["restartPolicy"] == "Always" {
            add(&mut running, &now);
            add(&mut sidecars, &now);
            raise(&mut starting, &sidecars);
        } else {
            add(&mut now, &sidecars);
            raise(&mut starting, &now);
        }
    }
    raise(&mut running, &starting);
    running.extend(of_all(pod, part));
    for (name, more) in read(&pod["spec"]["overhead"]) {
        // A limit that is not set stays so: it means that there is none.
        if part == "requests" || running.get(&name).is_some_and(|have| !have.is_zero()) {
            add(&mut running, &Amounts::from([(name, more)]));
        }
    }
    running
}

/// What a pod sets for all its containers together.
fn of_all(pod: &Value, part: &str) -> Amounts {
    let mut amounts = read(&pod["spec"]["resources"][part]);
    amounts.retain(|name, _| POD_LEVEL.contains(&name.as_str()) || name.starts_with(HUGE_PAGES));
    amounts
}

/// One container: what it asks for or, while it is resized, what it still has, if that is more.
fn of_container(pod: &Value, container: &Value, statuses: &str, part: &str) -> Amounts {
    let asked = read(&container["resources"][part]);
    let statuses = pod["status"][statuses].as_array();
    let status = statuses
        .into_iter()
        .flatten()
        .find(|status| status["name"] == container["name"]);
    let Some(status) = status else {
        return asked;
    };
    let mut total = if is_infeasible(pod) {
        Amounts::new()
    } else {
        asked.clone()
    };
    raise(&mut total, &read(&status["resources"][part]));
    if part == "requests" {
        raise(&mut total, &read(&status["allocatedResources"]));
    }
    if total.is_empty() { asked } else { total }
}

/// The node said that it can never give what the pod was resized to.
fn is_infeasible(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c["type"] == "PodResizePending" && c["reason"] == "Infeasible")
}

fn items<'p>(pod: &'p Value, list: &str) -> impl Iterator<Item = &'p Value> {
    pod["spec"][list].as_array().into_iter().flatten()
}

fn text<'o>(object: &'o Value, field: &str) -> &'o str {
    object[field].as_str().unwrap_or_default()
}

/// One amount; what cannot be read is left to validation.
pub(super) fn quantity(value: &Value) -> Option<Quantity> {
    serde::Deserialize::deserialize(value).ok()
}

fn read(amounts: &Value) -> Amounts {
    let amounts = amounts.as_object().into_iter().flatten();
    amounts
        .filter_map(|(name, value)| Some((name.clone(), quantity(value)?)))
        .collect()
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *total.entry(name.clone()).or_default() += *amount;
    }
}

fn raise(total: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let have = total.entry(name.clone()).or_insert(*amount);
        *have = (*have).max(*amount);
    }
}
