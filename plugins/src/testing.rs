//! A machine in memory: the actuators and the eyes of a node, for tests without a kernel.

use crate::capabilities::{
    ActError, ActErrorKind, DeviceInfo, Drift, DriverEvent, HostCapabilities, LinkInfo,
    NetworkActuator, ScopeContext, SpaceInfo, StepError, StorageActuator,
};
use crate::plan::{Location, MacAddr, NetworkOp, Op, Place, Root, StorageOp};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Remembers what is in force and everything that was done, and fails where a test wants it to.
#[derive(Clone, Debug, Default)]
pub struct Machine(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What is in force: (mark, key) to the step's JSON.
    present: BTreeMap<(String, String), String>,
    /// Everything that was done, a line each.
    done: Vec<String>,
    /// Keys whose `ensure` fails.
    refuse: Option<String>,
    /// Keys whose `undo` fails.
    keep: Option<String>,
    available_bytes: Option<u64>,
    used_bytes: u64,
    /// Settings of the host.
    settings: BTreeMap<String, String>,
    /// Links that others made.
    links: Vec<String>,
    events: Vec<DriverEvent>,
}

impl Machine {
    /// An empty machine with 100 GiB of space.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is in force: marks and keys, in order.
    #[must_use]
    pub fn present(&self) -> Vec<String> {
        let state = self.0.lock();
        state
            .present
            .keys()
            .map(|(mark, key)| format!("{mark} {key}"))
            .collect()
    }

    /// What was done since the last look.
    pub fn take_done(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().done)
    }

    /// Events that drivers raised.
    #[must_use]
    pub fn events(&self) -> Vec<DriverEvent> {
        self.0.lock().events.clone()
    }

    /// Makes `ensure` of steps whose key contains the text fail; `None` stops that.
    pub fn refuse(&self, key: Option<&str>) {
        self.0.lock().refuse = key.map(str::to_owned);
    }

    /// Makes `undo` of steps whose key contains the text fail; `None` stops that.
    pub fn keep(&self, key: Option<&str>) {
        self.0.lock().keep = key.map(str::to_owned);
    }

    /// Sets the free space of every root.
    pub fn available(&self, bytes: u64) {
        self.0.lock().available_bytes = Some(bytes);
    }

    /// Sets what is really taken beneath every root.
    pub fn used(&self, bytes: u64) {
        self.0.lock().used_bytes = bytes;
    }

    /// Sets a kernel setting as somebody else would.
    pub fn set(&self, key: &str, value: &str) {
        let mut state = self.0.lock();
        state.settings.insert(key.to_owned(), value.to_owned());
    }

    /// A kernel setting of the host.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        self.0.lock().settings.get(key).cloned()
    }

    /// Gives the host a link that no scope made.
    pub fn plug_in(&self, link: &str) {
        self.0.lock().links.push(link.to_owned());
    }

    /// Takes a thing away behind the host's back, by the text of its key.
    pub fn lose(&self, key: &str) {
        self.0
            .lock()
            .present
            .retain(|(_, present), _| !present.contains(key));
    }

    /// Puts a marked thing there that no scope made.
    pub fn leave_behind(&self, mark: &str, key: &str) {
        self.0
            .lock()
            .present
            .insert((mark.to_owned(), key.to_owned()), "{}".to_owned());
    }

    fn ensure<O: Op + Serialize>(&self, cx: &ScopeContext, ops: &[O]) -> Result<(), StepError> {
        let mut state = self.0.lock();
        for (index, op) in ops.iter().enumerate() {
            let (key, text) = (op.key(), text(op));
            if state
                .refuse
                .as_ref()
                .is_some_and(|refused| key.contains(refused))
            {
                let error = ActError::new(ActErrorKind::Failed, format!("{key}: refused"));
                return Err(StepError { index, error });
            }
            let before = state.present.insert((cx.mark(), key.clone()), text.clone());
            match before {
                Some(before) if before == text => {}
                Some(_) => state.done.push(format!("change {} {key}", cx.scope)),
                None => state.done.push(format!("make {} {key}", cx.scope)),
            }
        }
        Ok(())
    }

    fn undo<O: Op>(&self, cx: &ScopeContext, ops: &[O]) -> Vec<StepError> {
        let mut state = self.0.lock();
        let mut failures = Vec::new();
        for (index, op) in ops.iter().enumerate().rev() {
            let key = op.key();
            if state.keep.as_ref().is_some_and(|kept| key.contains(kept)) {
                let error = ActError::new(ActErrorKind::Failed, "device or resource busy");
                failures.push(StepError { index, error });
            } else if state.present.remove(&(cx.mark(), key.clone())).is_some() {
                state.done.push(format!("undo {} {key}", cx.scope));
            }
        }
        failures
    }

    fn read_back<O: Op + Serialize>(&self, cx: &ScopeContext, ops: &[O]) -> Vec<Drift> {
        let state = self.0.lock();
        let drift = |(index, op): (usize, &O)| {
            let present = state.present.get(&(cx.mark(), op.key()));
            let what = match present {
                None => "is missing",
                Some(present) if *present != text(op) => "is different",
                Some(_) => return None,
            };
            Some(Drift {
                index,
                what: what.to_owned(),
            })
        };
        ops.iter().enumerate().filter_map(drift).collect()
    }

    fn collect(&self, keep: &(dyn for<'a> Fn(&'a str) -> bool + Sync)) -> Vec<String> {
        let mut state = self.0.lock();
        let mut marks: Vec<String> = state
            .present
            .keys()
            .map(|(mark, _)| mark.clone())
            .filter(|mark| !keep(mark))
            .collect();
        marks.dedup();
        state.present.retain(|(mark, _), _| !marks.contains(mark));
        marks
    }
}

/// Settings of the host: key, value, and what it was before.
fn settings(ops: &[NetworkOp]) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
    ops.iter().filter_map(|op| match op {
        NetworkOp::Sysctl {
            place: Place::Host,
            key,
            value,
            former,
        } => Some((key.as_str(), value.as_str(), former.as_deref())),
        _ => None,
    })
}

fn text(op: &impl Serialize) -> String {
    serde_json::to_string(op).unwrap_or_default()
}

#[async_trait]
impl NetworkActuator for Machine {
    async fn ensure(&self, cx: &ScopeContext, ops: &[NetworkOp]) -> Result<(), StepError> {
        self.ensure(cx, ops)?;
        for (key, value, _) in settings(ops) {
            self.set(key, value);
        }
        Ok(())
    }
    async fn undo(&self, cx: &ScopeContext, ops: &[NetworkOp]) -> Vec<StepError> {
        for (key, _, former) in settings(ops) {
            if let Some(former) = former {
                self.set(key, former);
            }
        }
        self.undo(cx, ops)
    }
    async fn setting(&self, key: &str) -> Result<Option<String>, ActError> {
        Ok(self.get(key))
    }
    async fn read_back(
        &self,
        cx: &ScopeContext,
        ops: &[NetworkOp],
    ) -> Result<Vec<Drift>, ActError> {
        Ok(self.read_back(cx, ops))
    }
    async fn mac(&self, _: &ScopeContext, _: &str) -> Result<Option<MacAddr>, ActError> {
        Ok(Some(MacAddr([2, 0, 0, 0, 0, 1])))
    }
    async fn collect(
        &self,
        keep: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
    ) -> Result<Vec<String>, ActError> {
        Ok(self.collect(keep))
    }
}

#[async_trait]
impl StorageActuator for Machine {
    async fn ensure(&self, cx: &ScopeContext, ops: &[StorageOp]) -> Result<(), StepError> {
        self.ensure(cx, ops)
    }
    async fn undo(&self, cx: &ScopeContext, ops: &[StorageOp]) -> Vec<StepError> {
        self.undo(cx, ops)
    }
    async fn read_back(
        &self,
        cx: &ScopeContext,
        ops: &[StorageOp],
    ) -> Result<Vec<Drift>, ActError> {
        Ok(self.read_back(cx, ops))
    }
    async fn exposed(&self, _: &ScopeContext, op: &StorageOp) -> Result<PathBuf, ActError> {
        let (StorageOp::Expose { source, .. } | StorageOp::ExposeBlock { source, .. }) = op else {
            let message = format!("{} exposes nothing", op.key());
            return Err(ActError::new(ActErrorKind::Unsupported, message));
        };
        Ok(match &source.location {
            Location::Path { root, path } => root.path.join(path),
            Location::Made => PathBuf::from(format!("/made/{}/{}", source.scope, source.key)),
        })
    }
    async fn collect(
        &self,
        keep: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
    ) -> Result<Vec<String>, ActError> {
        Ok(self.collect(keep))
    }
}

#[async_trait]
impl HostCapabilities for Machine {
    async fn links(&self, name: &str) -> Result<Vec<LinkInfo>, ActError> {
        let links = self.0.lock().links.clone();
        let link = |link: String| LinkInfo {
            name: link,
            index: 2,
            kind: String::new(),
            mac: MacAddr([2, 0, 0, 0, 0, 2]),
            mtu: 1500,
            up: true,
            addresses: Vec::new(),
        };
        Ok(links
            .into_iter()
            .filter(|link| link == name)
            .map(link)
            .collect())
    }
    async fn default_route_link(&self, _: u8) -> Result<Option<LinkInfo>, ActError> {
        Ok(None)
    }
    async fn space(&self, _: &Root) -> Result<SpaceInfo, ActError> {
        let total_bytes = 100 << 30;
        let available_bytes = self.0.lock().available_bytes.unwrap_or(total_bytes);
        let fs_type = "ext4".to_owned();
        Ok(SpaceInfo {
            total_bytes,
            available_bytes,
            fs_type,
            ..SpaceInfo::default()
        })
    }
    async fn used_bytes(&self, _: &Root, _: &[&str]) -> Result<u64, ActError> {
        Ok(self.0.lock().used_bytes)
    }
    async fn devices(&self, _: &str) -> Result<Vec<DeviceInfo>, ActError> {
        Ok(Vec::new())
    }
    fn event(&self, event: DriverEvent) {
        self.0.lock().events.push(event);
    }
}
