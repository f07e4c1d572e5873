//! Garbage collection: which images go when the disk fills up, and what no image needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::index::{self, Record};
use super::{Inner, blocking, layers, needed, open, users_of};
use crate::image::digest::Digest;
use crate::image::error::Error;

#[cfg(test)]
mod tests;

/// Which images garbage collection removes: kubelet's thresholds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GarbagePolicy {
    /// Percent of the file system in use from which images are removed.
    pub high_percent: u8,
    /// Percent of the file system in use down to which they are removed.
    pub low_percent: u8,
    /// Images younger than this stay.
    pub minimum_age: Duration,
    /// Images not used for this long are removed whatever the disk says.
    pub maximum_age: Option<Duration>,
}

impl Default for GarbagePolicy {
    /// As kubelet: 85 %, 80 %, two minutes, no maximum.
    fn default() -> Self {
        Self {
            high_percent: 85,
            low_percent: 80,
            minimum_age: Duration::from_secs(120),
            maximum_age: None,
        }
    }
}

/// What a removal or a garbage collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Ids of the images that were removed.
    pub images: Vec<Digest>,
    /// Bytes freed.
    pub bytes: u64,
    /// Bytes that should have been freed but are in use.
    pub missing: u64,
}

/// An image as the plan sees it.
#[derive(Clone, Debug)]
struct Candidate {
    id: Digest,
    layers: Vec<Digest>,
    pulled_at: Timestamp,
    used_at: Timestamp,
    in_use: bool,
}

/// The disk as the plan sees it, in bytes.
#[derive(Clone, Copy, Debug)]
struct Disk {
    size: u64,
    available: u64,
}

pub(super) async fn collect(
    inner: &Arc<Inner>,
    policy: &GarbagePolicy,
) -> Result<Collected, Error> {
    let (inner, policy) = (Arc::clone(inner), policy.clone());
    blocking("collect garbage", move || {
        let (size, available) = inner.layout.usage()?;
        let mut sizes = BTreeMap::new();
        let (images, missing) = {
            let mut state = inner.state.lock();
            let used = |record: &Record| users_of(&state.prepared, &record.id).next().is_some();
            let candidates: Vec<_> = state
                .records()
                .map(|record| Candidate {
                    id: record.id.clone(),
                    layers: record.layers.clone(),
                    pulled_at: record.pulled_at,
                    used_at: record.used_at,
                    in_use: used(record),
                })
                .collect();
            for layer in candidates.iter().flat_map(|candidate| &candidate.layers) {
                let bytes = || layers::facts(&inner.layout, layer).map_or(0, |facts| facts.bytes);
                sizes.entry(layer.clone()).or_insert_with(bytes);
            }
            let disk = Disk { size, available };
            let (images, missing) = plan(candidates, &sizes, disk, &policy, Timestamp::now());
            for id in &images {
                state.remove(id);
            }
            (images, missing)
        };
        if !images.is_empty() {
            index::save(&inner)?;
        }
        let bytes = sweep(&inner)?;
        Ok(Collected {
            images,
            bytes,
            missing,
        })
    })
    .await
}

/// Which images to remove, least recently used first, and how many bytes are still missing then.
fn plan(
    mut candidates: Vec<Candidate>,
    sizes: &BTreeMap<Digest, u64>,
    disk: Disk,
    policy: &GarbagePolicy,
    now: Timestamp,
) -> (Vec<Digest>, u64) {
    let used = disk.size.saturating_sub(disk.available);
    let percent = |percent: u8| disk.size / 100 * u64::from(percent);
    let mut to_free = if disk.size > 0 && used >= percent(policy.high_percent) {
        used.saturating_sub(percent(policy.low_percent))
    } else {
        0
    };
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    for layer in candidates.iter().flat_map(|candidate| &candidate.layers) {
        *users.entry(layer.clone()).or_default() += 1;
    }
    candidates.sort_by_key(|candidate| candidate.used_at);
    let age = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
    let mut removed = Vec::new();
    for candidate in candidates {
        let unused = age(candidate.used_at);
        let expired = policy.maximum_age.is_some_and(|maximum| unused > maximum);
        let young = age(candidate.pulled_at) < policy.minimum_age || unused < policy.minimum_age;
        if candidate.in_use || young || !(expired || to_free > 0) {
            continue;
        }
        for layer in &candidate.layers {
            let Some(count) = users.get_mut(layer) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                to_free = to_free.saturating_sub(sizes.get(layer).copied().unwrap_or(0));
            }
        }
        removed.push(candidate.id);
    }
    (removed, to_free)
}

/// Removes layers and documents that neither an image nor a running pull needs; returns the bytes of the layers.
pub(super) fn sweep(inner: &Inner) -> Result<u64, Error> {
    let mut bytes = 0_u64;
    let mut discarded = Vec::new();
    for (name, path) in open::directories(&inner.layout.layers())? {
        let Ok(chain_id) = format!("sha256:{name}").parse::<Digest>() else {
            continue;
        };
        let size = layers::facts(&inner.layout, &chain_id).map_or(0, |facts| facts.bytes);
        // The lock is held while the layer moves away: a pull that begins now either pins it first or misses it.
        let state = inner.state.lock();
        let is_needed = needed(state.records()).contains(&chain_id);
        if is_needed || state.pins.contains_key(&chain_id) {
            continue;
        }
        discarded.push(inner.layout.discard(&path)?);
        bytes = bytes.saturating_add(size);
    }
    sweep_documents(inner)?;
    drop(discarded);
    Ok(bytes)
}

/// Documents belong to images: the configuration is the id, the manifest names it.
fn sweep_documents(inner: &Inner) -> Result<(), Error> {
    let kept: BTreeSet<PathBuf> = {
        let state = inner.state.lock();
        if !state.pins.is_empty() {
            // A pull may have written documents that no image names yet; the next sweep finds what stays.
            return Ok(());
        }
        let digests = |record: &Record| {
            let targets = record
                .digests
                .iter()
                .filter_map(|name| name.digest().cloned());
            let own = [Some(record.id.clone()), record.manifest.clone()];
            targets.chain(own.into_iter().flatten()).collect::<Vec<_>>()
        };
        state
            .records()
            .flat_map(digests)
            .map(|digest| inner.layout.blob(&digest))
            .collect()
    };
    for algorithm in open::directories(&inner.layout.blobs())?.into_values() {
        for entry in fs::read_dir(&algorithm).map_err(Error::io("list", &algorithm))? {
            let path = entry.map_err(Error::io("list", &algorithm))?.path();
            if !kept.contains(&path) {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
    }
    Ok(())
}
