//! `davit server`: the API server and the controllers, in the foreground.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::connect::DEFAULT_DATA_DIR;
use crate::fault::Fault;
use crate::lock::{self, Role};
use crate::output::Output;
use crate::parts::Parts;
use crate::progress::Progress;
use crate::{server, shutdown};

/// What `davit server` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where davit keeps its data
    #[arg(long, env = "DAVIT_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// DNS domain of Services
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Addresses outside of the cluster that Services may take (externalIPs); may be repeated, and agents are told the same
    /// [default: none]
    #[arg(long, value_name = "CIDR")]
    external_ips: Vec<IpNet>,
    #[command(flatten)]
    server: server::Settings,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Fault> {
        let data_dir = lock::make_data_dir(&self.data_dir)?;
        let _lock = lock::take(&data_dir, Role::Server)?;
        let shutdown = shutdown::on_signal()?;
        let mut parts = Parts::new();
        let work = async {
            let progress = Progress::new();
            let shared = server::Shared {
                domain: &self.cluster_domain,
                external_ips: &self.external_ips,
            };
            let running = self
                .server
                .start(&data_dir, shared, &mut parts, &progress)
                .await?;
            progress.finish();
            Output::new().line(&format!("davit server is ready at {}", running.url))?;
            parts.during(std::future::pending()).await
        };
        let result = tokio::select! {
            result = work => result,
            () = shutdown.cancelled() => Ok(()),
        };
        result.and(parts.stop().await)
    }
}
