//! Addresses of a node's slices: the lowest free one after the last one given.
//!
//! A reused address is one that has rested longest, so that peers' caches have forgotten it. A
//! lease belongs to a scope; it is reserved while the driver plans and kept by the scope's record.

use crate::plan::ScopeId;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address given to a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) network: String,
    /// The slice it was taken from.
    pub(crate) slice: IpNet,
    /// The driver's name for it in the scope.
    pub(crate) tag: String,
    /// Address and the slice's prefix length.
    pub(crate) address: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<IpAddr>,
    /// Grows with every lease of a node, so that the last one is known after a restart.
    pub(crate) serial: u64,
}

/// A network's slices on this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pools {
    pub(crate) network: String,
    pub(crate) slices: Vec<IpNet>,
    pub(crate) exclude: Vec<IpNet>,
}

/// Why no address was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("network {network} has no pool {pool:?} on this node: it has {known}")]
    NoPool {
        network: String,
        pool: String,
        known: String,
    },
    #[error("no address is free in {pool:?} of network {network}: add a slice or remove pods")]
    Exhausted { network: String, pool: String },
    #[error("address {ip} is not one that network {network} gives to pods on this node")]
    Outside { network: String, ip: IpAddr },
    #[error("address {ip} is leased to {owner}")]
    Taken { ip: IpAddr, owner: ScopeId },
}

/// `ipv4` or `ipv6`.
pub(crate) fn family(net: &IpNet) -> &'static str {
    if net.addr().is_ipv4() { "ipv4" } else { "ipv6" }
}

/// The part of a slice that is given to pods, as numbers, and its gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u128,
    pub(crate) last: u128,
    pub(crate) gateway: Option<IpAddr>,
}

/// Slices with more than two addresses reserve the first one, a gateway, and IPv4's broadcast.
pub(crate) fn span(slice: &IpNet) -> Span {
    let (low, high) = (number(slice.network()), number(slice.broadcast()));
    if high - low < 3 {
        return Span {
            first: low,
            last: high,
            gateway: None,
        };
    }
    let gateway = address(low + 1, slice);
    let last = if slice.addr().is_ipv4() {
        high - 1
    } else {
        high
    };
    Span {
        first: low + 2,
        last,
        gateway: Some(gateway),
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn address(number: u128, like: &IpNet) -> IpAddr {
    match like {
        IpNet::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
        IpNet::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

impl Pools {
    /// The slices that a pool's name stands for: `default` is the first slice's family, a family
    /// is all its slices, a slice is itself.
    pub(super) fn named(&self, pool: &str) -> Vec<IpNet> {
        let wanted = match (pool, self.slices.first()) {
            ("default", Some(first)) => family(first),
            _ => pool,
        };
        let fits = |slice: &&IpNet| family(slice) == wanted || slice.to_string() == wanted;
        self.slices.iter().filter(fits).copied().collect()
    }

    /// Whether an address of the slices is never leased: gateways, edges and exclusions.
    pub(crate) fn is_reserved(&self, ip: IpAddr) -> bool {
        let holding = self.slices.iter().find(|slice| slice.contains(&ip));
        let excluded = self.exclude.iter().any(|net| net.contains(&ip));
        excluded
            || holding.is_none_or(|slice| {
                let span = span(slice);
                !(span.first..=span.last).contains(&number(ip))
            })
    }
}

/// Every lease on this node.
#[derive(Debug, Default)]
pub(crate) struct LeaseBook {
    /// Holder of every address in use, by network.
    used: HashMap<String, BTreeMap<IpAddr, ScopeId>>,
    /// The address last given, and its serial, by network and slice.
    last: HashMap<(String, IpNet), (u64, u128)>,
    serial: u64,
}

impl LeaseBook {
    /// Takes an address for a scope: a certain one, or the lowest free one after the last.
    pub(crate) fn reserve(
        &mut self,
        pools: &Pools,
        pool: &str,
        tag: &str,
        want: Option<IpAddr>,
        scope: &ScopeId,
    ) -> Result<Lease, LeaseError> {
        let slices = pools.named(pool);
        if slices.is_empty() {
            let known = pools
                .slices
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>();
            return Err(LeaseError::NoPool {
                network: pools.network.clone(),
                pool: pool.to_owned(),
                known: if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                },
            });
        }
        let (slice, ip) = match want {
            Some(ip) => self.wanted(pools, &slices, ip, scope)?,
            None => {
                let mut free = slices
                    .iter()
                    .filter_map(|slice| Some((*slice, self.free(pools, slice)?)));
                free.next().ok_or_else(|| LeaseError::Exhausted {
                    network: pools.network.clone(),
                    pool: pool.to_owned(),
                })?
            }
        };
        let lease = Lease {
            network: pools.network.clone(),
            slice,
            tag: tag.to_owned(),
            address: IpNet::new_assert(ip, slice.prefix_len()),
            gateway: span(&slice).gateway,
            serial: self.serial + 1,
        };
        self.hold(&lease, scope);
        Ok(lease)
    }

    fn wanted(
        &self,
        pools: &Pools,
        slices: &[IpNet],
        ip: IpAddr,
        scope: &ScopeId,
    ) -> Result<(IpNet, IpAddr), LeaseError> {
        let outside = || LeaseError::Outside {
            network: pools.network.clone(),
            ip,
        };
        let slice = slices
            .iter()
            .find(|slice| slice.contains(&ip))
            .ok_or_else(outside)?;
        if pools.is_reserved(ip) {
            return Err(outside());
        }
        match self.holder(&pools.network, ip) {
            Some(owner) if owner != scope => Err(LeaseError::Taken {
                ip,
                owner: owner.clone(),
            }),
            _ => Ok((*slice, ip)),
        }
    }

    /// The lowest free address after the last one, going round once. Jumps over exclusions, so the
    /// number of steps is bounded by the number of leases and exclusions.
    fn free(&self, pools: &Pools, slice: &IpNet) -> Option<IpAddr> {
        let Span { first, last, .. } = span(slice);
        let given = self
            .last
            .get(&(pools.network.clone(), *slice))
            .map(|(_, number)| *number);
        let start = given.map_or(first, |number| number.saturating_add(1));
        let start = if (first..=last).contains(&start) {
            start
        } else {
            first
        };
        self.first_free(pools, slice, start, last)
            .or_else(|| self.first_free(pools, slice, first, start.saturating_sub(1)))
    }

    fn first_free(&self, pools: &Pools, slice: &IpNet, from: u128, to: u128) -> Option<IpAddr> {
        let used = self.used.get(&pools.network);
        let mut candidate = from;
        while candidate <= to {
            let ip = address(candidate, slice);
            if let Some(net) = pools.exclude.iter().find(|net| net.contains(&ip)) {
                candidate = number(net.broadcast()).checked_add(1)?;
            } else if used.is_some_and(|used| used.contains_key(&ip)) {
                candidate = candidate.checked_add(1)?;
            } else {
                return Some(ip);
            }
        }
        None
    }

    /// Notes a lease that a record holds.
    pub(crate) fn hold(&mut self, lease: &Lease, scope: &ScopeId) {
        let ip = lease.address.addr();
        self.used
            .entry(lease.network.clone())
            .or_default()
            .insert(ip, scope.clone());
        self.serial = self.serial.max(lease.serial);
        let last = self
            .last
            .entry((lease.network.clone(), lease.slice))
            .or_default();
        if lease.serial >= last.0 {
            *last = (lease.serial, number(ip));
        }
    }

    /// Gives an address back, if the scope holds it.
    pub(crate) fn free_lease(&mut self, lease: &Lease, scope: &ScopeId) {
        let ip = lease.address.addr();
        if let Some(used) = self.used.get_mut(&lease.network)
            && used.get(&ip) == Some(scope)
        {
            used.remove(&ip);
        }
    }

    /// Who holds an address.
    pub(crate) fn holder(&self, network: &str, ip: IpAddr) -> Option<&ScopeId> {
        self.used.get(network)?.get(&ip)
    }

    /// Addresses of a slice that are in use.
    pub(crate) fn used_in(&self, network: &str, slice: &IpNet) -> u64 {
        let used = self.used.get(network).into_iter().flat_map(BTreeMap::keys);
        used.filter(|ip| slice.contains(*ip)).count() as u64
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
