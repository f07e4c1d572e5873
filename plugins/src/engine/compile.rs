//! Compiling within bounds: in a child process with limits on memory and time, or one at a time here.

use super::{LoadError, config};
use nix::sys::resource::{Resource, setrlimit};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
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

    /// Machine code of a component.
    pub(super) async fn compile(
        &self,
        engine: &wasmtime::Engine,
        component: &[u8],
    ) -> Result<Vec<u8>, LoadError> {
        let _turn = self.turn.acquire().await;
        match &self.program {
            Some(program) => in_child(program, component).await,
            None => {
                let (engine, component) = (engine.clone(), component.to_vec());
                let work = move || engine.precompile_component(&component);
                let joined = tokio::task::spawn_blocking(work).await;
                let compiled = joined.map_err(|error| LoadError::Compile(error.to_string()))?;
                compiled.map_err(|error| LoadError::Compile(format!("{error:#}")))
            }
        }
    }
}

async fn in_child(program: &PathBuf, component: &[u8]) -> Result<Vec<u8>, LoadError> {
    let failed = |what: &str, error: std::io::Error| {
        LoadError::Compile(format!("{what} {}: {error}", program.display()))
    };
    let mut child = tokio::process::Command::new(program)
        .arg("plugin-compile")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed("starting", error))?;
    let input = child.stdin.take();
    let feed = async {
        // A child that ended early says why on its standard error.
        if let Some(mut input) = input {
            let _ = input.write_all(component).await;
        }
    };
    let bounded = tokio::time::timeout(Duration::from_secs(CHILD_SECONDS), async {
        tokio::join!(feed, child.wait_with_output()).1
    });
    let output = bounded
        .await
        .map_err(|_| LoadError::Compile(format!("took longer than {CHILD_SECONDS} s")))?
        .map_err(|error| failed("waiting for", error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said
        .lines()
        .last()
        .unwrap_or("it ran out of memory or time")
        .to_owned();
    Err(LoadError::Compile(said))
}

/// The whole of a compiler's process: WebAssembly from standard input, machine code to standard
/// output, within limits it sets itself.
///
/// # Errors
/// One line for the parent to show.
pub fn compile_main() -> Result<(), String> {
    for (resource, most) in [
        (Resource::RLIMIT_AS, CHILD_BYTES),
        (Resource::RLIMIT_CPU, CHILD_SECONDS),
    ] {
        setrlimit(resource, most, most).map_err(|error| format!("setting limits: {error}"))?;
    }
    let mut component = Vec::new();
    std::io::stdin()
        .read_to_end(&mut component)
        .map_err(|error| format!("reading: {error}"))?;
    let engine = config::compiler().map_err(|error| format!("{error:#}"))?;
    let compiled = engine
        .precompile_component(&component)
        .map_err(|error| format!("{error:#}"))?;
    std::io::stdout()
        .write_all(&compiled)
        .map_err(|error| format!("writing: {error}"))
}
