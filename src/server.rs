//! The API server and the controllers, wired together.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::fault::Fault;
use crate::parts::Parts;

/// What the API server is told on the command line.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Settings {
    /// Where the API server listens
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:6443")]
    pub(crate) listen: SocketAddr,
    /// More names or addresses for the server's certificate; may be repeated
    #[arg(long = "tls-san", value_name = "NAME")]
    pub(crate) tls_names: Vec<String>,
    /// File of static tokens: lines of token,user,uid,"group1,group2"
    #[arg(long, value_name = "FILE")]
    pub(crate) token_auth_file: Option<PathBuf>,
}

/// A running API server, with its controllers.
pub(crate) struct Running;

impl Settings {
    /// Starts the API server and the controllers as parts of this process.
    pub(crate) async fn start(&self, data_dir: &Path, parts: &mut Parts) -> Result<Running, Fault> {
        let _ = (data_dir, parts);
        Err(Fault::told(
            "starting the API server",
            "this build has none",
            "",
        ))
    }
}
