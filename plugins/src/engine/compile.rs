//! From a file to machine code. Files are not trusted and the tools that read them were made for
//! trusted ones (a crafted file can overflow the reader's stack), so this happens in a child process
//! with limits on memory and time.

use super::inspect::{self, Inspected, LoadError};
use super::{artifact, config};
use nix::sys::resource::{Resource, setrlimit};
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

/// Address space of the compiler's process.
const CHILD_BYTES: u64 = 1 << 30;
/// Processor and wall time of one compilation.
const CHILD_SECONDS: u64 = 60;

#[derive(Debug)]
pub(super) struct Compiler {
    program: Option<PathBuf>,
    /// Compiling takes all processors it gets; a second one would only slow both.
    turn: Semaphore,
}

impl Compiler {
    pub(super) fn new(program: Option<PathBuf>) -> Self {
        Self {
            program,
            turn: Semaphore::new(1),
        }
    }

    /// The artifact of a file: its interfaces and its machine code.
    pub(super) async fn compile(&self, file: &[u8]) -> Result<Vec<u8>, LoadError> {
        inspect::glance(file)?;
        let _turn = self.turn.acquire().await;
        match &self.program {
            Some(program) => in_child(program, file).await,
            None => {
                let file = file.to_vec();
                let joined = tokio::task::spawn_blocking(move || here(&file)).await;
                joined.map_err(|error| LoadError::Invalid(error.to_string()))?
            }
        }
    }
}

fn here(file: &[u8]) -> Result<Vec<u8>, LoadError> {
    let failed = |error: wasmtime::Error| LoadError::Compile(format!("{error:#}"));
    let (Inspected { imports, exports }, component) = inspect::inspect(file)?;
    let engine = config::compiler().map_err(failed)?;
    let code = engine.precompile_component(&component).map_err(failed)?;
    Ok(artifact::join(&Inspected { imports, exports }, &code))
}

async fn in_child(program: &Path, file: &[u8]) -> Result<Vec<u8>, LoadError> {
    let failed = |what: &str, error: std::io::Error| {
        LoadError::Compile(format!("{what} {}: {error}", program.display()))
    };
    let mut child = tokio::process::Command::new(program)
        .arg("plugin-compile")
        // The program's allocator takes 1 GiB of addresses in advance, which would be all that the child may have.
        .env("MIMALLOC_ARENA_RESERVE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed("starting", error))?;
    let input = child.stdin.take();
    let feed = async {
        // A child that ends early says why in its status.
        if let Some(mut input) = input {
            let _ = input.write_all(file).await;
        }
    };
    let bounded = tokio::time::timeout(Duration::from_secs(CHILD_SECONDS), async {
        tokio::join!(feed, child.wait_with_output()).1
    });
    let output = bounded
        .await
        .map_err(|_| LoadError::Compile(format!("it takes longer than {CHILD_SECONDS} s")))?
        .map_err(|error| failed("waiting for", error))?;
    match output.status.code() {
        Some(0) => Ok(output.stdout),
        Some(REFUSED) => Err(serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| LoadError::Compile(error.to_string()))),
        _ => Err(died(output.status)),
    }
}

fn died(status: ExitStatus) -> LoadError {
    match status.signal() {
        Some(libc_signal) if libc_signal == nix::libc::SIGXCPU => LoadError::Compile(format!(
            "it takes more than {CHILD_SECONDS} s of processor time"
        )),
        Some(_) => LoadError::Invalid("reading it crashes the compiler".to_owned()),
        None => LoadError::Compile(format!(
            "the compiler ended with {status}; it may have run out of its {} MiB of memory",
            CHILD_BYTES >> 20
        )),
    }
}

/// Exit code of a child that refuses the file and says why.
const REFUSED: i32 = 3;

/// The whole of a compiler's process, called with `plugin-compile`: a file from standard input, its
/// artifact to standard output, within limits it sets itself. Returns the exit code.
#[must_use]
pub fn compile_main() -> i32 {
    let limits = [
        (Resource::RLIMIT_AS, CHILD_BYTES),
        (Resource::RLIMIT_CPU, CHILD_SECONDS),
        (Resource::RLIMIT_CORE, 0),
    ];
    for (resource, most) in limits {
        if setrlimit(resource, most, most).is_err() {
            return 1;
        }
    }
    let mut file = Vec::new();
    if std::io::stdin().read_to_end(&mut file).is_err() {
        return 1;
    }
    let (bytes, code) = match here(&file) {
        Ok(artifact) => (artifact, 0),
        Err(error) => (serde_json::to_vec(&error).unwrap_or_default(), REFUSED),
    };
    match std::io::stdout().write_all(&bytes) {
        Ok(()) => code,
        Err(_) => 1,
    }
}
