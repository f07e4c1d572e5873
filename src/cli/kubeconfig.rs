//! `davit kubeconfig`: prints the admin kubeconfig.

use std::path::PathBuf;

use crate::connect::{DEFAULT_DATA_DIR, kubeconfig_path};
use crate::fault::Fault;
use crate::output::Output;

/// What `davit kubeconfig` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Data directory of davit
    #[arg(long, env = "DAVIT_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Fault> {
        let path = kubeconfig_path(&self.data_dir);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "start davit with `davit up`, or name its directory with --data-dir"
                }
                std::io::ErrorKind::PermissionDenied => "run it as the user who started davit",
                _ => "name the directory of a running davit with --data-dir",
            };
            Fault::new(format!("reading {}", path.display()), error, remedy)
        })?;
        Output::new().data(&text)
    }
}
