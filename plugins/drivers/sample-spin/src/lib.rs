//! A misbehaving network driver for tests: once asked to attach a pod, it never answers.

use davit_plugin::network::*;

struct Spin;

impl NetworkDriver for Spin {
    type Config = NoConfig;
    type NetworkConfig = NoConfig;

    fn manifest() -> Manifest {
        Manifest::new("spin.samples.davit.dev", "0.1.0").description("Never answers.")
    }

    fn node_up(_: &Cx<Self>, _: &Network, _: &Node, _: &[Node]) -> Result<Plan> {
        Ok(Plan::new())
    }

    fn attach(_: &Cx<Self>, _: &Attachment, _: &Node) -> Result<Plan> {
        let mut round: u64 = 0;
        loop {
            round = std::hint::black_box(round.wrapping_add(1));
        }
    }
}

davit_plugin::network_driver!(Spin);
