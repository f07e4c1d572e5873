//! What a worker knows, saved beside its pod so that the next agent goes on with it.
use std::io::Write as _;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use super::files::PodDir;
use super::observed::Observed;

/// Version of the format; a newer one is not read.
const VERSION: u32 = 1;

/// A saved worker.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Record {
    version: u32,
    /// The pod as the worker last saw it, so that it can be ended even when its object is gone.
    pub pod: Pod,
    /// What was known of it.
    pub seen: Observed,
}

/// A record as it is written.
#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    pod: &'a Pod,
    seen: &'a Observed,
}

impl Record {
    /// Replaces the pod's record in one step; not synced, since a power loss ends the containers it tells of.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn save(dir: &PodDir, pod: &Pod, seen: &Observed) -> std::io::Result<()> {
        let path = dir.record();
        let temporary = path.with_extension("new");
        std::fs::create_dir_all(dir.path())?;
        let mut file = std::fs::File::create(&temporary)?;
        let written = Written {
            version: VERSION,
            pod,
            seen,
        };
        file.write_all(&serde_json::to_vec(&written).map_err(std::io::Error::other)?)?;
        std::fs::rename(&temporary, &path)
    }

    /// The pod's record, `None` if there is none that can be read.
    pub fn load(dir: &PodDir) -> Option<Self> {
        let bytes = std::fs::read(dir.record()).ok()?;
        let mut record: Self = serde_json::from_slice(&bytes).ok()?;
        record.seen.forget_steps();
        (record.version <= VERSION).then_some(record)
    }

    /// Every record beneath the pods' directory; unreadable ones are left out.
    pub fn load_all(pods_dir: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir(pods_dir).into_iter().flatten().flatten();
        let uids = entries.filter_map(|entry| entry.file_name().into_string().ok());
        uids.filter_map(|uid| Self::load(&PodDir::new(pods_dir, &uid)))
            .collect()
    }
}
