//! The files of a pod's directory that the agent itself writes.
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::observed::Problem;

/// Largest termination message kept, as in Kubernetes.
const MOST_MESSAGE_BYTES: usize = 4096;

/// Paths beneath one pod's directory.
#[derive(Debug, Clone)]
pub struct PodDir(PathBuf);

impl PodDir {
    /// The directory of the pod with this UID.
    pub fn new(pods_dir: &Path, uid: &str) -> Self {
        Self(pods_dir.join(uid))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `/etc/hosts` of its containers.
    pub fn hosts(&self) -> PathBuf {
        self.0.join("etc/hosts")
    }

    /// `/etc/hostname` of its containers.
    pub fn hostname(&self) -> PathBuf {
        self.0.join("etc/hostname")
    }

    /// `/etc/resolv.conf` of its containers.
    pub fn resolv_conf(&self) -> PathBuf {
        self.0.join("etc/resolv.conf")
    }

    /// Where its containers' logs are.
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// Where one run of a container writes its last words.
    pub fn termination_log(&self, container_id: &str) -> PathBuf {
        self.0.join("termination").join(container_id)
    }

    /// What the worker knows, saved.
    pub fn record(&self) -> PathBuf {
        self.0.join("worker.json")
    }

    /// Writes the files that every container of the pod sees.
    ///
    /// # Errors
    /// `FailedCreatePodSandBox` naming the file.
    pub fn write_etc(&self, hosts: &str, hostname: &str, resolv_conf: &str) -> Result<(), Problem> {
        let hostname_line = format!("{hostname}\n");
        write(&self.hosts(), hosts)?;
        write(&self.hostname(), &hostname_line)?;
        write(&self.resolv_conf(), resolv_conf)
    }

    /// Makes the empty file for a container's last words, writable by whoever runs in it.
    ///
    /// # Errors
    /// `CreateContainerError` naming the file.
    pub fn make_termination_log(&self, container_id: &str) -> Result<PathBuf, Problem> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.termination_log(container_id);
        let made = parent(&path)
            .and_then(|()| std::fs::write(&path, ""))
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)));
        made.map_err(|error| {
            Problem::new(
                "CreateContainerError",
                format!("cannot make {}: {error}", path.display()),
            )
        })?;
        Ok(path)
    }

    /// A container's last words, if it wrote any.
    pub fn termination_message(&self, container_id: &str) -> Option<String> {
        use std::io::Read as _;
        let file = std::fs::File::open(self.termination_log(container_id)).ok()?;
        let mut bytes = Vec::new();
        file.take(MOST_MESSAGE_BYTES as u64)
            .read_to_end(&mut bytes)
            .ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (!text.is_empty()).then_some(text)
    }
}

fn parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}

/// In place, so that containers that have the file mounted see the new content.
fn write(path: &Path, text: &str) -> Result<(), Problem> {
    let written = parent(path).and_then(|()| {
        let mut file = std::fs::File::create(path)?;
        file.write_all(text.as_bytes())
    });
    written.map_err(|error| {
        Problem::new(
            "FailedCreatePodSandBox",
            format!("cannot write {}: {error}", path.display()),
        )
    })
}
