//! The writable part of containers' root file systems.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::{Image, Inner, blocking, open};
use crate::image::digest::Digest;
use crate::image::error::Error;
use crate::runtime::RootFs;

const VERSION: u32 = 1;

/// What a root is made of; kept beside it so that garbage collection knows what is in use after a restart.
#[derive(Serialize, Deserialize)]
struct Facts {
    version: u32,
    image: Digest,
    layers: Vec<Digest>,
}

pub(super) fn prepare(inner: &Inner, image: &Image, key: &str) -> Result<RootFs, Error> {
    check_key(key)?;
    let layout = &inner.layout;
    let root = layout.root(key);
    let known = {
        let mut state = inner.state.lock();
        let known = state.prepared.get(key).cloned();
        if known.is_none() {
            let unknown = || Error::Unknown {
                name: image.id.to_string(),
            };
            let record = state.get_mut(&image.id).ok_or_else(unknown)?;
            record.used_at = Timestamp::now();
            // Reserved under the lock: from here on the image counts as used.
            state.prepared.insert(key.to_owned(), image.id.clone());
        }
        known
    };
    if known.is_some() {
        let facts = facts(&root)?;
        return Ok(rootfs(layout, &root, &facts.layers));
    }
    let made = make(layout, image, &root);
    if made.is_err() {
        inner.state.lock().prepared.remove(key);
    }
    made?;
    Ok(rootfs(layout, &root, &image.layers))
}

fn rootfs(layout: &Layout, root: &Path, layers: &[Digest]) -> RootFs {
    RootFs {
        lower: layout.lower(layers),
        upper: root.join("upper"),
        work: root.join("work"),
        read_only: false,
    }
}

fn make(layout: &Layout, image: &Image, root: &Path) -> Result<(), Error> {
    let scratch = layout.scratch()?;
    let dir = scratch.path.join("root");
    let upper = dir.join("upper");
    for path in [&upper, &dir.join("work")] {
        fs::create_dir_all(path).map_err(Error::io("make", path))?;
    }
    if let Some(top) = image.layers.last() {
        let top = layout.layer_files(top);
        inherit(&top, &upper).map_err(Error::io("copy the owner and mode of", &top))?;
    } else {
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&upper, open).map_err(Error::io("open", &upper))?;
    }
    let facts = Facts {
        version: VERSION,
        image: image.id.clone(),
        layers: image.layers.clone(),
    };
    let json = serde_json::to_vec(&facts).unwrap_or_default();
    let path = dir.join("root.json");
    fs::write(&path, json).map_err(Error::io("write", &path))?;
    fs::rename(&dir, root).map_err(Error::io("make", root))
}

/// The upper directory is what a container sees as `/`.
fn inherit(from: &Path, to: &Path) -> io::Result<()> {
    let from = fs::metadata(from)?;
    std::os::unix::fs::chown(to, Some(from.uid()), Some(from.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(from.mode() & 0o7777))
}

pub(super) async fn discard(inner: &Arc<Inner>, key: &str) -> Result<(), Error> {
    check_key(key)?;
    let (inner, key) = (Arc::clone(inner), key.to_owned());
    blocking("discard a root file system", move || {
        let discarded = inner.layout.discard(&inner.layout.root(&key))?;
        inner.state.lock().prepared.remove(&key);
        drop(discarded);
        Ok(())
    })
    .await
}

/// All roots on disk and the images they use.
pub(super) fn find(layout: &Layout) -> Result<BTreeMap<String, Digest>, Error> {
    let mut found = BTreeMap::new();
    for (key, dir) in open::directories(&layout.roots())? {
        match facts(&dir) {
            Ok(facts) => {
                found.insert(key, facts.image);
            }
            Err(error @ Error::TooNew { .. }) => return Err(error),
            Err(error) => {
                // Torn by a power cut: its container died with the machine.
                tracing::warn!(%key, %error, "a root file system is unusable and removed");
                drop(layout.discard(&dir)?);
            }
        }
    }
    Ok(found)
}

fn facts(root: &Path) -> Result<Facts, Error> {
    let path = root.join("root.json");
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    let damaged = |error: serde_json::Error| {
        let reason = error.to_string();
        Error::Damaged {
            path: path.clone(),
            reason,
        }
    };
    let facts: Facts = serde_json::from_slice(&bytes).map_err(damaged)?;
    if facts.version > VERSION {
        return Err(Error::TooNew {
            path,
            found: facts.version,
            known: VERSION,
        });
    }
    Ok(facts)
}

fn check_key(key: &str) -> Result<(), Error> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let named = key.bytes().any(|b| b != b'.');
    if named && key.len() <= 255 && key.bytes().all(good) {
        return Ok(());
    }
    Err(Error::Key {
        key: key.chars().take(100).collect(),
    })
}
