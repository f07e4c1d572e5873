//! Kind `Plugin`: one driver file, its configuration, and what it may do on a node.

#![allow(
    clippy::duplicated_attributes,
    reason = "printer columns of one kind rightly repeat their type"
)]

pub(crate) mod grants;

use crate::condition::conditions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use grants::Grants;

/// A WebAssembly driver and the rights given to it.
///
/// The name of the driver comes from the plugin itself (`status.driver`); it is what
/// `StorageClass.provisioner` and `Network.spec.driver` name. A driver has one `Plugin`; one from a
/// file goes before one that comes with davit.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "davit.dev",
    version = "v1alpha1",
    kind = "Plugin",
    plural = "plugins",
    status = "PluginStatus",
    category = "davit",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(name = "Driver", type_ = "string", json_path = ".status.driver"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Risk", type_ = "string", json_path = ".status.risk"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PluginSpec {
    /// Where the file of the plugin is.
    pub source: PluginSource,
    /// The plugin's own configuration; it checks the value itself before it becomes ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
    /// Nodes that load the plugin, by their labels; all nodes when empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// What the plugin may do; nothing on the host when empty.
    #[serde(default)]
    pub grants: Grants,
}

/// Where the bytes of a plugin come from: exactly one of `file` and `bundled`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.file) != has(self.bundled)",
    "message": "exactly one of file and bundled is required",
}]))]
pub struct PluginSource {
    /// Absolute path of a component or core module (`.wasm`) on each selected node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A driver inside the davit binary of each selected node: `bridge` or `local-path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundled: Option<String>,
    /// `sha256:<64 hex digits>` of the file. A file with another digest is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
}

/// What the nodes found out about a plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginStatus {
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// DNS name of the driver, as the plugin describes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The plugin's own version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `sha256:<hex>` of the loaded file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_digest: Option<String>,
    /// Exported interfaces with their versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<String>,
    /// How much harm the granted rights could do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// State per node that loads the plugin, ordered by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub nodes: Vec<PluginNode>,
    /// `Ready`, and `GrantsMissing` when the plugin wants rights that the spec does not give.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// One node's view of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginNode {
    /// Name of the node.
    pub name: String,
    /// Whether calls to the driver are served there.
    pub ready: bool,
    /// CamelCase word for the state, as in the `Ready` condition.
    pub reason: String,
    /// What happened, with the remedy; empty when ready.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How much harm a plugin could do with what it was granted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// Nothing outside its own sandbox and the pods it serves.
    Sandboxed,
    /// Named links, subnets or directories of the host.
    Scoped,
    /// As good as root on the host: raw nftables, devices, paths outside davit's own.
    HostEquivalent,
}

/// An object whose members davit does not interpret.
pub(crate) fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
