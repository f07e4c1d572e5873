//! `make bench`: measures a release build of davit from outside, prints one table beside the bars
//! it is held to, and writes it as JSON. It reports; it never judges.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]
#![allow(
    clippy::disallowed_methods,
    reason = "it starts the programs that it measures"
)]

mod api;
mod client;
mod containers;
mod pods;
mod process;
mod soak;
mod table;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::client::Target;
use crate::process::Server;
use crate::table::Table;

/// Measures davit.
#[derive(Debug, Parser)]
struct Options {
    /// The binary to measure.
    #[arg(long, default_value = "target/release/davit")]
    davit: PathBuf,
    /// Objects in the API rows.
    #[arg(long, default_value_t = 5000)]
    objects: usize,
    /// Pods in the rows of the soak.
    #[arg(long, default_value_t = 10_000)]
    soak: usize,
    /// Only measure the soak.
    #[arg(long)]
    only_soak: bool,
    /// Leave out the rows that run containers.
    #[arg(long)]
    no_pods: bool,
    /// Only measure this runtime on a layer with a program, and print the milliseconds.
    #[arg(long, hide = true, requires = "layer")]
    peer: Option<String>,
    #[arg(long, hide = true)]
    layer: Option<PathBuf>,
    /// Where the table is written as JSON.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let (Some(peer), Some(layer)) = (&options.peer, &options.layer) {
        println!("{}", containers::peer(peer, layer)?);
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&options))
}

async fn run(options: &Options) -> Result<()> {
    let mut table = Table::default();
    let size = std::fs::metadata(&options.davit)?.len();
    table.add("binary, stripped", mebibytes(size), "MiB", "≤ 45");
    if options.only_soak {
        soak(options, &mut table).await?;
        println!("{table}");
        return Ok(());
    }
    let mut server = Server::start(&options.davit, "server")?;
    table.add(
        "start to ready, empty",
        server.ready_after.as_secs_f64() * 1e3,
        "ms",
        "≤ 300",
    );
    api::measure(&server, options.objects, &mut table).await?;
    table.add(
        "memory with the objects (RSS)",
        mebibytes(server.rss()?),
        "MiB",
        "≤ 80",
    );
    server.restart()?;
    let name = format!("start to ready, {} objects", options.objects);
    table.add(
        &name,
        server.ready_after.as_secs_f64() * 1e3,
        "ms",
        "≤ 1000 (10,000)",
    );
    drop(server);
    soak(options, &mut table).await?;
    if !options.no_pods {
        containers::measure(&options.davit, &mut table).await?;
        pods::measure(&options.davit, &mut table).await?;
    }
    println!("{table}");
    table.write(&options.json)?;
    println!("written to {}", options.json.display());
    Ok(())
}

/// On a server of its own, so that nothing else is in its memory.
async fn soak(options: &Options, table: &mut Table) -> Result<()> {
    let server = Server::start(&options.davit, "server")?;
    let target = Target::new(server.port, &server.kubeconfig()?)?;
    let pool = target.pool(soak::CONNECTIONS).await?;
    soak::measure(&server, &pool, options.soak, table).await
}

#[allow(
    clippy::cast_precision_loss,
    reason = "sizes are shown with one decimal"
)]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
