//! `davit up`: everything on this machine, in the foreground.

use std::path::PathBuf;

use crate::connect::DEFAULT_DATA_DIR;
use crate::fault::Fault;
use crate::lock::{self, Role};
use crate::up::Plan;
use crate::{agent, manifest, server, shutdown};

/// What `davit up` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Manifests to apply: files, directories, or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where davit keeps its data
    #[arg(long, env = "DAVIT_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    #[command(flatten)]
    server: server::Settings,
    #[command(flatten)]
    agent: agent::Settings,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Fault> {
        agent::require_root()?;
        let manifests = if self.files.is_empty() {
            Vec::new()
        } else {
            manifest::read(&self.files)?
        };
        let data_dir = lock::make_data_dir(&self.data_dir)?;
        let _locks = [
            lock::take(&data_dir, Role::Server)?,
            lock::take(&data_dir, Role::Agent)?,
        ];
        let shutdown = shutdown::on_signal()?;
        let plan = Plan {
            data_dir: &data_dir,
            server: &self.server,
            agent: &self.agent,
            manifests: &manifests,
        };
        plan.run(shutdown).await
    }
}
