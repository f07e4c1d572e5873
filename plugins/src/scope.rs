//! Scopes on disk: one record holds a scope's plan, leases and answer, so none outlives another.
//!
//! Two journals with one format: `node.db` is synced before anything is acted upon and survives a
//! reboot; `boot.db` lies on a tmpfs and is void with the boot it was written in.

mod claims;
mod journal;
mod leases;
mod record;
mod session;
mod store;

pub(crate) use leases::{Lease, Pools};
pub(crate) use record::{Record, ScopePlan};
pub(crate) use session::{PoolInfo, Session};
pub(crate) use store::{CommitError, Store, Txn};
