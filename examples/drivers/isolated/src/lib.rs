//! `isolated.example.com`: a network that leads nowhere but to the pods of the same node that are on it.

use davit_plugin::network::*;
use serde::Deserialize;

struct Isolated;

/// `Network.spec.config`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Config {
    /// Whether the node itself has an address in the network.
    node_address: bool,
}

impl NetworkDriver for Isolated {
    type Config = NoConfig;
    type NetworkConfig = Config;

    fn manifest() -> Manifest {
        Manifest::new("isolated.example.com", env!("CARGO_PKG_VERSION"))
            .description("A bridge for each network, without a way out.")
            .want("interfaces", "network.ipam", "addresses of pods")
            .want("links.create", "iso-*", "the bridge and the links to pods")
            .want("links.kinds", "bridge", "the bridge")
            .want("links.kinds", "veth", "the links to pods")
    }

    fn node_up(cx: &Cx<Self>, net: &Network, _: &Node, _: &[Node]) -> Result<Plan> {
        let config: Config = net.parse_config()?;
        let bridge = Link::host("br", short_name("iso-", &net.name));
        let mut plan = Plan::new().bridge(bridge.mtu(net.mtu));
        for pool in cx.ipam().pools()? {
            if let (true, Some(gateway)) = (config.node_address, &pool.gateway) {
                let length = pool.cidr.rsplit('/').next().unwrap_or_default();
                plan = plan.address("br", &format!("{gateway}/{length}"));
            }
        }
        Ok(plan)
    }

    fn attach(cx: &Cx<Self>, attachment: &Attachment, _: &Node) -> Result<Plan> {
        let net = &attachment.network;
        let pod = Link::pod("eth", &attachment.ifname).mtu(net.mtu);
        let host = Link::host("host", short_name("iso-", &attachment.id))
            .mtu(net.mtu)
            .master(format!("node/{}#br", net.name));
        let mut plan = Plan::new().veth(pod, host);
        for pool in cx.ipam().pools()? {
            let lease = cx.ipam().allocate(&pool.name, &attachment.ifname)?;
            plan = plan.address("eth", &lease.address);
        }
        Ok(plan)
    }
}

davit_plugin::network_driver!(Isolated);

#[cfg(test)]
mod tests {
    use super::*;
    use davit_plugin::FakeHost;

    fn network(config: &str) -> Network {
        Network {
            name: "lab".into(),
            uid: "u".into(),
            generation: 1,
            config: config.into(),
            mtu: 0,
            subnets: vec!["10.77.0.0/16".into()],
        }
    }

    #[test]
    fn the_node_stays_outside_unless_told() {
        let host = FakeHost::new().pool("10.77.3.0/24", "10.77.3.1");
        let node = Node {
            name: "node-1".into(),
            addresses: vec![],
            slices: vec!["10.77.3.0/24".into()],
            published: vec![],
        };
        let up = |config| Isolated::node_up(&host.cx().unwrap(), &network(config), &node, &[]);
        assert_eq!(up("").unwrap().ops.len(), 1);
        let plan = up(r#"{"nodeAddress": true}"#).unwrap();
        assert_eq!(plan, up("").unwrap().address("br", "10.77.3.1/24"));
        assert!(up(r#"{"nodeAdress": true}"#).is_err());
    }
}
