//! `Cx`: what a driver may ask the host during one call.

use crate::host::{Area, Host};
use crate::{Error, ErrorExt, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use crate::bindings::base::davit::plugin::types::ObjectRef;

/// The configuration of drivers that have none; any field in it is refused.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// The host during one call, and the plugin's configuration. `C` is the configuration's type.
#[derive(Debug)]
pub struct Context<C> {
    host: Host,
    config: C,
}

impl<C: DeserializeOwned> Context<C> {
    pub(crate) fn new(host: Host) -> Result<Self> {
        let text = host.config();
        let config = parse_config("Plugin spec.config", &text)?;
        Ok(Self { host, config })
    }
}

impl<C> Context<C> {
    /// `Plugin.spec.config`, checked.
    pub fn config(&self) -> &C {
        &self.config
    }

    /// Stable over retries of the same operation.
    pub fn operation_id(&self) -> String {
        self.host.operation_id()
    }

    /// 1 for the first try.
    pub fn attempt(&self) -> u32 {
        self.host.attempt()
    }

    /// Whether the plan is only looked at.
    pub fn dry_run(&self) -> bool {
        self.host.dry_run()
    }

    /// Name of the node.
    pub fn node_name(&self) -> String {
        self.host.node_name()
    }

    /// The object the call is about: the pod, the claim, the network.
    pub fn subject(&self) -> Option<ObjectRef> {
        self.host.subject()
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.host.now_ms()
    }

    /// Addresses of the network in question.
    pub fn ipam(&self) -> Ipam<'_> {
        Ipam(&self.host)
    }

    /// Values that are kept together with the plan.
    pub fn state(&self) -> State<'_> {
        State(&self.host)
    }

    /// A line in davit's log.
    pub fn info(&self, message: &str) {
        self.host.log_info(message);
    }

    /// A warning in davit's log.
    pub fn warn(&self, message: &str) {
        self.host.log_warn(message);
    }

    /// A Kubernetes Event on the subject.
    pub fn event(&self, warning: bool, reason: &str, message: &str) {
        self.host.event(warning, reason, message);
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }
}

/// Leases of the call's network. They commit with the plan and die with its scope.
#[derive(Debug)]
pub struct Ipam<'a>(&'a Host);

impl Ipam<'_> {
    /// The node's pools: one record a slice, named by its family (`ipv4`, `ipv6`).
    pub fn pools(&self) -> Result<Vec<crate::network::Pool>> {
        self.0.pools()
    }

    /// An address of a pool: `default`, a family, or a slice. The same tag gives the same address.
    pub fn allocate(&self, pool: &str, tag: &str) -> Result<crate::network::Lease> {
        self.0.allocate(pool, tag, None)
    }

    /// A certain address of a pool.
    pub fn allocate_this(&self, pool: &str, tag: &str, ip: &str) -> Result<crate::network::Lease> {
        self.0.allocate(pool, tag, Some(ip))
    }
}

/// Values of the plugin. Writes commit with the plan, or vanish with an error.
#[derive(Debug)]
pub struct State<'a>(&'a Host);

impl State<'_> {
    /// A value.
    pub fn get(&self, area: Area, key: &str) -> Result<Option<Vec<u8>>> {
        self.0.state_get(area, key)
    }

    /// Sets a value.
    pub fn put(&self, area: Area, key: &str, value: &[u8]) -> Result<()> {
        self.0.state_put(area, key, value)
    }

    /// Removes a value.
    pub fn delete(&self, area: Area, key: &str) -> Result<()> {
        self.0.state_delete(area, key)
    }

    /// Keys with a prefix, in order, after a key, at most `limit`.
    pub fn keys(
        &self,
        area: Area,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>> {
        self.0.state_keys(area, prefix, after, limit)
    }
}

/// Reads a configuration, naming the place and the field in the error.
pub(crate) fn parse_config<T: DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    let text = if text.is_empty() { "{}" } else { text };
    serde_json::from_str(text).map_err(|error| Error::invalid(format!("{what}: {error}")))
}
