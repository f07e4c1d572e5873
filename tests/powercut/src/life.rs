//! The whole life of a store, from its making to its second stop, told line by line to whoever cuts it short.
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use davit_apiserver::storage::{Keyring, Options, Store, backup, open_sled, restore};

use crate::workload;

/// Who writes at once.
pub const WRITERS: usize = 4;
/// How long a store may take to help itself.
const PATIENCE: Duration = Duration::from_secs(240);

/// The ring of a directory and the options with it: little history, and a log whose files are written over often.
pub fn options(dir: &Path) -> anyhow::Result<(Arc<Keyring>, Options)> {
    let keyring = Keyring::load_or_create(&dir.join("pki/keys"), vec!["/w/000".to_owned()])?;
    let options = Options {
        history_bytes: 256 << 10,
        log_bytes: 64 << 10,
        reserve_bytes: 2 << 20,
        seal: Some(Arc::clone(&keyring)),
        ..Options::default()
    };
    Ok((keyring, options))
}

/// Lives. A failure is told in a line that begins with `failed`; the answer is `go`, when there is no fault any more and everything
/// must work, or `stop`.
///
/// # Errors
/// What fails although everything must work.
pub fn run(dir: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut store = None;
    let Err(error) = live(&runtime, dir, &mut store) else {
        return Ok(());
    };
    tell(&format!("failed: {error:#}").replace('\n', " "))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() != "go" {
        return Ok(());
    }
    // What sled may still hold of a store that could not be opened or closed ends with its process only.
    let Some(open) = &store else {
        return Ok(());
    };
    until_writable(&**open)?;
    live(&runtime, dir, &mut store).context("after the fault")
}

fn live(
    runtime: &tokio::runtime::Runtime,
    dir: &Path,
    open: &mut Option<Arc<dyn Store>>,
) -> anyhow::Result<()> {
    let (keyring, options) = options(dir)?;
    let path = dir.join("store");
    let store = match open.take() {
        Some(store) => store,
        None => open_sled(&path, &options)?,
    };
    *open = Some(store.clone());
    write(runtime, &store, 12)?;
    keyring.rotate()?;
    runtime.block_on(store.rewrite())?;
    write(runtime, &store, 8)?;
    save(runtime, dir, &*store, &options)?;
    drop((store, open.take()));
    let store = open_sled(&path, &options)?;
    *open = Some(store.clone());
    write(runtime, &store, 8)?;
    drop((store, open.take()));
    Ok(())
}

fn write(
    runtime: &tokio::runtime::Runtime,
    store: &Arc<dyn Store>,
    steps: u64,
) -> anyhow::Result<()> {
    runtime.block_on(async {
        let reached = workload::reached(&**store, WRITERS).await?;
        let next = reached.iter().map(|done| done + 1..=done + steps).collect();
        let told = Arc::new(Mutex::new(()));
        let acknowledged = move |writer, step| {
            let _one = told.lock();
            let _ = tell(&format!("{writer} {step}"));
        };
        workload::write(store, next, acknowledged).await
    })
}

/// Backs the store up into a file, and makes another store of that.
fn save(
    runtime: &tokio::runtime::Runtime,
    dir: &Path,
    store: &dyn Store,
    options: &Options,
) -> anyhow::Result<()> {
    let seal = options.seal.as_deref();
    let file = dir.join("backup");
    runtime.block_on(async {
        let mut out = tokio::fs::File::create(&file).await?;
        backup(store, seal, &mut out).await.context("back up")?;
        out.sync_all().await?;
        anyhow::Ok(())
    })?;
    let copy = dir.join("copy");
    if copy.exists() {
        std::fs::remove_dir_all(&copy)?;
    }
    restore(&copy, &mut std::fs::File::open(&file)?, options).context("restore")?;
    drop(open_sled(&copy, options).context("open what was restored")?);
    Ok(())
}

fn until_writable(store: &dyn Store) -> anyhow::Result<()> {
    let begun = Instant::now();
    while let Some(fault) = store.status().write_fault {
        if begun.elapsed() > PATIENCE {
            bail!("the store does not recover: {fault}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn tell(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()
}
