//! Values of network steps against the grants. Where a step lands decides which grant counts. `lo`
//! and names the kernel would refuse are never allowed; an address of the network's own ranges must
//! be leased to the attachment.

use super::{Denied, Glob, GrantSet, PodRoutes, Refused, covers, covers_ip};
use crate::plan::{Dev, Forward, Link, NetworkOp, Place, PolicyRule, Protocol, Route};
use davit_api::{LinkKind, PodScope};
use ipnet::IpNet;
use std::net::IpAddr;

/// What a check must know about the call besides the step.
pub(crate) struct NetworkView<'a> {
    /// Whether the scope is a pod's. A network's own scope has the host's namespace only.
    pub(crate) has_pod: bool,
    /// The network's ranges and this node's slices of them.
    pub(crate) ranges: &'a [IpNet],
    /// Addresses leased to the attachment.
    pub(crate) leased: &'a dyn Fn(IpAddr) -> bool,
    /// Addresses in the ranges that no pod ever gets: gateways and exclusions.
    pub(crate) reserved: &'a dyn Fn(IpAddr) -> bool,
    /// Ports of the host that the pod's own spec asks for.
    pub(crate) pod_ports: &'a [(Protocol, u16)],
    /// Links of the host made by this plan or by the network's own scope.
    pub(crate) own_link: &'a dyn Fn(&str) -> bool,
}

impl GrantSet {
    /// Checks one step of a network plan.
    pub(crate) fn check_network(
        &self,
        op: &NetworkOp,
        view: &NetworkView<'_>,
    ) -> Result<(), Refused> {
        if !view.has_pod && op.places().contains(&Place::Pod) {
            return Err(Refused::Invalid(
                "the step is placed in a pod, and this plan is of a network on the node, which has \
                 none: place it on the host, or plan it in attach"
                    .to_owned(),
            ));
        }
        for link in op.links() {
            self.link(link)?;
        }
        match op {
            NetworkOp::Bridge { link, .. } => self.kind(LinkKind::Bridge, link),
            NetworkOp::Veth { link, .. } => self.kind(LinkKind::Veth, link),
            NetworkOp::Dummy { link } => self.kind(LinkKind::Dummy, link),
            NetworkOp::Macvlan { link, parent, .. } => {
                self.kind(LinkKind::Macvlan, link)?;
                self.parent(parent, view)
            }
            NetworkOp::Ipvlan { link, parent, .. } => {
                self.kind(LinkKind::Ipvlan, link)?;
                self.parent(parent, view)
            }
            NetworkOp::Vlan { link, parent, id } => {
                if !(1..=4094).contains(id) {
                    return Err(Refused::Invalid(format!(
                        "VLAN {id} is not between 1 and 4094"
                    )));
                }
                self.kind(LinkKind::Vlan, link)?;
                self.parent(parent, view)
            }
            NetworkOp::Vxlan { link, dev, vni, .. } => {
                if *vni >= 1 << 24 {
                    return Err(Refused::Invalid(format!(
                        "VXLAN {vni} has more than 24 bits"
                    )));
                }
                self.kind(LinkKind::Vxlan, link)?;
                dev.as_ref().map_or(Ok(()), |dev| self.parent(dev, view))
            }
            NetworkOp::HostDevice { link, device } => {
                if link.place != Place::Pod {
                    return Err(Refused::Invalid(format!(
                        "device {device:?} can only be moved into a pod"
                    )));
                }
                self.kind(LinkKind::HostDevice, link)?;
                self.parent(device, view)
            }
            NetworkOp::Address { dev, cidr, .. } => self.address(dev, *cidr, view),
            NetworkOp::Route(route) => self.route(route, view),
            NetworkOp::Rule(rule) => self.rule(rule),
            NetworkOp::Neighbor { dev, ip, .. } => {
                self.device(dev, view)?;
                self.granted_address(*ip)
            }
            NetworkOp::Fdb { dev, dst, .. } => {
                self.device(dev, view)?;
                dst.map_or(Ok(()), |dst| self.granted_address(dst))
            }
            NetworkOp::Shape { dev, .. } => self.device(dev, view),
            NetworkOp::Sysctl {
                place, key, value, ..
            } => self.sysctl(*place, key, value),
            NetworkOp::Masquerade { src, .. } => match covers(&self.masquerade, src) {
                true => Ok(()),
                false => deny(format!("masquerading {src}"), "nft.masquerade", src),
            },
            NetworkOp::Forward(forward) => self.forward(forward, view),
            NetworkOp::Filter(filter) => {
                key("filter rule", &filter.key)?;
                if let Some((from, to)) = filter.ports.iter().find(|(from, to)| from > to) {
                    return Err(Refused::Invalid(format!(
                        "ports {from} to {to} are no range"
                    )));
                }
                match self.filter {
                    true => Ok(()),
                    false => deny("a packet filter rule", "nft.filter", true),
                }
            }
        }
    }

    fn link(&self, link: &Link) -> Result<(), Refused> {
        let name = &link.name;
        key("link", &link.key)?;
        // The kernel makes another name of one with a '%'.
        let plain = name
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"/:%".contains(&b));
        if name.is_empty() || name.len() > 15 || !plain || name == "." || name == ".." {
            return Err(Refused::Invalid(format!(
                "{name:?} is no name for a link: 1 to 15 printable characters without '/', ':' and '%'"
            )));
        }
        if name == "lo" {
            return Err(Refused::Invalid(
                "the link \"lo\" belongs to the kernel".to_owned(),
            ));
        }
        if link.place == Place::Host && !matches(&self.links, name) {
            return deny(
                format!("a link named {name:?} on the host"),
                "links.create",
                name,
            );
        }
        Ok(())
    }

    fn kind(&self, kind: LinkKind, link: &Link) -> Result<(), Refused> {
        if self.kinds.contains(&kind) {
            return Ok(());
        }
        let word = serde_json::to_value(kind).ok();
        let word = word
            .as_ref()
            .and_then(|value| value.as_str())
            .unwrap_or_default();
        deny(
            format!("link {:?} of kind {word}", link.name),
            "links.kinds",
            word,
        )
    }

    fn parent(&self, name: &str, view: &NetworkView<'_>) -> Result<(), Refused> {
        if matches(&self.parents, name) || (view.own_link)(name) {
            return Ok(());
        }
        deny(
            format!("using link {name:?} of the host"),
            "links.parents",
            name,
        )
    }

    /// A device on the host must be the plugin's own; what is in the pod is the pod's.
    fn device(&self, dev: &Dev, view: &NetworkView<'_>) -> Result<(), Refused> {
        if dev.place == Place::Pod || (view.own_link)(&dev.name) || matches(&self.links, &dev.name)
        {
            return Ok(());
        }
        deny(
            format!("changing link {:?} of the host", dev.name),
            "links.create",
            &dev.name,
        )
    }

    fn address(&self, dev: &Dev, cidr: IpNet, view: &NetworkView<'_>) -> Result<(), Refused> {
        self.device(dev, view)?;
        let ip = cidr.addr();
        if !covers_ip(&self.addresses, ip) {
            return deny(format!("address {ip}"), "addresses", cidr.trunc());
        }
        let of_network = covers_ip(view.ranges, ip);
        let allowed = match dev.place {
            Place::Pod => (view.leased)(ip),
            Place::Host => (view.reserved)(ip),
        };
        if of_network && !allowed {
            return Err(Refused::Invalid(format!(
                "address {ip} belongs to the network and is not leased to this scope: \
                 take it with ipam.allocate"
            )));
        }
        Ok(())
    }

    /// An address of somebody else that traffic is led to.
    fn granted_address(&self, ip: IpAddr) -> Result<(), Refused> {
        match covers_ip(&self.addresses, ip) {
            true => Ok(()),
            false => deny(format!("neighbour {ip}"), "addresses", ip),
        }
    }

    fn route(&self, route: &Route, view: &NetworkView<'_>) -> Result<(), Refused> {
        let dst = &route.dst;
        let other_family = |ip: &&IpAddr| ip.is_ipv4() != dst.addr().is_ipv4();
        if let Some(ip) = route.via.iter().chain(&route.src).find(other_family) {
            return Err(Refused::Invalid(format!(
                "route {dst}: {ip} is of the other family"
            )));
        }
        if route.onlink && (route.via.is_none() || route.dev.is_none()) {
            return Err(Refused::Invalid(format!(
                "route {dst}: onlink needs a gateway and a link"
            )));
        }
        if let Some(name) = &route.dev {
            self.device(
                &Dev {
                    place: route.place,
                    name: name.clone(),
                },
                view,
            )?;
        }
        match (route.place, &self.pod_routes) {
            (Place::Pod, PodRoutes::Any) => Ok(()),
            (Place::Pod, PodRoutes::To(granted)) if covers(granted, dst) => Ok(()),
            (Place::Host, _) if covers(&self.host_routes, dst) => Ok(()),
            (Place::Pod, _) => deny(format!("route {dst} in pods"), "routes.pod", dst),
            (Place::Host, _) => deny(format!("route {dst} on the host"), "routes.host", dst),
        }
    }

    /// A rule on the host may only steer traffic of granted ranges.
    fn rule(&self, rule: &PolicyRule) -> Result<(), Refused> {
        let other_family = |net: &&IpNet| net.addr().is_ipv4() != (rule.family == 4);
        if let Some(net) = rule.src.iter().chain(&rule.dst).find(other_family) {
            return Err(Refused::Invalid(format!(
                "routing rule {}: {net} is not of family {}",
                rule.priority, rule.family
            )));
        }
        if rule.place == Place::Pod {
            return Ok(());
        }
        let mut steered = rule.src.iter().chain(&rule.dst);
        if steered.any(|net| covers(&self.host_routes, net)) {
            return Ok(());
        }
        let value = rule
            .src
            .or(rule.dst)
            .map_or_else(|| "a range".to_owned(), |n| n.to_string());
        deny(
            format!("routing rule {} on the host", rule.priority),
            "routes.host",
            value,
        )
    }

    fn sysctl(&self, place: Place, key: &str, value: &str) -> Result<(), Refused> {
        if value.len() > 256 || value.chars().any(char::is_control) || value.trim() != value {
            return Err(Refused::Invalid(format!(
                "{value:?} is no value of a kernel setting"
            )));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        if !key.bytes().all(plain) || key.split(['.', '/']).any(str::is_empty) {
            return Err(Refused::Invalid(format!(
                "{key:?} is no name of a kernel setting"
            )));
        }
        let (granted, grant, whose) = match place {
            Place::Pod => (&self.pod_sysctls, "sysctls.pod", "in pods"),
            Place::Host => (&self.host_sysctls, "sysctls.host", "on the host"),
        };
        match matches(granted, key) {
            true => Ok(()),
            false => deny(format!("setting {key} {whose}"), grant, key),
        }
    }

    fn forward(&self, forward: &Forward, view: &NetworkView<'_>) -> Result<(), Refused> {
        let Forward {
            protocol,
            host_port,
            to_ip,
            ..
        } = forward;
        let what = format!("port {host_port} of the host");
        if !covers_ip(&self.addresses, *to_ip) {
            return deny(format!("{what} leading to {to_ip}"), "addresses", to_ip);
        }
        match self.host_ports {
            Some(PodScope::Any) => Ok(()),
            Some(PodScope::FromPodSpec) if view.pod_ports.contains(&(*protocol, *host_port)) => {
                Ok(())
            }
            Some(PodScope::FromPodSpec) => deny(
                format!("{what}, which the pod does not ask for,"),
                "hostPorts",
                "any",
            ),
            None => deny(what, "hostPorts", "fromPodSpec"),
        }
    }
}

/// A driver's own name of something; it becomes part of marks in the kernel, which are short.
fn key(what: &str, key: &str) -> Result<(), Refused> {
    let plain = |b: u8| b.is_ascii_graphic() && !b"#/".contains(&b);
    if key.is_empty() || key.len() > 64 || !key.bytes().all(plain) {
        return Err(Refused::Invalid(format!(
            "{key:?} is no key of a {what}: 1 to 64 printable characters without '#' and '/'"
        )));
    }
    Ok(())
}

fn matches(granted: &[Glob], name: &str) -> bool {
    granted.iter().any(|glob| glob.matches(name))
}

fn deny(what: impl Into<String>, grant: &'static str, value: impl ToString) -> Result<(), Refused> {
    Err(Denied::new(what, grant, value).into())
}
