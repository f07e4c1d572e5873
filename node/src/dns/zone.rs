//! What the cluster's names mean, from Services and EndpointSlices. Pure.

mod build;
mod reverse;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::wire::{Data, Record, kind};

pub(crate) use build::View;

/// Seconds for which addresses of Services may be kept, and those of endpoints, which come and go.
const STEADY: u32 = 30;
const FLEETING: u32 = 5;
/// The version of Kubernetes' DNS specification.
const SPECIFICATION: &str = "1.1.0";

/// The names of a cluster at one moment.
#[derive(Debug, Default)]
pub(crate) struct Zone {
    /// `cluster.local`.
    domain: String,
    /// By `name.namespace`.
    services: HashMap<String, Entry>,
    namespaces: HashSet<String>,
    /// What stands behind an address: its name without the domain, and how long that may be kept.
    pointers: HashMap<IpAddr, (String, u32)>,
    /// Addresses of the cluster's name server.
    servers: Vec<IpAddr>,
    serial: u32,
}

/// A Service.
#[derive(Debug)]
enum Entry {
    /// Has addresses of its own.
    Cluster {
        addresses: Vec<IpAddr>,
        ports: Vec<Port>,
        endpoints: Vec<Endpoint>,
    },
    /// Stands for its endpoints.
    Headless(Vec<Endpoint>),
    /// Is another name for something.
    Alias(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: String,
    /// `tcp`, `udp` or `sctp`.
    protocol: String,
    number: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    host: String,
    ip: IpAddr,
    ports: Vec<Port>,
}

/// What a name means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// These records; those that a client will ask for next stand in the second list.
    Records(Vec<Record>, Vec<Record>),
    /// There are records of other types, or further names below.
    Nothing,
    /// There is no such name.
    NoName,
    /// Another name stands for this one.
    Alias(Record, String),
    /// A name outside the cluster.
    Foreign,
}

impl Zone {
    /// What a name (lower case, without the last dot) means to a question of a type.
    pub(super) fn meaning(&self, name: &str, kind: u16) -> Meaning {
        if let Some(ip) = reverse::address(name) {
            return self.pointer(name, kind, ip);
        }
        if name == self.domain {
            return self.apex(name, kind);
        }
        let below = name.strip_suffix(self.domain.as_str());
        let Some(below) = below.and_then(|below| below.strip_suffix('.')) else {
            return Meaning::Foreign;
        };
        let asked = Asked {
            zone: self,
            name,
            kind,
        };
        let labels: Vec<&str> = below.split('.').collect();
        match *labels.as_slice() {
            ["dns-version"] => asked.only(Data::Txt(SPECIFICATION.to_owned())),
            ["ns", "dns"] => asked.addresses(self.servers.iter().copied(), STEADY),
            ["svc" | "pod" | "dns"] => Meaning::Nothing,
            [namespace, "svc" | "pod"] => self.namespace(namespace),
            [pod, _, "pod"] => asked.pod(pod),
            [service, namespace, "svc"] => asked.service(service, namespace, None),
            [part, service, namespace, "svc"] => asked.service(service, namespace, Some(part)),
            [port, protocol, service, namespace, "svc"] => {
                asked.port(port, protocol, service, namespace)
            }
            _ => Meaning::NoName,
        }
    }

    /// The record that goes with an answer without records.
    pub(super) fn authority(&self) -> Record {
        let domain = &self.domain;
        Record {
            name: domain.clone(),
            ttl: FLEETING,
            data: Data::Soa {
                server: format!("ns.dns.{domain}"),
                mailbox: format!("hostmaster.{domain}"),
                serial: self.serial,
                minimum: FLEETING,
            },
        }
    }

    /// The addresses of the cluster's name server.
    pub(super) fn servers(&self) -> &[IpAddr] {
        &self.servers
    }

    fn apex(&self, name: &str, kind: u16) -> Meaning {
        match kind {
            kind::SOA => Meaning::Records(vec![self.authority()], Vec::new()),
            kind::NS => {
                let server = format!("ns.dns.{name}");
                let more = records(&server, self.servers.iter().copied(), STEADY);
                let data = Data::Ns(server);
                let ns = Record {
                    name: name.to_owned(),
                    ttl: STEADY,
                    data,
                };
                Meaning::Records(vec![ns], more)
            }
            _ => Meaning::Nothing,
        }
    }

    fn namespace(&self, namespace: &str) -> Meaning {
        if self.namespaces.contains(namespace) {
            Meaning::Nothing
        } else {
            Meaning::NoName
        }
    }

    fn pointer(&self, name: &str, kind: u16, ip: IpAddr) -> Meaning {
        let Some((target, ttl)) = self.pointers.get(&ip) else {
            return Meaning::Foreign;
        };
        if kind != kind::PTR {
            return Meaning::Nothing;
        }
        let data = Data::Ptr(format!("{target}.{}", self.domain));
        let record = Record {
            name: name.to_owned(),
            ttl: *ttl,
            data,
        };
        Meaning::Records(vec![record], Vec::new())
    }
}

/// A question about a name of the cluster.
struct Asked<'a> {
    zone: &'a Zone,
    name: &'a str,
    kind: u16,
}

impl Asked<'_> {
    fn only(&self, data: Data) -> Meaning {
        if self.kind != data.kind() {
            return Meaning::Nothing;
        }
        let name = self.name.to_owned();
        Meaning::Records(
            vec![Record {
                name,
                ttl: STEADY,
                data,
            }],
            Vec::new(),
        )
    }

    fn addresses(&self, ips: impl Iterator<Item = IpAddr>, ttl: u32) -> Meaning {
        let of_kind = records(self.name, ips, ttl)
            .into_iter()
            .filter(|record| record.data.kind() == self.kind);
        some(of_kind.collect(), Vec::new())
    }

    /// `1-2-3-4`: any address has such a name, as with CoreDNS' `pods insecure`.
    fn pod(&self, pod: &str) -> Meaning {
        let v4 = pod.replace('-', ".").parse::<std::net::Ipv4Addr>();
        let v6 = || pod.replace('-', ":").parse::<std::net::Ipv6Addr>();
        let ip = v4.map(IpAddr::from).or_else(|_| v6().map(IpAddr::from));
        match ip {
            Ok(ip) => self.addresses(std::iter::once(ip), STEADY),
            Err(_) => Meaning::NoName,
        }
    }

    fn entry(&self, service: &str, namespace: &str) -> Option<&Entry> {
        self.zone.services.get(&format!("{service}.{namespace}"))
    }

    /// A Service, or `part` of it: an endpoint, or a protocol above its ports.
    fn service(&self, service: &str, namespace: &str, part: Option<&str>) -> Meaning {
        let (ports, endpoints) = match self.entry(service, namespace) {
            None => return Meaning::NoName,
            Some(Entry::Alias(target)) => return self.alias(target, part),
            Some(Entry::Cluster {
                addresses,
                ports,
                endpoints,
            }) => {
                if part.is_none() && self.kind != kind::SRV {
                    return self.addresses(addresses.iter().copied(), STEADY);
                }
                (Some(ports), endpoints)
            }
            Some(Entry::Headless(endpoints)) => (None, endpoints),
        };
        match part {
            None if self.kind == kind::SRV => self.ports(service, namespace, |_| true),
            None => self.addresses(endpoints.iter().map(|endpoint| endpoint.ip), FLEETING),
            Some(part) if part.starts_with('_') => {
                let has = |port: &Port| format!("_{}", port.protocol) == part;
                let own = ports.is_some_and(|ports| ports.iter().any(has));
                let theirs = endpoints
                    .iter()
                    .flat_map(|endpoint| &endpoint.ports)
                    .any(has);
                if own || theirs {
                    Meaning::Nothing
                } else {
                    Meaning::NoName
                }
            }
            Some(host) => {
                let mut named = endpoints
                    .iter()
                    .filter(|endpoint| endpoint.host == host)
                    .peekable();
                if named.peek().is_none() {
                    return Meaning::NoName;
                }
                self.addresses(named.map(|endpoint| endpoint.ip), FLEETING)
            }
        }
    }

    fn alias(&self, target: &str, part: Option<&str>) -> Meaning {
        if part.is_some() {
            return Meaning::NoName;
        }
        // An address was meant, though the API calls it a name.
        if let Ok(ip) = target.parse::<IpAddr>() {
            return self.addresses(std::iter::once(ip), STEADY);
        }
        let (name, data) = (self.name.to_owned(), Data::Cname(target.to_owned()));
        let record = Record {
            name,
            ttl: STEADY,
            data,
        };
        if self.kind == kind::CNAME {
            return Meaning::Records(vec![record], Vec::new());
        }
        Meaning::Alias(record, target.to_owned())
    }

    fn port(&self, port: &str, protocol: &str, service: &str, namespace: &str) -> Meaning {
        let (Some(name), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_'))
        else {
            return Meaning::NoName;
        };
        self.ports(service, namespace, |port| {
            port.name == name && port.protocol == protocol && !name.is_empty()
        })
    }

    /// The ports of a Service that are wanted, as SRV records.
    fn ports(&self, service: &str, namespace: &str, wanted: impl Fn(&Port) -> bool) -> Meaning {
        let suffix = format!("{service}.{namespace}.svc.{}", self.zone.domain);
        let mut more = Vec::new();
        let mut found: Vec<(u16, String)> = Vec::new();
        let ttl = match self.entry(service, namespace) {
            Some(Entry::Cluster {
                addresses, ports, ..
            }) => {
                let wanted = ports.iter().filter(|port| wanted(port));
                found.extend(wanted.map(|port| (port.number, suffix.clone())));
                more = records(&suffix, addresses.iter().copied(), STEADY);
                STEADY
            }
            Some(Entry::Headless(endpoints)) => {
                for endpoint in endpoints {
                    let target = format!("{}.{suffix}", endpoint.host);
                    let wanted = endpoint.ports.iter().filter(|port| wanted(port));
                    let before = found.len();
                    found.extend(wanted.map(|port| (port.number, target.clone())));
                    if found.len() > before {
                        more.extend(records(&target, std::iter::once(endpoint.ip), FLEETING));
                    }
                }
                FLEETING
            }
            Some(Entry::Alias(_)) | None => return Meaning::NoName,
        };
        if found.is_empty() {
            return Meaning::NoName;
        }
        if self.kind != kind::SRV {
            return Meaning::Nothing;
        }
        // An endpoint of both families, or a port named twice, is one target.
        found.sort();
        found.dedup();
        let weight = u16::try_from(100 / found.len()).unwrap_or(1).max(1);
        let record = |(port, target)| Record {
            name: self.name.to_owned(),
            ttl,
            data: Data::Srv {
                weight,
                port,
                target,
            },
        };
        Meaning::Records(found.into_iter().map(record).collect(), more)
    }
}

fn records(name: &str, ips: impl Iterator<Item = IpAddr>, ttl: u32) -> Vec<Record> {
    let record = |ip| Record {
        name: name.to_owned(),
        ttl,
        data: match ip {
            IpAddr::V4(ip) => Data::A(ip),
            IpAddr::V6(ip) => Data::Aaaa(ip),
        },
    };
    ips.map(record).collect()
}

fn some(records: Vec<Record>, more: Vec<Record>) -> Meaning {
    if records.is_empty() {
        Meaning::Nothing
    } else {
        Meaning::Records(records, more)
    }
}
