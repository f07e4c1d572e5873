//! Where the proxies of pods, services and nodes lead.

use std::net::{IpAddr, SocketAddr};

use davit_api::SpecialAddress;
use rand::seq::IndexedRandom;
use serde_json::Value;

use crate::auth::{Kind, ObjectSource};
use crate::error::StatusError;
use crate::handler::Call;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    /// Address and port, as in a URL.
    pub(super) authority: String,
    /// It is a node's own API, which knows this server.
    pub(super) node: bool,
}

/// The name in the path of a proxy: `name`, `name:port` or `scheme:name:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Id<'a> {
    scheme: &'static str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Id<'a> {
    fn parse(id: &'a str) -> Option<Self> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let scheme = match scheme {
            "" | "http" => "http",
            "https" => "https",
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { scheme, name, port })
    }
}

/// Finds out where the object of a call is reached.
///
/// # Errors
/// The name cannot be read, there is no such object, it leads nowhere, or to an address that must not be called.
pub(super) fn locate(call: &Call) -> Result<Location, StatusError> {
    let id = &call.path.name;
    let kind = match &*call.resource.plural {
        "pods" => "pod",
        "services" => "service",
        _ => "node",
    };
    let parsed = Id::parse(id)
        .ok_or_else(|| StatusError::bad_request(format!("invalid {kind} request {id:?}")))?;
    let source: &dyn ObjectSource = &*call.server.cache;
    let namespace = call.namespace();
    match kind {
        "pod" => {
            let pod = read(source, Kind::PODS, namespace, parsed.name);
            of_pod(&pod.ok_or_else(|| call.not_found(parsed.name))?, parsed)
        }
        "service" => {
            let service = read(source, Kind::SERVICES, namespace, parsed.name);
            let service = service.ok_or_else(|| call.not_found(parsed.name))?;
            of_service(source, namespace, &service, parsed)
        }
        _ => {
            let node = read(source, Kind::NODES, "", parsed.name);
            of_node(&node.ok_or_else(|| call.not_found(parsed.name))?, parsed)
        }
    }
}

fn read(source: &dyn ObjectSource, kind: Kind, namespace: &str, name: &str) -> Option<Value> {
    let bytes = source.get(kind, namespace, name)?;
    serde_json::from_slice(&bytes).ok()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// An address that users may have called: not of this machine alone, and not of a cloud's metadata.
fn allowed(address: &str) -> Result<IpAddr, StatusError> {
    let parsed = address.parse::<IpAddr>().ok();
    parsed
        .filter(|ip| SpecialAddress::of(*ip).is_none())
        .ok_or_else(|| StatusError::bad_request("address not allowed"))
}

fn port_of(text: &str) -> Result<u16, StatusError> {
    let port = text.parse::<u16>().ok().filter(|port| *port != 0);
    port.ok_or_else(|| StatusError::bad_request(format!("invalid port {text:?}")))
}

fn location(scheme: &'static str, ip: IpAddr, port: u16) -> Location {
    Location {
        scheme,
        authority: SocketAddr::new(ip, port).to_string(),
        node: false,
    }
}

fn of_pod(pod: &Value, id: Id<'_>) -> Result<Location, StatusError> {
    let declared = || {
        let containers = list(&pod["spec"]["containers"]);
        let mut ports = containers.filter_map(|c| c["ports"][0]["containerPort"].as_u64());
        ports.next().and_then(|port| u16::try_from(port).ok())
    };
    let ip = allowed(pod["status"]["podIP"].as_str().unwrap_or_default())?;
    let port = match id.port {
        "" => declared().unwrap_or(if id.scheme == "https" { 443 } else { 80 }),
        port => port_of(port)?,
    };
    Ok(location(id.scheme, ip, port))
}

/// One of the ready pods behind a port of a Service, at random. Addresses that somebody wrote into a slice without a pod
/// behind them are not called.
fn of_service(
    source: &dyn ObjectSource,
    namespace: &str,
    service: &Value,
    id: Id<'_>,
) -> Result<Location, StatusError> {
    let name = id.name;
    let mut port = id.port;
    if let Ok(number) = port.parse::<u64>() {
        let mut ports = list(&service["spec"]["ports"]);
        let found = ports.find(|have| have["port"].as_u64() == Some(number));
        let found = found.ok_or_else(|| {
            StatusError::service_unavailable(format!(
                "no service port {number} found for service {name:?}"
            ))
        })?;
        port = found["name"].as_str().unwrap_or_default();
    }
    let mut found = Vec::new();
    for slice in source.list(Kind::ENDPOINT_SLICES, namespace) {
        let Ok(slice) = serde_json::from_slice::<Value>(&slice) else {
            continue;
        };
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != name {
            continue;
        }
        let mut ports = list(&slice["ports"]);
        let number = ports.find(|have| have["name"].as_str().unwrap_or_default() == port);
        let number = number.and_then(|have| u16::try_from(have["port"].as_u64()?).ok());
        let Some(number) = number else { continue };
        let ready = list(&slice["endpoints"]).filter(|e| e["conditions"]["ready"] != false);
        found.extend(
            ready.filter_map(|endpoint| Some((pod_address(source, namespace, endpoint)?, number))),
        );
    }
    let Some((ip, port)) = found.choose(&mut rand::rng()) else {
        return Err(StatusError::service_unavailable(format!(
            "no endpoints available for service {name:?}"
        )));
    };
    Ok(location(id.scheme, *ip, *port))
}

/// The address of an endpoint, if it is that of the pod it names.
fn pod_address(source: &dyn ObjectSource, namespace: &str, endpoint: &Value) -> Option<IpAddr> {
    let target = &endpoint["targetRef"];
    if target["kind"] != "Pod" {
        return None;
    }
    let pod = read(source, Kind::PODS, namespace, target["name"].as_str()?)?;
    let address = endpoint["addresses"][0].as_str()?;
    let mut ips = list(&pod["status"]["podIPs"]);
    let its_own = ips.any(|ip| ip["ip"] == address) || pod["status"]["podIP"] == address;
    if its_own { allowed(address).ok() } else { None }
}

fn of_node(node: &Value, id: Id<'_>) -> Result<Location, StatusError> {
    let own = super::authority(node).ok_or_else(|| {
        StatusError::service_unavailable(format!(
            "the node {:?} has published no InternalIP and kubelet port yet; try again",
            id.name
        ))
    })?;
    let own = own.parse::<SocketAddr>().map_err(StatusError::internal)?;
    let port = match id.port {
        "" => own.port(),
        port => port_of(port)?,
    };
    if port == own.port() {
        return Ok(Location {
            scheme: "https",
            authority: own.to_string(),
            node: true,
        });
    }
    let ip = allowed(&own.ip().to_string())?;
    Ok(location(id.scheme, ip, port))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::memory::Memory;

    fn id(text: &str) -> Id<'_> {
        Id::parse(text).unwrap()
    }

    #[test]
    fn names_have_a_scheme_and_a_port() {
        let table = [
            ("web", Some(("http", "web", ""))),
            ("web:80", Some(("http", "web", "80"))),
            ("https:web:", Some(("https", "web", ""))),
            ("http:web:main", Some(("http", "web", "main"))),
            (":web:1", Some(("http", "web", "1"))),
            ("ftp:web:1", None),
            ("a:b:c:d", None),
            (":80", None),
            ("", None),
        ];
        for (text, expected) in table {
            let parsed = Id::parse(text).map(|id| (id.scheme, id.name, id.port));
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn a_pod_is_called_at_its_address() {
        let pod = |ip: &str| {
            json!({
                "spec": {"containers": [{}, {"ports": [{"containerPort": 8080}]}]}, "status": {"podIP": ip},
            })
        };
        let at = |ip: &str, text| of_pod(&pod(ip), id(text)).map(|found| found.authority);
        assert_eq!(at("10.0.0.1", "p").unwrap(), "10.0.0.1:8080");
        assert_eq!(at("fd00::1", "https:p:1").unwrap(), "[fd00::1]:1");
        for refused in [
            "127.0.0.1",
            "169.254.169.254",
            "fe80::1",
            "::1",
            "224.0.0.1",
            "0.0.0.0",
            "",
            "::ffff:127.0.0.1",
        ] {
            let error = at(refused, "p").unwrap_err();
            assert_eq!(error.message(), "address not allowed", "{refused}");
        }
        assert!(at("10.0.0.1", "p:0").is_err() && at("10.0.0.1", "p:http").is_err());
    }

    #[test]
    fn a_service_leads_to_its_pods_only() {
        let service =
            json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "web", "port": 80}]}});
        let slice = |target: Value| {
            json!({
                "metadata": {"namespace": "n", "name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
                "ports": [{"name": "web", "port": 8080}],
                "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": target}],
            })
        };
        let pod =
            json!({"metadata": {"namespace": "n", "name": "p"}, "status": {"podIP": "10.0.0.1"}});
        let find = |target: Value, text: &str| {
            let objects = Memory::with([
                (Kind::ENDPOINT_SLICES, slice(target)),
                (Kind::PODS, pod.clone()),
            ]);
            of_service(&*objects, "n", &service, id(text))
        };
        let good = json!({"kind": "Pod", "name": "p"});
        for text in ["s:80", "s:web", "http:s:web"] {
            assert_eq!(
                find(good.clone(), text).unwrap().authority,
                "10.0.0.1:8080",
                "{text}"
            );
        }
        let error = find(good.clone(), "s:81").unwrap_err();
        assert_eq!(
            error.message(),
            "no service port 81 found for service \"s\""
        );
        for (target, text) in [
            (json!(null), "s:80"),
            (json!({"kind": "Pod", "name": "q"}), "s:80"),
            (good, "s:other"),
        ] {
            let error = find(target, text).unwrap_err();
            assert_eq!(error.message(), "no endpoints available for service \"s\"");
        }
    }

    #[test]
    fn a_node_is_called_at_its_own_api_or_another_port() {
        let node = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        }});
        for text in ["n", "n:10250", "https:n:"] {
            let found = of_node(&node, id(text)).unwrap();
            assert!(found.node && found.authority == "192.0.2.1:10250", "{text}");
        }
        let other = of_node(&node, id("n:9100")).unwrap();
        assert_eq!(
            (other.node, other.scheme, &*other.authority),
            (false, "http", "192.0.2.1:9100")
        );
    }
}
