//! A real davit for one test, in namespaces of its own: started, talked to with stock clients, and
//! taken down with a check that nothing stays behind.
#![allow(
    dead_code,
    reason = "each test binary uses its own part of the harness"
)]
#![allow(clippy::disallowed_methods, reason = "the tests run real programs")]
#![allow(
    unreachable_pub,
    reason = "each test binary holds the harness as a private module"
)]

pub mod clients;
pub mod image;
pub mod leaks;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The binary under test.
pub const DAVIT: &str = env!("CARGO_BIN_EXE_davit");

/// How long anything may take before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `test` on a thread with private mount and network namespaces and an empty `/run`, so that
/// tests neither see each other nor leave anything on the machine.
pub fn on_a_machine(test: impl FnOnce() + Send + 'static) {
    // One at a time: cgroups have no namespace here, and two cores are soon busy. A test that
    // failed leaves a poisoned lock, which says nothing about the next one.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
            .expect("namespaces need root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        run(Command::new("ip").args(["link", "set", "lo", "up"]));
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command to its end; it must succeed. Its standard output.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Looks again until `look` gives something; the test fails after [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A running `davit up`.
pub struct Cluster {
    pub dir: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
    before: leaks::Machine,
    /// More of the command line of `davit up`.
    more: Vec<String>,
}

impl Cluster {
    /// Starts davit on a fresh data directory and waits until it is ready.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Cluster::start`], with more on the command line.
    pub fn start_with(more: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("davit-e2e-")
            .tempdir()
            .unwrap();
        let before = leaks::Machine::look(&name_of(dir.path()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut cluster = Self {
            dir,
            port,
            child: None,
            before,
            more: more.iter().map(ToString::to_string).collect(),
        };
        cluster.up();
        cluster
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts `davit up` (again) and waits until the node is ready.
    pub fn up(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("up.log"))
            .unwrap();
        let mut command = Command::new(DAVIT);
        command
            .args([
                "up",
                "--listen",
                &format!("127.0.0.1:{}", self.port),
                "--data-dir",
            ])
            .arg(self.data_dir())
            .args(&self.more)
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
        wait_for("the API server answers", || {
            self.assert_running();
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        wait_for("the kubeconfig is there", || {
            let output = self.davit(&["kubeconfig"]);
            output
                .status
                .success()
                .then(|| fs::write(self.kubeconfig(), output.stdout).unwrap())
        });
        wait_for("a node is ready", || {
            self.assert_running();
            let ready = self.try_kubectl(&["get", "nodes", "--no-headers"])?;
            ready.contains(" Ready ").then_some(())
        });
    }

    fn assert_running(&mut self) {
        if let Some(status) = self
            .child
            .as_mut()
            .and_then(|child| child.try_wait().unwrap())
        {
            panic!("davit up ended: {status}\n{}", self.log());
        }
    }

    /// What `davit up` printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("up.log")).unwrap_or_default()
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    /// Kills davit without a chance to clean up, and reaps it.
    pub fn kill_9(&mut self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGKILL).unwrap();
        self.child.take().unwrap().wait().unwrap();
    }

    /// Asks davit to stop; pods run on.
    pub fn stop(&mut self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).unwrap();
        let status = self.child.take().unwrap().wait().unwrap();
        assert!(
            status.success(),
            "davit up ended with {status}\n{}",
            self.log()
        );
    }

    /// Stops davit, runs `davit down`, and fails if anything is left of it.
    pub fn down(mut self) {
        if self.child.is_some() {
            self.stop();
        }
        let output = self.davit(&["down"]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let now = leaks::Machine::look(&name_of(self.dir.path()));
        let left = now.beyond(&self.before);
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Runs a davit command on this cluster's data directory.
    pub fn davit(&self, args: &[&str]) -> Output {
        let mut command = Command::new(DAVIT);
        command
            .args(args)
            .arg("--data-dir")
            .arg(self.data_dir())
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    /// As [`Cluster::davit`], and it must succeed; its standard output.
    #[track_caller]
    pub fn davit_ok(&self, args: &[&str]) -> String {
        let output = self.davit(args);
        assert!(
            output.status.success(),
            "davit {args:?}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.dir.path());
        command
    }

    /// Runs kubectl; it must succeed. Its standard output.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self
            .kubectl_command(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "kubectl {args:?}\n{}{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.describe()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs kubectl; `None` when it fails.
    pub fn try_kubectl(&self, args: &[&str]) -> Option<String> {
        let output = self
            .kubectl_command(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// Runs kubectl; it must fail. Its standard error.
    #[track_caller]
    pub fn kubectl_fails(&self, args: &[&str]) -> String {
        let output = self
            .kubectl_command(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(!output.status.success(), "kubectl {args:?} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Applies a manifest given as text; what kubectl printed.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        let file = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        fs::write(file.path(), manifest).unwrap();
        self.kubectl(&["apply", "-f", file.path().to_str().unwrap()])
    }

    /// Waits for a condition by `kubectl wait`.
    #[track_caller]
    pub fn wait(&self, object: &str, condition: &str) {
        let limit = format!("--timeout={}s", PATIENCE.as_secs());
        self.kubectl(&["wait", object, &format!("--for={condition}"), &limit]);
    }

    /// A field of an object by JSONPath.
    #[track_caller]
    pub fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")])
    }

    fn describe(&self) -> String {
        let show = |args: &[&str]| self.try_kubectl(args).unwrap_or_default();
        format!(
            "{}\n{}\n{}",
            show(&["get", "pods,pvc,deployments", "-A", "-o", "wide"]),
            show(&["get", "events", "-A"]),
            self.log()
                .lines()
                .rev()
                .take(40)
                .collect::<Vec<_>>()
                .join("\n")
        )
    }
}

fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap().to_str().unwrap().to_owned()
}

impl Drop for Cluster {
    /// A test that failed half-way must not leave a server and its containers running.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            let _ = self.davit(&["down"]);
        }
    }
}

/// The body of an HTTP GET, or `None` when nobody answers.
pub fn http_get(address: &str, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let target = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(2)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let host = address.split(':').next().unwrap_or_default();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// Runs a program in the background of the test's namespaces; it ends with the handle.
pub struct Background(pub Child);

impl Background {
    pub fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).process_group(0);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The project's folder of examples.
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}
