//! Ingresses, network policies, service ranges and endpoint slices.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::access::{Fields, default_absent};
use super::service::special;
use super::{Context, Errors, immutable, names};
use crate::schema::{FieldError, Path};

/// The directions a policy governs follow from its rules.
pub(super) fn policy_defaults(spec: &mut Map<String, Value>) {
    let egress = spec
        .get("egress")
        .and_then(Value::as_array)
        .is_some_and(|e| !e.is_empty());
    let types = if egress {
        json!(["Ingress", "Egress"])
    } else {
        json!(["Ingress"])
    };
    if spec
        .get("policyTypes")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty)
    {
        spec.insert("policyTypes".to_owned(), types);
    }
}

/// Checks a policy's spec.
pub(super) fn policy_spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        let at = at.field(rules);
        for (index, rule) in spec.items(rules).iter().enumerate() {
            let at = at.index(index);
            let at_ports = at.field("ports");
            for (index, port) in rule.items("ports").iter().enumerate() {
                policy_port(port, &at_ports.index(index), out);
            }
            let at_peers = at.field(peers);
            for (index, peer) in rule.items(peers).iter().enumerate() {
                policy_peer(peer, &at_peers.index(index), out);
            }
        }
    }
    let at_types = at.field("policyTypes");
    let types = spec.items("policyTypes");
    if types.len() > 2 {
        let detail = "may not specify more than two policyTypes";
        out.push(FieldError::invalid(at_types, Value::from(types), detail));
        return;
    }
    for (index, kind) in types.iter().enumerate() {
        if !matches!(kind.as_str(), Some("Ingress" | "Egress")) {
            let known = ["Ingress", "Egress"];
            out.push(FieldError::not_supported(
                at_types.index(index),
                kind.clone(),
                &known,
            ));
        }
    }
}

fn policy_port(port: &Value, at: &Path<'_>, out: &mut Errors) {
    if port.has("port") {
        super::pod::probe::port(port.at("port"), &at.field("port"), out);
    }
    if let Some(end) = port.int("endPort") {
        match port.int("port") {
            None if port.has("port") => {
                let detail = "may not be specified when `port` is non-numeric";
                out.push(FieldError::forbidden(at.field("endPort"), detail));
            }
            None => {
                out.push(FieldError::required(
                    at.field("port"),
                    "must be specified when `endPort` is specified",
                ));
            }
            Some(start) if end < start => {
                let detail = "must be greater than or equal to `port`";
                out.push(FieldError::invalid(at.field("endPort"), end, detail));
            }
            Some(_) => {}
        }
    }
}

fn policy_peer(peer: &Value, at: &Path<'_>, out: &mut Errors) {
    let selectors = peer.has("podSelector") || peer.has("namespaceSelector");
    match (selectors, peer.has("ipBlock")) {
        (false, false) => out.push(FieldError::required(at, "must specify a peer")),
        (true, true) => {
            out.push(FieldError::forbidden(
                at,
                "may not specify both ipBlock and another peer",
            ));
        }
        (true, false) => {}
        (false, true) => {
            let block = peer.at("ipBlock");
            let at = at.field("ipBlock");
            let at = at.field("except");
            let Ok(range) = block.text("cidr").parse::<ipnet::IpNet>() else {
                return;
            };
            for (index, except) in block.items("except").iter().enumerate() {
                let text = except.as_str().unwrap_or_default();
                match text.parse::<ipnet::IpNet>() {
                    Err(_) => {
                        let fault = names::cidr(text).unwrap_or_default();
                        out.push(FieldError::invalid(at.index(index), text, fault));
                    }
                    Ok(inner) if !range.contains(&inner) || inner == range => {
                        let detail = format!("must be a strict subset of `cidr`: {range:?}");
                        out.push(FieldError::invalid(at.index(index), text, detail));
                    }
                    Ok(_) => {}
                }
            }
        }
    }
}

/// Checks an ingress' spec.
pub(super) fn ingress_spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    if spec.items("rules").is_empty() && !spec.has("defaultBackend") {
        let detail = "either `defaultBackend` or `rules` must be specified";
        out.push(FieldError::invalid(at, json!([]), detail));
    }
    if spec.has("defaultBackend") {
        backend(spec.at("defaultBackend"), &at.field("defaultBackend"), out);
    }
    let class = spec.text("ingressClassName");
    if !class.is_empty()
        && let Some(fault) = names::dns_subdomain(class)
    {
        out.push(FieldError::invalid(
            at.field("ingressClassName"),
            class,
            fault,
        ));
    }
    let at_tls = at.field("tls");
    for (index, tls) in spec.items("tls").iter().enumerate() {
        let at = at_tls.index(index);
        let at = at.field("hosts");
        for (index, name) in tls.items("hosts").iter().enumerate() {
            host(name.as_str().unwrap_or_default(), &at.index(index), out);
        }
    }
    let at_rules = at.field("rules");
    for (index, rule) in spec.items("rules").iter().enumerate() {
        let at = at_rules.index(index);
        if !rule.text("host").is_empty() {
            host(rule.text("host"), &at.field("host"), out);
        }
        let at = at.field("http");
        let at = at.field("paths");
        for (index, path) in rule.at("http").items("paths").iter().enumerate() {
            ingress_path(path, &at.index(index), out);
        }
    }
}

fn host(name: &str, at: &Path<'_>, out: &mut Errors) {
    let fault = match name {
        n if n.parse::<IpAddr>().is_ok() => Some("must be a DNS name, not an IP address".into()),
        n if n.contains('*') => names::wildcard_subdomain(n),
        n => names::dns_subdomain(n),
    };
    if let Some(fault) = fault {
        out.push(FieldError::invalid(at, name, fault));
    }
}

fn ingress_path(path: &Value, at: &Path<'_>, out: &mut Errors) {
    let text = path.text("path");
    let at_path = at.field("path");
    if path.text("pathType") == "ImplementationSpecific" {
        if !text.is_empty() && !text.starts_with('/') {
            out.push(FieldError::invalid(
                at_path,
                text,
                "must be an absolute path",
            ));
        }
    } else {
        if !text.starts_with('/') {
            out.push(FieldError::invalid(
                at_path,
                text,
                "must be an absolute path",
            ));
        }
        for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
            if text.contains(sequence) {
                let detail = format!("must not contain '{sequence}'");
                out.push(FieldError::invalid(at_path, text, detail));
            }
        }
        for suffix in ["/..", "/."] {
            if text.ends_with(suffix) {
                let detail = format!("cannot end with '{suffix}'");
                out.push(FieldError::invalid(at_path, text, detail));
            }
        }
    }
    backend(path.at("backend"), &at.field("backend"), out);
}

fn backend(backend: &Value, at: &Path<'_>, out: &mut Errors) {
    match (backend.has("service"), backend.has("resource")) {
        (true, true) => {
            let detail = "cannot set both resource and service backends";
            out.push(FieldError::invalid(at, "", detail));
        }
        (false, false) => out.push(FieldError::required(
            at,
            "resource or service backend is required",
        )),
        (false, true) => {}
        (true, false) => {
            let at = at.field("service");
            let port = backend.at("service").at("port");
            let at_port = at.field("port");
            match (port.text("name"), port.int("number").unwrap_or(0)) {
                ("", 0) => out.push(FieldError::required(at, "port name or number is required")),
                ("", number) => {
                    if let Some(fault) = names::port_number(number) {
                        out.push(FieldError::invalid(at_port.field("number"), number, fault));
                    }
                }
                (_, number) if number != 0 => {
                    out.push(FieldError::invalid(
                        at,
                        "",
                        "cannot set both port name & port number",
                    ));
                }
                (name, _) => {
                    if let Some(fault) = names::port_name(name) {
                        out.push(FieldError::invalid(at_port.field("name"), name, fault));
                    }
                }
            }
        }
    }
}

/// Parameters of an ingress class are cluster-wide unless they say otherwise.
pub(super) fn class_parameter_defaults(parameters: &mut Map<String, Value>) {
    default_absent(parameters, "scope", "Cluster");
}

/// Checks the parameters of an ingress class.
pub(super) fn class_parameters(parameters: &Value, at: &Path<'_>, out: &mut Errors) {
    for key in ["kind", "name"] {
        if parameters.text(key).is_empty() {
            out.push(FieldError::required(at.field(key), ""));
        }
    }
    let namespaced = parameters.text("scope") == "Namespace";
    match (namespaced, parameters.text("namespace").is_empty()) {
        (true, true) => {
            let detail = "`parameters.scope` is set to 'Namespace'";
            out.push(FieldError::required(at.field("namespace"), detail));
        }
        (false, false) => {
            let detail = "`parameters.scope` is set to 'Cluster'";
            out.push(FieldError::forbidden(at.field("namespace"), detail));
        }
        _ => {}
    }
}

/// The controller of an ingress class stays.
pub(super) fn class_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    immutable(
        new.at("spec"),
        old.at("spec"),
        "controller",
        &Path::new("spec"),
        out,
    );
}

/// The addresses of a slice are all of its type.
pub(super) fn slice(_: &Context<'_>, slice: &Value, out: &mut Errors) {
    let kind = slice.text("addressType");
    let root = Path::new("endpoints");
    for (index, endpoint) in slice.items("endpoints").iter().enumerate() {
        let at = root.index(index);
        let at = at.field("addresses");
        for (index, address) in endpoint.items("addresses").iter().enumerate() {
            let text = address.as_str().unwrap_or_default();
            let fault = match kind {
                "IPv4" => text
                    .parse::<std::net::Ipv4Addr>()
                    .is_err()
                    .then(|| "must be a valid IPv4 address".into()),
                "IPv6" => text
                    .parse::<std::net::Ipv6Addr>()
                    .is_err()
                    .then(|| "must be a valid IPv6 address".into()),
                "FQDN" => names::dns_subdomain(text),
                _ => None,
            };
            let fault = fault.or_else(|| special(text));
            if let Some(fault) = fault {
                out.push(FieldError::invalid(at.index(index), text, fault));
            }
        }
    }
}

/// The addresses of endpoints are those of other machines: what a node, the API server or a proxy takes for itself or its link
/// would be a way into it.
pub(super) fn endpoints(_: &Context<'_>, endpoints: &Value, out: &mut Errors) {
    let root = Path::new("subsets");
    for (index, subset) in endpoints.items("subsets").iter().enumerate() {
        let at = root.index(index);
        for list in ["addresses", "notReadyAddresses"] {
            let at = at.field(list);
            for (index, address) in subset.items(list).iter().enumerate() {
                let text = address.text("ip");
                if let Some(fault) = names::ip(text).or_else(|| special(text)) {
                    let at = at.index(index);
                    out.push(FieldError::invalid(at.field("ip"), text, fault));
                }
            }
        }
    }
}

/// The address type of a slice stays.
pub(super) fn slice_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    immutable(new, old, "addressType", &Path::ROOT, out);
}

/// The ranges of a ServiceCIDR are networks, at most one of each family.
pub(super) fn range(_: &Context<'_>, range: &Value, out: &mut Errors) {
    let root = Path::new("spec");
    let at = root.field("cidrs");
    let list = range.at("spec").items("cidrs");
    let mut families = Vec::new();
    for (index, cidr) in list.iter().enumerate() {
        let text = cidr.as_str().unwrap_or_default();
        let Ok(parsed) = text.parse::<ipnet::IpNet>() else {
            continue;
        };
        if parsed.addr() != parsed.network() {
            let detail = "must not have bits set beyond the prefix length";
            out.push(FieldError::invalid(at.index(index), text, detail));
        }
        families.push(parsed.addr().is_ipv4());
    }
    if families.len() == 2 && families[0] == families[1] {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and \
                      2001:db8::/64";
        out.push(FieldError::invalid(at, Value::from(list), detail));
    }
}

/// An address says whose it is.
pub(super) fn address(_: &Context<'_>, address: &Value, out: &mut Errors) {
    if !address.at("spec").has("parentRef") {
        out.push(FieldError::required("spec.parentRef", ""));
    }
}

/// The ranges of a ServiceCIDR stay, but a second family may be added.
pub(super) fn range_update(context: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if !context.subresource.is_empty() {
        return;
    }
    let before = old.at("spec").items("cidrs");
    if !new.at("spec").items("cidrs").starts_with(before) {
        let value = new.at("spec").at("cidrs").clone();
        out.push(FieldError::invalid(
            "spec.cidrs",
            value,
            "field is immutable",
        ));
    }
}

/// The name of an address object is the address.
pub(super) fn address_name(name: &str) -> Option<std::borrow::Cow<'static, str>> {
    match name.parse::<IpAddr>() {
        Ok(parsed) if parsed.to_string() == name => None,
        Ok(parsed) => Some(format!("must be in canonical form (\"{parsed}\")").into()),
        Err(_) => names::ip(name),
    }
}
