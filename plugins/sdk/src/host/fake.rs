//! A host without davit, for native tests of drivers.

use super::Area;
use crate::context::{Context, ObjectRef};
use crate::network::{Lease, LinkInfo, Pool};
use crate::storage::SpaceInfo;
use crate::{Code, Error, ErrorExt, Result};
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What the fake answers, set up by a test, and what the driver left behind.
///
/// ```
/// use davit_plugin::FakeHost;
/// let host = FakeHost::new().pool("10.42.0.0/24", "10.42.0.1").config(r#"{"mtu": 1400}"#);
/// ```
#[derive(Clone, Debug, Default)]
pub struct FakeHost(Rc<RefCell<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    config: String,
    pools: Vec<Pool>,
    leases: BTreeMap<(String, String), Lease>,
    values: BTreeMap<(u8, String), Vec<u8>>,
    roots: BTreeMap<String, SpaceInfo>,
    links: Vec<LinkInfo>,
    lines: Vec<String>,
    events: Vec<(bool, String, String)>,
}

impl FakeHost {
    /// A host with nothing granted and an empty configuration, named `node-1`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `Plugin.spec.config`.
    #[must_use]
    pub fn config(self, json: &str) -> Self {
        self.0.borrow_mut().config = json.to_owned();
        self
    }

    /// Adds a slice with its gateway.
    #[must_use]
    pub fn pool(self, cidr: &str, gateway: &str) -> Self {
        let name = if cidr.contains(':') { "ipv6" } else { "ipv4" };
        self.0.borrow_mut().pools.push(Pool {
            name: name.to_owned(),
            cidr: cidr.to_owned(),
            gateway: Some(gateway.to_owned()),
            capacity: 253,
            used: 0,
        });
        self
    }

    /// Adds a root with its space.
    #[must_use]
    pub fn root(self, name: &str, space: SpaceInfo) -> Self {
        self.0.borrow_mut().roots.insert(name.to_owned(), space);
        self
    }

    /// Adds a link of the host.
    #[must_use]
    pub fn link(self, link: LinkInfo) -> Self {
        self.0.borrow_mut().links.push(link);
        self
    }

    /// The context of one call.
    ///
    /// # Errors
    /// When the configuration is not what the driver reads.
    pub fn cx<C: DeserializeOwned>(&self) -> Result<Context<C>> {
        Context::new(Host {
            shared: self.clone(),
        })
    }

    /// Lines that the driver logged.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.borrow().lines.clone()
    }

    /// Events that the driver raised: whether a warning, reason, message.
    #[must_use]
    pub fn events(&self) -> Vec<(bool, String, String)> {
        self.0.borrow().events.clone()
    }
}

#[derive(Debug)]
pub(crate) struct Host {
    shared: FakeHost,
}

impl Host {
    pub(crate) fn config(&self) -> String {
        self.shared.0.borrow().config.clone()
    }
    pub(crate) fn operation_id(&self) -> String {
        "operation-1".to_owned()
    }
    pub(crate) fn attempt(&self) -> u32 {
        1
    }
    pub(crate) fn dry_run(&self) -> bool {
        false
    }
    pub(crate) fn node_name(&self) -> String {
        "node-1".to_owned()
    }
    pub(crate) fn subject(&self) -> Option<ObjectRef> {
        None
    }
    pub(crate) fn now_ms(&self) -> u64 {
        1_750_000_000_000
    }
    pub(crate) fn log_info(&self, message: &str) {
        self.shared.0.borrow_mut().lines.push(message.to_owned());
    }
    pub(crate) fn log_warn(&self, message: &str) {
        self.log_info(message);
    }
    pub(crate) fn event(&self, warning: bool, reason: &str, message: &str) {
        let event = (warning, reason.to_owned(), message.to_owned());
        self.shared.0.borrow_mut().events.push(event);
    }
    pub(crate) fn pools(&self) -> Result<Vec<Pool>> {
        Ok(self.shared.0.borrow().pools.clone())
    }

    /// Counts up from ten in the last group of the slice's address.
    pub(crate) fn allocate(&self, pool: &str, tag: &str, want: Option<&str>) -> Result<Lease> {
        let mut shared = self.shared.0.borrow_mut();
        let key = (pool.to_owned(), tag.to_owned());
        if let Some(lease) = shared.leases.get(&key) {
            return Ok(lease.clone());
        }
        let named = |p: &&Pool| pool == "default" || p.name == pool || p.cidr == pool;
        let Some(slice) = shared.pools.iter().find(named).cloned() else {
            return Err(Error::not_found(format!("no pool {pool:?}")));
        };
        let (base, length) = slice.cidr.split_once('/').unwrap_or((&slice.cidr, "32"));
        let number = 10 + shared.leases.len();
        let ip = match (want, base.strip_suffix(".0"), base.strip_suffix("::")) {
            (Some(ip), ..) => ip.to_owned(),
            (None, Some(prefix), _) => format!("{prefix}.{number}"),
            (None, None, Some(prefix)) => format!("{prefix}::{number:x}"),
            (None, None, None) => return Err(Error::invalid(format!("slice {base:?}"))),
        };
        let lease = Lease {
            pool: slice.name,
            address: format!("{ip}/{length}"),
            gateway: slice.gateway,
        };
        shared.leases.insert(key, lease.clone());
        Ok(lease)
    }
    pub(crate) fn state_get(&self, area: Area, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self
            .shared
            .0
            .borrow()
            .values
            .get(&(area as u8, key.to_owned()))
            .cloned())
    }
    pub(crate) fn state_put(&self, area: Area, key: &str, value: &[u8]) -> Result<()> {
        let key = (area as u8, key.to_owned());
        self.shared
            .0
            .borrow_mut()
            .values
            .insert(key, value.to_vec());
        Ok(())
    }
    pub(crate) fn state_delete(&self, area: Area, key: &str) -> Result<()> {
        self.shared
            .0
            .borrow_mut()
            .values
            .remove(&(area as u8, key.to_owned()));
        Ok(())
    }
    pub(crate) fn state_keys(
        &self,
        area: Area,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>> {
        let shared = self.shared.0.borrow();
        let keys = shared
            .values
            .keys()
            .filter(|(a, _)| *a == area as u8)
            .map(|(_, key)| key);
        let wanted = keys
            .filter(|key| key.starts_with(prefix))
            .filter(|key| after.is_none_or(|after| key.as_str() > after));
        Ok(wanted.take(limit as usize).cloned().collect())
    }

    /// Knows only a star at the end.
    pub(crate) fn links(&self, glob: &str) -> Result<Vec<LinkInfo>> {
        let shared = self.shared.0.borrow();
        let fits = |link: &&LinkInfo| match glob.strip_suffix('*') {
            Some(prefix) => link.name.starts_with(prefix),
            None => link.name == glob,
        };
        Ok(shared.links.iter().filter(fits).cloned().collect())
    }
    pub(crate) fn default_route_link(&self, _family: u8) -> Result<Option<LinkInfo>> {
        Ok(self.shared.0.borrow().links.first().cloned())
    }
    pub(crate) fn roots(&self) -> Result<Vec<String>> {
        Ok(self.shared.0.borrow().roots.keys().cloned().collect())
    }
    pub(crate) fn space(&self, root: &str) -> Result<SpaceInfo> {
        let shared = self.shared.0.borrow();
        let denied = || Error::new(Code::PermissionDenied, format!("root {root:?} not granted"));
        shared.roots.get(root).cloned().ok_or_else(denied)
    }
}
