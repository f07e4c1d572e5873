//! The ranges Services take addresses from: the server's own and those of ServiceCIDR objects. Neither a
//! range nor an address in use can be deleted, so that what is stored never needs repair.

use std::net::IpAddr;

use ipnet::IpNet;
use rand::RngExt as _;
use serde_json::{Value, json};

use super::{ADDRESSES, Held, families, nth, size};
use crate::ApiServer;
use crate::error::StatusError;
use crate::object;
use crate::resource::Companion;
use crate::selection::Selection;
use crate::storage::Txn;

const GROUP: &str = "networking.k8s.io";
/// Prefix of the ServiceCIDR objects.
const RANGES: &str = "/registry/networking.k8s.io/servicecidrs/";
/// Random picks before the range is searched in order.
const PICKS: usize = 32;

/// All ranges, the server's own first.
#[derive(Debug)]
pub(super) struct Ranges(Vec<IpNet>);

impl Ranges {
    pub(super) fn of(server: &ApiServer) -> Self {
        let mut ranges = vec![server.config.service_cidr.trunc()];
        for object in objects(server, "servicecidrs", RANGES) {
            if object["metadata"]["deletionTimestamp"].is_null() {
                let more = of_object(&object).filter(|range| !ranges.contains(range));
                let more: Vec<_> = more.collect();
                ranges.extend(more);
            }
        }
        Self(ranges)
    }

    /// The families there are, the default one first.
    pub(super) fn families(&self) -> Vec<&'static str> {
        let mut families = Vec::new();
        for range in &self.0 {
            let family = families::of(&range.addr());
            if !families.contains(&family) {
                families.push(family);
            }
        }
        families
    }

    pub(super) fn contains(&self, address: &IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }

    /// An address of a family that is not `taken`.
    pub(super) fn free(&self, family: &str, taken: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let ranges = self.0.iter();
        ranges
            .filter(|range| families::of(&range.addr()) == family)
            .find_map(|range| free_in(*range, &taken))
    }
}

/// The network, the gateway-like first address (the API server's own) and the broadcast stay out.
fn free_in(range: IpNet, taken: &impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let free = |offset: u128| nth(range, offset).filter(|address| !taken(address));
    let (first, last) = (2, size(range).checked_sub(2)?);
    if first > last {
        return None;
    }
    let mut random = rand::rng();
    (0..PICKS)
        .find_map(|_| free(random.random_range(first..=last)))
        .or_else(|| (first..=last.min(first + 65_536)).find_map(free))
}

fn objects(server: &ApiServer, plural: &str, prefix: &str) -> Vec<Value> {
    let Some(resource) = server.registry.snapshot().find(GROUP, "v1", plural) else {
        return Vec::new();
    };
    let page = server
        .cache
        .kind(prefix)
        .page(&Selection::all(&resource, ""), None, 0, 0);
    let parsed = page.objects.iter();
    parsed
        .filter_map(|object| object::parse(&object.bytes).ok())
        .collect()
}

fn of_object(object: &Value) -> impl Iterator<Item = IpNet> {
    families::texts(&object["spec"]["cidrs"])
        .into_iter()
        .filter_map(|text| Some(text.parse::<IpNet>().ok()?.trunc()))
}

/// The companion of ServiceCIDRs: a range is ready at once, and stays while addresses of it are in use.
#[derive(Debug)]
pub(crate) struct ServiceRanges;

impl Companion for ServiceRanges {
    fn plan(
        &self,
        server: &ApiServer,
        old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Txn, StatusError> {
        match (old, new) {
            (_, Some(range)) => set_ready(range),
            (Some(old), None) => check_unused(server, old)?,
            (None, None) => {}
        }
        Ok(Txn::default())
    }
}

fn set_ready(range: &mut Value) {
    let conditions = range["status"]["conditions"].as_array();
    let known = |kind: &Value| kind["type"] == "Ready";
    if conditions.is_some_and(|conditions| conditions.iter().any(known)) {
        return;
    }
    let mut conditions = conditions.cloned().unwrap_or_default();
    conditions.push(json!({
        "type": "Ready", "status": "True", "reason": "", "lastTransitionTime": range["metadata"]["creationTimestamp"],
        "message": "Kubernetes Service CIDR is ready",
    }));
    range["status"]["conditions"] = conditions.into();
}

fn check_unused(server: &ApiServer, range: &Value) -> Result<(), StatusError> {
    let own: Vec<IpNet> = of_object(range).collect();
    let name = &range["metadata"]["name"];
    let others: Vec<IpNet> = objects(server, "servicecidrs", RANGES)
        .iter()
        .filter(|other| other["metadata"]["name"] != *name)
        .flat_map(of_object)
        .collect();
    let orphaned = |address: &IpAddr| {
        own.iter().any(|range| range.contains(address))
            && !others.iter().any(|range| range.contains(address))
    };
    let used = objects(server, "ipaddresses", ADDRESSES).into_iter();
    let mut used = used.filter_map(|object| object["metadata"]["name"].as_str()?.parse().ok());
    if !used.any(|address| orphaned(&address)) {
        return Ok(());
    }
    let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create \
               a new ServiceCIDR";
    Err(conflict(server, "servicecidrs", name, why))
}

/// The companion of IPAddresses: one that a Service has is not deleted from under it.
#[derive(Debug)]
pub(crate) struct InUse;

impl Companion for InUse {
    fn plan(
        &self,
        server: &ApiServer,
        old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Txn, StatusError> {
        let (Some(address), None) = (old, new) else {
            return Ok(Txn::default());
        };
        let name = &address["metadata"]["name"];
        let parent = &address["spec"]["parentRef"];
        let text = |field: &str| parent[field].as_str().unwrap_or_default();
        let key = format!(
            "/registry/core/services/{}/{}",
            text("namespace"),
            text("name")
        );
        let service = server.cache.kind("/registry/core/services/").get(&key);
        let service = service.and_then(|service| object::parse(&service.bytes).ok());
        let held = service.as_ref().map(Held::of).unwrap_or_default();
        let parsed = name.as_str().and_then(|name| name.parse().ok());
        if parsed.is_none_or(|address: IpAddr| !held.addresses.contains(&address)) {
            return Ok(Txn::default());
        }
        let why = format!(
            "the address is in use by Service {}/{}",
            text("namespace"),
            text("name")
        );
        Err(conflict(server, "ipaddresses", name, &why))
    }
}

fn conflict(server: &ApiServer, plural: &str, name: &Value, why: &str) -> StatusError {
    let name = name.as_str().unwrap_or_default();
    match server.registry.snapshot().find(GROUP, "v1", plural) {
        Some(resource) => StatusError::conflict(&resource, name, why),
        None => StatusError::no_such_path(),
    }
}
