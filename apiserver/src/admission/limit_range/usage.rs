//! How much a pod asks for.

use serde_json::Value;

use super::Amounts;

/// `requests` or `limits` of one container; amounts that cannot be read are left to validation.
pub(super) fn of_container(container: &Value, part: &str) -> Amounts {
    let Some(amounts) = container["resources"][part].as_object() else {
        return Amounts::new();
    };
    let read = |value: &Value| serde_json::from_value(value.clone()).ok();
    amounts
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), read(value)?)))
        .collect()
}

/// `requests` or `limits` of a whole pod: its containers together with its sidecars, or the most
/// demanding moment of its initialization, whichever is more, and its overhead.
pub(super) fn of_pod(pod: &Value, part: &str) -> Amounts {
    let list = |name: &str| {
        pod["spec"][name]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    let mut running = Amounts::new();
    for container in list("containers") {
        add(&mut running, &of_container(container, part));
    }
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in list("initContainers") {
        let mut now = of_container(container, part);
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
    let overhead = pod["spec"]["overhead"].as_object();
    for (name, value) in overhead.into_iter().flatten() {
        if let (Some(total), Ok(more)) = (
            running.get_mut(name),
            serde_json::from_value::<davit_api::Quantity>(value.clone()),
        ) {
            *total += more;
        }
    }
    running
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.entry(name.clone()).or_default();
        *sum = if sum.is_zero() {
            *amount
        } else {
            *sum + *amount
        };
    }
}

fn raise(total: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let have = total.entry(name.clone()).or_insert(*amount);
        *have = (*have).max(*amount);
    }
}
