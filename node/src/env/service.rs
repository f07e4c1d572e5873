//! Environment variables that tell a container of the Services of its namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort};

/// The variables of `services` for a pod in `namespace`, as `k8s.io/kubernetes/pkg/kubelet/envvars` makes them:
/// `X_SERVICE_HOST`, `X_SERVICE_PORT[_NAME]` and Docker's link variables.
///
/// Services of the namespace count if `links` (the pod's `enableServiceLinks`); `default/kubernetes` always does.
/// Those without a cluster address are left out.
pub fn service_env<'s>(
    services: impl IntoIterator<Item = &'s Service>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let of = service.metadata.namespace.as_deref().unwrap_or_default();
        let master = of == "default" && name == "kubernetes";
        if links && of == namespace {
            chosen.insert(name, service);
        } else if master {
            chosen.entry(name).or_insert(service);
        }
    }
    let mut vars = BTreeMap::new();
    for (name, service) in chosen {
        add(&mut vars, name, service);
    }
    vars
}

fn add(vars: &mut BTreeMap<String, String>, name: &str, service: &Service) {
    let Some(spec) = &service.spec else { return };
    let ip = match spec.cluster_ip.as_deref() {
        None | Some("" | "None") => return,
        Some(ip) => ip,
    };
    let prefix = upper(name);
    vars.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    let ports = spec.ports.as_deref().unwrap_or_default();
    if let Some(first) = ports.first() {
        vars.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
        vars.insert(format!("{prefix}_PORT"), link(ip, first));
    }
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            vars.insert(
                format!("{prefix}_SERVICE_PORT_{}", upper(name)),
                port.port.to_string(),
            );
        }
        let protocol = protocol(port);
        let link_prefix = format!("{prefix}_PORT_{}_{protocol}", port.port);
        vars.insert(link_prefix.clone(), link(ip, port));
        vars.insert(format!("{link_prefix}_PROTO"), protocol.to_lowercase());
        vars.insert(format!("{link_prefix}_PORT"), port.port.to_string());
        vars.insert(format!("{link_prefix}_ADDR"), ip.to_owned());
    }
}

fn upper(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

fn protocol(port: &ServicePort) -> String {
    port.protocol
        .as_deref()
        .unwrap_or("TCP")
        .to_ascii_uppercase()
}

fn link(ip: &str, port: &ServicePort) -> String {
    let host = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    format!("{}://{host}:{}", protocol(port).to_lowercase(), port.port)
}
