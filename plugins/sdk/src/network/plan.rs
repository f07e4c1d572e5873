//! A network plan as plain data with short builder methods.

use super::{Filter, Forward, Link, Place, PolicyRule, Rate, Route};
use crate::network::Dns;

/// The whole desired state of a scope, and what to answer with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Steps, in the order they are made.
    pub ops: Vec<Op>,
    /// Name resolution for the pod.
    pub dns: Option<Dns>,
    /// From `node-up`: what peers need to know. From `attach`: values for the pod's network status.
    pub published: Vec<(String, String)>,
}

/// One step. Links are named by key: `eth` in this scope, `node/<network>#br` in another.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "fields have the names and meanings of the WIT's parameters"
)]
pub enum Op {
    Bridge {
        link: Link,
        vlan_filtering: bool,
    },
    Veth {
        link: Link,
        peer: Link,
    },
    Macvlan {
        link: Link,
        parent: String,
        mode: String,
    },
    Ipvlan {
        link: Link,
        parent: String,
        mode: String,
    },
    Vlan {
        link: Link,
        parent: String,
        id: u16,
    },
    Dummy {
        link: Link,
    },
    HostDevice {
        link: Link,
        device: String,
    },
    Vxlan {
        link: Link,
        vni: u32,
        port: u16,
        local: Option<String>,
        dev: Option<String>,
    },
    Address {
        link: String,
        cidr: String,
        options: Vec<(String, String)>,
    },
    Route(Route),
    Rule(PolicyRule),
    Neighbor {
        link: String,
        ip: String,
        mac: String,
    },
    Fdb {
        link: String,
        mac: String,
        dst: Option<String>,
    },
    Sysctl {
        place: Place,
        key: String,
        value: String,
    },
    Masquerade {
        src: String,
        except: Vec<String>,
    },
    Forward(Forward),
    Filter(Filter),
    Shape {
        link: String,
        rate: Rate,
    },
}

impl Plan {
    /// A plan without steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds any step.
    #[must_use]
    pub fn with(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// A bridge.
    #[must_use]
    pub fn bridge(self, link: Link) -> Self {
        self.with(Op::Bridge {
            link,
            vlan_filtering: false,
        })
    }

    /// A pair of links: the pod's side and the host's.
    #[must_use]
    pub fn veth(self, link: Link, peer: Link) -> Self {
        self.with(Op::Veth { link, peer })
    }

    /// An address with its prefix length on a link.
    #[must_use]
    pub fn address(self, link: &str, cidr: &str) -> Self {
        self.with(Op::Address {
            link: link.to_owned(),
            cidr: cidr.to_owned(),
            options: Vec::new(),
        })
    }

    /// A route.
    #[must_use]
    pub fn route(self, route: Route) -> Self {
        self.with(Op::Route(route))
    }

    /// The pod's default route through a link, of the gateway's family.
    #[must_use]
    pub fn default_via(self, link: &str, gateway: &str) -> Self {
        let dst = if gateway.contains(':') {
            "::/0"
        } else {
            "0.0.0.0/0"
        };
        self.route(Route::pod(dst).via(gateway).dev(link))
    }

    /// Traffic from `src` to anywhere but `except` leaves the node with the node's address.
    #[must_use]
    pub fn masquerade(self, src: &str, except: &[String]) -> Self {
        self.with(Op::Masquerade {
            src: src.to_owned(),
            except: except.to_vec(),
        })
    }

    /// A kernel setting by its dotted name.
    #[must_use]
    pub fn sysctl(self, place: Place, key: &str, value: &str) -> Self {
        self.with(Op::Sysctl {
            place,
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }

    /// Name resolution for the pod.
    #[must_use]
    pub fn dns(mut self, dns: Dns) -> Self {
        self.dns = Some(dns);
        self
    }

    /// A value for peers or for the pod's network status.
    #[must_use]
    pub fn publish(mut self, key: &str, value: &str) -> Self {
        self.published.push((key.to_owned(), value.to_owned()));
        self
    }
}

impl Link {
    fn new(place: Place, key: &str, name: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            place,
            name: name.into(),
            mtu: None,
            mac: None,
            master: None,
            options: Vec::new(),
        }
    }

    /// A link in the pod.
    #[must_use]
    pub fn pod(key: &str, name: impl Into<String>) -> Self {
        Self::new(Place::Pod, key, name)
    }

    /// A link on the host.
    #[must_use]
    pub fn host(key: &str, name: impl Into<String>) -> Self {
        Self::new(Place::Host, key, name)
    }

    /// Sets the largest packet; 0 leaves it to the kernel.
    #[must_use]
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu = (bytes > 0).then_some(bytes);
        self
    }

    /// Sets the hardware address.
    #[must_use]
    pub fn mac(mut self, mac: Option<String>) -> Self {
        self.mac = mac;
        self
    }

    /// Makes it a port of a bridge, by the bridge's key.
    #[must_use]
    pub fn master(mut self, key: impl Into<String>) -> Self {
        self.master = Some(key.into());
        self
    }

    /// A further setting.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Route {
    fn new(place: Place, dst: &str) -> Self {
        Self {
            place,
            dst: dst.to_owned(),
            via: None,
            dev: None,
            src: None,
            table: 254,
            metric: 0,
            onlink: false,
        }
    }

    /// A route in the pod's main table.
    #[must_use]
    pub fn pod(dst: &str) -> Self {
        Self::new(Place::Pod, dst)
    }

    /// A route in the host's main table.
    #[must_use]
    pub fn host(dst: &str) -> Self {
        Self::new(Place::Host, dst)
    }

    /// The gateway.
    #[must_use]
    pub fn via(mut self, gateway: &str) -> Self {
        self.via = Some(gateway.to_owned());
        self
    }

    /// The link, by its key.
    #[must_use]
    pub fn dev(mut self, link: &str) -> Self {
        self.dev = Some(link.to_owned());
        self
    }
}
