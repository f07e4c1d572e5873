//! What of the addresses and ports in the store disagrees with the Services, as a function of both.
//!
//! Services take and give back what they hold in their own transactions, so this finds something only where
//! somebody deleted or made an IPAddress by hand, or where a store was put together from other parts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use super::Held;

/// Who made an IPAddress.
const MANAGED: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";

/// Namespace and name of a Service.
pub(super) type Owner = (String, String);

/// One thing that is not as it should be. The same disagreement is always the same value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// A Service has this address, and there is no IPAddress of it.
    NoAddress(IpAddr, Owner),
    /// A Service has this node port, and it is free for others.
    NoPort(u16, Owner),
    /// An IPAddress, at this revision, is for a Service that does not have it.
    StrayAddress(String, String),
    /// A port is taken for a Service that does not have it.
    StrayPort(u16),
}

/// All faults. `ports` are the node ports that are taken.
pub(super) fn faults(
    services: &[Value],
    addresses: &[Value],
    ports: &BTreeSet<u16>,
) -> BTreeSet<Fault> {
    let mut held_addresses: BTreeMap<IpAddr, Owner> = BTreeMap::new();
    let mut held_ports: BTreeMap<u16, Owner> = BTreeMap::new();
    for service in services {
        let held = Held::of(service);
        let text = |field: &str| {
            service["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let owner = || (text("namespace"), text("name"));
        held_addresses.extend(held.addresses.into_iter().map(|address| (address, owner())));
        held_ports.extend(held.ports.into_iter().map(|port| (port, owner())));
    }
    let mut faults = BTreeSet::new();
    let mut present = BTreeSet::new();
    for object in addresses {
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        let Ok(address) = name.parse::<IpAddr>() else {
            continue;
        };
        present.insert(address);
        // What people made for themselves is theirs.
        let managed = metadata["labels"][MANAGED] == ALLOCATOR;
        if managed && held_addresses.get(&address) != Some(&parent(object)) {
            let revision = metadata["resourceVersion"].as_str().unwrap_or_default();
            faults.insert(Fault::StrayAddress(name.to_owned(), revision.to_owned()));
        }
    }
    let missing = held_addresses.into_iter();
    let missing = missing.filter(|(address, _)| !present.contains(address));
    faults.extend(missing.map(|(address, owner)| Fault::NoAddress(address, owner)));
    let stray = ports.iter().filter(|port| !held_ports.contains_key(*port));
    faults.extend(stray.map(|port| Fault::StrayPort(*port)));
    let free = held_ports
        .into_iter()
        .filter(|(port, _)| !ports.contains(port));
    faults.extend(free.map(|(port, owner)| Fault::NoPort(port, owner)));
    faults
}

fn parent(address: &Value) -> Owner {
    let parent = &address["spec"]["parentRef"];
    let text = |field: &str| parent[field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, spec: Value) -> Value {
        json!({"metadata": {"namespace": "n", "name": name}, "spec": spec})
    }

    fn address(text: &str, service: &str, managed: bool) -> Value {
        let by = if managed { ALLOCATOR } else { "me" };
        json!({
            "metadata": {"name": text, "resourceVersion": "7", "labels": {MANAGED: by}},
            "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": service}},
        })
    }

    #[test]
    fn only_what_disagrees_is_found() {
        let owner = |name: &str| ("n".to_owned(), name.to_owned());
        let services = [
            service(
                "good",
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}),
            ),
            service("lost", json!({"clusterIP": "10.0.0.2"})),
            service("headless", json!({"clusterIP": "None"})),
            service(
                "ports",
                json!({
                    "type": "NodePort", "clusterIP": "10.0.0.3",
                    "ports": [{"nodePort": 30001}, {"nodePort": 30002}],
                }),
            ),
        ];
        let addresses = [
            address("10.0.0.1", "good", true),
            address("fd00::1", "good", true),
            address("10.0.0.3", "other", true),
            address("10.0.0.8", "gone", true),
            address("10.0.0.9", "gone", false),
        ];
        let found = faults(&services, &addresses, &BTreeSet::from([30001, 30009]));
        let expected = BTreeSet::from([
            Fault::NoAddress("10.0.0.2".parse().unwrap(), owner("lost")),
            Fault::NoPort(30002, owner("ports")),
            Fault::StrayAddress("10.0.0.3".to_owned(), "7".to_owned()),
            Fault::StrayAddress("10.0.0.8".to_owned(), "7".to_owned()),
            Fault::StrayPort(30009),
        ]);
        assert_eq!(found, expected);
        let sound = faults(&services[..1], &addresses[..2], &BTreeSet::new());
        assert_eq!(sound, BTreeSet::new());
    }
}
