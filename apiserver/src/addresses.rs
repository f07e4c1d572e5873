//! Cluster addresses and node ports of Services, taken and given back in the transaction that writes the
//! Service, so that they can never disagree by themselves. What people did to them is repaired.
//!
//! A taken address is an IPAddress object, a taken port a key beside the objects.

mod families;
mod follow;
mod ranges;
mod repair;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rand::RngExt as _;
use serde_json::{Value, json};

pub(crate) use follow::follow;
pub(crate) use ranges::{InUse, ServiceRanges};

use self::ranges::Ranges;
use crate::ApiServer;
use crate::error::StatusError;
use crate::object;
use crate::pending;
use crate::resource::Companion;
use crate::schema::FieldError;
use crate::storage::{Compare, Op, Txn};

/// Prefix of the IPAddress objects.
const ADDRESSES: &str = "/registry/networking.k8s.io/ipaddresses/";
/// Prefix of the keys of taken ports. `~` keeps it apart from every kind.
const PORTS: &str = "/registry/davit.dev/~nodeports/";
/// Random picks before the range is searched in order.
const PICKS: usize = 32;

/// The companion of Services.
#[derive(Debug)]
pub(crate) struct Addresses;

impl Companion for Addresses {
    fn plan(
        &self,
        server: &ApiServer,
        old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Txn, StatusError> {
        let mut plan = Plan {
            server,
            ranges: Ranges::of(server),
            txn: Txn::default(),
            errors: Vec::new(),
        };
        let had = old.map(Held::of).unwrap_or_default();
        let wants = match new {
            Some(service) => {
                plan.address(old, service);
                plan.ports(old, service);
                let held = Held::of(service);
                plan.take(&had, &held, service);
                if !plan.errors.is_empty() {
                    return Err(refused(server, service, &plan.errors));
                }
                held
            }
            None => Held::default(),
        };
        plan.give_back(&had, &wants);
        Ok(plan.txn)
    }
}

fn refused(server: &ApiServer, service: &Value, errors: &[FieldError]) -> StatusError {
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    match server.registry.snapshot().find("", "v1", "services") {
        Some(resource) => StatusError::invalid(&resource, name, errors),
        None => StatusError::no_such_path(),
    }
}

/// What a Service occupies.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
}

impl Held {
    fn of(service: &Value) -> Self {
        let spec = &service["spec"];
        let mut held = Self::default();
        if !has_address(spec) {
            return held;
        }
        let many = spec["clusterIPs"].as_array().into_iter().flatten();
        let all = many.chain([&spec["clusterIP"]]).filter_map(Value::as_str);
        held.addresses
            .extend(all.filter_map(|text| text.parse::<IpAddr>().ok()));
        if has_ports(spec) {
            let ports = spec["ports"].as_array().into_iter().flatten();
            let ports = ports
                .map(|port| &port["nodePort"])
                .chain([&spec["healthCheckNodePort"]]);
            held.ports
                .extend(ports.filter_map(|port| u16::try_from(port.as_u64()?).ok()));
            held.ports.remove(&0);
        }
        held
    }
}

fn has_address(spec: &Value) -> bool {
    spec["type"] != "ExternalName" && spec["clusterIP"] != "None"
}

fn has_ports(spec: &Value) -> bool {
    spec["type"] == "NodePort" || spec["type"] == "LoadBalancer"
}

struct Plan<'s> {
    server: &'s ApiServer,
    ranges: Ranges,
    txn: Txn,
    errors: Vec<FieldError>,
}

impl Plan<'_> {
    fn taken(&self, key: &str) -> bool {
        let prefix = if key.starts_with(ADDRESSES) {
            ADDRESSES
        } else {
            PORTS
        };
        if let Some(written) = pending::written(|| key.to_owned()) {
            return written.is_some();
        }
        self.server.cache.catch_up();
        self.server.cache.kind(prefix).get(key).is_some()
    }

    /// Fills in the address a Service does not name.
    fn address(&mut self, old: Option<&Value>, service: &mut Value) {
        if !service["spec"].is_object() {
            service["spec"] = json!({});
        }
        let spec = &mut service["spec"];
        if spec["type"] == "ExternalName" {
            if let Some(spec) = spec.as_object_mut() {
                for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                    spec.remove(field);
                }
            }
            return;
        }
        let before = old.map(|old| &old["spec"]);
        match families::choose(spec, before, &self.ranges.families()) {
            Ok(chosen) => {
                if spec["clusterIP"] == "None" {
                    spec["clusterIPs"] = json!(["None"]);
                } else {
                    self.addresses(before, spec, &chosen.families);
                }
                spec["ipFamilies"] = json!(chosen.families);
                spec["ipFamilyPolicy"] = chosen.policy.into();
            }
            Err(error) => self.errors.push(error),
        }
    }

    /// One address of each family: the one that is named, the one it had, or a free one.
    fn addresses(&mut self, before: Option<&Value>, spec: &mut Value, families: &[String]) {
        let had = before.filter(|before| has_address(before));
        let had = had.map(families::named).unwrap_or_default();
        let mut addresses = families::named(spec);
        addresses.truncate(families.len());
        for (index, family) in families.iter().enumerate().skip(addresses.len()) {
            let kept = had.get(index).cloned().or_else(|| {
                let free = self.ranges.free(family, |address| {
                    self.taken(&format!("{ADDRESSES}{address}"))
                });
                free.map(|address| address.to_string())
            });
            let Some(address) = kept else {
                let detail = "failed to allocate a serviceIP: range is full";
                self.errors
                    .push(FieldError::invalid("spec.clusterIPs", json!([]), detail));
                return;
            };
            addresses.push(address);
        }
        spec["clusterIP"] = addresses.first().cloned().into();
        spec["clusterIPs"] = json!(addresses);
    }

    /// Fills in the node ports a Service does not name, and drops those its type does not have.
    fn ports(&mut self, old: Option<&Value>, service: &mut Value) {
        let spec = &mut service["spec"];
        let exposed = has_ports(spec);
        let allocates = exposed && spec["allocateLoadBalancerNodePorts"] != false;
        let mut chosen = BTreeSet::new();
        let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten() {
            if !exposed {
                if let Some(port) = port.as_object_mut() {
                    port.remove("nodePort");
                }
                continue;
            }
            if port["nodePort"].as_u64().unwrap_or(0) != 0 || !allocates {
                continue;
            }
            let before = old.and_then(|old| same_port(old, port));
            match before.or_else(|| self.free_port(&chosen)) {
                Some(number) => {
                    chosen.insert(number);
                    port["nodePort"] = number.into();
                }
                None => {
                    let detail = "failed to allocate a nodePort: range is full";
                    self.errors
                        .push(FieldError::invalid("spec.ports[0].nodePort", 0, detail));
                }
            }
        }
        let local = spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
        if local && spec["healthCheckNodePort"].as_u64().unwrap_or(0) == 0 {
            let before = old.map(|old| &old["spec"]["healthCheckNodePort"]);
            let before = before.and_then(|port| u16::try_from(port.as_u64()?).ok());
            if let Some(number) = before.or_else(|| self.free_port(&chosen)) {
                spec["healthCheckNodePort"] = number.into();
            }
        }
    }

    fn free_port(&self, chosen: &BTreeSet<u16>) -> Option<u16> {
        let range = self.server.config.node_ports.clone();
        let free = |port: &u16| !chosen.contains(port) && !self.taken(&format!("{PORTS}{port}"));
        let mut random = rand::rng();
        (0..PICKS)
            .map(|_| random.random_range(range.clone()))
            .find(free)
            .or_else(|| range.clone().find(free))
    }

    /// Takes what is wanted and not held yet.
    fn take(&mut self, had: &Held, wants: &Held, service: &Value) {
        for address in wants.addresses.difference(&had.addresses) {
            let key = format!("{ADDRESSES}{address}");
            let text = address.to_string();
            if !self.ranges.contains(address) {
                let range = self.server.config.service_cidr;
                let detail = format!(
                    "failed to allocate IP {text}: the provided IP ({text}) is not in the valid \
                     range. The range of valid IPs is {range}"
                );
                self.errors.push(FieldError::invalid(
                    "spec.clusterIPs",
                    json!([text]),
                    detail,
                ));
            } else if self.taken(&key) {
                let detail =
                    format!("failed to allocate IP {text}: provided IP is already allocated");
                self.errors.push(FieldError::invalid(
                    "spec.clusterIPs",
                    json!([text]),
                    detail,
                ));
            } else {
                self.txn.compares.extend(self.ranges.condition(address));
                self.put(key, &address_object(address, service));
            }
        }
        for port in wants.ports.difference(&had.ports) {
            let key = format!("{PORTS}{port}");
            let range = &self.server.config.node_ports;
            if !range.contains(port) {
                let detail = format!(
                    "provided port is not in the valid range. The range of valid ports is {}-{}",
                    range.start(),
                    range.end()
                );
                self.errors
                    .push(FieldError::invalid("spec.ports[0].nodePort", *port, detail));
            } else if self.taken(&key) {
                let detail = "provided port is already allocated";
                self.errors
                    .push(FieldError::invalid("spec.ports[0].nodePort", *port, detail));
            } else {
                let metadata = &service["metadata"];
                self.put(
                    key,
                    &json!({ "namespace": metadata["namespace"], "service": metadata["name"] }),
                );
            }
        }
    }

    fn give_back(&mut self, had: &Held, wants: &Held) {
        let addresses = had.addresses.difference(&wants.addresses);
        let addresses = addresses.map(|address| format!("{ADDRESSES}{address}"));
        let ports = had
            .ports
            .difference(&wants.ports)
            .map(|port| format!("{PORTS}{port}"));
        self.txn.ops.extend(
            addresses
                .chain(ports)
                .map(|key| Op::Delete { key: key.into() }),
        );
    }

    fn put(&mut self, key: String, value: &Value) {
        let key: Arc<str> = key.into();
        self.txn.compares.push(Compare {
            key: key.clone(),
            mod_revision: 0,
        });
        self.txn.ops.push(Op::Put {
            key,
            value: object::encode(value),
        });
    }
}

/// The node port that the same port of the old Service had.
fn same_port(old: &Value, port: &Value) -> Option<u16> {
    let ports = old["spec"]["ports"].as_array()?;
    let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
    let same = |have: &&Value| have["port"] == port["port"] && protocol(have) == protocol(port);
    let number = ports.iter().find(same)?["nodePort"].as_u64()?;
    u16::try_from(number).ok().filter(|number| *number != 0)
}

fn address_object(address: &IpAddr, service: &Value) -> Value {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({
        "kind": "IPAddress", "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "name": address.to_string(),
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": service["metadata"]["creationTimestamp"],
            "generation": 1,
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family,
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": { "parentRef": {
            "resource": "services",
            "namespace": service["metadata"]["namespace"],
            "name": service["metadata"]["name"],
        }},
    })
}

fn size(range: IpNet) -> u128 {
    1u128 << u32::from(range.max_prefix_len() - range.prefix_len()).min(64)
}

/// The address at an offset of a range.
pub(crate) fn nth(range: IpNet, offset: u128) -> Option<IpAddr> {
    let address = match range.network() {
        IpAddr::V4(base) => IpAddr::V4(
            u32::from(base)
                .checked_add(u32::try_from(offset).ok()?)?
                .into(),
        ),
        IpAddr::V6(base) => IpAddr::V6(u128::from(base).checked_add(offset)?.into()),
    };
    range.contains(&address).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_holds_its_addresses_and_ports() {
        let service = json!({"spec": {
            "type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
            "ports": [{"port": 80, "nodePort": 30080}, {"port": 81}],
        }});
        let held = Held::of(&service);
        assert_eq!(
            held.addresses,
            BTreeSet::from(["10.96.0.9".parse().unwrap()])
        );
        assert_eq!(held.ports, BTreeSet::from([30080]));
        for spec in [
            json!({"clusterIP": "None"}),
            json!({"type": "ExternalName"}),
        ] {
            assert_eq!(Held::of(&json!({ "spec": spec })), Held::default());
        }
    }

    #[test]
    fn addresses_are_counted_from_the_network() {
        let range: IpNet = "10.96.0.0/16".parse().unwrap();
        assert_eq!(nth(range, 1).unwrap().to_string(), "10.96.0.1");
        assert_eq!(nth(range, 65_536), None);
        assert_eq!(size("fd00::/112".parse().unwrap()), 65_536);
    }
}
