//! Stores whose disk fails at some step of their life: every one opens again with every acknowledged write, by itself.
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use davit_apiserver::storage::{Error, open_sled};
use tempfile::TempDir;

use crate::block_log::Chance;
use crate::files::{Fault, Files};
use crate::life::{self, WRITERS};
use crate::tree::Tree;
use crate::workload;

/// A store that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the lives of stores came to.
#[derive(Debug)]
pub struct Report {
    /// The fault of them all.
    pub fault: Fault,
    /// How many operations a whole life has, by what it begins with.
    pub operations: Vec<(&'static str, u64)>,
    /// Lives cut short.
    pub lives: usize,
    /// Acknowledged writes among them.
    pub acknowledged: u64,
    /// How many of the stores helped themselves in the same process.
    pub recovered: usize,
    /// The lives after which something was not as it must be.
    pub failures: Vec<String>,
}

/// What a life begins with.
struct Start {
    name: &'static str,
    tree: Tree,
    acked: Vec<u64>,
    operations: u64,
}

/// What happens to a store whose disk has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// Its process is killed.
    Kill,
    /// The disk works again, and the store must.
    Heal,
    /// It is stopped while the disk fails.
    Stop,
}

/// How a life ended.
struct Lived {
    tree: Tree,
    acked: Vec<u64>,
    recovered: bool,
}

/// Lets so many stores live with a fault at a random step each.
///
/// # Errors
/// What keeps the rig itself from working.
pub fn run(fault: Fault, lives: usize, seed: u64) -> anyhow::Result<Report> {
    let dir = tempfile::Builder::new()
        .prefix("davit-powercut-")
        .tempdir()?;
    let mut chance = Chance(seed);
    let starts = starts(&dir).context("the lives without a fault")?;
    let mut report = Report {
        fault,
        operations: starts.iter().map(|s| (s.name, s.operations)).collect(),
        lives,
        acknowledged: 0,
        recovered: 0,
        failures: Vec::new(),
    };
    for number in 0..lives {
        let start = &starts[number % starts.len()];
        let at = chance.below(start.operations);
        let heals = number / starts.len() % 2 == 0;
        let what = format!(
            "{}, {fault:?} at operation {at}, heals: {heals}",
            start.name
        );
        let lived = live(&dir, start, Some((at, fault)), heals);
        let checked = lived.and_then(|lived| {
            report.recovered += usize::from(lived.recovered);
            report.acknowledged += lived.acked.iter().sum::<u64>();
            check(&dir, &lived).map(drop)
        });
        if let Err(error) = checked {
            report.failures.push(format!("{what}: {error:#}"));
        }
    }
    Ok(report)
}

/// No store at all, one that was stopped, and one whose process was killed while it wrote.
fn starts(dir: &TempDir) -> anyhow::Result<Vec<Start>> {
    let start = |name, tree, acked| Start {
        name,
        tree,
        acked,
        operations: 0,
    };
    let none = start("no store", Tree::default(), vec![0; WRITERS]);
    let (whole, operations) = measured(dir, &none)?;
    let killed = live(dir, &none, Some((operations / 4, Fault::Kill)), false)?;
    // One step of each writer may have been under way.
    let acked = check(dir, &killed)?;
    let mut starts = vec![
        none,
        start("a stopped store", whole.tree, whole.acked),
        start("a killed store", killed.tree, acked),
    ];
    for start in &mut starts {
        start.operations = measured(dir, start)?.1;
    }
    Ok(starts)
}

fn measured(dir: &TempDir, start: &Start) -> anyhow::Result<(Lived, u64)> {
    let files = Files::new(start.tree.clone(), None);
    let lived = live_on(dir, start, &files, After::Heal)?;
    Ok((lived, files.operations()))
}

fn live(
    dir: &TempDir,
    start: &Start,
    plan: Option<(u64, Fault)>,
    heals: bool,
) -> anyhow::Result<Lived> {
    let files = Files::new(start.tree.clone(), plan);
    let killed = matches!(plan, Some((_, Fault::Kill)));
    live_on(
        dir,
        start,
        &files,
        if killed {
            After::Kill
        } else if heals {
            After::Heal
        } else {
            After::Stop
        },
    )
}

fn live_on(dir: &TempDir, start: &Start, files: &Files, after: After) -> anyhow::Result<Lived> {
    let at = tempfile::tempdir_in(dir)?;
    let session = files.mount(at.path())?;
    let mut child = spawn(at.path())?;
    let told = follow(&mut child, files, after, start.acked.clone());
    // It has ended, or hangs and is ended.
    let _ = child.kill();
    child.wait()?;
    drop(session);
    let (acked, recovered) = told?;
    Ok(Lived {
        tree: files.tree(),
        acked,
        recovered,
    })
}

#[allow(
    clippy::disallowed_methods,
    reason = "what is cut short must be a process of its own"
)]
fn spawn(dir: &Path) -> anyhow::Result<Child> {
    let rig = std::env::current_exe()?;
    let mut command = Command::new(rig);
    command.arg("life").arg(dir);
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    piped.spawn().context("start a store")
}

/// Reads what a life tells until it ends.
fn follow(
    child: &mut Child,
    files: &Files,
    after: After,
    mut acked: Vec<u64>,
) -> anyhow::Result<(Vec<u64>, bool)> {
    let lines = lines(child.stdout.take().context("it has an output")?)?;
    let errors = lines_of_errors(child)?;
    let mut input = child.stdin.take().context("it has an input")?;
    let heals = after == After::Heal;
    let mut healed = false;
    let mut heard = Instant::now();
    loop {
        let next = lines.recv_timeout(LOOK_EVERY);
        if after == After::Kill && files.has_failed() {
            // What it still said was acknowledged before.
            child.kill()?;
            next.into_iter()
                .chain(lines.iter())
                .filter(|line| !line.starts_with("failed"))
                .try_for_each(|line| note(&line, &mut acked))?;
            return Ok((acked, false));
        }
        if next.is_ok() {
            heard = Instant::now();
        }
        match next {
            Ok(line) => match line.strip_prefix("failed: ") {
                Some(why) => {
                    ensure!(!why.contains("put a copy"), "it gives the store up: {why}");
                    healed = heals;
                    answer(&mut input, files, heals)?;
                }
                None => note(&line, &mut acked)?,
            },
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if heard.elapsed() < PATIENCE => {}
            Err(RecvTimeoutError::Timeout) => bail!("it hangs"),
        }
    }
    let status = child.wait()?;
    ensure!(
        status.success(),
        "it ended with {status}: {}",
        errors.recv().unwrap_or_default()
    );
    Ok((acked, healed))
}

fn answer(input: &mut ChildStdin, files: &Files, heals: bool) -> anyhow::Result<()> {
    if heals {
        files.heal();
    }
    let answer = if heals { "go\n" } else { "stop\n" };
    input.write_all(answer.as_bytes())?;
    Ok(())
}

fn note(line: &str, acked: &mut [u64]) -> anyhow::Result<()> {
    let (writer, step) = line
        .split_once(' ')
        .context("a line of an acknowledgement")?;
    let writer: usize = writer.parse()?;
    *acked.get_mut(writer).context("a writer")? = step.parse()?;
    Ok(())
}

fn lines(out: impl std::io::Read + Send + 'static) -> anyhow::Result<Receiver<String>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new().spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    })?;
    Ok(receiver)
}

/// Everything that is said on the way, as one text at the end.
fn lines_of_errors(child: &mut Child) -> anyhow::Result<Receiver<String>> {
    let mut out = child.stderr.take().context("it has errors")?;
    let (sender, receiver) = channel();
    std::thread::Builder::new().spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut out, &mut text);
        let _ = sender.send(text);
    })?;
    Ok(receiver)
}

/// Opens the store on what is left, without a fault: it holds what was acknowledged, goes on, and does so again. Answers how far its
/// writers had come.
fn check(dir: &TempDir, lived: &Lived) -> anyhow::Result<Vec<u64>> {
    let files = Files::new(lived.tree.clone(), None);
    let at = tempfile::tempdir_in(dir)?;
    let session = files.mount(at.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let path = at.path().join("store");
    let mut acked = lived.acked.clone();
    let mut first = None;
    for when in ["afterwards", "after going on"] {
        let (_, options) = life::options(at.path())?;
        let opened: Result<_, Error> = open_sled(&path, &options);
        let store = opened.with_context(|| format!("open the store {when}"))?;
        let reached = runtime
            .block_on(workload::check(&*store, &acked))
            .context(when)?;
        let next = reached.iter().map(|done| done + 1..=done + 2).collect();
        runtime.block_on(workload::write(&store, next, |_, _| {}))?;
        acked = reached.iter().map(|done| done + 2).collect();
        first.get_or_insert(reached);
    }
    drop(session);
    first.context("it was opened")
}
