//! Which bounds a pod or claim breaks, in Kubernetes' words.

use davit_api::Quantity;
use serde_json::Value;

use super::usage::{of_container, of_pod};
use super::{Amounts, Item};

/// What somebody asks for.
struct Asked {
    requests: Amounts,
    limits: Amounts,
}

/// Every bound the pod breaks.
pub(super) fn check_pod(items: &[Item], pod: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for item in items {
        match &*item.applies_to {
            "Container" => {
                for list in ["containers", "initContainers"] {
                    let containers = pod["spec"][list].as_array();
                    for container in containers.into_iter().flatten() {
                        let asked = Asked {
                            requests: of_container(container, "requests"),
                            limits: of_container(container, "limits"),
                        };
                        broken.extend(check(item, &asked));
                    }
                }
            }
            "Pod" => {
                let asked = Asked {
                    requests: of_pod(pod, "requests"),
                    limits: of_pod(pod, "limits"),
                };
                broken.extend(check(item, &asked));
            }
            _ => {}
        }
    }
    broken
}

/// Every bound the claim breaks; claims only have requests.
pub(super) fn check_claim(items: &[Item], claim: &Value) -> Vec<String> {
    let requests = of_container(&claim["spec"], "requests");
    let mut broken = Vec::new();
    for item in items
        .iter()
        .filter(|item| item.applies_to == "PersistentVolumeClaim")
    {
        let (request, per) = (|name: &str| requests.get(name), &item.applies_to);
        for (name, least) in &item.min {
            let usage = format!("minimum {name} usage per {per} is {least}");
            broken.extend(match request(name) {
                None => Some(format!("{usage}.  No request is specified")),
                Some(have) if have < least => Some(format!("{usage}, but request is {have}")),
                Some(_) => None,
            });
        }
        for (name, most) in &item.max {
            let usage = format!("maximum {name} usage per {per} is {most}");
            broken.extend(match request(name) {
                None => Some(format!("{usage}.  No request is specified")),
                Some(have) if have > most => Some(format!("{usage}, but request is {have}")),
                Some(_) => None,
            });
        }
    }
    broken
}

fn check(item: &Item, asked: &Asked) -> Vec<String> {
    let per = &item.applies_to;
    let mut broken = Vec::new();
    for (name, least) in &item.min {
        broken.extend(below(per, name, least, asked));
    }
    for (name, most) in &item.max {
        broken.extend(above(per, name, most, asked));
    }
    for (name, ratio) in &item.max_limit_request_ratio {
        broken.extend(ratio_exceeded(per, name, ratio, asked));
    }
    broken
}

fn below(per: &str, name: &str, least: &Quantity, asked: &Asked) -> Option<String> {
    let usage = format!("minimum {name} usage per {per} is {least}");
    match (asked.requests.get(name), asked.limits.get(name)) {
        (None, _) => Some(format!("{usage}.  No request is specified")),
        (_, Some(limit)) if limit < least => Some(format!("{usage}, but limit is {limit}")),
        (Some(request), _) if request < least => Some(format!("{usage}, but request is {request}")),
        _ => None,
    }
}

fn above(per: &str, name: &str, most: &Quantity, asked: &Asked) -> Option<String> {
    let usage = format!("maximum {name} usage per {per} is {most}");
    match (asked.requests.get(name), asked.limits.get(name)) {
        (_, None) => Some(format!("{usage}.  No limit is specified")),
        (_, Some(limit)) if limit > most => Some(format!("{usage}, but limit is {limit}")),
        (Some(request), _) if request > most => Some(format!("{usage}, but request is {request}")),
        _ => None,
    }
}

fn ratio_exceeded(per: &str, name: &str, most: &Quantity, asked: &Asked) -> Option<String> {
    let what = format!("{name} max limit to request ratio per {per} is {most}");
    let given = |amounts: &Amounts| {
        amounts
            .get(name)
            .filter(|amount| !amount.is_zero())
            .copied()
    };
    let Some(request) = given(&asked.requests) else {
        return Some(format!(
            "{what}, but no request is specified or request is 0"
        ));
    };
    let Some(limit) = given(&asked.limits) else {
        return Some(format!("{what}, but no limit is specified or limit is 0"));
    };
    let ratio = limit.as_f64() / request.as_f64();
    (ratio > most.as_f64()).then(|| format!("{what}, but provided ratio is {ratio:.6}"))
}
