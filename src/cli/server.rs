//! `davit server`: the API server and the controllers, in the foreground.

use crate::fault::Fault;

/// What `davit server` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: crate::server::Settings,
    #[command(flatten)]
    agent: crate::agent::Settings,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Fault> {
        let _ = (self.server, self.agent);
        Err(Fault::told("", "this build has no API server", ""))
    }
}
