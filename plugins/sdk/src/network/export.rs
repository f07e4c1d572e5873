//! The component's exports, made of a [`NetworkDriver`]: plans are replayed to the host.

use super::{NetworkDriver, Op, Plan};
use crate::bindings::base::davit::plugin::types::Error;
use crate::bindings::base::exports::davit::plugin::lifecycle;
use crate::bindings::network::davit::network::plan as wit;
use crate::bindings::network::davit::network::types as net;
use crate::bindings::network::exports::davit::network::driver;
use crate::context::{Context, parse_config};
use crate::host::Host;
use crate::host::wasm::report_panics;
use crate::{Health, Manifest, Result};
use std::marker::PhantomData;

/// Carries the exports of one driver.
#[derive(Debug)]
pub struct Export<D>(PhantomData<D>);

fn context<C: serde::de::DeserializeOwned>() -> Result<Context<C>> {
    report_panics();
    Context::new(Host)
}

impl<D: NetworkDriver + 'static> driver::Guest for Export<D> {
    fn node_up(
        network: net::Network,
        me: net::Node,
        peers: Vec<net::Node>,
        plan: &wit::Plan,
    ) -> Result<net::NodeResult> {
        let planned = D::node_up(&context()?, &network, &me, &peers)?;
        let published = replay(planned, plan)?.published;
        Ok(net::NodeResult { published })
    }

    fn attach(
        attachment: net::Attachment,
        me: net::Node,
        plan: &wit::Plan,
    ) -> Result<net::AttachResult> {
        let planned = replay(D::attach(&context()?, &attachment, &me)?, plan)?;
        Ok(net::AttachResult {
            dns: planned.dns,
            published: planned.published,
        })
    }

    fn released(scope: String) -> Result<()> {
        D::released(&context()?, &scope)
    }
}

impl<D: NetworkDriver + 'static> lifecycle::Guest for Export<D> {
    fn describe() -> lifecycle::Manifest {
        let Manifest {
            driver,
            version,
            description,
            state_version,
            schemas,
            wants,
            features,
        } = D::manifest();
        let wants = wants.into_iter().map(|want| lifecycle::Want {
            capability: want.capability,
            value: want.value,
            required: want.required,
            why: want.why,
        });
        let wants = wants.collect();
        lifecycle::Manifest {
            driver,
            version,
            description,
            state_version,
            schemas,
            wants,
            features,
        }
    }

    fn validate(kind: String, config: String) -> Result<()> {
        report_panics();
        match kind.as_str() {
            "plugin" => parse_config::<D::Config>("Plugin spec.config", &config).map(drop),
            "network" => parse_config::<D::NetworkConfig>("Network spec.config", &config).map(drop),
            _ => Ok(()),
        }
    }

    fn probe() -> Result<lifecycle::Health> {
        let Health { ready, message } = D::probe(&context()?)?;
        Ok(lifecycle::Health { ready, message })
    }

    fn migrate(_from_version: u32) -> std::result::Result<(), Error> {
        Ok(())
    }
}

/// Tells the host every step; the first refusal is the driver's error. Returns the rest of the plan.
fn replay(mut planned: Plan, plan: &wit::Plan) -> Result<Plan> {
    for op in std::mem::take(&mut planned.ops) {
        step(op, plan)?;
    }
    Ok(planned)
}

fn step(op: Op, plan: &wit::Plan) -> Result<()> {
    match op {
        Op::Bridge {
            link,
            vlan_filtering,
        } => plan.bridge(&link, vlan_filtering),
        Op::Veth { link, peer } => plan.veth(&link, &peer),
        Op::Macvlan { link, parent, mode } => plan.macvlan(&link, &parent, &mode),
        Op::Ipvlan { link, parent, mode } => plan.ipvlan(&link, &parent, &mode),
        Op::Vlan { link, parent, id } => plan.vlan(&link, &parent, id),
        Op::Dummy { link } => plan.dummy(&link),
        Op::HostDevice { link, device } => plan.host_device(&link, &device),
        Op::Vxlan {
            link,
            vni,
            port,
            local,
            dev,
        } => plan.vxlan(&link, vni, port, local.as_deref(), dev.as_deref(), false),
        Op::Address {
            link,
            cidr,
            options,
        } => plan.address(&link, &cidr, &options),
        Op::Route(route) => plan.route(&route),
        Op::Rule(rule) => plan.rule(&rule),
        Op::Neighbor { link, ip, mac } => plan.neighbor(&link, &ip, &mac),
        Op::Fdb { link, mac, dst } => plan.fdb(&link, &mac, dst.as_deref()),
        Op::Sysctl { place, key, value } => plan.sysctl(place, &key, &value),
        Op::Masquerade { src, except } => plan.masquerade(&src, &except),
        Op::Forward(forward) => plan.forward(&forward),
        Op::Filter(filter) => plan.filter(&filter),
        Op::Shape { link, rate } => plan.shape(&link, rate),
    }
}
