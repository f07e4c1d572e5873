//! Stock clients: piped into, at a terminal, and in the background.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::Cluster;

/// The clients of the machine, by what they speak: each another version.
pub fn kubectls() -> Vec<PathBuf> {
    let target = std::option_env!("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    );
    let clients = target.join("clients");
    let mut found = vec![PathBuf::from("kubectl")];
    for name in ["kubectl-debian", "kubectl-new"] {
        let path = clients.join(name);
        assert!(
            path.exists(),
            "{}: run tests/setup.sh tests",
            path.display()
        );
        found.push(path);
    }
    found
}

/// A client with its arguments, talking to the cluster.
pub fn command(cluster: &Cluster, program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("HOME", cluster.dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a client to its end with something to read.
pub fn run(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // One that ends early does not read everything.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

#[track_caller]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Bytes of which no part is like another.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A client in the background that is ended with the handle.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Forwards a free port to `port` of a pod; returns when the client says that it listens.
pub fn forward(cluster: &Cluster, kubectl: &Path, target: &str, port: u16) -> (Running, String) {
    let ports = format!(":{port}");
    let mut child = command(cluster, kubectl, &["port-forward", target, &ports])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut line).unwrap();
    // "Forwarding from 127.0.0.1:41234 -> 8080"
    let address = line
        .split_whitespace()
        .nth(2)
        .unwrap_or_default()
        .to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{line}");
    std::thread::spawn(move || lines.lines().for_each(drop));
    (Running(child), address)
}

/// A client at a terminal of 101 columns and 33 rows.
pub struct AtTerminal {
    child: Child,
    terminal: std::fs::File,
    shown: String,
}

impl AtTerminal {
    pub fn start(mut command: Command) -> Self {
        let size = nix::pty::Winsize {
            ws_row: 33,
            ws_col: 101,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = nix::pty::openpty(&size, None).unwrap();
        let copy = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn();
        Self {
            child: child.unwrap(),
            terminal: pty.master.into(),
            shown: String::new(),
        }
    }

    pub fn type_in(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until something is shown.
    pub fn until(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        while !self.shown.contains(text) {
            let count = self.terminal.read(&mut buffer).unwrap_or(0);
            assert!(count > 0, "{text:?} was never shown: {:?}", self.shown);
            self.shown
                .push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    pub fn exit_code(mut self) -> Option<i32> {
        // What it still shows is taken, so that it can end.
        let mut rest = self.terminal.try_clone().unwrap();
        std::thread::spawn(move || rest.read_to_end(&mut Vec::new()));
        self.child.wait().unwrap().code()
    }
}
