//! Rows of the runtime alone: a container's whole life beside crun and runc, in the same run.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use davit_node::runtime::{
    ContainerConfig, DEFAULT_SHM_BYTES, NetnsMode, Resources, RootFs, Runtime, RuntimeConfig,
    Sandbox, SandboxConfig, SandboxEvent, Security, User,
};
use futures::StreamExt;
use serde_json::json;

use crate::table::{Table, percentile};

const ROUNDS: usize = 50;
/// Rounds before the clock counts.
const WARM_UP: usize = 5;
const BUSYBOX: &str = "/bin/busybox";

/// A container that does nothing: create, start, exit, delete; medians.
pub(crate) async fn measure(davit: &Path, table: &mut Table) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("davit-bench-").tempdir()?;
    let bench = Bench::new(&davit.canonicalize()?, folder.path())?;
    for peer in ["crun", "runc"] {
        let what = format!("{peer}: container create + start + exit + delete");
        match in_private_mounts(peer, &bench.layer)? {
            Some(median) => table.add(&what, median, "ms", "the peer"),
            None => eprintln!("  {peer} does not run on this host"),
        }
    }
    let alone = bench.in_one_pod().await?;
    table.add(
        "container create + start + exit + delete",
        alone,
        "ms",
        "≤ crun",
    );
    let with_pod = bench.with_their_pods().await?;
    table.add("the same with a pod of its own", with_pod, "ms", "≤ crun");
    bench
        .runtime
        .remove_root_cgroup()
        .context("the cgroup of the bench stays")
}

struct Bench {
    runtime: Runtime,
    layer: PathBuf,
    pods: PathBuf,
}

impl Bench {
    fn new(davit: &Path, folder: &Path) -> Result<Self> {
        let layer = folder.join("layer");
        fs::create_dir_all(layer.join("bin"))?;
        fs::copy(BUSYBOX, layer.join("bin/true")).context(BUSYBOX)?;
        let pods = folder.join("pods");
        let mut config = RuntimeConfig::new(&pods, davit);
        config.cgroup_root = format!("davit-bench-{}", std::process::id());
        let runtime = Runtime::new(config)?;
        Ok(Self {
            runtime,
            layer,
            pods,
        })
    }

    /// Containers one after another in a pod that is there already, as a restart has it.
    async fn in_one_pod(&self) -> Result<f64> {
        let sandbox = self.sandbox("one").await?;
        let mut times = Vec::new();
        for round in 0..WARM_UP + ROUNDS {
            let begun = Instant::now();
            self.container(&sandbox, round).await?;
            times.push(begun.elapsed());
        }
        sandbox.shutdown().await?;
        Ok(median(times))
    }

    /// Containers with their sandbox, which is what the peers' command lines do.
    async fn with_their_pods(&self) -> Result<f64> {
        let mut times = Vec::new();
        for round in 0..WARM_UP + ROUNDS {
            let begun = Instant::now();
            let sandbox = self.sandbox(&format!("pod-{round}")).await?;
            self.container(&sandbox, 0).await?;
            sandbox.shutdown().await?;
            times.push(begun.elapsed());
        }
        Ok(median(times))
    }

    async fn sandbox(&self, uid: &str) -> Result<Sandbox> {
        let config = SandboxConfig {
            dir: self.pods.join(uid),
            pod_uid: uid.to_owned(),
            namespace: "bench".to_owned(),
            name: uid.to_owned(),
            hostname: "bench".to_owned(),
            cgroup_parent: "burstable".to_owned(),
            netns: NetnsMode::New,
            host_pid: false,
            host_ipc: false,
            share_pid: false,
            sysctls: Vec::new(),
            resources: Resources::default(),
            shm_bytes: DEFAULT_SHM_BYTES,
        };
        Ok(self.runtime.create_sandbox(config).await?)
    }

    async fn container(&self, sandbox: &Sandbox, number: usize) -> Result<()> {
        let config = self.config(&sandbox.config().dir, format!("c{number}"))?;
        let id = config.id.clone();
        let mut events = sandbox.events();
        sandbox.start_container(config).await?;
        loop {
            match events.next().await.context("the events ended")? {
                SandboxEvent::Exited(exit) if exit.id == id => break,
                SandboxEvent::Exited(_) => {}
                SandboxEvent::Lost => bail!("the shim is gone"),
            }
        }
        Ok(sandbox.remove_container(&id).await?)
    }

    fn config(&self, pod: &Path, id: String) -> Result<ContainerConfig> {
        let own = pod.join("fs").join(&id);
        for part in ["upper", "work"] {
            fs::create_dir_all(own.join(part))?;
        }
        Ok(ContainerConfig {
            name: "main".to_owned(),
            attempt: 0,
            rootfs: RootFs {
                lower: vec![self.layer.clone()],
                upper: own.join("upper"),
                work: own.join("work"),
                read_only: false,
            },
            args: vec!["/bin/true".to_owned()],
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: User::default(),
            among: None,
            mounts: Vec::new(),
            devices: Vec::new(),
            resources: Resources {
                memory_bytes: Some(64 << 20),
                pids_max: Some(100),
                ..Resources::default()
            },
            security: Security::default(),
            rlimits: Vec::new(),
            log_path: pod.join("logs").join(format!("{id}.log")),
            log_max_bytes: 10 << 20,
            log_max_files: 3,
            stdin: false,
            tty: false,
            id,
        })
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    percentile(&mut times.split_off(WARM_UP), 0.5)
}

/// crun refuses hybrid cgroups unless the unified hierarchy is hidden from it, so a peer runs in
/// mounts of its own: this program again, by [`peer`].
fn in_private_mounts(runtime: &str, layer: &Path) -> Result<Option<f64>> {
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c"])
        .arg("umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" --peer \"$1\" --layer \"$2\"")
        .args([std::env::current_exe()?.as_os_str(), OsStr::new(runtime)])
        .arg(layer)
        .stderr(Stdio::inherit())
        .output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse().ok())
}

/// The median of another runtime's command line in milliseconds, on a plain directory as root.
///
/// # Errors
/// When it is not there, or does not run on this host.
pub(crate) fn peer(runtime: &str, layer: &Path) -> Result<f64> {
    let bundle = tempfile::tempdir()?;
    run(Command::new(runtime).arg("spec").current_dir(bundle.path()))?;
    let path = bundle.path().join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
    spec["root"]["path"] = json!(layer);
    spec["process"]["args"] = json!(["/bin/true"]);
    spec["process"]["terminal"] = json!(false);
    fs::write(&path, spec.to_string())?;
    let mut times = Vec::new();
    for round in 0..WARM_UP + ROUNDS {
        let id = format!("davit-bench-{}-{round}", std::process::id());
        let begun = Instant::now();
        let bundle = bundle.path();
        run(Command::new(runtime)
            .args(["run", "--bundle"])
            .arg(bundle)
            .arg(id))?;
        times.push(begun.elapsed());
    }
    Ok(median(times))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
