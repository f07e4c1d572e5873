//! The end of a pod, with or without its shim.
use std::io;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::time::Instant;

use super::sandbox::DEATH_LIMIT;
use super::{Error, Sandbox, Step, StepError};
use crate::kernel::process::pidfd_open;
use crate::kernel::socket;
use crate::shim::protocol::Request;

/// First wait before a cgroup that is still busy is removed again.
const FIRST_RETRY: Duration = Duration::from_millis(1);

impl Sandbox {
    /// Kills everything in the pod, ends the shim, and removes its cgroups and the `runtime/` directory.
    /// Bounded; safe to repeat; works on a dead shim.
    ///
    /// # Errors
    /// [`Error::Timeout`] or [`Error::Step`] when a process does not die even when killed.
    pub async fn shutdown(&self) -> Result<(), Error> {
        match self.end_shim().await {
            Ok(()) | Err(Error::Lost { .. }) => {}
            Err(error) => return Err(error),
        }
        self.sweep().await?;
        let records = &self.inner.records;
        // What had to be mounted on the host where the shim was killed.
        for kept in ["shm", "proc"] {
            let _ = umount2(&records.dir().join(kept), MntFlags::MNT_DETACH);
        }
        records.remove_all().map_err(|source| Error::File {
            path: records.dir().to_owned(),
            source,
        })
    }

    async fn end_shim(&self) -> Result<(), Error> {
        let client = self.client()?;
        self.simple(Request::Shutdown, "", DEATH_LIMIT).await?;
        client.ended(DEATH_LIMIT).await
    }

    /// Kills what is left in the pod's cgroup and removes it.
    async fn sweep(&self) -> Result<(), Error> {
        let (cgroups, group) = (&self.inner.cgroups, self.inner.pod_group.as_str());
        let deadline = Instant::now() + DEATH_LIMIT;
        let mut wait = FIRST_RETRY;
        loop {
            let processes = cgroups.processes(group);
            if !processes.is_empty() {
                cgroups.kill(group).map_err(|source| self.stuck(source))?;
                for pid in processes {
                    // One that ended meanwhile is what was wanted.
                    let _ = tokio::time::timeout_at(deadline, wait_for(pid)).await;
                }
            }
            match cgroups.remove(group) {
                Ok(()) => return Ok(()),
                Err(source) if Instant::now() > deadline => return Err(self.stuck(source)),
                // The kernel takes a moment to let go of a cgroup after its last process.
                Err(_) => tokio::time::sleep(wait).await,
            }
            wait = (wait * 2).min(Duration::from_millis(100));
        }
    }

    fn stuck(&self, source: StepError) -> Error {
        let left: Vec<String> = self
            .inner
            .cgroups
            .processes(&self.inner.pod_group)
            .iter()
            .map(ToString::to_string)
            .collect();
        let source = if left.is_empty() {
            source
        } else {
            let cause = format!(
                "processes {} do not die, perhaps waiting for a device",
                left.join(", ")
            );
            StepError::other(Step::Cgroup, self.inner.pod_group.as_str(), cause)
        };
        Error::Step {
            action: "end",
            object: format!("pod {}", self.inner.config.pod_uid),
            source,
        }
    }
}

/// Waits until a process that need not be a child has ended.
async fn wait_for(pid: Pid) -> io::Result<()> {
    let pidfd = socket::watch(pidfd_open(pid)?, Interest::READABLE)?;
    pidfd.readable().await.map(drop)
}
