//! `davit:network/plan`: steps are read, resolved and checked as the driver names them, so that a
//! refusal is the driver's own error.

use super::CallState;
use super::convert::{cidr, each, ip, mac, optional, options, range, word};
use crate::engine::bindings::davit::network::plan as wit;
use crate::engine::bindings::davit::plugin::types::Error;
use crate::error::{CallError, Code};
use crate::grants::NetworkView;
use crate::plan::{
    Dev, Filter, Forward, Hook, IpvlanMode, Link, MacvlanMode, NetworkOp, NetworkPlan, Op, Place,
    PolicyRule, Protocol, Rate, Route, ScopeId, Verdict,
};
use crate::scope::ScopePlan;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use wasmtime::component::Resource;

/// What a guest holds of its plan. There is one plan a call, so the handle says nothing.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct NetworkPlanHandle;

/// The plan so far, and what its steps are checked against.
#[derive(Debug, Default)]
pub(crate) struct NetworkBuilder {
    pub(crate) plan: NetworkPlan,
    /// The network of the call; its `node/` scope may be referred to.
    pub(crate) network: String,
    /// The network's ranges and slices.
    pub(crate) ranges: Vec<IpNet>,
    pub(crate) pod_ports: Vec<(Protocol, u16)>,
    links: BTreeMap<String, Dev>,
    keys: BTreeSet<String>,
}

const PROTOCOLS: [(&str, Protocol); 6] = [
    ("", Protocol::Any),
    ("any", Protocol::Any),
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("sctp", Protocol::Sctp),
    ("icmp", Protocol::Icmp),
];

impl CallState {
    /// A link by its key: in this plan, or `node/<network>#<key>` in the network's own scope.
    fn dev(&self, key: &str) -> Result<Dev, CallError> {
        let Some((scope, key)) = key.split_once('#') else {
            return self.network.links.get(key).cloned().ok_or_else(|| {
                CallError::invalid(format!(
                    "link {key:?} is not made by an earlier step of this plan"
                ))
            });
        };
        let own = ScopeId::node(&self.network.network);
        if scope != own.as_str() {
            return Err(CallError::new(
                Code::PermissionDenied,
                format!("scope {scope:?} is not the call's network: only {own} can be named"),
            ));
        }
        let links = self.node_links();
        links
            .into_iter()
            .find(|link| link.key == key)
            .map(|link| dev_of(&link))
            .ok_or_else(|| {
                CallError::new(
                    Code::Unavailable,
                    format!(
                        "network {} is not up on this node: {own} has no link {key:?}",
                        self.network.network
                    ),
                )
            })
    }

    /// Links of the network's own scope, as recorded.
    fn node_links(&self) -> Vec<Link> {
        let record = self
            .session
            .store()
            .get(&ScopeId::node(&self.network.network));
        match record.as_ref().map(|record| &record.plan) {
            Some(ScopePlan::Network(plan)) => {
                plan.ops.iter().flat_map(|op| op.links()).cloned().collect()
            }
            _ => Vec::new(),
        }
    }

    fn link(&self, link: wit::Link) -> Result<Link, CallError> {
        let place = place(link.place);
        let master = match &link.master {
            None => None,
            Some(key) => {
                let master = self.dev(key)?;
                if master.place != place {
                    return Err(CallError::invalid(format!(
                        "link {:?} and its master {key:?} are in different namespaces",
                        link.key
                    )));
                }
                Some(master.name)
            }
        };
        Ok(Link {
            key: link.key,
            place,
            name: link.name,
            mtu: link.mtu,
            mac: optional(link.mac.as_ref(), mac)?,
            master,
            options: options(link.options)?,
        })
    }

    fn push(&mut self, op: NetworkOp) -> Result<(), Error> {
        let key = op.key();
        let what = key.clone();
        self.try_push(op, key)
            .map_err(|error| error.within(&what).into())
    }

    fn try_push(&mut self, op: NetworkOp, key: String) -> Result<(), CallError> {
        let most = self.grants.limits.plan_ops;
        if self.network.plan.ops.len() >= most {
            return Err(CallError::new(
                Code::ResourceExhausted,
                format!("the plan has more than {most} steps (spec.grants.limits.planOps)"),
            ));
        }
        self.check(&op)?;
        for link in op.links() {
            if self.network.links.contains_key(&link.key) {
                return Err(CallError::invalid(format!(
                    "link {:?} is made twice",
                    link.key
                )));
            }
            self.network.links.insert(link.key.clone(), dev_of(link));
        }
        if !self.network.keys.insert(key) {
            return Err(CallError::invalid("the step is in the plan already"));
        }
        self.network.plan.ops.push(op);
        Ok(())
    }

    fn check(&self, op: &NetworkOp) -> Result<(), CallError> {
        let made = |name: &str| {
            let mut links = self.network.links.values();
            links.any(|dev| dev.place == Place::Host && dev.name == name)
                || self.node_links().iter().any(|link| link.name == name)
        };
        let view = NetworkView {
            has_pod: self.session.scope().kind() == "net",
            ranges: &self.network.ranges,
            leased: &|ip| self.session.is_leased(ip),
            reserved: &|ip| self.session.is_reserved(ip),
            pod_ports: &self.network.pod_ports,
            own_link: &made,
        };
        self.grants
            .check_network(op, &view)
            .map_err(CallError::from)
    }
}

fn place(place: wit::Place) -> Place {
    match place {
        wit::Place::Host => Place::Host,
        wit::Place::Pod => Place::Pod,
    }
}

fn dev_of(link: &Link) -> Dev {
    Dev {
        place: link.place,
        name: link.name.clone(),
    }
}

fn not_offered(what: &str) -> Error {
    let message = format!("{what} is not offered by this version of davit");
    CallError::new(Code::Unimplemented, message).into()
}

impl wit::Host for CallState {}

impl wit::HostPlan for CallState {
    fn bridge(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        link: wit::Link,
        vlan_filtering: bool,
    ) -> Result<(), Error> {
        let link = self.link(link)?;
        self.push(NetworkOp::Bridge {
            link,
            vlan_filtering,
        })
    }

    fn veth(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        link: wit::Link,
        peer: wit::Link,
    ) -> Result<(), Error> {
        let (link, peer) = (self.link(link)?, self.link(peer)?);
        self.push(NetworkOp::Veth { link, peer })
    }

    fn macvlan(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        link: wit::Link,
        parent: String,
        mode: String,
    ) -> Result<(), Error> {
        let modes = [
            ("bridge", MacvlanMode::Bridge),
            ("private", MacvlanMode::Private),
            ("vepa", MacvlanMode::Vepa),
            ("passthru", MacvlanMode::Passthru),
        ];
        let (link, mode) = (self.link(link)?, word("macvlan mode", &mode, &modes)?);
        self.push(NetworkOp::Macvlan { link, parent, mode })
    }

    fn ipvlan(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        link: wit::Link,
        parent: String,
        mode: String,
    ) -> Result<(), Error> {
        let modes = [
            ("l2", IpvlanMode::L2),
            ("l3", IpvlanMode::L3),
            ("l3s", IpvlanMode::L3s),
        ];
        let (link, mode) = (self.link(link)?, word("ipvlan mode", &mode, &modes)?);
        self.push(NetworkOp::Ipvlan { link, parent, mode })
    }

    fn vlan(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        link: wit::Link,
        parent: String,
        id: u16,
    ) -> Result<(), Error> {
        let link = self.link(link)?;
        self.push(NetworkOp::Vlan { link, parent, id })
    }

    fn vxlan(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        link: wit::Link,
        vni: u32,
        port: u16,
        local: Option<String>,
        dev: Option<String>,
        learning: bool,
    ) -> Result<(), Error> {
        let (link, local) = (self.link(link)?, optional(local.as_ref(), ip)?);
        self.push(NetworkOp::Vxlan {
            link,
            vni,
            port,
            local,
            dev,
            learning,
        })
    }

    fn wireguard(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        _: wit::Link,
        _: u16,
    ) -> Result<String, Error> {
        Err(not_offered("wireguard"))
    }

    fn wireguard_peer(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        _: String,
        _: String,
        _: Option<String>,
        _: Vec<String>,
        _: u16,
    ) -> Result<(), Error> {
        Err(not_offered("wireguard-peer"))
    }

    fn dummy(&mut self, _: Resource<NetworkPlanHandle>, link: wit::Link) -> Result<(), Error> {
        let link = self.link(link)?;
        self.push(NetworkOp::Dummy { link })
    }

    fn host_device(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        link: wit::Link,
        device: String,
    ) -> Result<(), Error> {
        let link = self.link(link)?;
        self.push(NetworkOp::HostDevice { link, device })
    }

    fn address(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        link: String,
        text: String,
        list: Vec<(String, String)>,
    ) -> Result<(), Error> {
        let (dev, cidr, options) = (self.dev(&link)?, cidr(&text)?, options(list)?);
        self.push(NetworkOp::Address { dev, cidr, options })
    }

    fn route(&mut self, _: Resource<NetworkPlanHandle>, route: wit::Route) -> Result<(), Error> {
        let place = place(route.place);
        let dev = optional(route.dev.as_ref(), |key| self.dev(key))?;
        if dev.as_ref().is_some_and(|dev| dev.place != place) {
            return Err(CallError::invalid("the route's link is in the other namespace").into());
        }
        self.push(NetworkOp::Route(Route {
            place,
            dst: range(&route.dst)?,
            via: optional(route.via.as_ref(), ip)?,
            dev: dev.map(|dev| dev.name),
            src: optional(route.src.as_ref(), ip)?,
            table: if route.table == 0 { 254 } else { route.table },
            metric: route.metric,
            onlink: route.onlink,
        }))
    }

    fn rule(&mut self, _: Resource<NetworkPlanHandle>, rule: wit::PolicyRule) -> Result<(), Error> {
        if rule.family != 4 && rule.family != 6 {
            return Err(CallError::invalid(format!("family {} is not 4 or 6", rule.family)).into());
        }
        self.push(NetworkOp::Rule(PolicyRule {
            place: place(rule.place),
            family: rule.family,
            priority: rule.priority,
            src: optional(rule.src.as_ref(), range)?,
            dst: optional(rule.dst.as_ref(), range)?,
            fwmark: rule.fwmark,
            iif: rule.iif,
            table: rule.table,
        }))
    }

    fn neighbor(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        link: String,
        address: String,
        hardware: String,
    ) -> Result<(), Error> {
        let (dev, ip, mac) = (self.dev(&link)?, ip(&address)?, mac(&hardware)?);
        self.push(NetworkOp::Neighbor { dev, ip, mac })
    }

    fn fdb(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        link: String,
        hardware: String,
        dst: Option<String>,
    ) -> Result<(), Error> {
        let (dev, mac, dst) = (
            self.dev(&link)?,
            mac(&hardware)?,
            optional(dst.as_ref(), ip)?,
        );
        self.push(NetworkOp::Fdb { dev, mac, dst })
    }

    fn sysctl(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        at: wit::Place,
        key: String,
        value: String,
    ) -> Result<(), Error> {
        self.push(NetworkOp::Sysctl {
            place: place(at),
            key,
            value,
            former: None,
        })
    }

    fn masquerade(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        src: String,
        except_dst: Vec<String>,
    ) -> Result<(), Error> {
        let (src, except) = (range(&src)?, each(&except_dst, range)?);
        self.push(NetworkOp::Masquerade { src, except })
    }

    fn forward(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        forward: wit::Forward,
    ) -> Result<(), Error> {
        self.push(NetworkOp::Forward(Forward {
            protocol: word(
                "protocol",
                &forward.proto,
                PROTOCOLS.get(2..5).unwrap_or_default(),
            )?,
            host_ip: optional(forward.host_ip.as_ref(), ip)?,
            host_port: forward.host_port,
            to_ip: ip(&forward.to_ip)?,
            to_port: forward.to_port,
        }))
    }

    fn filter(&mut self, _: Resource<NetworkPlanHandle>, filter: wit::Filter) -> Result<(), Error> {
        let hooks = [
            ("input", Hook::Input),
            ("forward", Hook::Forward),
            ("output", Hook::Output),
        ];
        let verdicts = [
            ("accept", Verdict::Accept),
            ("drop", Verdict::Drop),
            ("reject", Verdict::Reject),
        ];
        self.push(NetworkOp::Filter(Filter {
            key: filter.key,
            hook: word("hook", &filter.hook, &hooks)?,
            priority: filter.priority,
            protocol: word("protocol", &filter.proto, &PROTOCOLS)?,
            src: each(&filter.src, range)?,
            dst: each(&filter.dst, range)?,
            ports: filter.ports,
            iif: filter.iif,
            oif: filter.oif,
            verdict: word("verdict", &filter.verdict, &verdicts)?,
        }))
    }

    fn shape(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        link: String,
        rate: wit::Rate,
    ) -> Result<(), Error> {
        let rate = Rate {
            ingress_bps: rate.ingress_bps,
            egress_bps: rate.egress_bps,
            burst_bytes: rate.burst_bytes,
        };
        let dev = self.dev(&link)?;
        self.push(NetworkOp::Shape { dev, rate })
    }

    fn nft_raw(
        &mut self,
        _: Resource<NetworkPlanHandle>,
        _: String,
        _: String,
    ) -> Result<(), Error> {
        Err(not_offered("nft-raw"))
    }

    /// Guests only borrow the plan.
    fn drop(&mut self, _: Resource<NetworkPlanHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}
