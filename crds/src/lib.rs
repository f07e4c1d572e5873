//! API types of davit's own kinds and the value types Kubernetes leaves as strings.
//!
//! The kinds live in group `davit.dev`, version `v1alpha1`, and are installed as ordinary
//! CustomResourceDefinitions ([`crds`]). [`Quantity`], [`LabelSelector`] and [`FieldSelector`]
//! follow Kubernetes' own parsing, canonical form and matching. [`named`] gives a client a name.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::too_many_lines,
        clippy::type_complexity,
        reason = "tests fail by panicking and hold long tables"
    )
)]

pub mod address;
mod condition;
mod definitions;
mod network;
mod plugin;
mod pod_requests;
mod quantity;
pub mod quota;
mod selector;
pub mod status;
mod user_agent;

pub use address::SpecialAddress;
pub use definitions::{crds, to_yaml};
pub use network::{
    Network, NetworkIpam, NetworkNode, NetworkNodeSpec, NetworkNodeStatus, NetworkSpec,
    NetworkStatus, NodeCount, Published,
};
pub use plugin::grants::{
    Access, Grants, HostPath, Interface, Limits, LinkGrants, LinkKind, MountGrants, NftGrants,
    PodScope, RouteGrants, SysctlGrants, Timeouts,
};
pub use plugin::{Plugin, PluginNode, PluginSource, PluginSpec, PluginStatus, Risk};
pub use pod_requests::{Amounts, HostPort, amounts, host_ports, pod_requests};
pub use quantity::{Format, ParseQuantityError, Quantity};
pub use selector::{
    FieldRequirement, FieldSelector, LabelSelector, Operator, ParseSelectorError, Requirement,
};
pub use user_agent::named;

/// API group of every davit kind.
pub const GROUP: &str = "davit.dev";
/// The one version served so far.
pub const VERSION: &str = "v1alpha1";
