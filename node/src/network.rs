//! Carries out network plans: links, addresses, routes and neighbours by rtnetlink, settings by
//! `/proc/sys`, packet rules by nftables, all of it from this process.

mod address;
mod glob;
mod link;
mod link_watch;
pub mod namespace;
pub(crate) mod nft;
mod read_back;
mod route;
mod socket;
mod sysctl;

use std::collections::HashSet;
use std::path::Path;

use async_trait::async_trait;
use davit_plugins::capabilities::{
    ActError, ActErrorKind, Drift, LinkInfo, NetworkActuator, ScopeContext, StepError,
};
use davit_plugins::plan::{Link, MacAddr, NetworkOp, Place};

pub(crate) use glob::matches as glob_matches;
pub(crate) use link_watch::{Gone, LinkWatch};
use socket::Netlink;

/// The mark that starts the alias of every link of ours, and the user data of every rule.
pub(crate) const MARK: &str = "davit:";
/// Who made a route or a policy rule, as the kernel notes it; a number nobody else has.
const PROTOCOL: u8 = 218;
/// The group of every link of ours from the moment it exists; the alias can only be set a moment later.
const GROUP: u32 = 0xda_0417;

/// The node's hands for network plans.
#[derive(Debug, Default)]
pub struct Network {
    /// Packet rules are read, compared and written in one go; two at once would race.
    rules: tokio::sync::Mutex<()>,
}

/// Sockets into the namespaces that one list of steps concerns, opened when first needed.
struct Places<'a> {
    cx: &'a ScopeContext,
    host: Option<Netlink>,
    pod: Option<Netlink>,
}

impl<'a> Places<'a> {
    fn new(cx: &'a ScopeContext) -> Self {
        Self {
            cx,
            host: None,
            pod: None,
        }
    }

    async fn open(&mut self, place: Place) -> Result<&Netlink, ActError> {
        let slot = match place {
            Place::Host => &mut self.host,
            Place::Pod => &mut self.pod,
        };
        if slot.is_none() {
            let netns = netns_of(self.cx, place)?;
            *slot = Some(Netlink::open(netns).await?);
        }
        slot.as_ref()
            .ok_or_else(|| ActError::new(ActErrorKind::Failed, "no netlink socket"))
    }
}

#[async_trait]
impl NetworkActuator for Network {
    async fn ensure(&self, cx: &ScopeContext, ops: &[NetworkOp]) -> Result<(), StepError> {
        let mut places = Places::new(cx);
        let mut first_rule = None;
        for (index, op) in ops.iter().enumerate() {
            if nft::is_rule(op) {
                first_rule.get_or_insert(index);
                continue;
            }
            ensure(&mut places, op)
                .await
                .map_err(|error| StepError { index, error })?;
        }
        // Also without rules of its own: a plan that lost its last rule must lose it in the kernel.
        let guard = self.rules.lock().await;
        let outcome = nft::replace(cx, ops).await;
        drop(guard);
        outcome.map_err(|error| StepError {
            index: first_rule.unwrap_or(0),
            error,
        })
    }

    async fn undo(&self, cx: &ScopeContext, ops: &[NetworkOp]) -> Vec<StepError> {
        let mut failures = Vec::new();
        if let Some(index) = ops.iter().rposition(nft::is_rule) {
            let _guard = self.rules.lock().await;
            if let Err(error) = nft::remove(cx, ops).await {
                failures.push(StepError { index, error });
            }
        }
        // Without a pod there is nothing in it either.
        let pod_gone = cx
            .netns
            .as_deref()
            .is_none_or(|path| !namespace::is_pinned(path));
        let mut places = Places::new(cx);
        for (index, op) in ops
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, op)| !nft::is_rule(op))
        {
            if let Err(error) = undo(&mut places, op, pod_gone).await {
                // What is not there needs no undoing, whatever the kernel had against it.
                let there = read_back::is_there(&mut places, op, pod_gone).await;
                if there.unwrap_or(true) {
                    failures.push(StepError { index, error });
                }
            }
        }
        failures
    }

    async fn read_back(
        &self,
        cx: &ScopeContext,
        ops: &[NetworkOp],
    ) -> Result<Vec<Drift>, ActError> {
        let mut places = Places::new(cx);
        let mut drift = read_back::compare(&mut places, ops).await?;
        drift.extend(nft::missing(cx, ops).await?);
        drift.sort_by_key(|drift| drift.index);
        Ok(drift)
    }

    async fn setting(&self, key: &str) -> Result<Option<String>, ActError> {
        sysctl::of_host(key).await
    }

    async fn mac(&self, cx: &ScopeContext, ifname: &str) -> Result<Option<MacAddr>, ActError> {
        let mut places = Places::new(cx);
        let pod = places.open(Place::Pod).await?;
        Ok(pod.find(ifname).await?.map(|found| found.mac))
    }

    async fn collect(
        &self,
        keep: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
    ) -> Result<Vec<String>, ActError> {
        let host = Netlink::open(None).await?;
        let mut removed = Vec::new();
        for found in host.list().await? {
            let mark = found.alias.as_deref().unwrap_or_default();
            if mark.starts_with(MARK) && !keep(mark) {
                link::discard(&host, &found).await?;
                removed.push(mark.to_owned());
            }
        }
        let _guard = self.rules.lock().await;
        removed.extend(nft::collect(keep).await?);
        removed.sort();
        removed.dedup();
        Ok(removed)
    }
}

impl Network {
    /// Removes what no ledger names any more and no mark tells the scope of: half-made links, and routes and policy rules
    /// of the host. Only for when no scope is in force. Returns what was removed.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn sweep(&self) -> Result<Vec<String>, ActError> {
        let host = Netlink::open(None).await?;
        let mut removed = Vec::new();
        for found in host.list().await? {
            if link::is_half_made(&found) {
                host.delete(found.index, &found.name).await?;
                removed.push(format!("link {}", found.name));
            }
        }
        removed.extend(route::sweep(&host).await?);
        Ok(removed)
    }

    /// Links of the host's namespace whose name matches the glob, ordered by index.
    ///
    /// # Errors
    /// When netlink does not answer.
    pub async fn links(&self, name_glob: &str) -> Result<Vec<LinkInfo>, ActError> {
        let host = Netlink::open(None).await?;
        let addresses = address::all(&host).await?;
        let mut links: Vec<LinkInfo> = host
            .list()
            .await?
            .into_iter()
            .filter(|found| glob::matches(name_glob, &found.name))
            .map(|found| LinkInfo {
                addresses: addresses.get(&found.index).cloned().unwrap_or_default(),
                name: found.name,
                index: found.index,
                kind: found.kind,
                mac: found.mac,
                mtu: found.mtu,
                up: found.up,
            })
            .collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// The link that carries the default route of a family (4 or 6).
    ///
    /// # Errors
    /// When netlink does not answer.
    pub async fn default_route_link(&self, family: u8) -> Result<Option<LinkInfo>, ActError> {
        let host = Netlink::open(None).await?;
        let Some(index) = route::default_link(&host, family).await? else {
            return Ok(None);
        };
        let links = self.links("*").await?;
        Ok(links.into_iter().find(|link| link.index == index))
    }
}

/// Names of the links in this network namespace that a davit made, of this or another data directory.
///
/// # Errors
/// When netlink does not answer.
pub(crate) async fn marked_links() -> Result<HashSet<String>, ActError> {
    let links = Netlink::open(None).await?.list().await?.into_iter();
    let is_marked = |link: &socket::Found| {
        link.alias
            .as_deref()
            .is_some_and(|alias| alias.starts_with(MARK))
    };
    Ok(links.filter(is_marked).map(|link| link.name).collect())
}

async fn ensure(places: &mut Places<'_>, op: &NetworkOp) -> Result<(), ActError> {
    match op {
        NetworkOp::Address { dev, cidr, options } => {
            address::ensure(places.open(dev.place).await?, &dev.name, *cidr, options).await
        }
        NetworkOp::Route(wanted) => {
            let driver = format!("{MARK}{}:", places.cx.driver);
            route::ensure(places.open(wanted.place).await?, wanted, &driver).await
        }
        NetworkOp::Rule(rule) => route::ensure_rule(places.open(rule.place).await?, rule).await,
        NetworkOp::Neighbor { dev, ip, mac } => {
            address::ensure_neighbor(places.open(dev.place).await?, &dev.name, *ip, *mac).await
        }
        NetworkOp::Fdb { dev, mac, dst } => {
            address::ensure_fdb(places.open(dev.place).await?, &dev.name, *mac, *dst).await
        }
        NetworkOp::Sysctl {
            place, key, value, ..
        } => sysctl::write(netns_of(places.cx, *place)?, key, value).await,
        NetworkOp::Shape { dev, .. } => Err(ActError::new(
            ActErrorKind::Unsupported,
            format!(
                "{}: bandwidth limits are not supported by this version; remove the rate",
                dev.name
            ),
        )),
        NetworkOp::Masquerade { .. } | NetworkOp::Forward(_) | NetworkOp::Filter(_) => Ok(()),
        _ => link::ensure(places, op).await,
    }
}

async fn undo(places: &mut Places<'_>, op: &NetworkOp, pod_gone: bool) -> Result<(), ActError> {
    let in_pod = |place: Place| place == Place::Pod && pod_gone;
    match op {
        NetworkOp::Address { dev, cidr, .. } if !in_pod(dev.place) => {
            address::remove(places.open(dev.place).await?, &dev.name, *cidr).await
        }
        NetworkOp::Route(known) if !in_pod(known.place) => {
            route::remove(places.open(known.place).await?, known).await
        }
        NetworkOp::Rule(known) if !in_pod(known.place) => {
            route::remove_rule(places.open(known.place).await?, known).await
        }
        NetworkOp::Neighbor { dev, ip, .. } if !in_pod(dev.place) => {
            address::remove_neighbor(places.open(dev.place).await?, &dev.name, *ip).await
        }
        NetworkOp::Fdb { dev, mac, dst } if !in_pod(dev.place) => {
            address::remove_fdb(places.open(dev.place).await?, &dev.name, *mac, *dst).await
        }
        NetworkOp::Sysctl {
            place: Place::Host,
            key,
            value,
            former: Some(former),
        } => sysctl::restore(key, value, former).await,
        // Settings of a pod go with it.
        _ if op.links().is_empty() => Ok(()),
        _ => link::undo(places, op, pod_gone).await,
    }
}

/// The namespace of a place: `None` is the node's own, never a pod's that is not there.
fn netns_of(cx: &ScopeContext, place: Place) -> Result<Option<&Path>, ActError> {
    match (place, cx.netns.as_deref()) {
        (Place::Host, _) => Ok(None),
        (Place::Pod, Some(netns)) => Ok(Some(netns)),
        (Place::Pod, None) => Err(ActError::new(
            ActErrorKind::Missing,
            format!(
                "{}: the plan names the pod's namespace, but the scope has none",
                cx.scope
            ),
        )),
    }
}

/// True for a boolean option that is set.
fn is_set(link: &Link, option: &str) -> bool {
    link.options
        .get(option)
        .is_some_and(|value| value == "true" || value == "1" || value == "on")
}

#[cfg(test)]
mod tests;
