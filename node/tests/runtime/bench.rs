//! `cargo test --test runtime -- bench`: a container's whole life beside crun and runc, where they are installed.
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::{Pod, container, exit_of};

const ROUNDS: usize = 50;

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// Prints medians of create, start, exit and delete of a container that does nothing.
pub(crate) async fn run() {
    let pod = Pod::new().await;
    let mut times = Vec::new();
    let (mut starting, mut running, mut removing) = (Vec::new(), Vec::new(), Vec::new());
    let mut events = pod.sandbox.events();
    for _ in 0..ROUNDS + 5 {
        let mut config = container(&pod.dir, &["/bin/true"]);
        config.resources.memory_bytes = Some(64 << 20);
        config.resources.pids_max = Some(100);
        let id = config.id.clone();
        let begun = Instant::now();
        pod.sandbox.start_container(config).await.unwrap();
        let started = begun.elapsed();
        exit_of(&mut events, &id).await;
        let exited = begun.elapsed();
        pod.sandbox.remove_container(&id).await.unwrap();
        times.push(begun.elapsed());
        starting.push(started);
        running.push(exited - started);
        removing.push(begun.elapsed() - exited);
    }
    println!(
        "davit, container in a pod      {:6.2} ms (start {:.2}, exit {:.2}, remove {:.2})",
        median(times.split_off(5)),
        median(starting),
        median(running),
        median(removing)
    );
    pod.end().await;

    let mut times = Vec::new();
    let (mut created, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let temp = tempfile::tempdir().unwrap();
        let sandbox_config = crate::fixture::sandbox_config(temp.path());
        let config = container(&sandbox_config.dir, &["/bin/true"]);
        let id = config.id.clone();
        let runtime = crate::fixture::runtime_at(temp.path());
        let begun = Instant::now();
        let sandbox = runtime.create_sandbox(sandbox_config).await.unwrap();
        created.push(begun.elapsed());
        let mut events = sandbox.events();
        sandbox.start_container(config).await.unwrap();
        exit_of(&mut events, &id).await;
        sandbox.remove_container(&id).await.unwrap();
        let before = Instant::now();
        sandbox.shutdown().await.unwrap();
        ended.push(before.elapsed());
        times.push(begun.elapsed());
    }
    println!(
        "davit, pod with one container  {:6.2} ms (sandbox {:.2}, shutdown {:.2})",
        median(times),
        median(created),
        median(ended)
    );

    for runtime in ["/usr/bin/crun", "/usr/sbin/runc"] {
        if Path::new(runtime).exists() {
            in_private_mounts(runtime);
        }
    }
}

/// crun refuses hybrid cgroups unless the unified hierarchy is hidden from it, so peers run in mounts of their own.
fn in_private_mounts(runtime: &str) {
    let own = std::env::current_exe().unwrap();
    let script = format!(
        "umount /sys/fs/cgroup/unified 2>/dev/null; exec {} peer {runtime}",
        own.display()
    );
    let status = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .status();
    assert!(status.is_ok_and(|status| status.success()));
}

/// The same by another runtime's command line, on a plain directory as root.
pub(crate) fn peer_process(args: Vec<OsString>) {
    let runtime = args[0].to_string_lossy().into_owned();
    match peer(&runtime) {
        Some(time) => println!("{runtime:30} {time:6.2} ms"),
        None => println!("{runtime:30} does not run on this host"),
    }
}

fn peer(runtime: &str) -> Option<f64> {
    let bundle = tempfile::tempdir().unwrap();
    let root = bundle.path().join("rootfs");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/true")).unwrap();
    let spec = Command::new(runtime)
        .arg("spec")
        .current_dir(bundle.path())
        .status()
        .ok()?;
    if !spec.success() {
        return None;
    }
    let path = bundle.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut spec: serde_json::Value = serde_json::from_str(&text).unwrap();
    spec["process"]["args"] = serde_json::json!(["/bin/true"]);
    spec["process"]["terminal"] = serde_json::json!(false);
    std::fs::write(&path, spec.to_string()).unwrap();
    let mut times = Vec::new();
    for round in 0..ROUNDS + 5 {
        let id = format!("davit-bench-{}-{round}", std::process::id());
        let begun = Instant::now();
        let status = Command::new(runtime)
            .args(["run", "--bundle"])
            .arg(bundle.path())
            .arg(&id)
            .stderr(Stdio::null())
            .status();
        if !status.ok()?.success() {
            return None;
        }
        times.push(begun.elapsed());
    }
    Some(median(times.split_off(5)))
}
