//! Layers: fetched and unpacked side by side, completed from the bottom up, each once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use super::layout::{Layout, Scratch};
use super::{Inner, blocking, open};
use crate::beneath;
use crate::image::digest::Digest;
use crate::image::error::Error;
use crate::image::progress::{Progress, PullEvent};
use crate::image::unpack::{self, Budget, Unpacked};

const VERSION: u32 = 1;
/// Names the boot in which a layer was written, until its bytes are known to be on the disk.
const UNSYNCED: &str = "unsynced";

/// One layer that an image needs.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The layer together with all below it.
    pub(super) chain_id: Digest,
    /// The plain archive.
    pub(super) diff_id: Digest,
    /// What it is called in progress and errors: the blob.
    pub(super) blob: Digest,
}

/// Where layers come from.
#[async_trait]
pub(super) trait Source: Sync {
    /// Puts layer `at` into a file, verified against its blob's digest; `scratch` may be used for it.
    async fn obtain(
        &self,
        at: usize,
        scratch: &Path,
        progress: &dyn Progress,
    ) -> Result<PathBuf, Error>;
}

/// What is known of a layer besides its files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    version: u32,
    diff_id: Digest,
    /// Bytes of all files.
    pub(super) bytes: u64,
    entries: u64,
}

/// A layer on its way.
enum Staged {
    Present,
    Written {
        scratch: Scratch,
        unpacked: Unpacked,
        lock: OwnedMutexGuard<()>,
    },
}

/// Who is working on which layer.
#[derive(Debug, Default)]
pub(super) struct Flights {
    locks: Mutex<BTreeMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl Flights {
    /// Waits until nobody else works on the layer.
    async fn lock(&self, chain_id: &Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock();
            locks.retain(|_, lock| lock.strong_count() > 0);
            let known = locks.get(chain_id).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::new(tokio::sync::Mutex::new(()));
                locks.insert(chain_id.clone(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

/// Keeps layers from being collected while an image is being put together.
pub(super) struct Pins<'i> {
    inner: &'i Inner,
    layers: Vec<Digest>,
}

impl<'i> Pins<'i> {
    pub(super) fn new(inner: &'i Inner, layers: &[Digest]) -> Self {
        let mut state = inner.state.lock();
        for layer in layers {
            *state.pins.entry(layer.clone()).or_default() += 1;
        }
        Self {
            inner,
            layers: layers.to_vec(),
        }
    }
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        let mut state = self.inner.state.lock();
        for layer in &self.layers {
            if let Some(count) = state.pins.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(layer);
                }
            }
        }
    }
}

/// Makes sure that all layers are here, and returns their size together. The caller holds [`Pins`].
///
/// Layers are staged in parallel but completed in order, since a layer may take something from those below.
pub(super) async fn install(
    inner: &Arc<Inner>,
    wanted: &[Wanted],
    source: &dyn Source,
    progress: &dyn Progress,
) -> Result<u64, Error> {
    let parallel = inner.options.limits.parallel_downloads.max(1);
    let staged = futures::stream::iter(0..wanted.len())
        .map(|at| stage(inner, wanted, at, source, progress))
        .buffered(parallel);
    let mut staged = std::pin::pin!(staged);
    let (mut at, mut bytes) = (0, 0_u64);
    while let Some(layer) = staged.try_next().await? {
        let Some(this) = wanted.get(at) else { break };
        if let Staged::Written {
            scratch,
            unpacked,
            lock,
        } = layer
        {
            let below = wanted.get(..at).unwrap_or_default();
            let below: Vec<_> = below.iter().map(|layer| layer.chain_id.clone()).collect();
            complete(inner, this, scratch, unpacked, below, lock).await?;
            progress.event(PullEvent::Unpacked { layer: &this.blob });
        }
        bytes = bytes.saturating_add(facts(&inner.layout, &this.chain_id)?.bytes);
        at += 1;
    }
    Ok(bytes)
}

async fn stage(
    inner: &Arc<Inner>,
    wanted: &[Wanted],
    at: usize,
    source: &dyn Source,
    progress: &dyn Progress,
) -> Result<Staged, Error> {
    let Some(layer) = wanted.get(at) else {
        return Ok(Staged::Present);
    };
    let lock = inner.flights.lock(&layer.chain_id).await;
    if facts(&inner.layout, &layer.chain_id).is_ok() {
        progress.event(PullEvent::Present { layer: &layer.blob });
        return Ok(Staged::Present);
    }
    let scratch = inner.layout.scratch()?;
    let archive = source.obtain(at, &scratch.path, progress).await?;
    progress.event(PullEvent::Unpacking { layer: &layer.blob });
    let (inner, layer) = (Arc::clone(inner), layer.clone());
    // The guards move along: if the pull is dropped, the thread still ends its work before it cleans up.
    blocking("unpack a layer", move || {
        let unpacked = write(&inner, &layer, &scratch.path, &archive)?;
        Ok(Staged::Written {
            scratch,
            unpacked,
            lock,
        })
    })
    .await
}

fn write(inner: &Inner, layer: &Wanted, scratch: &Path, archive: &Path) -> Result<Unpacked, Error> {
    let limits = &inner.options.limits;
    let free = inner.layout.free(limits)?;
    let budget = Budget {
        bytes: limits.layer_bytes.min(free),
        entries: limits.layer_entries,
    };
    let files = scratch.join("layer").join("fs");
    fs::create_dir_all(&files).map_err(Error::io("make", &files))?;
    let archive_file = File::open(archive).map_err(Error::io("open", archive))?;
    unpack::unpack(archive_file, &files, &layer.diff_id, budget).map_err(|source| Error::Layer {
        layer: layer.blob.clone(),
        source,
    })
}

/// Gives a written layer what it takes from those below, and its place.
async fn complete(
    inner: &Arc<Inner>,
    layer: &Wanted,
    scratch: Scratch,
    unpacked: Unpacked,
    below: Vec<Digest>,
    lock: OwnedMutexGuard<()>,
) -> Result<(), Error> {
    let (inner, layer) = (Arc::clone(inner), layer.clone());
    blocking("complete a layer", move || {
        let dir = scratch.path.join("layer");
        let below: Vec<_> = below
            .iter()
            .rev()
            .map(|id| inner.layout.layer_files(id))
            .collect();
        let added =
            unpack::adopt(&dir.join("fs"), &unpacked, &below).map_err(|source| Error::Layer {
                layer: layer.blob.clone(),
                source,
            })?;
        let bytes = unpacked.bytes.saturating_add(added);
        place(&inner.layout, &dir, &layer, bytes, unpacked.entries)?;
        drop(lock);
        Ok(())
    })
    .await
}

/// Moves a finished layer from `dir` to its place.
pub(super) fn place(
    layout: &Layout,
    dir: &Path,
    layer: &Wanted,
    bytes: u64,
    entries: u64,
) -> Result<(), Error> {
    let facts = Facts {
        version: VERSION,
        diff_id: layer.diff_id.clone(),
        bytes,
        entries,
    };
    let json = serde_json::to_vec(&facts).unwrap_or_default();
    let path = dir.join("layer.json");
    fs::write(&path, json).map_err(Error::io("write", &path))?;
    let path = dir.join(UNSYNCED);
    fs::write(&path, boot_id()?).map_err(Error::io("write", &path))?;
    let to = layout.layer(&layer.chain_id);
    fs::rename(dir, &to).map_err(Error::io("make", &to))
}

/// The facts of a layer that is here.
pub(super) fn facts(layout: &Layout, chain_id: &Digest) -> Result<Facts, Error> {
    let path = layout.layer(chain_id).join("layer.json");
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    let facts: Facts = serde_json::from_slice(&bytes).map_err(|error| Error::Damaged {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    if facts.version > VERSION {
        return Err(Error::TooNew {
            path,
            found: facts.version,
            known: VERSION,
        });
    }
    Ok(facts)
}

/// Brings layers onto the disk in the background, so that a pull need not wait for it: until then they are marked, and a
/// marked layer of an earlier boot is thrown away.
pub(super) fn sync_later(inner: &Inner, layers: Vec<Digest>) {
    let layout = inner.layout.clone();
    // Short and harmless if the process ends: the mark stays.
    tokio::task::spawn_blocking(move || {
        let marks = layers.iter().map(|id| layout.layer(id).join(UNSYNCED));
        let marks: Vec<_> = marks.filter(|mark| mark.exists()).collect();
        if marks.is_empty() {
            return;
        }
        let synced = File::open(layout.layers()).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
        if let Err(error) = synced {
            tracing::warn!(%error, "cannot sync new layers; they are fetched again after a reboot");
            return;
        }
        for mark in marks {
            if let Err(error) = fs::remove_file(&mark) {
                tracing::warn!(mark = %mark.display(), %error, "cannot unmark a layer");
            }
        }
    });
}

/// Removes layers that a power cut may have torn, and those without facts.
pub(super) fn drop_unsynced(layout: &Layout) -> Result<(), Error> {
    let boot_id = boot_id()?;
    for dir in open::directories(&layout.layers())?.into_values() {
        let torn = match fs::read_to_string(dir.join(UNSYNCED)) {
            Ok(written_in) => written_in != boot_id,
            Err(_synced) => !dir.join("layer.json").exists(),
        };
        if torn {
            beneath::remove_tree(&dir).map_err(Error::io("remove", &dir))?;
        }
    }
    Ok(())
}

fn boot_id() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map_err(Error::io("read", path))
}
