//! Where the programs are, and scripts of command lines with what they have to say.
//!
//! A script has one command a line: `$` runs it through the shell and it must succeed, `!` must fail. A number
//! behind the sign is the oldest minor version that knows the command. `>` lines below it are texts that its
//! output contains, `<` lines texts that it does not. A line that is none of these goes on with the one above.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cluster::Cluster;

/// What `tests/setup.sh tests` put into `target/clients`.
pub(crate) fn stored(name: &str) -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let path = target.join("clients").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("no {name} in target/clients: run tests/setup.sh tests");
    None
}

/// The machine's own program of that name.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let found = Command::new(name)
        .arg("version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match found {
        Ok(_) => Some(PathBuf::from(name)),
        Err(_) => {
            println!("{name} is not installed");
            None
        }
    }
}

/// A command line of a script.
#[derive(Debug, Default)]
struct Step {
    line: usize,
    fails: bool,
    since: u32,
    command: String,
    says: Vec<String>,
    silent: Vec<String>,
}

fn parse(script: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in script.lines().enumerate() {
        let last = steps.last_mut();
        match (line.chars().next(), last) {
            (None | Some('#'), _) => {}
            (Some('>'), Some(step)) => step.says.push(line[1..].trim().to_owned()),
            (Some('<'), Some(step)) => step.silent.push(line[1..].trim().to_owned()),
            (Some(sign @ ('$' | '!')), _) => {
                let (since, command) = line[1..].split_once(' ').unwrap();
                steps.push(Step {
                    line: index + 1,
                    fails: sign == '!',
                    since: since.parse().unwrap_or(0),
                    command: command.to_owned(),
                    ..Step::default()
                });
            }
            (_, Some(step)) => {
                step.command.push('\n');
                step.command.push_str(line);
            }
            (_, None) => panic!("line {}: no command to go on with", index + 1),
        }
    }
    steps
}

/// Runs the steps that version `minor` knows with these variables set, in the folder of the manifests.
/// Everything that went wrong is told at once.
pub(crate) fn run(cluster: &Cluster, script: &str, minor: u32, variables: &HashMap<&str, String>) {
    let mut faults = String::new();
    for step in parse(script).iter().filter(|step| step.since <= minor) {
        let output = Command::new("timeout")
            .args(["60", "bash", "-c", &step.command])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients"))
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("HOME", cluster.dir.path())
            .env("TMP", cluster.dir.path())
            .envs(variables)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let missing = step.says.iter().find(|wanted| !text.contains(&**wanted));
        let extra = step.silent.iter().find(|bad| text.contains(&**bad));
        let succeeded = output.status.success();
        if succeeded == step.fails || missing.is_some() || extra.is_some() {
            faults.push_str(&format!(
                "line {}: {}\nsucceeded: {succeeded}, missing: {missing:?}, not wanted: {extra:?}\n{text}\n",
                step.line, step.command
            ));
        }
    }
    assert!(faults.is_empty(), "{faults}");
}
