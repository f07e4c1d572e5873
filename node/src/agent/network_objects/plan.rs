//! What has to be done for the networks of one node. Pure.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use davit_api::{Network, NetworkNode};
use davit_plugins::executor::NodeUp;
use davit_plugins::network as driver;
use ipnet::IpNet;
use kube::ResourceExt as _;

use super::super::networks::Up;
use super::nets;

/// Length of a node's slice where the network does not say.
const SLICE_V4: u8 = 24;
const SLICE_V6: u8 = 64;

/// One thing to do.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Take these ranges of the network for this node.
    Claim {
        network: String,
        slices: Vec<String>,
    },
    /// Another node has the same ranges and was first: give the claim back and take others.
    GiveBack { network: String, object: String },
    /// Bring the network up, or adapt it.
    Up {
        request: Box<NodeUp>,
        is_default: bool,
    },
    /// Take a network down whose object is gone.
    Down { network: String },
}

impl Change {
    /// The network it is about.
    pub(super) fn network(&self) -> &str {
        match self {
            Self::Claim { network, .. }
            | Self::GiveBack { network, .. }
            | Self::Down { network } => network,
            Self::Up { request, .. } => &request.network.name,
        }
    }
}

/// Name of the object that holds a node's part of a network.
pub(super) fn node_object_name(network: &str, node: &str) -> String {
    format!("{network}.{node}")
}

/// What this node is and has, as far as its networks are concerned.
pub(super) struct Here<'a> {
    /// Name of the node.
    pub(super) me: &'a str,
    pub(super) addresses: &'a [IpAddr],
    /// What is up.
    pub(super) up: &'a HashMap<String, Up>,
    /// Networks that the ledger has something of, also from before this agent was started.
    pub(super) recorded: &'a BTreeSet<String>,
    /// What the loaded drivers are now, by name.
    pub(super) revisions: &'a BTreeMap<String, String>,
}

/// What to do so that every network is up on this node as its objects say.
pub(super) fn plan(
    here: &Here<'_>,
    networks: &[Arc<Network>],
    nodes: &[Arc<NetworkNode>],
) -> Vec<Change> {
    let Here {
        me, addresses, up, ..
    } = *here;
    let mut changes = Vec::new();
    let known = up.keys().chain(here.recorded);
    let gone: BTreeSet<&String> = known
        .filter(|name| !networks.iter().any(|network| network.name_any() == **name))
        .collect();
    changes.extend(gone.into_iter().map(|network| Change::Down {
        network: network.clone(),
    }));
    let mut wanted: Vec<&Arc<Network>> = networks
        .iter()
        .filter(|network| network.metadata.deletion_timestamp.is_none())
        .collect();
    wanted.sort_by_key(|network| network.name_any());
    for network in wanted {
        let name = network.name_any();
        let parts: Vec<&NetworkNode> = nodes
            .iter()
            .map(AsRef::as_ref)
            .filter(|node| node.spec.network == name)
            .collect();
        let Some(mine) = parts.iter().find(|part| part.spec.node == me) else {
            let taken: Vec<IpNet> = parts
                .iter()
                .flat_map(|part| nets(&part.spec.slices))
                .collect();
            // Pods may have addresses of what the node had before its object was deleted.
            let before = up.get(&name).map(|up| up.node.slices.as_slice());
            let slices = slices(network, &taken, before.unwrap_or_default());
            changes.push(Change::Claim {
                network: name,
                slices: slices.iter().map(ToString::to_string).collect(),
            });
            continue;
        };
        if parts
            .iter()
            .any(|other| other.spec.node != me && was_first(other, mine) && overlaps(other, mine))
        {
            changes.push(Change::GiveBack {
                network: name,
                object: mine.name_any(),
            });
            continue;
        }
        let request = request(me, addresses, network, mine, &parts);
        let is_default = network.spec.is_default;
        let before = up.get(&name);
        // A driver that is not loaded cannot be asked again, and what it made stays.
        let loaded = here.revisions.get(&network.spec.driver).cloned();
        let revision = loaded.or_else(|| before.and_then(|up| up.revision.clone()));
        let NodeUp {
            network: wanted,
            node,
            peers,
        } = request.clone();
        if before
            != Some(&Up {
                network: wanted,
                node,
                peers,
                is_default,
                revision,
            })
        {
            changes.push(Change::Up {
                request: Box::new(request),
                is_default,
            });
        }
    }
    changes
}

fn request(
    me: &str,
    addresses: &[IpAddr],
    network: &Network,
    mine: &NetworkNode,
    parts: &[&NetworkNode],
) -> NodeUp {
    let node = |part: &NetworkNode| driver::Node {
        name: part.spec.node.clone(),
        addresses: if part.spec.node == me {
            addresses.to_vec()
        } else {
            published_addresses(part)
        },
        slices: nets(&part.spec.slices),
        published: if part.spec.node == me {
            Default::default()
        } else {
            part.status.clone().unwrap_or_default().published
        },
    };
    let mut peers: Vec<driver::Node> = parts
        .iter()
        .filter(|part| part.spec.node != me)
        .map(|part| node(part))
        .collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    NodeUp {
        network: driver_network(network),
        node: node(mine),
        peers,
    }
}

/// Peers tell their addresses with what their driver publishes.
fn published_addresses(part: &NetworkNode) -> Vec<IpAddr> {
    let published = part.status.as_ref().map(|status| &status.published);
    published
        .and_then(|published| published.get("address"))
        .and_then(|text| text.parse().ok())
        .into_iter()
        .collect()
}

fn driver_network(network: &Network) -> driver::Network {
    driver::Network {
        name: network.name_any(),
        uid: network.uid().unwrap_or_default(),
        generation: network
            .metadata
            .generation
            .and_then(|generation| u64::try_from(generation).ok())
            .unwrap_or(0),
        mtu: network.spec.mtu.unwrap_or(0),
        subnets: nets(&network.spec.subnets),
        config: network.spec.config.clone().unwrap_or_default(),
        driver: network.spec.driver.clone(),
        exclude: nets(&network.spec.ipam.exclude),
    }
}

fn was_first(other: &NetworkNode, mine: &NetworkNode) -> bool {
    let age = |part: &NetworkNode| (part.metadata.creation_timestamp.clone(), part.name_any());
    age(other) < age(mine)
}

fn overlaps(a: &NetworkNode, b: &NetworkNode) -> bool {
    let theirs = nets(&b.spec.slices);
    nets(&a.spec.slices).iter().any(|net| {
        theirs
            .iter()
            .any(|other| net.contains(other) || other.contains(net))
    })
}

/// A slice of each family: what the node had before if it is still free, else the first free one.
fn slices(network: &Network, taken: &[IpNet], before: &[IpNet]) -> Vec<IpNet> {
    let mut slices: Vec<IpNet> = Vec::new();
    for subnet in nets(&network.spec.subnets) {
        let is_v4 = matches!(subnet, IpNet::V4(_));
        if slices
            .iter()
            .any(|slice| matches!(slice, IpNet::V4(_)) == is_v4)
        {
            continue;
        }
        let prefix = if is_v4 {
            network.spec.ipam.node_prefix.unwrap_or(SLICE_V4)
        } else {
            network.spec.ipam.node_prefix_v6.unwrap_or(SLICE_V6)
        };
        // A network smaller than a slice is one slice.
        let prefix = prefix.max(subnet.prefix_len());
        let free = |slice: &IpNet| {
            !taken
                .iter()
                .any(|other| other.contains(slice) || slice.contains(other))
        };
        let fits = |slice: &&IpNet| subnet.contains(*slice) && slice.prefix_len() == prefix;
        let before = before.iter().filter(fits).copied();
        let candidates = before.chain(subnet.subnets(prefix).ok().into_iter().flatten());
        slices.extend(candidates.into_iter().find(free));
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn network(name: &str, subnets: &[&str]) -> Arc<Network> {
        let spec = json!({ "driver": "bridge.davit.dev", "subnets": subnets, "isDefault": true });
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "davit.dev/v1alpha1", "kind": "Network", "metadata": { "name": name }, "spec": spec,
            }))
            .unwrap(),
        )
    }

    fn part(network: &str, node: &str, slices: &[&str], created: &str) -> Arc<NetworkNode> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "davit.dev/v1alpha1", "kind": "NetworkNode",
                "metadata": { "name": format!("{network}.{node}"), "creationTimestamp": created },
                "spec": { "network": network, "node": node, "slices": slices },
            }))
            .unwrap(),
        )
    }

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-01T00:00:01Z";

    fn texts(
        networks: &[Arc<Network>],
        nodes: &[Arc<NetworkNode>],
        up: &HashMap<String, Up>,
    ) -> Vec<String> {
        changes(networks, nodes, up, &[], &[])
    }

    fn changes(
        networks: &[Arc<Network>],
        nodes: &[Arc<NetworkNode>],
        up: &HashMap<String, Up>,
        recorded: &[&str],
        revisions: &[(&str, &str)],
    ) -> Vec<String> {
        let owned = |(driver, revision): &(&str, &str)| (driver.to_string(), revision.to_string());
        let here = Here {
            me: "me",
            addresses: &[],
            up,
            recorded: &recorded.iter().map(ToString::to_string).collect(),
            revisions: &revisions.iter().map(owned).collect(),
        };
        let changes = plan(&here, networks, nodes);
        let text = |change: Change| match change {
            Change::Claim { network, slices } => format!("claim {network} {}", slices.join(",")),
            Change::GiveBack { object, .. } => format!("give back {object}"),
            Change::Up { request, .. } => {
                format!("up {} {:?}", request.network.name, request.node.slices)
            }
            Change::Down { network } => format!("down {network}"),
        };
        changes.into_iter().map(text).collect()
    }

    #[test]
    fn a_node_takes_the_first_free_slices() {
        let both = [network("n", &["10.1.0.0/16", "fd00::/48"])];
        assert_eq!(
            texts(&both, &[], &HashMap::new()),
            ["claim n 10.1.0.0/24,fd00::/64"]
        );
        let other = [part("n", "other", &["10.1.0.0/24", "fd00::/64"], EARLY)];
        assert_eq!(
            texts(&both, &other, &HashMap::new()),
            ["claim n 10.1.1.0/24,fd00:0:0:1::/64"]
        );
        let small = [network("n", &["10.1.0.0/28"])];
        assert_eq!(texts(&small, &[], &HashMap::new()), ["claim n 10.1.0.0/28"]);
    }

    #[test]
    fn a_claim_that_came_second_is_given_back() {
        let networks = [network("n", &["10.1.0.0/16"])];
        let mine = part("n", "me", &["10.1.0.0/24"], LATE);
        let nodes = [mine.clone(), part("n", "other", &["10.1.0.0/24"], EARLY)];
        assert_eq!(
            texts(&networks, &nodes, &HashMap::new()),
            ["give back n.me"]
        );
        let nodes = [
            mine,
            part("n", "other", &["10.1.0.0/24"], "2026-01-01T00:00:02Z"),
        ];
        assert_eq!(
            texts(&networks, &nodes, &HashMap::new()),
            ["up n [10.1.0.0/24]"]
        );
    }

    #[test]
    fn what_is_up_stays_and_what_is_gone_goes() {
        let networks = [network("n", &["10.1.0.0/16"])];
        let nodes = [part("n", "me", &["10.1.0.0/24"], EARLY)];
        let up = brought_up(&networks, &nodes);
        assert_eq!(texts(&networks, &nodes, &up), Vec::<String>::new());
        assert_eq!(texts(&[], &[], &up), ["down n"]);
    }

    /// What is up once everything is done that was planned.
    fn brought_up(networks: &[Arc<Network>], nodes: &[Arc<NetworkNode>]) -> HashMap<String, Up> {
        let here = Here {
            me: "me",
            addresses: &[],
            up: &HashMap::new(),
            recorded: &BTreeSet::new(),
            revisions: &BTreeMap::new(),
        };
        let Some(Change::Up {
            request,
            is_default,
        }) = plan(&here, networks, nodes).pop()
        else {
            panic!("not brought up")
        };
        let NodeUp {
            network,
            node,
            peers,
        } = *request;
        let up = Up {
            network,
            node,
            peers,
            is_default,
            revision: None,
        };
        HashMap::from([("n".to_owned(), up)])
    }

    #[test]
    fn what_an_earlier_agent_left_up_goes_with_its_network() {
        let networks = [network("n", &["10.1.0.0/16"])];
        let nothing = HashMap::new();
        assert_eq!(changes(&[], &[], &nothing, &["old"], &[]), ["down old"]);
        let claim = ["claim n 10.1.0.0/24"];
        assert_eq!(changes(&networks, &[], &nothing, &["n"], &[]), claim);
    }

    #[test]
    fn another_version_of_the_driver_is_asked_again() {
        let networks = [network("n", &["10.1.0.0/16"])];
        let nodes = [part("n", "me", &["10.1.0.0/24"], EARLY)];
        let mut up = brought_up(&networks, &nodes);
        let again = ["up n [10.1.0.0/24]"];
        let driver = "bridge.davit.dev";
        assert_eq!(
            changes(&networks, &nodes, &up, &[], &[(driver, "1")]),
            again
        );
        up.get_mut("n").unwrap().revision = Some("1".into());
        let none = Vec::<String>::new();
        for loaded in [&[(driver, "1")][..], &[], &[("other", "2")]] {
            assert_eq!(changes(&networks, &nodes, &up, &[], loaded), none);
        }
        assert_eq!(
            changes(&networks, &nodes, &up, &[], &[(driver, "2")]),
            again
        );
    }

    #[test]
    fn a_node_claims_what_its_pods_have_addresses_of() {
        let networks = [network("n", &["10.1.0.0/16"])];
        let up = brought_up(&networks, &[part("n", "me", &["10.1.7.0/24"], EARLY)]);
        assert_eq!(texts(&networks, &[], &up), ["claim n 10.1.7.0/24"]);
        let other = [part("n", "other", &["10.1.7.0/24"], LATE)];
        assert_eq!(texts(&networks, &other, &up), ["claim n 10.1.0.0/24"]);
    }
}
