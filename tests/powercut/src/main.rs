//! The rig as a program: the tests run it as a process of its own that they can give a mount namespace, trace and kill.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use davit_apiserver::storage::{Options, open_sled};
use davit_powercut::block_log::Unflushed;
use davit_powercut::files::Fault;
use davit_powercut::rig::Load;
use davit_powercut::{bench, faults, full, life, machine, rig, workload};

const USAGE: &str = "usage:
  davit-powercut cut dropped|random|kept WRITERS STEPS CUTS SEED [lying]
                                            cut the power of a store (needs root)
  davit-powercut full reserve|none|delete   fill the disk of a store (needs root)
  davit-powercut faults kill|full|broken|once LIVES SEED
                                            let the disk of a store fail at each step (needs root)
  davit-powercut life DIR                   the life that is cut short there
  davit-powercut write DIR WRITERS STEPS    let each writer go on, printing each acknowledgement
  davit-powercut bench DIR WRITERS OBJECTS SECONDS
                                            measure acknowledged writes";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["cut", unflushed, writers, steps, cuts, seed, ref lying @ ..] => {
            let load = Load {
                writers: writers.parse()?,
                steps: steps.parse()?,
            };
            cut(
                unflushed,
                load,
                cuts.parse()?,
                seed.parse()?,
                lying == ["lying"],
            )
        }
        ["full", "delete"] => {
            machine::private_mounts()?;
            full::free_by_deleting()
        }
        ["faults", fault, lives, seed] => faults(fault, lives.parse()?, seed.parse()?),
        ["life", dir] => life::run(Path::new(dir)),
        ["full", how @ ("reserve" | "none")] => {
            machine::private_mounts()?;
            full::run(how == "reserve")
        }
        ["write", dir, writers, steps] => write(Path::new(dir), writers.parse()?, steps.parse()?),
        ["bench", dir, writers, objects, seconds] => {
            let time = Duration::from_secs_f64(seconds.parse()?);
            let bench = bench::run(Path::new(dir), writers.parse()?, objects.parse()?, time);
            println!("{:#?}", runtime()?.block_on(bench)?);
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

fn cut(unflushed: &str, load: Load, cuts: usize, seed: u64, lying: bool) -> anyhow::Result<()> {
    let unflushed = match unflushed {
        "dropped" => Unflushed::Dropped,
        "random" => Unflushed::Random,
        "kept" => Unflushed::Kept,
        _ => bail!("{USAGE}"),
    };
    machine::private_mounts()?;
    let report = rig::run(unflushed, load, cuts, seed, lying)?;
    let whole = report.cuts - report.failures.len();
    println!(
        "{unflushed:?}, {} writers: {whole} of {} cuts whole; {} operations, {} acknowledged, {:.1} s",
        report.writers,
        report.cuts,
        report.operations,
        report.acknowledged,
        report.took.as_secs_f64()
    );
    report
        .failures
        .iter()
        .for_each(|failure| println!("  {failure}"));
    if !report.failures.is_empty() {
        std::process::exit(1);
    }
    Ok(())
}

fn faults(fault: &str, lives: usize, seed: u64) -> anyhow::Result<()> {
    let fault = match fault {
        "kill" => Fault::Kill,
        "full" => Fault::Full,
        "broken" => Fault::Broken,
        "once" => Fault::Once,
        _ => bail!("{USAGE}"),
    };
    machine::private_mounts()?;
    let report = faults::run(fault, lives, seed)?;
    let whole = report.lives - report.failures.len();
    println!(
        "{fault:?}: {whole} of {} stores open again; {} acknowledged, {} went on in the same process; steps: {:?}",
        report.lives, report.acknowledged, report.recovered, report.operations
    );
    report
        .failures
        .iter()
        .for_each(|failure| println!("  {failure}"));
    if !report.failures.is_empty() {
        std::process::exit(1);
    }
    Ok(())
}

fn write(dir: &Path, writers: usize, steps: u64) -> anyhow::Result<()> {
    let options = Options {
        history_bytes: 1 << 30,
        log_bytes: 256 << 10,
        ..Options::default()
    };
    let store = open_sled(dir, &options)?;
    let out = Arc::new(Mutex::new(std::io::stdout()));
    // One write a line, so that a reader has each line that was acknowledged before the process was killed.
    let acknowledged = move |writer, step| {
        if let Ok(mut out) = out.lock() {
            let _ = out.write_all(format!("{writer} {step}\n").as_bytes());
        }
    };
    runtime()?.block_on(async {
        let reached = workload::reached(&*store, writers).await?;
        let next = reached
            .iter()
            .map(|reached| reached + 1..=reached + steps)
            .collect();
        workload::write(&store, next, acknowledged)
            .await
            .context("write the steps")
    })
}
