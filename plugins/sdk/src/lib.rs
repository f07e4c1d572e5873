//! Write davit drivers in plain Rust: a driver is a pure function from a request to a plan.
//!
//! ```
//! use davit_plugin::network::*;
//!
//! struct Lan;
//!
//! impl NetworkDriver for Lan {
//!     type Config = NoConfig;
//!     type NetworkConfig = NoConfig;
//!
//!     fn manifest() -> Manifest {
//!         Manifest::new("lan.example.com", "1.0.0").want("links.create", "lan-*", "the bridge")
//!     }
//!
//!     fn node_up(_: &Cx<Self>, _: &Network, _: &Node, _: &[Node]) -> Result<Plan> {
//!         Ok(Plan::new().bridge(Link::host("br", "lan-0")))
//!     }
//!
//!     fn attach(cx: &Cx<Self>, a: &Attachment, _: &Node) -> Result<Plan> {
//!         let lease = cx.ipam().allocate("default", &a.ifname)?;
//!         let host = Link::host("host", short_name("lan-", &a.id)).master("node/lan#br");
//!         Ok(Plan::new().veth(Link::pod("eth", &a.ifname), host).address("eth", &lease.address))
//!     }
//! }
//!
//! davit_plugin::network_driver!(Lan);
//! ```
//!
//! Build the crate as a `cdylib` for `wasm32-unknown-unknown` and point a `Plugin` object at the
//! file. Natively, [`FakeHost`] stands in for davit, so that `cargo test` exercises a driver's logic.

#[doc(hidden)]
pub mod bindings;
mod context;
mod error;
mod host;
mod manifest;
pub mod network;
pub mod storage;

pub use context::{Context, Ipam, NoConfig, State};
pub use error::{Code, Error, ErrorExt, Result};
pub use host::Area;
#[cfg(not(target_family = "wasm"))]
pub use host::fake::FakeHost;
pub use manifest::{Health, Manifest, Want};

/// A device name of at most 15 bytes: `prefix` and as many hexadecimal digits of the id's hash as
/// fit, 12 at most. Equal ids give equal names.
#[must_use]
pub fn short_name(prefix: &str, id: &str) -> String {
    // FNV-1a, 64 bits: stable over versions and platforms, which a std hasher does not promise.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let digits = 15_usize.saturating_sub(prefix.len()).min(12);
    let mut name = format!("{prefix}{hash:016x}");
    name.truncate(prefix.len() + digits);
    name
}

#[cfg(test)]
mod tests {
    use super::short_name;

    #[test]
    fn short_names_fit_and_differ() {
        let name = short_name("dv", "6f0c-1/eth0");
        assert_eq!(name.len(), 14);
        assert_eq!(name, short_name("dv", "6f0c-1/eth0"));
        assert_ne!(name, short_name("dv", "6f0c-1/eth1"));
        assert_eq!(short_name("averylongprefix", "x"), "averylongprefix");
    }
}
