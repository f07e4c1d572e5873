//! Services: defaults, what an update carries over, and checks.

use std::collections::HashSet;

use davit_api::SpecialAddress;
use serde_json::{Map, Value, json};

use super::access::{Fields, default, default_absent, ensure, object};
use super::pod::probe;
use super::{Context, Errors, meta, names};
use crate::schema::{FieldError, Path};

fn text(map: &Map<String, Value>, key: &str) -> String {
    map.get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Defaults that follow from the type and the affinity.
pub(super) fn spec_defaults(spec: &mut Map<String, Value>) {
    if text(spec, "sessionAffinity") == "ClientIP" {
        let config = ensure(spec, "sessionAffinityConfig");
        default_absent(ensure(config, "clientIP"), "timeoutSeconds", 10_800);
    } else {
        spec.remove("sessionAffinityConfig");
    }
    let kind = text(spec, "type");
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind != "ExternalName" {
        default_absent(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default_absent(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// A port leads to the same port of the pod unless it says otherwise.
pub(super) fn port_defaults(port: &mut Map<String, Value>) {
    if let Some(number) = port.get("port").cloned() {
        default(port, "targetPort", number);
    }
}

/// Makes `clusterIP` and `clusterIPs` agree where only one of them was given.
fn normalize_addresses(spec: &mut Map<String, Value>) {
    let single = text(spec, "clusterIP");
    let list = spec
        .get("clusterIPs")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    match (single.as_str(), list.first()) {
        ("", Some(first)) => {
            spec.insert("clusterIP".to_owned(), first.clone());
        }
        ("", None) => {}
        (single, None) => {
            spec.insert("clusterIPs".to_owned(), json!([single]));
        }
        _ => {}
    }
}

/// A new Service starts without a load balancer.
pub(super) fn create(_context: &Context<'_>, service: &mut Value) {
    let Some(root) = service.as_object_mut() else {
        return;
    };
    root.insert("status".to_owned(), json!({"loadBalancer": {}}));
    if let Some(spec) = object(root, "spec") {
        normalize_addresses(spec);
    }
}

fn has_node_ports(kind: &str) -> bool {
    matches!(kind, "NodePort" | "LoadBalancer")
}

/// An update that leaves allocated values out keeps them, as long as the type still uses them.
pub(super) fn prepare_update(context: &Context<'_>, new: &mut Value, old: &Value) {
    if context.subresource == "status" {
        return;
    }
    let old = old.at("spec");
    let Some(spec) = new.as_object_mut().and_then(|root| object(root, "spec")) else {
        return;
    };
    let kind = text(spec, "type");
    let clustered = kind != "ExternalName" && old.text("type") != "ExternalName";
    if clustered {
        // A changed single address speaks for the list as well.
        let single = text(spec, "clusterIP");
        let changed = !single.is_empty() && single != old.text("clusterIP");
        if changed && spec.get("clusterIPs") == old.get("clusterIPs") {
            spec.insert("clusterIPs".to_owned(), json!([single]));
        }
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = old.get(key) {
                default(spec, key, value.clone());
            }
        }
    } else if kind == "ExternalName" {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if spec.get(key) == old.get(key) {
                spec.remove(key);
            }
        }
    }
    // A name that is not changed along with the type goes with it.
    let named = kind != "ExternalName" && old.text("type") == "ExternalName";
    if named && spec.get("externalName") == old.get("externalName") {
        spec.remove("externalName");
    }
    carry_node_ports(spec, &kind, old);
    normalize_addresses(spec);
}

fn carry_node_ports(spec: &mut Map<String, Value>, kind: &str, old: &Value) {
    let keep = has_node_ports(kind) && has_node_ports(old.text("type"));
    let leaving = !has_node_ports(kind) && has_node_ports(old.text("type"));
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        let same = |o: &&Value| {
            Some(o.at("port")) == port.get("port") && Some(o.at("protocol")) == port.get("protocol")
        };
        let Some(before) = old.items("ports").iter().find(same) else {
            continue;
        };
        if keep && before.has("nodePort") {
            default(port, "nodePort", before.at("nodePort").clone());
        } else if leaving && port.get("nodePort") == before.get("nodePort") {
            port.remove("nodePort");
        }
    }
    if leaving {
        for key in [
            "externalTrafficPolicy",
            "healthCheckNodePort",
            "allocateLoadBalancerNodePorts",
        ] {
            if spec.get(key) == old.get(key) {
                spec.remove(key);
            }
        }
    } else if keep && old.has("healthCheckNodePort") && kind == "LoadBalancer" {
        default(
            spec,
            "healthCheckNodePort",
            old.at("healthCheckNodePort").clone(),
        );
    }
}

/// Checks a Service's spec.
pub(super) fn spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let kind = spec.text("type");
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    if !kinds.contains(&kind) {
        out.push(FieldError::not_supported(at.field("type"), kind, &kinds));
    }
    let headless = spec.text("clusterIP") == "None";
    if spec.items("ports").is_empty() && !headless && kind != "ExternalName" {
        out.push(FieldError::required(at.field("ports"), ""));
    }
    match kind {
        "ExternalName" => external_name(spec, at, out),
        "NodePort" | "LoadBalancer" if headless => {
            let at = at.field("clusterIPs");
            let detail = format!("may not be set to 'None' for {kind} services");
            out.push(FieldError::invalid(at.index(0), "None", detail));
        }
        _ => {}
    }
    ports(spec, kind, at, out);
    meta::labels(spec.at("selector"), &at.field("selector"), out);
    affinity(spec, at, out);
    addresses(spec, at, out);
    policies(spec, kind, at, out);
}

fn external_name(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let name = spec.text("externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        out.push(FieldError::required(at.field("externalName"), ""));
    } else if let Some(fault) = names::dns_subdomain(name) {
        out.push(FieldError::invalid(at.field("externalName"), name, fault));
    }
    if !spec.items("clusterIPs").is_empty() {
        let detail = "may not be set when `type` is 'ExternalName'";
        out.push(FieldError::forbidden(at.field("clusterIPs"), detail));
    }
}

fn ports(spec: &Value, kind: &str, at: &Path<'_>, out: &mut Errors) {
    let at_ports = at.field("ports");
    let ports = spec.items("ports");
    let (mut seen_names, mut seen, mut seen_nodes) =
        (HashSet::new(), HashSet::new(), HashSet::new());
    for (index, port) in ports.iter().enumerate() {
        let at = at_ports.index(index);
        let name = port.text("name");
        if name.is_empty() {
            if ports.len() > 1 {
                out.push(FieldError::required(at.field("name"), ""));
            }
        } else if let Some(fault) = names::dns_label(name) {
            out.push(FieldError::invalid(at.field("name"), name, fault));
        } else if !seen_names.insert(name) {
            out.push(FieldError::duplicate(at.field("name"), name));
        }
        let (number, protocol) = (port.int("port"), port.text("protocol"));
        if number.is_some() && !seen.insert((number, protocol)) {
            out.push(FieldError::duplicate(
                at,
                json!({"protocol": protocol, "port": number}),
            ));
        }
        if spec.text("clusterIP") != "None" {
            probe::port(port.at("targetPort"), &at.field("targetPort"), out);
        }
        if let Some(node) = port.int("nodePort").filter(|n| *n != 0) {
            if !has_node_ports(kind) {
                let detail = format!("may not be used when `type` is '{kind}'");
                out.push(FieldError::forbidden(at.field("nodePort"), detail));
            } else if !seen_nodes.insert((node, protocol)) {
                out.push(FieldError::duplicate(at.field("nodePort"), node));
            }
        }
        let app = port.text("appProtocol");
        if !app.is_empty()
            && let Some(fault) = names::qualified_name(app)
        {
            out.push(FieldError::invalid(at.field("appProtocol"), app, fault));
        }
    }
}

fn affinity(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let affinity = spec.text("sessionAffinity");
    if !matches!(affinity, "ClientIP" | "None") {
        let known = ["ClientIP", "None"];
        out.push(FieldError::not_supported(
            at.field("sessionAffinity"),
            affinity,
            &known,
        ));
    }
    let timeout = spec
        .at("sessionAffinityConfig")
        .at("clientIP")
        .int("timeoutSeconds");
    if let Some(seconds) = timeout.filter(|s| !(1..=86_400).contains(s)) {
        let at = at.field("sessionAffinityConfig");
        let at = at.field("clientIP");
        let detail = "must be greater than 0 and less than 86400";
        out.push(FieldError::invalid(
            at.field("timeoutSeconds"),
            seconds,
            detail,
        ));
    }
}

fn addresses(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_list = at.field("clusterIPs");
    let list = spec.items("clusterIPs");
    let single = spec.text("clusterIP");
    let first = list.first().and_then(Value::as_str).unwrap_or_default();
    if !list.is_empty() && first != single {
        let detail = "first value must match `clusterIP`";
        out.push(FieldError::invalid(at_list, Value::from(list), detail));
    }
    if list.len() > 2 {
        let detail = "may only hold up to 2 values";
        out.push(FieldError::invalid(at_list, Value::from(list), detail));
    }
    for (index, address) in list.iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        if address == "None" && index == 0 && list.len() > 1 {
            let detail = "'None' must be the first and only value";
            out.push(FieldError::invalid(at_list.index(index), address, detail));
        } else if address != "None"
            && !address.is_empty()
            && let Some(fault) = names::ip(address)
        {
            out.push(FieldError::invalid(at_list.index(index), address, fault));
        }
    }
    let at_external = at.field("externalIPs");
    for (index, address) in spec.items("externalIPs").iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        if let Some(fault) = names::ip(address).or_else(|| special(address)) {
            out.push(FieldError::invalid(
                at_external.index(index),
                address,
                fault,
            ));
        }
    }
}

/// Addresses that would lead to whoever uses them, to their link, or nowhere.
pub(super) fn special(address: &str) -> Option<std::borrow::Cow<'static, str>> {
    match SpecialAddress::of(address.parse().ok()?)? {
        special @ SpecialAddress::Unspecified => {
            Some(format!("{} ({address})", special.fault()).into())
        }
        special => Some(special.fault().into()),
    }
}

fn policies(spec: &Value, kind: &str, at: &Path<'_>, out: &mut Errors) {
    let known = ["Cluster", "Local"];
    let external = spec.text("externalTrafficPolicy");
    if !external.is_empty() {
        if !has_node_ports(kind) && spec.items("externalIPs").is_empty() {
            let detail = "may only be set for externally-accessible services";
            out.push(FieldError::invalid(
                at.field("externalTrafficPolicy"),
                external,
                detail,
            ));
        } else if !known.contains(&external) {
            out.push(FieldError::not_supported(
                at.field("externalTrafficPolicy"),
                external,
                &known,
            ));
        }
    }
    let internal = spec.text("internalTrafficPolicy");
    if !internal.is_empty() && !known.contains(&internal) {
        out.push(FieldError::not_supported(
            at.field("internalTrafficPolicy"),
            internal,
            &known,
        ));
    }
    let families = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    let policy = spec.text("ipFamilyPolicy");
    if !policy.is_empty() && !families.contains(&policy) {
        out.push(FieldError::invalid(
            at.field("ipFamilyPolicy"),
            policy,
            "must be one of SingleStack, PreferDualStack or RequireDualStack",
        ));
    }
    if kind != "LoadBalancer" {
        for key in ["loadBalancerClass", "allocateLoadBalancerNodePorts"] {
            if spec.has(key) {
                let detail = "may only be used when `type` is 'LoadBalancer'";
                out.push(FieldError::forbidden(at.field(key), detail));
            }
        }
    }
    let at_ranges = at.field("loadBalancerSourceRanges");
    for (index, range) in spec.items("loadBalancerSourceRanges").iter().enumerate() {
        let range = range.as_str().unwrap_or_default();
        if let Some(fault) = names::cidr(range.trim()) {
            out.push(FieldError::invalid(at_ranges.index(index), range, fault));
        }
    }
}

/// An allocated address stays while the Service keeps one.
pub(super) fn update(context: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if context.subresource == "status" {
        return;
    }
    let (new, old) = (new.at("spec"), old.at("spec"));
    if old.text("type") == "ExternalName" || new.text("type") == "ExternalName" {
        return;
    }
    let before = old.text("clusterIP");
    if !before.is_empty() && new.text("clusterIP") != before {
        let at = Path::new("spec");
        let at = at.field("clusterIPs");
        let value = new.at("clusterIPs").clone();
        out.push(FieldError::invalid(
            at.index(0),
            value,
            "may not change once set",
        ));
    }
}
