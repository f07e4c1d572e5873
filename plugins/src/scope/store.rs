//! Records, values, claims and leases of this node, kept in memory and journalled.

use super::claims::{Claims, Conflict};
use super::journal::{Entry, Journal};
use super::leases::{LeaseBook, LeaseError};
use super::{Lease, Pools, Record};
use crate::plan::{Claim, ScopeId};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// The scope store. Transactions on different scopes may run at once; the caller makes sure that
/// those on one scope do not.
#[derive(Debug)]
pub(crate) struct Store {
    /// Taken before `boot`, and both before `state`.
    node: Mutex<Journal>,
    boot: Mutex<Journal>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<ScopeId, Arc<Record>>,
    values: BTreeMap<(String, String), Value>,
    claims: Claims,
    leases: LeaseBook,
    revision: u64,
}

#[derive(Clone, Debug)]
struct Value {
    bytes: Arc<[u8]>,
    revision: u64,
}

/// Changes that are made together or not at all, in each journal.
#[derive(Debug, Default)]
pub(crate) struct Txn {
    pub(crate) puts: Vec<Record>,
    pub(crate) removes: Vec<ScopeId>,
    /// Values of drivers: driver, key, new bytes or deletion.
    pub(crate) values: Vec<(String, String, Option<Vec<u8>>)>,
    /// Values that must not have changed: driver, key, revision seen (0: absent).
    pub(crate) reads: Vec<(String, String, u64)>,
}

/// Why a transaction was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// Another scope holds what the plan takes. Another name is the remedy.
    #[error("{claim} is already held by {owner} of driver {driver}")]
    Claimed {
        claim: Claim,
        owner: ScopeId,
        driver: String,
    },
    /// One plan takes the same thing in two of its steps. The driver has to be mended.
    #[error("two steps of the plan of {scope} take {claim}")]
    Twice { claim: Claim, scope: ScopeId },
    /// A value changed since it was read; the call can be made again.
    #[error("state key {key:?} was changed by another call")]
    Stale { key: String },
    /// The journal could not be written. Space on the disk may be the remedy.
    #[error("cannot write the journal: {0}")]
    Io(#[source] io::Error),
}

impl Store {
    /// Opens both journals; `boot` is the id of the current boot.
    pub(crate) fn open(state_dir: &Path, run_dir: &Path, boot: &str) -> io::Result<Self> {
        let (node, node_entries) = Journal::open(&state_dir.join("node.db"), None)?;
        let (boot, boot_entries) = Journal::open(&run_dir.join("boot.db"), Some(boot))?;
        let mut state = State::default();
        for entry in node_entries.into_iter().chain(boot_entries) {
            state.load(entry);
        }
        Ok(Self {
            node: Mutex::new(node),
            boot: Mutex::new(boot),
            state: Mutex::new(state),
        })
    }

    /// Makes a transaction; when it returns, a crash does not undo it, and for durable scopes and
    /// values not even a power cut.
    pub(crate) async fn commit(self: &Arc<Self>, txn: Txn) -> Result<(), CommitError> {
        if !txn.is_durable() {
            return self.commit_now(txn);
        }
        let store = self.clone();
        let joined = tokio::task::spawn_blocking(move || store.commit_now(txn)).await;
        joined.map_err(|error| CommitError::Io(io::Error::other(error)))?
    }

    fn commit_now(&self, txn: Txn) -> Result<(), CommitError> {
        let (node_entries, boot_entries) = txn.entries();
        let mut node = (!node_entries.is_empty()).then(|| self.node.lock());
        let mut boot = (!boot_entries.is_empty()).then(|| self.boot.lock());
        let undo = self.state.lock().apply(txn)?;
        let written = match &mut node {
            Some(journal) => journal.append(&node_entries),
            None => Ok(()),
        };
        let written = written.and_then(|()| match &mut boot {
            Some(journal) => journal.append(&boot_entries),
            None => Ok(()),
        });
        if let Err(error) = written {
            self.state.lock().restore(undo);
            return Err(CommitError::Io(error));
        }
        for (journal, durable) in [(node, true), (boot, false)] {
            if let Some(mut journal) = journal.filter(|journal| journal.is_due()) {
                let entries = self.state.lock().snapshot(durable);
                journal.rewrite(&entries).map_err(CommitError::Io)?;
            }
        }
        Ok(())
    }

    pub(crate) fn get(&self, scope: &ScopeId) -> Option<Arc<Record>> {
        self.state.lock().records.get(scope).cloned()
    }

    /// Records whose scope begins with a text, ordered by scope.
    pub(crate) fn list(&self, prefix: &str) -> Vec<Arc<Record>> {
        let state = self.state.lock();
        let from = state.records.range(ScopeId::from_text(prefix)..);
        from.take_while(|(scope, _)| scope.as_str().starts_with(prefix))
            .map(|(_, record)| record.clone())
            .collect()
    }

    /// Whether another scope holds any of the claims as well, so that it must stay as it is.
    pub(crate) fn shared(&self, scope: &ScopeId, claims: &[Claim]) -> bool {
        let state = self.state.lock();
        claims
            .iter()
            .any(|claim| state.claims.held_by_another(scope, claim))
    }

    /// What a kernel setting of the host was before any scope set it: `None` when none does, or none knows.
    pub(crate) fn former_setting(&self, key: &str) -> Option<Option<String>> {
        let state = self.state.lock();
        let all = state.records.values();
        let mut setters = all
            .flat_map(|record| record.host_settings())
            .filter(|(other, _)| *other == key)
            .peekable();
        setters.peek()?;
        Some(setters.find_map(|(_, former)| former.map(str::to_owned)))
    }

    /// Whether a thing with this mark belongs to a scope that is recorded.
    pub(crate) fn knows(&self, mark: &str) -> bool {
        let scope = mark.splitn(3, ':').nth(2).unwrap_or_default();
        let state = self.state.lock();
        let record = state.records.get(&ScopeId::from_text(scope));
        record.is_some_and(|record| mark == record.mark())
    }

    pub(crate) fn value(&self, driver: &str, key: &str) -> Option<(Arc<[u8]>, u64)> {
        let state = self.state.lock();
        let value = state.values.get(&(driver.to_owned(), key.to_owned()))?;
        Some((value.bytes.clone(), value.revision))
    }

    /// Keys and revisions of a driver's values with a prefix, in order.
    pub(crate) fn keys(&self, driver: &str, prefix: &str) -> Vec<(String, u64)> {
        let state = self.state.lock();
        let from = state.values.range((driver.to_owned(), prefix.to_owned())..);
        from.take_while(|((owner, key), _)| owner == driver && key.starts_with(prefix))
            .map(|((_, key), value)| (key.clone(), value.revision))
            .collect()
    }

    /// Bytes of all keys and values of a driver.
    pub(crate) fn value_bytes(&self, driver: &str) -> usize {
        let state = self.state.lock();
        let from = state.values.range((driver.to_owned(), String::new())..);
        from.take_while(|((owner, _), _)| owner == driver)
            .map(|((_, key), value)| key.len() + value.bytes.len())
            .sum()
    }

    pub(crate) fn reserve(
        &self,
        pools: &Pools,
        pool: &str,
        tag: &str,
        want: Option<IpAddr>,
        scope: &ScopeId,
    ) -> Result<Lease, LeaseError> {
        self.state
            .lock()
            .leases
            .reserve(pools, pool, tag, want, scope)
    }

    /// Gives a reserved address back, unless the scope's record holds it by now.
    pub(crate) fn unreserve(&self, lease: &Lease, scope: &ScopeId) {
        let mut state = self.state.lock();
        let kept = state.records.get(scope).is_some_and(|record| {
            record
                .leases
                .iter()
                .any(|held| held.address == lease.address)
        });
        if !kept {
            state.leases.free_lease(lease, scope);
        }
    }

    pub(crate) fn used_in(&self, network: &str, slice: &ipnet::IpNet) -> u64 {
        self.state.lock().leases.used_in(network, slice)
    }
}

impl Txn {
    fn is_durable(&self) -> bool {
        !self.values.is_empty()
            || self.puts.iter().any(|record| record.scope.is_durable())
            || self.removes.iter().any(ScopeId::is_durable)
    }

    /// Entries of the durable journal and of the boot's.
    fn entries(&self) -> (Vec<Entry>, Vec<Entry>) {
        let puts = self.puts.iter().map(|record| {
            (
                record.scope.is_durable(),
                Entry::Put(Box::new(record.clone())),
            )
        });
        let removes = self
            .removes
            .iter()
            .map(|scope| (scope.is_durable(), Entry::Remove(scope.clone())));
        let values = self
            .values
            .iter()
            .map(|(driver, key, bytes)| (true, value_entry(driver, key, bytes.as_deref())));
        let (node, boot): (Vec<_>, Vec<_>) = puts
            .chain(removes)
            .chain(values)
            .partition(|(durable, _)| *durable);
        let plain = |list: Vec<(bool, Entry)>| list.into_iter().map(|(_, entry)| entry).collect();
        (plain(node), plain(boot))
    }
}

fn value_entry(driver: &str, key: &str, bytes: Option<&[u8]>) -> Entry {
    Entry::Value {
        driver: driver.to_owned(),
        key: key.to_owned(),
        value: bytes.map(|bytes| BASE64.encode(bytes)),
    }
}

/// What a transaction replaced, to put it back when the journal cannot be written.
#[derive(Debug, Default)]
struct Undo {
    records: Vec<(ScopeId, Option<Arc<Record>>)>,
    values: Vec<((String, String), Option<Value>)>,
}

impl State {
    fn load(&mut self, entry: Entry) {
        match entry {
            Entry::Put(record) => {
                self.set_record(record.scope.clone(), Some(Arc::new(*record)));
            }
            Entry::Remove(scope) => {
                self.set_record(scope, None);
            }
            Entry::Value { driver, key, value } => {
                let bytes = value.and_then(|text| BASE64.decode(text).ok());
                self.revision += 1;
                let revision = self.revision;
                let value = bytes.map(|bytes| Value {
                    bytes: bytes.into(),
                    revision,
                });
                self.set_value((driver, key), value);
            }
        }
    }

    fn apply(&mut self, txn: Txn) -> Result<Undo, CommitError> {
        for (driver, key, seen) in &txn.reads {
            let value = self.values.get(&(driver.clone(), key.clone()));
            if value.map_or(0, |value| value.revision) != *seen {
                return Err(CommitError::Stale { key: key.clone() });
            }
        }
        let asked = txn.puts.iter();
        let asked = asked.map(|record| (&record.scope, record.claims()));
        if let Some(conflict) = self.claims.conflict(asked) {
            let Conflict {
                claim,
                scope,
                holder: owner,
            } = conflict;
            if scope == owner {
                return Err(CommitError::Twice { claim, scope });
            }
            let holder = self.records.get(&owner).map(AsRef::as_ref);
            let holder = holder.or_else(|| txn.puts.iter().find(|record| record.scope == owner));
            let driver = holder.map_or_else(String::new, |record| record.driver.clone());
            return Err(CommitError::Claimed {
                claim,
                owner,
                driver,
            });
        }
        self.revision += 1;
        let revision = self.revision;
        let mut undo = Undo::default();
        let puts = txn
            .puts
            .into_iter()
            .map(|record| (record.scope.clone(), Some(Arc::new(record))));
        for (scope, record) in puts.chain(txn.removes.into_iter().map(|scope| (scope, None))) {
            let before = self.set_record(scope.clone(), record);
            undo.records.push((scope, before));
        }
        for (driver, key, bytes) in txn.values {
            let value = bytes.map(|bytes| Value {
                bytes: bytes.into(),
                revision,
            });
            let before = self.set_value((driver.clone(), key.clone()), value);
            undo.values.push(((driver, key), before));
        }
        Ok(undo)
    }

    fn restore(&mut self, undo: Undo) {
        for (scope, record) in undo.records.into_iter().rev() {
            self.set_record(scope, record);
        }
        for (key, value) in undo.values.into_iter().rev() {
            self.set_value(key, value);
        }
    }

    /// Replaces a record, and with it what the scope holds.
    fn set_record(&mut self, scope: ScopeId, record: Option<Arc<Record>>) -> Option<Arc<Record>> {
        let before = match &record {
            Some(record) => self.records.insert(scope.clone(), record.clone()),
            None => self.records.remove(&scope),
        };
        if let Some(before) = &before {
            self.claims.free(&scope, &before.claims());
            for lease in &before.leases {
                self.leases.free_lease(lease, &scope);
            }
        }
        if let Some(record) = &record {
            self.claims.hold(&scope, record.claims());
            for lease in &record.leases {
                self.leases.hold(lease, &scope);
            }
        }
        before
    }

    fn set_value(&mut self, key: (String, String), value: Option<Value>) -> Option<Value> {
        match value {
            Some(value) => self.values.insert(key, value),
            None => self.values.remove(&key),
        }
    }

    fn snapshot(&self, durable: bool) -> Vec<Entry> {
        let records = self
            .records
            .values()
            .filter(|record| record.scope.is_durable() == durable);
        let records = records.map(|record| Entry::Put(Box::new(Record::clone(record))));
        let values = self.values.iter().filter(|_| durable);
        let values =
            values.map(|((driver, key), value)| value_entry(driver, key, Some(&value.bytes)));
        records.chain(values).collect()
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
