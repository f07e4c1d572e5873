//! Calls of a network driver's exports.

use super::{AttachResult, Attachment, Dns, Network, Node, NodeResult, Pod};
use crate::engine::bindings::davit::network::types as wit;
use crate::error::{CallError, Code};
use crate::imports::{CallState, NetworkPlanHandle};
use crate::plan::{NetworkPlan, ScopeId};
use crate::registry::{CallInput, Planned, Serving, kept};
use crate::scope::Pools;
use futures::FutureExt as _;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use wasmtime::component::Resource;

/// A network driver in service.
#[derive(Debug)]
pub(crate) struct Driver(Arc<Serving>);

impl Driver {
    pub(crate) fn new(serving: Arc<Serving>) -> Result<Self, CallError> {
        if serving.loaded.network.is_some() {
            return Ok(Self(serving));
        }
        let message = format!("driver {} serves no networks", serving.driver());
        Err(CallError::new(Code::FailedPrecondition, message))
    }

    /// The whole desired state of a network on this node.
    pub(crate) async fn node_up(
        &self,
        input: CallInput<'_>,
        network: &Network,
        me: &Node,
        peers: &[Node],
    ) -> Result<Planned<NetworkPlan, NodeResult>, CallError> {
        let state = self.state(input, network, me, &[]);
        let network = network_out(network);
        let (me, peers) = (node_out(me), peers.iter().map(node_out).collect::<Vec<_>>());
        let indices = self.0.loaded.network.clone();
        let wall = self.0.granted.grants.limits.node_up;
        let call = self.0.call(state, "node-up", wall, move |store, instance| {
            async move {
                let indices = indices.ok_or_else(missing)?;
                let guest = indices.load(&mut *store, &instance)?;
                let plan = Resource::<NetworkPlanHandle>::new_borrow(0);
                guest.call_node_up(store, &network, &me, &peers, plan).await
            }
            .boxed()
        });
        let (answer, state) = call.await?;
        let published = pairs_in(answer.published);
        Ok(planned(state, NodeResult { published }))
    }

    /// The whole desired state of one attachment.
    pub(crate) async fn attach(
        &self,
        input: CallInput<'_>,
        attachment: &Attachment,
        me: &Node,
    ) -> Result<Planned<NetworkPlan, AttachResult>, CallError> {
        let ports = &attachment.host_ports;
        let state = self.state(input, &attachment.network, me, ports);
        let (attachment, me) = (attachment_out(attachment), node_out(me));
        let indices = self.0.loaded.network.clone();
        let wall = self.0.granted.grants.limits.attach;
        let call = self.0.call(state, "attach", wall, move |store, instance| {
            async move {
                let indices = indices.ok_or_else(missing)?;
                let guest = indices.load(&mut *store, &instance)?;
                let plan = Resource::<NetworkPlanHandle>::new_borrow(0);
                guest.call_attach(store, &attachment, &me, plan).await
            }
            .boxed()
        });
        let (answer, state) = call.await?;
        let dns = answer.dns.map(dns_in).transpose()?;
        let published = pairs_in(answer.published);
        Ok(planned(state, AttachResult { dns, published }))
    }

    /// Tells the driver that the host tore a scope down.
    pub(crate) async fn released(
        &self,
        input: CallInput<'_>,
        scope: &ScopeId,
    ) -> Result<(), CallError> {
        let state = self.0.state(input);
        let scope = scope.to_string();
        let indices = self.0.loaded.network.clone();
        let wall = self.0.granted.grants.limits.attach;
        let call = self
            .0
            .call(state, "released", wall, move |store, instance| {
                async move {
                    let indices = indices.ok_or_else(missing)?;
                    let guest = indices.load(&mut *store, &instance)?;
                    guest.call_released(store, &scope).await
                }
                .boxed()
            });
        kept(call.await?).await
    }

    fn state(
        &self,
        mut input: CallInput<'_>,
        network: &Network,
        me: &Node,
        ports: &[(crate::plan::Protocol, u16)],
    ) -> CallState {
        input.pools = Pools {
            network: network.name.clone(),
            slices: me.slices.clone(),
            exclude: network.exclude.clone(),
        };
        let mut state = self.0.state(input);
        state.network.network.clone_from(&network.name);
        state.network.ranges = network.subnets.iter().chain(&me.slices).copied().collect();
        state.network.pod_ports = ports.to_vec();
        state
    }
}

fn planned<R>(mut state: CallState, answer: R) -> Planned<NetworkPlan, R> {
    let plan = std::mem::take(&mut state.network.plan);
    Planned {
        plan,
        answer,
        revision: state.facts.revision,
        session: state.session,
    }
}

pub(crate) fn missing() -> wasmtime::Error {
    wasmtime::Error::msg("the component does not export this interface")
}

fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn pairs_out(map: &BTreeMap<String, String>) -> Vec<(String, String)> {
    map.iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn pairs_in(list: Vec<(String, String)>) -> BTreeMap<String, String> {
    list.into_iter().collect()
}

fn network_out(network: &Network) -> wit::Network {
    wit::Network {
        name: network.name.clone(),
        uid: network.uid.clone(),
        generation: network.generation,
        mtu: network.mtu,
        subnets: texts::<IpNet>(&network.subnets),
        config: serde_json::Value::Object(network.config.clone()).to_string(),
    }
}

fn node_out(node: &Node) -> wit::Node {
    wit::Node {
        name: node.name.clone(),
        addresses: texts::<IpAddr>(&node.addresses),
        slices: texts::<IpNet>(&node.slices),
        published: pairs_out(&node.published),
    }
}

fn attachment_out(attachment: &Attachment) -> wit::Attachment {
    let Pod {
        namespace,
        name,
        uid,
        ..
    } = attachment.pod.clone();
    wit::Attachment {
        id: format!("{uid}/{}", attachment.ifname),
        pod: wit::Pod {
            namespace,
            name,
            uid,
            host_network: false,
        },
        network: network_out(&attachment.network),
        ifname: attachment.ifname.clone(),
        default_route: attachment.default_route,
        want_ips: texts::<IpAddr>(&attachment.want_ips),
        want_mac: attachment.want_mac.map(|mac| mac.to_string()),
        args: pairs_out(&attachment.args),
    }
}

fn dns_in(dns: wit::Dns) -> Result<Dns, CallError> {
    let address = |text: &String| {
        text.parse::<IpAddr>()
            .map_err(|_| CallError::invalid(format!("name server {text:?} is not an IP address")))
    };
    let nameservers = dns
        .nameservers
        .iter()
        .map(address)
        .collect::<Result<_, _>>()?;
    Ok(Dns {
        nameservers,
        search: dns.search,
        options: dns.options,
    })
}
