//! Quantities of resources: parsing, and the checks of requests, limits and capacities.

use davit_api::Quantity;
use serde_json::Value;

use super::access::Fields;
use super::{Errors, names};
use crate::schema::{FieldError, Path};

/// The quantity a value holds.
pub(crate) fn parse(value: &Value) -> Option<Quantity> {
    value.as_str()?.parse().ok()
}

/// Whether the name of a resource belongs to Kubernetes: no domain, or one of kubernetes.io.
pub(crate) fn is_native(name: &str) -> bool {
    name.split_once('/')
        .is_none_or(|(domain, _)| domain.ends_with("kubernetes.io"))
}

/// Whether the resource is one that others define, counted in whole units and never overcommitted.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.")
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Checks the requirements of a container or pod.
pub(super) fn requirements(resources: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_limits = at.field("limits");
    let at_requests = at.field("requests");
    for (name, limit) in resources.entries("limits") {
        container_resource(name, limit, &at_limits, out);
    }
    for (name, request) in resources.entries("requests") {
        container_resource(name, request, &at_requests, out);
        let limit = resources.at("limits").at(name);
        match (parse(request), parse(limit)) {
            (Some(request), Some(limit)) => {
                if request != limit && (is_extended(name) || is_huge_page(name)) {
                    let detail = format!("must be equal to {name} limit of {limit}");
                    out.push(FieldError::invalid(
                        at_requests,
                        request.to_string(),
                        detail,
                    ));
                } else if request > limit {
                    let detail = format!("must be less than or equal to {name} limit of {limit}");
                    out.push(FieldError::invalid(
                        at_requests,
                        request.to_string(),
                        detail,
                    ));
                }
            }
            (Some(_), None) if is_extended(name) || is_huge_page(name) => {
                let detail = "Limit must be set for non overcommitable resources";
                out.push(FieldError::required(at_limits, detail));
            }
            _ => {}
        }
    }
    claims(resources.items("claims"), &at.field("claims"), out);
}

fn claims(claims: &[Value], at: &Path<'_>, out: &mut Errors) {
    for (index, claim) in claims.iter().enumerate() {
        let key = |c: &Value| (c.text("name").to_owned(), c.text("request").to_owned());
        if claims
            .iter()
            .take(index)
            .any(|earlier| key(earlier) == key(claim))
        {
            out.push(FieldError::duplicate(at.index(index), claim.text("name")));
        }
    }
}

fn container_resource(name: &str, quantity: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_name = at.key(name);
    if let Some(fault) = names::qualified_name(name) {
        out.push(FieldError::invalid(at_name, name, fault));
    } else if !name.contains('/')
        && !matches!(name, "cpu" | "memory" | "ephemeral-storage")
        && !is_huge_page(name)
    {
        let detail = "must be a standard resource for containers";
        out.push(FieldError::invalid(at_name, name, detail));
    }
    amount(name, quantity, &at_name, out);
}

/// Checks that a quantity is not negative, and whole where the resource is counted.
pub(super) fn amount(name: &str, quantity: &Value, at: &Path<'_>, out: &mut Errors) {
    let Some(parsed) = parse(quantity) else {
        return;
    };
    if parsed.is_negative() {
        let detail = "must be greater than or equal to 0";
        out.push(FieldError::invalid(at, quantity.clone(), detail));
    }
    let counted = matches!(
        name,
        "pods"
            | "services"
            | "replicationcontrollers"
            | "resourcequotas"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || is_extended(name)
        || name.starts_with("count/");
    if counted && parsed.milli_value() % 1000 != 0 {
        out.push(FieldError::invalid(
            at,
            quantity.clone(),
            "must be an integer",
        ));
    }
}

/// Checks a list of quantities by name, such as `capacity` or `hard`.
pub(super) fn amounts(amounts: &Value, at: &Path<'_>, out: &mut Errors) {
    for (name, quantity) in amounts.as_object().into_iter().flatten() {
        let at = at.key(name);
        if let Some(fault) = names::qualified_name(name) {
            out.push(FieldError::invalid(at, name.as_str(), fault));
        }
        amount(name, quantity, &at, out);
    }
}
