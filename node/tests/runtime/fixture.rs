//! Pods with a busybox root, for tests.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use davit_node::runtime::{
    ContainerConfig, ContainerExit, DEFAULT_SHM_BYTES, Mount, MountKind, NetnsMode, Propagation,
    Resources, RootFs, Runtime, RuntimeConfig, Sandbox, SandboxConfig, SandboxEvent, Security,
    User,
};
use futures::StreamExt;

static NEXT: AtomicU32 = AtomicU32::new(1);
static LAYER: OnceLock<tempfile::TempDir> = OnceLock::new();

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
        && Path::new("/bin/busybox").exists()
}

/// The cgroup of this run.
pub(crate) fn cgroup_root() -> String {
    format!("davit-test-{}", std::process::id())
}

/// A layer with busybox and a few accounts.
fn layer() -> &'static Path {
    LAYER
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            for name in ["bin", "etc", "tmp", "root", "srv"] {
                std::fs::create_dir(root.join(name)).unwrap();
            }
            std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
            for name in [
                "sh", "cat", "ls", "sleep", "true", "false", "echo", "id", "mount", "umount",
                "mknod", "mkdir", "rm", "dd", "env", "hostname", "kill", "pwd", "tr", "head", "ps",
                "readlink", "stat", "touch", "chroot", "unshare", "printf", "yes", "grep", "wc",
                "stty", "test", "tail", "seq", "date", "ulimit", "tty", "setsid", "ln", "chown",
                "sysctl", "ipcs", "nproc", "su", "sync", "usleep", "ip", "seq", "find", "cut",
            ] {
                let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(name));
            }
            let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n";
            std::fs::write(root.join("etc/passwd"), passwd).unwrap();
            std::fs::write(
                root.join("etc/group"),
                "root:x:0:\nwww:x:34:\nlogs:x:9:web\n",
            )
            .unwrap();
            dir
        })
        .path()
}

/// A pod and everything it needs on disk; what it leaves is checked at the end of the run.
pub(crate) struct Pod {
    pub(crate) sandbox: Sandbox,
    pub(crate) dir: PathBuf,
    _temp: Arc<tempfile::TempDir>,
}

pub(crate) fn runtime_at(pods: &Path) -> Runtime {
    let program = std::env::current_exe().unwrap();
    let mut config = RuntimeConfig::new(pods, program);
    config.cgroup_root = cgroup_root();
    Runtime::new(config).unwrap()
}

pub(crate) fn sandbox_config(pods: &Path) -> SandboxConfig {
    let uid = format!("uid-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    SandboxConfig {
        dir: pods.join(&uid),
        pod_uid: uid,
        namespace: "test".to_owned(),
        name: "pod".to_owned(),
        hostname: "host-of-pod".to_owned(),
        cgroup_parent: "burstable".to_owned(),
        netns: NetnsMode::New,
        host_pid: false,
        host_ipc: false,
        share_pid: false,
        sysctls: Vec::new(),
        resources: Resources::default(),
        shm_bytes: DEFAULT_SHM_BYTES,
    }
}

impl Pod {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SandboxConfig)) -> Self {
        let temp = Arc::new(tempfile::tempdir().unwrap());
        let mut config = sandbox_config(temp.path());
        change(&mut config);
        let dir = config.dir.clone();
        let sandbox = runtime_at(temp.path())
            .create_sandbox(config)
            .await
            .unwrap();
        Self {
            sandbox,
            dir,
            _temp: temp,
        }
    }

    pub(crate) fn pods(&self) -> &Path {
        self.dir.parent().unwrap()
    }

    /// A container that runs a shell script.
    pub(crate) fn shell(&self, script: &str) -> ContainerConfig {
        self.command(&["sh", "-c", script])
    }

    pub(crate) fn command(&self, args: &[&str]) -> ContainerConfig {
        container(&self.dir, args)
    }

    /// Runs a script to its end; its exit and its log's texts.
    pub(crate) async fn run(&self, script: &str) -> (ContainerExit, String) {
        self.run_config(self.shell(script)).await
    }

    pub(crate) async fn run_config(&self, config: ContainerConfig) -> (ContainerExit, String) {
        let (id, log) = (config.id.clone(), config.log_path.clone());
        let mut events = self.sandbox.events();
        self.sandbox
            .start_container(config)
            .await
            .unwrap_or_else(|e| panic!("{}", chain(&e)));
        let exit = exit_of(&mut events, &id).await;
        let text = texts(&log);
        self.sandbox.remove_container(&id).await.unwrap();
        (exit, text)
    }

    /// Ends the pod and checks that nothing of it is left.
    pub(crate) async fn end(self) {
        let uid = self.sandbox.config().pod_uid.clone();
        let shim = self.sandbox.shim_pid();
        self.sandbox.shutdown().await.unwrap();
        assert!(!self.dir.join("runtime").exists());
        assert!(cgroups_named(&format!("pod{uid}")).is_empty());
        if let Ok(stat) = std::fs::read_to_string(format!("/proc/{shim}/stat")) {
            assert!(stat.contains(") Z "), "shim {shim} still runs: {stat}");
        }
    }
}

pub(crate) fn container(pod_dir: &Path, args: &[&str]) -> ContainerConfig {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let id = format!("c{number}");
    let own = pod_dir.join("fs").join(&id);
    for part in ["upper", "work"] {
        std::fs::create_dir_all(own.join(part)).unwrap();
    }
    ContainerConfig {
        name: "main".to_owned(),
        attempt: 0,
        rootfs: RootFs {
            lower: vec![layer().to_owned()],
            upper: own.join("upper"),
            work: own.join("work"),
            read_only: false,
        },
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        cwd: "/".to_owned(),
        user: User::default(),
        among: None,
        mounts: Vec::new(),
        devices: Vec::new(),
        resources: Resources::default(),
        security: Security::default(),
        rlimits: Vec::new(),
        log_path: pod_dir.join("logs/main").join(format!("{number}.log")),
        log_max_bytes: 10 << 20,
        log_max_files: 3,
        stdin: false,
        tty: false,
        id,
    }
}

pub(crate) fn bind(source: &Path, destination: &str) -> Mount {
    Mount {
        kind: MountKind::Bind {
            source: source.to_owned(),
            sub_path: None,
        },
        destination: destination.to_owned(),
        read_only: false,
        recursive_read_only: false,
        propagation: Propagation::Private,
    }
}

pub(crate) async fn exit_of(
    events: &mut (impl futures::Stream<Item = SandboxEvent> + Unpin),
    id: &str,
) -> ContainerExit {
    loop {
        match events.next().await.expect("the stream of events ended") {
            SandboxEvent::Exited(exit) if exit.id == id => return exit,
            SandboxEvent::Exited(_) => {}
            SandboxEvent::Lost => panic!("the shim is gone"),
        }
    }
}

/// The texts of a log in the CRI format, one a line.
pub(crate) fn texts(log: &Path) -> String {
    std::fs::read_to_string(log)
        .unwrap_or_default()
        .lines()
        .map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n")
        .collect()
}

/// Waits until a log holds a text, told by the kernel of each change.
pub(crate) async fn until_logged(log: &Path, text: &str) {
    for _ in 0..2000 {
        if texts(log).contains(text) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{text:?} is not in {}: {}", log.display(), texts(log));
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// Directories of this run's cgroups with this name, in any hierarchy.
pub(crate) fn cgroups_named(name: &str) -> Vec<PathBuf> {
    fn walk(path: &Path, name: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if entry.file_name() == name {
                    found.push(path.clone());
                }
                walk(&path, name, found);
            }
        }
    }
    let mut found = Vec::new();
    let root = Path::new("/sys/fs/cgroup");
    walk(&root.join(cgroup_root()), name, &mut found);
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        walk(&entry.path().join(cgroup_root()), name, &mut found);
    }
    found
}

/// Nothing of this run may be left: no cgroup, no process, no mount.
pub(crate) fn leftovers() -> Result<(), String> {
    if !is_root() {
        return Ok(());
    }
    let temp = tempfile::tempdir().unwrap();
    let runtime = runtime_at(temp.path());
    if let Err(error) = runtime.remove_root_cgroup() {
        // Reported, but not left for the next run to trip over.
        kill_all();
        for _ in 0..200 {
            if runtime.remove_root_cgroup().is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        return Err(chain(&error));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours: Vec<&str> = mounts
        .lines()
        .filter(|line| line.contains("/uid-"))
        .collect();
    if !ours.is_empty() {
        return Err(ours.join("\n"));
    }
    if let Some(layer) = LAYER.get() {
        let _ = std::fs::remove_dir_all(layer.path());
    }
    Ok(())
}

/// Kills what is in this run's cgroups.
fn kill_all() {
    let mut groups = vec![Path::new("/sys/fs/cgroup").to_owned()];
    let entries = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    groups.extend(entries.map(|entry| entry.path()));
    groups.iter_mut().for_each(|path| path.push(cgroup_root()));
    while let Some(path) = groups.pop() {
        let pids = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.parse().ok()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
        groups.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| path.is_dir()),
        );
    }
}
