//! Opening the store: the lock, the version, and what a crash or a power cut left behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::FlockOperation;

use super::index::{self, Record, State};
use super::layers::{self, Flights};
use super::layout::Layout;
use super::{Inner, Options, rootfs};
use crate::beneath;
use crate::image::client::Transport;
use crate::image::error::Error;

pub(super) fn open(dir: &Path, options: Options) -> Result<Inner, Error> {
    let dir = std::path::absolute(dir).map_err(Error::io("find", dir))?;
    let layout = Layout { dir };
    layout.make()?;
    let lock = lock(&layout)?;
    let tmp = layout.tmp();
    beneath::empty_dir(&tmp).map_err(Error::io("empty", &tmp))?;
    layers::drop_unsynced(&layout)?;
    let mut state = State::default();
    state.prepared = rootfs::find(&layout)?;
    for record in State::load(&layout)? {
        adopt(&layout, &mut state, record);
    }
    let options = Arc::new(options);
    Ok(Inner {
        layout,
        transport: Transport::new(Arc::clone(&options)),
        options,
        state: Mutex::new(state),
        saving: Mutex::new(()),
        flights: Flights::default(),
        _lock: lock,
    })
}

fn lock(layout: &Layout) -> Result<File, Error> {
    let path = layout.lock();
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(Error::io("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked {
            path: layout.dir.clone(),
        }),
        Err(error) => Err(Error::io("lock", &path)(error.into())),
    }
}

/// Takes over an image if everything it needs is here; otherwise it is pulled again when somebody asks for it.
fn adopt(layout: &Layout, state: &mut State, mut record: Record) {
    let missing = record
        .layers
        .iter()
        .find(|id| !layout.layer_files(id).is_dir());
    if let Some(layer) = missing {
        tracing::warn!(image = %record.id, %layer, "an image lost a layer and is forgotten");
        return;
    }
    match index::load_config(layout, &record) {
        Some(config) => {
            record.config = Arc::new(config);
            state.insert(record);
        }
        None => {
            tracing::warn!(image = %record.id, "an image lost its configuration and is forgotten")
        }
    }
}

/// Directories in `dir` by name; files are passed over.
pub(super) fn directories(dir: &Path) -> Result<BTreeMap<String, std::path::PathBuf>, Error> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let (true, Ok(name)) = (is_dir, entry.file_name().into_string()) {
            found.insert(name, entry.path());
        }
    }
    Ok(found)
}
