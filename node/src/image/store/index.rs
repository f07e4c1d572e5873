//! `images.json`: which images there are and what they are called.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::{Image, Inner};
use crate::image::config;
use crate::image::digest::Digest;
use crate::image::error::Error;
use crate::image::reference::Reference;

const VERSION: u32 = 1;

/// One image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Digest of the configuration.
    pub(super) id: Digest,
    /// Digest of the manifest, where it came with one.
    #[serde(default)]
    pub(super) manifest: Option<Digest>,
    /// Names with tag.
    pub(super) names: BTreeSet<Reference>,
    /// Names with the digest that was asked for: of the index, or of the manifest if there is no index.
    pub(super) digests: Vec<Reference>,
    /// Chain ids, bottom first.
    pub(super) layers: Vec<Digest>,
    /// Unpacked bytes.
    pub(super) size: u64,
    /// When it came.
    pub(super) pulled_at: Timestamp,
    /// When a container last got it.
    pub(super) used_at: Timestamp,
    /// Read from the blob when the store opens.
    #[serde(skip)]
    pub(super) config: Arc<ImageConfiguration>,
}

impl Record {
    pub(super) fn image(&self) -> Image {
        Image {
            id: self.id.clone(),
            names: self.names.iter().map(ToString::to_string).collect(),
            repo_digests: self.digests.iter().map(ToString::to_string).collect(),
            size: self.size,
            config: Arc::clone(&self.config),
            layers: self.layers.clone(),
        }
    }
}

/// What is known in memory.
#[derive(Debug, Default)]
pub(super) struct State {
    images: BTreeMap<Digest, Record>,
    /// Keys of prepared roots and the images they are made of.
    pub(super) prepared: BTreeMap<String, Digest>,
    /// Layers that running pulls count on, and how many do.
    pub(super) pins: BTreeMap<Digest, usize>,
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    version: u32,
    images: Vec<Record>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl State {
    /// Reads the index; what its images need is checked by the caller.
    pub(super) fn load(layout: &Layout) -> Result<Vec<Record>, Error> {
        let path = layout.index();
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            bytes => bytes.map_err(Error::io("read", &path))?,
        };
        let damaged = |error: serde_json::Error| {
            let reason = error.to_string();
            Error::Damaged {
                path: layout.index(),
                reason,
            }
        };
        let version: Version = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version.version > VERSION {
            return Err(Error::TooNew {
                path,
                found: version.version,
                known: VERSION,
            });
        }
        let on_disk: OnDisk = serde_json::from_slice(&bytes).map_err(damaged)?;
        Ok(on_disk.images)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.images.values()
    }

    pub(super) fn get(&self, id: &Digest) -> Option<&Record> {
        self.images.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &Digest) -> Option<&mut Record> {
        self.images.get_mut(id)
    }

    pub(super) fn find(&self, reference: &Reference) -> Option<&Record> {
        match reference.digest() {
            None => self
                .records()
                .find(|record| record.names.contains(reference)),
            Some(digest) => {
                let pinned = reference.with_digest(digest.clone());
                self.records().find(|record| {
                    record.digests.contains(&pinned)
                        || record.manifest.as_ref() == Some(digest)
                            && record.digests.iter().any(|own| own.name() == pinned.name())
                })
            }
        }
    }

    /// Adds an image, or new names of one. A tag moves from the image that had it.
    pub(super) fn insert(&mut self, record: Record) -> &Record {
        for other in self
            .images
            .values_mut()
            .filter(|other| other.id != record.id)
        {
            other.names.retain(|name| !record.names.contains(name));
        }
        let known = self
            .images
            .entry(record.id.clone())
            .or_insert_with(|| Record {
                names: BTreeSet::new(),
                digests: Vec::new(),
                ..record.clone()
            });
        known.names.extend(record.names);
        for digest in record.digests {
            if !known.digests.contains(&digest) {
                known.digests.push(digest);
            }
        }
        known.manifest = record.manifest.or(known.manifest.take());
        known
    }

    pub(super) fn remove(&mut self, id: &Digest) {
        self.images.remove(id);
    }
}

/// Writes the state of this moment to disk. Blocks.
pub(super) fn save(inner: &Inner) -> Result<(), Error> {
    let _one_at_a_time = inner.saving.lock();
    let images: Vec<Record> = inner.state.lock().records().cloned().collect();
    let json = serde_json::to_vec_pretty(&OnDisk {
        version: VERSION,
        images,
    });
    let json = json.map_err(|error| {
        let path = inner.layout.index();
        Error::Damaged {
            path,
            reason: error.to_string(),
        }
    })?;
    inner.layout.write(&inner.layout.index(), &json)
}

/// Reads the configuration of a record from its blob; none if it is gone or wrong.
pub(super) fn load_config(layout: &Layout, record: &Record) -> Option<ImageConfiguration> {
    let bytes = fs::read(layout.blob(&record.id)).ok()?;
    if record.id.same_algorithm(&bytes) != record.id {
        return None;
    }
    config::parse(&bytes, record.layers.len()).ok()
}
