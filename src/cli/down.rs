//! `davit down`: ends a running davit and its pods, and takes back everything it gave the host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::agent::require_root;
use crate::connect::DEFAULT_DATA_DIR;
use crate::fault::Fault;
use crate::lock::{self, Lock, Role};
use crate::output::{Output, note};

/// How long a running davit gets to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What davit keeps below its data directory.
const OWN: &[&str] = &[
    "store",
    "pki",
    "images",
    "pods",
    "volumes",
    "plugins",
    "ledger",
    "seccomp",
    "images.sock",
    "kubeconfig",
    "server.lock",
    "agent.lock",
];

/// What `davit down` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Data directory of davit
    #[arg(long, env = "DAVIT_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Delete the data too: objects, images, volumes, keys
    #[arg(long)]
    purge: bool,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Fault> {
        require_root()?;
        let dir = &self.data_dir;
        let what = || format!("using the data directory {}", dir.display());
        match dir.try_exists() {
            Ok(true) => {}
            Ok(false) => {
                let remedy = "name the one davit was started with by --data-dir";
                return Err(Fault::told(what(), "there is no such directory", remedy));
            }
            Err(error) => return Err(Fault::new(what(), error, "")),
        }
        // Held until the end, so that nothing starts on the directory meanwhile.
        let _locks = [end(dir, Role::Agent).await?, end(dir, Role::Server).await?];
        let report = davit_node::teardown(dir)
            .await
            .map_err(|error| Fault::new("", error, ""))?;
        for failure in &report.failures {
            note(&format!("davit: down: {failure}"));
        }
        let mut output = Output::new();
        output.line(&format!(
            "removed {} pods and {} mounts, links, rules and cgroups",
            report.pods, report.host_objects
        ))?;
        if !report.failures.is_empty() {
            let count = format!("{} things could not be removed", report.failures.len());
            return Err(Fault::told(
                "",
                count,
                "see above, and run `davit down` again",
            ));
        }
        if self.purge {
            purge(dir)?;
            output.line(&format!("deleted the data in {}", dir.display()))?;
        }
        Ok(())
    }
}

/// Takes the lock of `role`; a process that has it is told to end, and waited for.
async fn end(dir: &Path, role: Role) -> Result<Lock, Fault> {
    if let Some(pid) = lock::holder(dir, role) {
        // It may have ended just now.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let (owned, what) = (dir.to_owned(), format!("ending process {pid}"));
        let wait = tokio::task::spawn_blocking(move || lock::wait(&owned, role));
        return match tokio::time::timeout(PATIENCE, wait).await {
            Ok(Ok(lock)) => lock,
            Ok(Err(error)) => Err(Fault::new(what, error, "")),
            Err(_) => {
                let remedy = format!("end it with `kill -9 {pid}` and run `davit down` again");
                Err(Fault::told(what, "it does not end within a minute", remedy))
            }
        };
    }
    lock::take(dir, role)
}

/// Deletes what davit keeps in its data directory, and the directory if nothing else is in it.
fn purge(dir: &Path) -> Result<(), Fault> {
    for name in OWN {
        let path = dir.join(name);
        let removed = match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(_) => continue,
        };
        removed.map_err(|error| Fault::new(format!("deleting {}", path.display()), error, ""))?;
    }
    // Fails if the user keeps something there, which then stays.
    let _ = std::fs::remove_dir(dir);
    Ok(())
}
