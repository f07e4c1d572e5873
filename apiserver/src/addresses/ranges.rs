//! The ranges Services take addresses from: the server's own and those of ServiceCIDR objects. A range that is deleted gives
//! out no addresses any more, and goes when none of its own is left (`follow.rs`).

use std::net::IpAddr;

use ipnet::IpNet;
use rand::RngExt as _;
use serde_json::{Value, json};

use super::{ADDRESSES, families, nth, size};
use crate::ApiServer;
use crate::error::StatusError;
use crate::handler::now;
use crate::object;
use crate::resource::Companion;
use crate::selection::Selection;
use crate::storage::{Compare, Txn};

const GROUP: &str = "networking.k8s.io";
/// Prefix of the ServiceCIDR objects.
pub(super) const RANGES: &str = "/registry/networking.k8s.io/servicecidrs/";
/// Keeps a range until its addresses are given back.
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// Random picks before the range is searched in order.
const PICKS: usize = 32;

/// All ranges, the server's own first.
#[derive(Debug)]
pub(super) struct Ranges(Vec<Open>);

/// A range that gives out addresses.
#[derive(Debug)]
struct Open {
    net: IpNet,
    /// The object it is from, as it was read; none is the server's own.
    object: Option<Compare>,
}

impl Ranges {
    pub(super) fn of(server: &ApiServer) -> Self {
        let net = server.config.service_cidr.trunc();
        let mut ranges = vec![Open { net, object: None }];
        for object in objects(server, "servicecidrs", RANGES) {
            if !object["metadata"]["deletionTimestamp"].is_null() {
                continue;
            }
            for net in of_object(&object) {
                if !ranges.iter().any(|have| have.net == net) {
                    let object = compare(&object);
                    ranges.push(Open { net, object });
                }
            }
        }
        Self(ranges)
    }

    /// The families there are, the default one first.
    pub(super) fn families(&self) -> Vec<&'static str> {
        let mut families = Vec::new();
        for range in &self.0 {
            let family = families::of(&range.net.addr());
            if !families.contains(&family) {
                families.push(family);
            }
        }
        families
    }

    pub(super) fn contains(&self, address: &IpAddr) -> bool {
        self.0.iter().any(|range| range.net.contains(address))
    }

    /// An address of a family that is not `taken`.
    pub(super) fn free(&self, family: &str, taken: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let ranges = self.0.iter();
        ranges
            .filter(|range| families::of(&range.net.addr()) == family)
            .find_map(|range| free_in(range.net, &taken))
    }

    /// What must not have changed when an address is taken: a range that began to go away meanwhile gives out none.
    pub(super) fn condition(&self, address: &IpAddr) -> Option<Compare> {
        let of = self.0.iter().find(|range| range.net.contains(address));
        of.and_then(|range| range.object.clone())
    }
}

fn compare(object: &Value) -> Option<Compare> {
    let metadata = &object["metadata"];
    Some(Compare {
        key: format!("{RANGES}{}", metadata["name"].as_str()?).into(),
        mod_revision: metadata["resourceVersion"].as_str()?.parse().ok()?,
    })
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

pub(super) fn objects(server: &ApiServer, plural: &str, prefix: &str) -> Vec<Value> {
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

/// The companion of ServiceCIDRs: a range is ready at once, and protected from going away while it is used.
#[derive(Debug)]
pub(crate) struct ServiceRanges;

impl Companion for ServiceRanges {
    fn plan(
        &self,
        server: &ApiServer,
        old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Txn, StatusError> {
        let _ = server;
        if let Some(range) = new {
            if old.is_none() {
                range["metadata"]["finalizers"] = with_own(range).into();
            }
            set_ready(range);
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

fn finalizers(range: &Value) -> Vec<Value> {
    let list = range["metadata"]["finalizers"].as_array();
    list.cloned().unwrap_or_default()
}

fn with_own(range: &Value) -> Vec<Value> {
    let mut list = finalizers(range);
    if !list.iter().any(|finalizer| finalizer == FINALIZER) {
        list.push(FINALIZER.into());
    }
    list
}

/// What is to be done about a range.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// It has these finalizers from now on.
    Keep(Vec<Value>),
    /// It cannot go yet, and says so.
    Refuse(Value),
}

/// What is to be done about the ranges. `used` are the addresses that are taken; they are asked for only while a range
/// waits to go.
pub(super) fn plan(ranges: &[Value], used: impl FnOnce() -> Vec<IpAddr>) -> Vec<(&Value, Step)> {
    let going = |range: &Value| !range["metadata"]["deletionTimestamp"].is_null();
    let guarded = |range: &Value| finalizers(range).iter().any(|f| f == FINALIZER);
    let mut steps = Vec::new();
    let unguarded = ranges
        .iter()
        .filter(|range| !going(range) && !guarded(range));
    steps.extend(unguarded.map(|range| (range, Step::Keep(with_own(range)))));
    let waiting: Vec<&Value> = ranges
        .iter()
        .filter(|range| going(range) && guarded(range))
        .collect();
    if waiting.is_empty() {
        return steps;
    }
    let used = used();
    let stay: Vec<IpNet> = ranges
        .iter()
        .filter(|range| !going(range))
        .flat_map(of_object)
        .collect();
    for range in waiting {
        let own: Vec<IpNet> = of_object(range).collect();
        let orphaned = |address: &IpAddr| {
            own.iter().any(|range| range.contains(address))
                && !stay.iter().any(|range| range.contains(address))
        };
        if !used.iter().any(orphaned) {
            let mut rest = finalizers(range);
            rest.retain(|finalizer| finalizer != FINALIZER);
            steps.push((range, Step::Keep(rest)));
        } else if !is_refused(range) {
            steps.push((range, Step::Refuse(refusal())));
        }
    }
    steps
}

fn is_refused(range: &Value) -> bool {
    let conditions = range["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        condition["type"] == "Ready"
            && condition["status"] == "False"
            && condition["reason"] == "Terminating"
    })
}

fn refusal() -> Value {
    json!({
        "type": "Ready", "status": "False", "reason": "Terminating",
        "lastTransitionTime": now().to_string(),
        "message": "There are still IPAddresses referencing the ServiceCIDR, please remove them or \
                    create a new ServiceCIDR",
    })
}

/// Every address there is an IPAddress of.
pub(super) fn used(server: &ApiServer) -> Vec<IpAddr> {
    let keys = server.cache.kind(ADDRESSES).keys();
    let addresses = keys
        .iter()
        .filter_map(|key| key.strip_prefix(ADDRESSES)?.parse().ok());
    addresses.collect()
}

/// The companion of IPAddresses: after one was written by hand, what the Services hold is compared with it.
#[derive(Debug)]
pub(crate) struct InUse;

impl Companion for InUse {
    fn plan(
        &self,
        _: &ApiServer,
        _: Option<&Value>,
        _: Option<&mut Value>,
    ) -> Result<Txn, StatusError> {
        Ok(Txn::default())
    }

    fn written(&self, server: &ApiServer) {
        server.address_written.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(name: &str, cidr: &str, going: bool, finalizers: &Value) -> Value {
        let mut range = json!({
            "metadata": {"name": name, "finalizers": finalizers}, "spec": {"cidrs": [cidr]},
        });
        if going {
            range["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        range
    }

    fn steps(ranges: &[Value], used: &[&str]) -> Vec<(String, &'static str)> {
        let used = used.iter().map(|text| text.parse().unwrap()).collect();
        let steps = plan(ranges, || used).into_iter();
        steps
            .map(|(range, step)| {
                let name = range["metadata"]["name"].as_str().unwrap().to_owned();
                let what = match step {
                    Step::Refuse(_) => "refuse",
                    Step::Keep(list) if list.iter().any(|f| f == FINALIZER) => "guard",
                    Step::Keep(_) => "release",
                };
                (name, what)
            })
            .collect()
    }

    #[test]
    fn a_range_goes_when_nothing_needs_it() {
        let own = json!([FINALIZER]);
        let going = range("old", "10.1.0.0/24", true, &json!([FINALIZER, "x"]));
        let stays = range("new", "10.2.0.0/24", false, &own);
        let wider = range("wide", "10.1.0.0/16", false, &own);
        let named = |name: &str, what| vec![(name.to_owned(), what)];
        let ranges = [going.clone(), stays.clone()];
        assert_eq!(steps(&ranges, &["10.1.0.7"]), named("old", "refuse"));
        assert_eq!(steps(&ranges, &["10.2.0.7"]), named("old", "release"));
        assert_eq!(
            steps(&[going.clone(), wider], &["10.1.0.7"]),
            named("old", "release")
        );
        let mut told = going;
        told["status"]["conditions"] = json!([refusal()]);
        assert_eq!(steps(&[told], &["10.1.0.7"]), []);
        let bare = range("bare", "10.3.0.0/24", false, &Value::Null);
        assert_eq!(steps(&[bare, stays], &[]), named("bare", "guard"));
    }
}
