//! The measured davit process: started on a fresh directory, taken down at the end.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a process holds on to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// Resident bytes.
    pub(crate) memory: u64,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    /// Bytes of its store on disk.
    pub(crate) store: u64,
}

/// A running `davit server` or `davit up`.
#[derive(Debug)]
pub(crate) struct Server {
    davit: PathBuf,
    mode: &'static str,
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    child: Child,
    /// From exec to the first 200 of `/readyz`.
    pub(crate) ready_after: Duration,
}

impl Server {
    pub(crate) fn start(davit: &Path, mode: &'static str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("davit-bench-").tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (child, ready_after) = spawn(davit, mode, folder.path(), port)?;
        Ok(Self {
            davit: davit.to_owned(),
            mode,
            folder,
            port,
            child,
            ready_after,
        })
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Stops the process and starts it again on the same data.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.stop()?;
        let (child, ready_after) = spawn(&self.davit, self.mode, self.folder.path(), self.port)?;
        (self.child, self.ready_after) = (child, ready_after);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        self.child.wait()?;
        Ok(())
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kibibytes.context("no VmRSS")?.parse::<u64>()? * 1024)
    }

    /// What the process holds on to.
    pub(crate) fn kept(&self) -> Result<Kept> {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        Ok(Kept {
            memory: self.rss()?,
            descriptors: fs::read_dir(proc.join("fd"))?.count(),
            threads: fs::read_dir(proc.join("task"))?.count(),
            store: bytes_in(&self.data_dir().join("store"))?,
        })
    }

    /// Processor time used so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<u64>().ok())
        };
        let total = ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0);
        Ok(Duration::from_millis(total * 10))
    }

    /// Runs a davit command on this data directory; it must succeed.
    pub(crate) fn davit(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.davit);
        let output = command
            .args(args)
            .arg("--data-dir")
            .arg(self.data_dir())
            .output()?;
        if !output.status.success() {
            bail!(
                "davit {args:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(crate) fn kubeconfig(&self) -> Result<String> {
        self.davit(&["kubeconfig"])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop();
        if self.mode == "up" {
            let _ = self.davit(&["down"]);
        }
    }
}

fn bytes_in(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += match metadata.is_dir() {
            true => bytes_in(&entry.path())?,
            false => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}

fn spawn(davit: &Path, mode: &str, folder: &Path, port: u16) -> Result<(Child, Duration)> {
    let log = fs::File::create(folder.join("log"))?;
    let start = Instant::now();
    let mut child = Command::new(davit)
        .args([mode, "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
        .arg(folder.join("data"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            bail!(
                "davit {mode} ended: {status}\n{}",
                fs::read_to_string(folder.join("log"))?
            );
        }
        if crate::client::is_ready(port) {
            return Ok((child, start.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    bail!("davit {mode} was not ready within {PATIENCE:?}")
}
