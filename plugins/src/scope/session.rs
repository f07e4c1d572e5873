//! One call's view of leases and values: reads of now, writes that commit with the plan or vanish.

use super::leases::{LeaseError, family, span};
use super::{Lease, Pools, Store, Txn};
use crate::error::{CallError, Code};
use crate::plan::ScopeId;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The buffered part of a call. Dropped without a commit, it gives its addresses back.
#[derive(Debug)]
pub(crate) struct Session {
    store: Arc<Store>,
    driver: String,
    scope: ScopeId,
    pools: Pools,
    state_bytes: usize,
    /// Leases of the record in force, given again to the same tags.
    before: Vec<Lease>,
    /// Leases of the plan so far.
    leases: Vec<Lease>,
    /// Those of them that this call reserved.
    fresh: Vec<Lease>,
    reads: BTreeMap<String, u64>,
    writes: BTreeMap<String, Option<Vec<u8>>>,
}

/// A slice as drivers see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PoolInfo {
    pub(crate) name: &'static str,
    pub(crate) slice: IpNet,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) capacity: u64,
    pub(crate) used: u64,
}

impl Session {
    pub(crate) fn new(
        store: Arc<Store>,
        driver: &str,
        scope: ScopeId,
        pools: Pools,
        state_bytes: usize,
    ) -> Self {
        let before = store
            .get(&scope)
            .map(|record| record.leases.clone())
            .unwrap_or_default();
        Self {
            store,
            driver: driver.to_owned(),
            scope,
            pools,
            state_bytes,
            before,
            leases: Vec::new(),
            fresh: Vec::new(),
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
        }
    }

    pub(crate) fn scope(&self) -> &ScopeId {
        &self.scope
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(crate) fn leases(&self) -> &[Lease] {
        &self.leases
    }

    /// The network's slices on this node with their use.
    pub(crate) fn pools(&self) -> Vec<PoolInfo> {
        let info = |slice: &IpNet| {
            let reach = span(slice);
            let capacity = reach.last - reach.first + 1;
            PoolInfo {
                name: family(slice),
                slice: slice.trunc(),
                gateway: reach.gateway,
                capacity: u64::try_from(capacity).unwrap_or(u64::MAX),
                used: self.store.used_in(&self.pools.network, slice),
            }
        };
        self.pools.slices.iter().map(info).collect()
    }

    pub(crate) fn is_leased(&self, ip: IpAddr) -> bool {
        self.leases.iter().any(|lease| lease.address.addr() == ip)
    }

    pub(crate) fn is_reserved(&self, ip: IpAddr) -> bool {
        self.pools.is_reserved(ip)
    }

    /// An address for a tag: the one it had, else a new one.
    pub(crate) fn allocate(
        &mut self,
        pool: &str,
        tag: &str,
        want: Option<IpAddr>,
    ) -> Result<Lease, CallError> {
        let named = self.pools.named(pool);
        let fits = |lease: &&Lease| {
            lease.tag == tag
                && named.contains(&lease.slice)
                && want.is_none_or(|ip| lease.address.addr() == ip)
        };
        if let Some(lease) = self.leases.iter().find(fits) {
            return Ok(lease.clone());
        }
        if let Some(lease) = self.before.iter().find(fits).cloned() {
            self.leases.push(lease.clone());
            return Ok(lease);
        }
        let lease = self
            .store
            .reserve(&self.pools, pool, tag, want, &self.scope)?;
        self.fresh.push(lease.clone());
        self.leases.push(lease.clone());
        Ok(lease)
    }

    pub(crate) fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        if let Some(written) = self.writes.get(key) {
            return written.clone();
        }
        let found = self.store.value(&self.driver, key);
        self.reads.insert(
            key.to_owned(),
            found.as_ref().map_or(0, |(_, revision)| *revision),
        );
        found.map(|(bytes, _)| bytes.to_vec())
    }

    pub(crate) fn put(&mut self, key: &str, value: Vec<u8>) -> Result<(), CallError> {
        if key.is_empty() || key.len() > 512 {
            return Err(CallError::invalid("a state key has 1 to 512 bytes"));
        }
        let buffered: usize = self
            .writes
            .iter()
            .map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len))
            .sum();
        let total = self.store.value_bytes(&self.driver) + buffered + key.len() + value.len();
        if total > self.state_bytes {
            return Err(CallError::new(
                Code::ResourceExhausted,
                format!(
                    "state of {} would have {total} bytes; spec.grants.limits.stateBytes allows {}",
                    self.driver, self.state_bytes
                ),
            ));
        }
        self.writes.insert(key.to_owned(), Some(value));
        Ok(())
    }

    pub(crate) fn delete(&mut self, key: &str) {
        self.writes.insert(key.to_owned(), None);
    }

    pub(crate) fn keys(&mut self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let mut present: BTreeMap<String, bool> = BTreeMap::new();
        for (key, revision) in self.store.keys(&self.driver, prefix) {
            self.reads.entry(key.clone()).or_insert(revision);
            present.insert(key, true);
        }
        let written = self
            .writes
            .iter()
            .filter(|(key, _)| key.starts_with(prefix));
        present.extend(written.map(|(key, value)| (key.clone(), value.is_some())));
        let keys = present
            .into_iter()
            .filter(|(_, there)| *there)
            .map(|(key, _)| key);
        keys.filter(|key| after.is_none_or(|after| key.as_str() > after))
            .take(limit)
            .collect()
    }

    /// Makes the call's writes count although no plan goes with them.
    pub(crate) async fn keep(&self) -> Result<(), CallError> {
        if self.writes.is_empty() {
            return Ok(());
        }
        let mut txn = Txn::default();
        self.add_to(&mut txn);
        Ok(self.store.commit(txn).await?)
    }

    /// Adds the call's reads and writes to a transaction.
    pub(crate) fn add_to(&self, txn: &mut Txn) {
        let driver = &self.driver;
        let read = |(key, revision): (&String, &u64)| (driver.clone(), key.clone(), *revision);
        let write = |(key, value): (&String, &Option<Vec<u8>>)| {
            (driver.clone(), key.clone(), value.clone())
        };
        txn.reads.extend(self.reads.iter().map(read));
        txn.values.extend(self.writes.iter().map(write));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for lease in &self.fresh {
            self.store.unreserve(lease, &self.scope);
        }
    }
}

impl From<LeaseError> for CallError {
    fn from(error: LeaseError) -> Self {
        let code = match &error {
            LeaseError::NoPool { .. } => Code::NotFound,
            LeaseError::Exhausted { .. } => Code::ResourceExhausted,
            LeaseError::Outside { .. } => Code::InvalidArgument,
            LeaseError::Taken { .. } => Code::AlreadyExists,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(dir: &tempfile::TempDir, scope: &str) -> (Arc<Store>, Session) {
        let store = Arc::new(Store::open(dir.path(), &dir.path().join("run"), "one").unwrap());
        let again = again(&store, scope);
        (store, again)
    }

    fn again(store: &Arc<Store>, scope: &str) -> Session {
        let pools = Pools {
            network: "lan".into(),
            slices: vec!["10.0.0.0/24".parse().unwrap()],
            exclude: vec![],
        };
        Session::new(store.clone(), "d", ScopeId::net(scope, "eth0"), pools, 100)
    }

    #[test]
    fn a_dropped_call_gives_its_addresses_back() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut call) = session(&dir, "a");
        let lease = call.allocate("default", "eth0", None).unwrap();
        assert_eq!(call.allocate("ipv4", "eth0", None).unwrap(), lease);
        assert_eq!(call.pools()[0].used, 1);
        drop(call);
        let mut other = again(&store, "b");
        assert_eq!(other.pools()[0].used, 0);
        let wanted = Some(lease.address.addr());
        assert!(other.allocate("default", "eth0", wanted).is_ok());
    }

    #[test]
    fn writes_are_seen_by_their_own_call_only() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut call) = session(&dir, "a");
        call.put("k/1", b"one".to_vec()).unwrap();
        call.put("k/2", b"two".to_vec()).unwrap();
        call.delete("k/1");
        assert_eq!(call.keys("k/", None, 10), ["k/2"]);
        assert_eq!(call.get("k/2").unwrap(), b"two");
        assert_eq!(again(&store, "b").get("k/2"), None);
        let error = call.put("big", vec![0; 100]).unwrap_err();
        assert_eq!(error.code, Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn a_value_changed_meanwhile_makes_the_call_stale() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut first) = session(&dir, "a");
        let mut second = again(&store, "b");
        for call in [&mut first, &mut second] {
            assert_eq!(call.get("next"), None);
            call.put("next", b"1".to_vec()).unwrap();
        }
        let commit = |call: &Session| {
            let mut txn = Txn::default();
            call.add_to(&mut txn);
            let store = store.clone();
            async move { store.commit(txn).await }
        };
        commit(&first).await.unwrap();
        assert!(commit(&second).await.is_err());
    }
}
