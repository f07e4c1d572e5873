//! A plan as a whole, before it is recorded: what its steps do not show one by one. What passes can be
//! carried out and taken back; what does not leaves nothing behind.

use super::Host;
use super::carry_out::Prepared;
use crate::error::{CallError, Code};
use crate::grants::GrantSet;
use crate::plan::{NetworkOp, Place, Root, ScopeId, StorageOp};
use crate::scope::{Record, ScopePlan};

impl Host {
    /// Completes plans by what only this machine knows, and refuses those that it could not carry out.
    pub(super) async fn check(&self, prepared: &mut [Prepared]) -> Result<(), CallError> {
        for item in prepared {
            self.is_still_granted(&item.record)?;
            refuse_to_lose_data(item)?;
            let Prepared { record, .. } = item;
            let mut plan = record.plan.clone();
            match &mut plan {
                ScopePlan::Network(plan) => {
                    self.places_exist(record, &plan.ops).await?;
                    self.note_settings(&mut plan.ops).await?;
                }
                ScopePlan::Storage(plan) => self.is_room(record, &plan.ops).await?,
            }
            record.plan = plan;
        }
        Ok(())
    }

    /// Rights end when they are taken away, also for a plan that was made before and would be carried out after.
    fn is_still_granted(&self, record: &Record) -> Result<(), CallError> {
        match self.registry.revision(&record.driver) {
            Some(now) if now == record.revision => Ok(()),
            _ => Err(CallError::new(
                Code::Aborted,
                format!(
                    "{}: driver {} or its grants were changed while it planned",
                    record.scope, record.driver
                ),
            )),
        }
    }

    /// That the pod's namespace and the links that others are put upon are there.
    async fn places_exist(&self, record: &Record, ops: &[NetworkOp]) -> Result<(), CallError> {
        let missing = |what: String| {
            let message = format!("{}: {what}, so nothing of the plan was made", record.scope);
            Err(CallError::new(Code::FailedPrecondition, message))
        };
        let in_pod = ops.iter().any(|op| op.places().contains(&Place::Pod));
        match &record.netns {
            Some(netns) if !netns.exists() => {
                return missing(format!(
                    "the pod's network namespace {} is gone",
                    netns.display()
                ));
            }
            None if in_pod => return missing("there is no pod to put a step into".to_owned()),
            _ => {}
        }
        for (index, op) in ops.iter().enumerate() {
            let Some(parent) = parent(op) else { continue };
            let made = |other: &NetworkOp| {
                let mut links = other.links().into_iter();
                links.any(|link| link.place == Place::Host && link.name == parent)
            };
            if ops.iter().take(index).any(made) {
                continue;
            }
            // A name is no pattern; what the pattern finds besides does not count.
            let found = self.eyes.links(parent).await?;
            if !found.iter().any(|link| link.name == parent) {
                return missing(format!("the host has no link {parent:?}"));
            }
        }
        Ok(())
    }

    /// Notes what settings of the host were before the first scope set them, for the last one to put back.
    async fn note_settings(&self, ops: &mut [NetworkOp]) -> Result<(), CallError> {
        for op in ops {
            if let NetworkOp::Sysctl {
                place: Place::Host,
                key,
                former,
                ..
            } = op
            {
                // The kernel first: who sets it meanwhile is in the ledger by then.
                let now = self.hands.network.setting(key).await?;
                *former = self.store.former_setting(key).unwrap_or(now);
            }
        }
        Ok(())
    }

    /// That the volumes beneath a root stay within what is granted there, as promised and as used.
    async fn is_room(&self, record: &Record, ops: &[StorageOp]) -> Result<(), CallError> {
        let grants = self.registry.get(&record.driver)?.granted.grants.clone();
        let mut roots: Vec<&Root> = ops
            .iter()
            .filter_map(StorageOp::path)
            .map(|at| at.0)
            .collect();
        roots.dedup();
        for root in roots {
            let Some(most) = bound(&grants, root) else {
                continue;
            };
            let others = self.promised_beneath(root, &record.scope);
            let wanted = promised(record, root);
            // What the scope itself uses already is part of what it wants.
            let own = ops
                .iter()
                .filter_map(StorageOp::path)
                .filter(|at| at.0 == root);
            let own: Vec<&str> = own.map(|at| at.1).collect();
            let used = self.eyes.used_bytes(root, &own).await?;
            let total = others.max(used).saturating_add(wanted);
            if total > most {
                let message = format!(
                    "{}: {wanted} bytes beneath {} would make it {total}; spec.grants.hostPaths \
                     allows {most} for {:?} (maxBytes)",
                    record.scope,
                    root.path.display(),
                    root.name
                );
                return Err(CallError::new(Code::ResourceExhausted, message));
            }
        }
        Ok(())
    }

    /// Bytes that other scopes were promised beneath a root, whoever planned them.
    fn promised_beneath(&self, root: &Root, but: &ScopeId) -> u64 {
        let records = self.store.list("").into_iter();
        let others = records.filter(|record| record.scope != *but);
        others
            .map(|record| promised(&record, root))
            .fold(0, u64::saturating_add)
    }
}

fn bound(grants: &GrantSet, root: &Root) -> Option<u64> {
    grants.root(&root.name).ok()?.max_bytes
}

/// The link of the host that a step puts another upon, or takes away.
fn parent(op: &NetworkOp) -> Option<&str> {
    match op {
        NetworkOp::Macvlan { parent, .. }
        | NetworkOp::Ipvlan { parent, .. }
        | NetworkOp::Vlan { parent, .. }
        | NetworkOp::HostDevice { device: parent, .. } => Some(parent),
        NetworkOp::Vxlan { dev, .. } => dev.as_deref(),
        _ => None,
    }
}

/// Bytes that a scope takes beneath a root: the sizes of its images, and for trees, which have no size of
/// their own, the capacity of its volume.
pub(crate) fn promised(record: &Record, root: &Root) -> u64 {
    let ScopePlan::Storage(plan) = &record.plan else {
        return 0;
    };
    let here = |op: &&StorageOp| op.path().is_some_and(|(other, _)| other.path == root.path);
    let size = |op: &StorageOp| match op {
        StorageOp::Image { bytes, .. } | StorageOp::ImageCopy { bytes, .. } => *bytes,
        _ => 0,
    };
    let images = plan.ops.iter().filter(here).map(size);
    let images = images.fold(0, u64::saturating_add);
    let tree = |op: &StorageOp| match op {
        StorageOp::Directory { data, .. } => *data,
        StorageOp::TreeCopy { .. } => true,
        _ => false,
    };
    let trees = plan.ops.iter().filter(here).any(tree);
    let capacity = record.answer["capacity_bytes"].as_u64().unwrap_or(0);
    images.saturating_add(if trees { capacity } else { 0 })
}

/// A new plan of a volume must keep the steps that hold its data.
fn refuse_to_lose_data(item: &Prepared) -> Result<(), CallError> {
    let Some(before) = &item.before else {
        return Ok(());
    };
    let ScopePlan::Storage(lost) = before.plan.obsolete(&item.record.plan, &item.record) else {
        return Ok(());
    };
    match lost.ops.iter().find(|op| op.holds_data()) {
        None => Ok(()),
        Some(op) => {
            let step = op.made().unwrap_or_default();
            let scope = &item.record.scope;
            let message = format!("{scope}: the driver's new plan would lose the data of {step:?}");
            Err(CallError::new(Code::FailedPrecondition, message))
        }
    }
}
