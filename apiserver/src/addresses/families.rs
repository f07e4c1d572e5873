//! Which address families a Service gets, decided as Kubernetes decides it.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::schema::FieldError;

pub(super) const V4: &str = "IPv4";
pub(super) const V6: &str = "IPv6";
const SINGLE: &str = "SingleStack";
const REQUIRE: &str = "RequireDualStack";

/// The families of a Service in order, and its policy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) families: Vec<String>,
    pub(super) policy: String,
}

/// The family of an address.
pub(super) fn of(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { V4 } else { V6 }
}

fn other(family: &str) -> &'static str {
    if family == V4 { V6 } else { V4 }
}

/// The texts of a list.
pub(super) fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// The addresses that a Service names; none for a headless one.
pub(super) fn named(spec: &Value) -> Vec<String> {
    let mut addresses = texts(&spec["clusterIPs"]);
    if addresses.is_empty() {
        addresses.extend(spec["clusterIP"].as_str().map(str::to_owned));
    }
    addresses.retain(|address| !address.is_empty() && address != "None");
    addresses
}

/// Decides for a Service's spec. `old` is the spec it replaces, `have` the families of the cluster, the
/// default one first.
///
/// # Errors
/// The Service asks for what the cluster has not, or contradicts itself.
pub(super) fn choose(
    spec: &Value,
    old: Option<&Value>,
    have: &[&'static str],
) -> Result<Families, FieldError> {
    let asked = spec["ipFamilyPolicy"].as_str();
    let mut families = texts(&spec["ipFamilies"]);
    infer(spec, &mut families)?;
    let default = have.first().copied().unwrap_or(V4);
    let without_selector = spec["selector"].as_object().is_none_or(Map::is_empty);
    if spec["clusterIP"] == "None" && without_selector {
        // Whatever stands behind it may be of both families, whatever the cluster has.
        let policy = asked.unwrap_or(REQUIRE).to_owned();
        if families.is_empty() {
            families.push(default.to_owned());
        }
        if policy != SINGLE && families.len() == 1 {
            families.push(other(&families[0]).to_owned());
        }
        return Ok(Families { families, policy });
    }
    let policy = asked.unwrap_or(SINGLE).to_owned();
    if policy == SINGLE && families.len() > 1 {
        let unchanged = old.is_some_and(|old| texts(&old["ipFamilies"]) == families);
        if !unchanged {
            let detail = "must be RequireDualStack or PreferDualStack when multiple `ipFamilies` \
                          are specified";
            return Err(FieldError::invalid("spec.ipFamilyPolicy", policy, detail));
        }
        families.truncate(1);
    }
    for (index, family) in families.iter().enumerate() {
        if !have.contains(&family.as_str()) {
            let at = format!("spec.ipFamilies[{index}]");
            let detail = "not configured on this cluster";
            return Err(FieldError::invalid(at, family.as_str(), detail));
        }
    }
    if policy == REQUIRE && have.len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        return Err(FieldError::invalid("spec.ipFamilyPolicy", policy, detail));
    }
    if families.is_empty() {
        families.push(default.to_owned());
    }
    if policy != SINGLE && have.len() > 1 && families.len() == 1 {
        families.push(other(&families[0]).to_owned());
    }
    Ok(Families { families, policy })
}

/// Named addresses say the families that are not; those that are have to agree.
fn infer(spec: &Value, families: &mut Vec<String>) -> Result<(), FieldError> {
    for (index, text) in named(spec).into_iter().enumerate() {
        let Ok(address) = text.parse::<IpAddr>() else {
            continue;
        };
        match families.get(index) {
            None => families.push(of(&address).to_owned()),
            Some(family) if family != of(&address) => {
                let detail =
                    format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
                let at = format!("spec.clusterIPs[{index}]");
                return Err(FieldError::invalid(at, text, detail));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn families_follow_the_policy_and_the_cluster() {
        let single: &[&str] = &[V4];
        let dual: &[&str] = &[V4, V6];
        let selector = json!({"a": "b"});
        for (mut spec, have, families, policy) in [
            (json!({}), single, &[V4][..], SINGLE),
            (
                json!({"ipFamilyPolicy": "PreferDualStack"}),
                single,
                &[V4],
                "PreferDualStack",
            ),
            (
                json!({"ipFamilyPolicy": "PreferDualStack"}),
                dual,
                &[V4, V6],
                "PreferDualStack",
            ),
            (
                json!({"ipFamilyPolicy": REQUIRE, "ipFamilies": [V6]}),
                dual,
                &[V6, V4],
                REQUIRE,
            ),
            (json!({"ipFamilies": [V6]}), dual, &[V6], SINGLE),
            (json!({"clusterIP": "fd00::1"}), dual, &[V6], SINGLE),
        ] {
            spec["selector"] = selector.clone();
            let chosen = choose(&spec, None, have).unwrap();
            assert_eq!(chosen.families, families, "{spec}");
            assert_eq!(chosen.policy, policy, "{spec}");
        }
        let headless = choose(&json!({"clusterIP": "None"}), None, single).unwrap();
        assert_eq!((headless.families.len(), &*headless.policy), (2, REQUIRE));
    }

    #[test]
    fn what_the_cluster_has_not_is_refused() {
        for (mut spec, message) in [
            (
                json!({"ipFamilyPolicy": REQUIRE}),
                "this cluster is not configured for dual-stack",
            ),
            (
                json!({"ipFamilies": [V6]}),
                "not configured on this cluster",
            ),
            (
                json!({"ipFamilies": [V4, V6]}),
                "must be RequireDualStack or PreferDualStack",
            ),
            (
                json!({"ipFamilies": [V4], "clusterIP": "fd00::1"}),
                "expected an IPv4 value",
            ),
        ] {
            spec["selector"] = json!({"a": "b"});
            let error = choose(&spec, None, &[V4]).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_second_family_goes_with_the_policy() {
        let old = json!({"ipFamilyPolicy": REQUIRE, "ipFamilies": [V4, V6]});
        let new = json!({"ipFamilyPolicy": SINGLE, "ipFamilies": [V4, V6], "selector": {"a": "b"}});
        assert_eq!(choose(&new, Some(&old), &[V4, V6]).unwrap().families, [V4]);
    }
}
