//! Kinds `Network` and `NetworkNode`: a pod network, and one node's share of it.

#![allow(
    clippy::duplicated_attributes,
    reason = "printer columns of one kind rightly repeat their type"
)]

use crate::condition::conditions;
use crate::plugin::any_object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A network that pods can be attached to.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "davit.dev",
    version = "v1alpha1",
    kind = "Network",
    plural = "networks",
    status = "NetworkStatus",
    category = "davit",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(name = "Driver", type_ = "string", json_path = ".spec.driver"),
    printcolumn(name = "Subnets", type_ = "string", json_path = ".spec.subnets"),
    printcolumn(name = "Default", type_ = "boolean", json_path = ".spec.isDefault"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSpec {
    /// Name of the driver, as in `Plugin.status.driver`.
    pub driver: String,
    /// Address ranges (CIDR), at most one of each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// How the ranges are shared out.
    #[serde(default)]
    pub ipam: NetworkIpam,
    /// Largest packet in bytes; the driver chooses when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 68, max = 65535))]
    pub mtu: Option<u32>,
    /// The driver's own configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
    /// Pods are attached to this network when they ask for none. One network at most.
    #[serde(default)]
    pub is_default: bool,
}

/// How the ranges of a network become addresses of pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkIpam {
    /// Prefix length of the IPv4 slice that each node gets; default 24.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub node_prefix: Option<u8>,
    /// Prefix length of the IPv6 slice that each node gets; default 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 128))]
    pub node_prefix_v6: Option<u8>,
    /// Ranges (CIDR) never given to pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

/// State of a network over all nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkStatus {
    /// Nodes that serve the network.
    pub nodes: NodeCount,
    /// `Ready`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// Nodes wanted and nodes done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeCount {
    /// Nodes that should serve.
    pub desired: u32,
    /// Nodes that do.
    pub ready: u32,
}

/// One node's share of a network, named `<network>.<node>`.
///
/// The controller writes the spec, the node's agent the status.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "davit.dev",
    version = "v1alpha1",
    kind = "NetworkNode",
    plural = "networknodes",
    status = "NetworkNodeStatus",
    category = "davit",
    derive = "Default",
    derive = "PartialEq",
    selectable = ".spec.node",
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.node"),
    printcolumn(name = "Slices", type_ = "string", json_path = ".spec.slices"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct NetworkNodeSpec {
    /// Name of the `Network`.
    pub network: String,
    /// Name of the `Node`.
    pub node: String,
    /// Ranges (CIDR) whose addresses this node gives to pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<String>,
}

/// Values a node tells its peers, such as the MAC address of its tunnel end.
pub type Published = BTreeMap<String, String>;

/// What the node's agent did about its share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkNodeStatus {
    /// What peers need to know of this node.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub published: Published,
    /// `sha256:<hex>` of the plan in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<String>,
    /// `Ready`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
