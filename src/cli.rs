//! The command line: one file a command.

mod agent;
mod apply;
mod delete;
mod describe;
mod diff;
mod down;
mod get;
mod hello_server;
mod images;
mod kubeconfig;
mod logs;
mod server;
mod up;

use clap::{Parser, Subcommand};

use crate::fault::Fault;
use crate::logging;

pub(crate) use apply::apply_documents;

/// A Kubernetes-style declarative reconciler in one binary
#[derive(Debug, Parser)]
#[command(
    name = "davit",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What to log: a level, or target=level pairs
    #[arg(long, global = true, env = "DAVIT_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// How to write the log
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    log_format: logging::Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine: API server, controllers and node, in the foreground
    Up(up::Args),
    /// Remove what davit runs on this machine: pods, networks, mounts, cgroups
    Down(down::Args),
    /// Run the API server and the controllers only
    Server(server::Args),
    /// Run the node agent only
    Agent(agent::Args),
    /// Print the admin kubeconfig
    Kubeconfig(kubeconfig::Args),
    /// Make the cluster match manifests, by server-side apply
    Apply(apply::Args),
    /// Show objects
    Get(get::Args),
    /// Show what applying manifests would change, or what changed since a moment of the past; exits with 1 if anything
    Diff(diff::Args),
    /// Show everything about objects, with their events
    Describe(describe::Args),
    /// Show what the containers of a pod print
    Logs(logs::Args),
    /// Delete objects
    Delete(delete::Args),
    /// Fetch, import, list and remove the images of this node
    Images(images::Args),
    #[command(hide = true)]
    HelloServer(hello_server::Args),
}

impl Cli {
    /// How to log. Servers tell what they do; commands only print their one line when they fail.
    pub(crate) fn logging(&self) -> logging::Settings {
        let default = match self.command {
            Command::Server(_) | Command::Agent(_) => "info",
            Command::Up(_) => "warn",
            _ => "off",
        };
        logging::Settings {
            filter: self.log.clone().unwrap_or_else(|| default.to_owned()),
            format: self.log_format,
        }
    }

    /// How the process ends when the command fails: `diff` keeps 1 for differences, as `diff` does.
    pub(crate) fn failure(&self) -> u8 {
        if matches!(self.command, Command::Diff(_)) {
            2
        } else {
            1
        }
    }

    /// Runs the command.
    pub(crate) async fn run(self) -> Result<(), Fault> {
        let (name, result) = match self.command {
            Command::Up(args) => ("up", args.run().await),
            Command::Down(args) => ("down", args.run().await),
            Command::Server(args) => ("server", args.run().await),
            Command::Agent(args) => ("agent", args.run().await),
            Command::Kubeconfig(args) => ("kubeconfig", args.run()),
            Command::Apply(args) => ("apply", args.run().await),
            Command::Get(args) => ("get", args.run().await),
            Command::Diff(args) => ("diff", args.run().await),
            Command::Describe(args) => ("describe", args.run().await),
            Command::Logs(args) => ("logs", args.run().await),
            Command::Delete(args) => ("delete", args.run().await),
            Command::Images(args) => ("images", args.run().await),
            Command::HelloServer(args) => ("hello-server", args.run().await),
        };
        result.map_err(|fault| fault.within(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
