//! What is kept on disk of a sandbox, so that it can be found and understood without its shim.
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::protocol::Begin;
use crate::runtime::{ContainerExit, ContainerState, ContainerStatus, UNKNOWN_EXIT_CODE};

/// The files of one sandbox, beneath its pod's directory.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    dir: PathBuf,
}

/// A container as its shim writes it down when it starts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StartRecord {
    /// Where it stands.
    pub(crate) state: ContainerState,
    /// Its cgroup.
    pub(crate) group: String,
}

impl Records {
    /// The records in `<pod>/runtime`.
    pub(crate) fn of_pod(pod_dir: &Path) -> Self {
        Self {
            dir: pod_dir.join("runtime"),
        }
    }

    /// The directory itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The shim's socket, by a path short enough for any socket address when opened through `/proc/self/fd`.
    pub(crate) const SOCKET: &'static str = "shim.sock";

    /// What the shim has to say about itself.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("shim.log")
    }

    /// The directory of one container.
    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.dir.join("containers").join(id)
    }

    /// Writes down the sandbox.
    pub(crate) fn write_sandbox(&self, begin: &Begin) -> std::io::Result<()> {
        write(&self.dir.join("sandbox.json"), begin, false)
    }

    /// The sandbox as it was written down.
    pub(crate) fn read_sandbox(&self) -> std::io::Result<Begin> {
        read(&self.dir.join("sandbox.json"))
    }

    /// Writes down that a container runs.
    pub(crate) fn write_start(&self, record: &StartRecord) -> std::io::Result<()> {
        write(
            &self.bundle(&record.state.id).join("state.json"),
            record,
            false,
        )
    }

    /// Writes down how a container ended; with `sync`, it survives a power cut.
    pub(crate) fn write_exit(&self, exit: &ContainerExit, sync: bool) -> std::io::Result<()> {
        write(&self.bundle(&exit.id).join("exit.json"), exit, sync)
    }

    /// All containers of a sandbox whose shim is gone; those it saw no end of have [`UNKNOWN_EXIT_CODE`].
    pub(crate) fn read_containers(&self) -> std::io::Result<Vec<StartRecord>> {
        let entries = match std::fs::read_dir(self.dir.join("containers")) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            // A container that was being started when the shim died has no record and never ran.
            let Ok(mut record) = read::<StartRecord>(&path.join("state.json")) else {
                continue;
            };
            if let ContainerStatus::Running { started_at, .. } = record.state.status {
                let exit = read(&path.join("exit.json")).unwrap_or_else(|_| ContainerExit {
                    id: record.state.id.clone(),
                    exit_code: UNKNOWN_EXIT_CODE,
                    signal: None,
                    oom_killed: false,
                    started_at,
                    finished_at: jiff::Timestamp::now(),
                });
                record.state.status = ContainerStatus::Exited(exit);
            }
            found.push(record);
        }
        found.sort_by_key(|record| match &record.state.status {
            ContainerStatus::Exited(exit) => Some(exit.started_at),
            _ => None,
        });
        Ok(found)
    }

    /// Removes what is kept of one container; a missing one is no error.
    pub(crate) fn remove_container(&self, id: &str) -> std::io::Result<()> {
        remove(&self.bundle(id))
    }

    /// Removes everything.
    pub(crate) fn remove_all(&self) -> std::io::Result<()> {
        remove(&self.dir)
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> std::io::Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// A reader sees the old file or the new one, never a part.
fn write(path: &Path, value: &impl Serialize, sync: bool) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = std::fs::File::create(&draft)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    if sync {
        file.sync_all()?;
    }
    std::fs::rename(&draft, path)?;
    if sync && let Some(parent) = path.parent() {
        std::fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}
