//! A network driver for tests that plans whatever its networks say: every hostile driver in one.

use davit_plugin::Area;
use davit_plugin::network::*;
use serde::Deserialize;

struct Script;

/// `Plugin.spec.config`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Config {
    /// Why the driver cannot serve; it can when empty.
    unready: String,
}

/// `Network.spec.config`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Scripts {
    node_up: Vec<Step>,
    attach: Vec<Step>,
}

/// A step, in the order of the plan's own parameters. What is `pod` is placed in the pod.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Step {
    Bridge(String, String),
    Dummy {
        name: String,
        #[serde(default)]
        pod: bool,
        #[serde(default)]
        mtu: u32,
    },
    Veth {
        link: String,
        peer: String,
        #[serde(default)]
        turned: bool,
        #[serde(default)]
        master: Option<String>,
    },
    Macvlan {
        name: String,
        parent: String,
    },
    Device {
        name: String,
        device: String,
    },
    Address(String, String),
    /// An address of the network for a link.
    Lease(String),
    Route {
        dst: String,
        #[serde(default)]
        pod: bool,
        via: Option<String>,
        dev: Option<String>,
        #[serde(default)]
        metric: u32,
    },
    Rule {
        priority: u32,
        src: String,
        #[serde(default)]
        pod: bool,
    },
    Neighbor(String, String, String),
    Fdb(String, String, Option<String>),
    Sysctl {
        key: String,
        value: String,
        #[serde(default)]
        pod: bool,
    },
    Masquerade(String),
    Filter(String),
    /// Puts a value into the state.
    Put(String),
    /// Publishes the keys of the state that begin so.
    Show(String),
    Event(String),
    Trap,
}

fn place(pod: bool) -> Place {
    if pod { Place::Pod } else { Place::Host }
}

fn link(pod: bool, key: &str, name: &str) -> Link {
    if pod {
        Link::pod(key, name)
    } else {
        Link::host(key, name)
    }
}

fn play(cx: &Cx<Script>, steps: Vec<Step>) -> Result<Plan> {
    let mut plan = Plan::new();
    for step in steps {
        plan = match step {
            Step::Bridge(key, name) => plan.bridge(Link::host(&key, name)),
            Step::Dummy { name, pod, mtu } => plan.with(Op::Dummy {
                link: link(pod, &name, &name).mtu(mtu),
            }),
            Step::Veth {
                link: inner,
                peer: outer,
                turned,
                master,
            } => {
                let mut peer = link(turned, "peer", &outer);
                if let Some(master) = master {
                    peer = peer.master(master);
                }
                plan.veth(link(!turned, "veth", &inner), peer)
            }
            Step::Macvlan { name, parent } => plan.with(Op::Macvlan {
                link: Link::pod(&name, name.clone()),
                parent,
                mode: "bridge".into(),
            }),
            Step::Device { name, device } => plan.with(Op::HostDevice {
                link: Link::pod(&name, name.clone()),
                device,
            }),
            Step::Address(link, cidr) => plan.address(&link, &cidr),
            Step::Lease(link) => {
                let lease = cx.ipam().allocate("default", &link)?;
                plan.address(&link, &lease.address)
            }
            Step::Route {
                dst,
                pod,
                via,
                dev,
                metric,
            } => plan.route(Route {
                place: place(pod),
                dst,
                via,
                dev,
                src: None,
                table: 0,
                metric,
                onlink: false,
            }),
            Step::Rule { priority, src, pod } => plan.with(Op::Rule(PolicyRule {
                place: place(pod),
                family: 4,
                priority,
                src: Some(src),
                dst: None,
                fwmark: 0,
                iif: None,
                table: 254,
            })),
            Step::Neighbor(link, ip, mac) => plan.with(Op::Neighbor { link, ip, mac }),
            Step::Fdb(link, mac, dst) => plan.with(Op::Fdb { link, mac, dst }),
            Step::Sysctl { key, value, pod } => plan.sysctl(place(pod), &key, &value),
            Step::Masquerade(src) => plan.masquerade(&src, &[]),
            Step::Filter(key) => plan.with(Op::Filter(Filter {
                key,
                hook: "forward".into(),
                priority: 0,
                proto: "any".into(),
                src: vec!["203.0.113.0/24".into()],
                dst: Vec::new(),
                ports: Vec::new(),
                iif: None,
                oif: None,
                verdict: "drop".into(),
            })),
            Step::Put(key) => {
                cx.state().put(Area::Node, &key, b"1")?;
                plan
            }
            Step::Show(prefix) => {
                let keys = cx.state().keys(Area::Node, &prefix, None, 100)?;
                plan.publish("keys", &keys.join(","))
            }
            Step::Event(text) => {
                cx.event(true, "Scripted", &text);
                plan
            }
            Step::Trap => panic!("as the script says"),
        };
    }
    Ok(plan)
}

impl NetworkDriver for Script {
    type Config = Config;
    type NetworkConfig = Scripts;

    fn manifest() -> Manifest {
        Manifest::new("script.samples.davit.dev", "0.1.0").description("Plans what it is told.")
    }

    fn node_up(cx: &Cx<Self>, net: &Network, _: &Node, _: &[Node]) -> Result<Plan> {
        play(cx, net.parse_config::<Scripts>()?.node_up)
    }

    fn attach(cx: &Cx<Self>, attachment: &Attachment, _: &Node) -> Result<Plan> {
        play(cx, attachment.network.parse_config::<Scripts>()?.attach)
    }

    fn released(cx: &Cx<Self>, scope: &str) -> Result<()> {
        cx.event(false, "Released", scope);
        cx.state()
            .put(Area::Node, &format!("released/{scope}"), b"1")
    }

    fn probe(cx: &Cx<Self>) -> Result<Health> {
        let why = cx.config().unready.clone();
        Ok(Health {
            ready: why.is_empty(),
            message: why,
        })
    }
}

davit_plugin::network_driver!(Script);
