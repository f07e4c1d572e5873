//! Agents that come, go and die; shims that are killed.
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use davit_node::runtime::{ContainerStatus, Sandbox, SandboxEvent, UNKNOWN_EXIT_CODE};
use futures::StreamExt;

use crate::fixture::{Pod, container, exit_of, runtime_at, sandbox_config, until_logged};

async fn adopted(pods: &std::path::Path) -> Sandbox {
    let mut found = runtime_at(pods).adopt().await;
    assert_eq!(found.len(), 1);
    found.remove(0).unwrap()
}

pub(crate) async fn agents_come_and_go() {
    let pod = Pod::new().await;
    let config = pod.shell("echo ready; while true; do sleep 0.01; done");
    let (id, log) = (config.id.clone(), config.log_path.clone());
    let started = pod.sandbox.start_container(config).await.unwrap();
    until_logged(&log, "ready").await;
    let (pods, dir) = (pod.pods().to_owned(), pod.dir.clone());
    let shim = pod.sandbox.shim_pid();

    // A second agent sees the same, beside the first.
    let second = adopted(&pods).await;
    assert_eq!(second.config(), pod.sandbox.config());
    assert_eq!(second.shim_pid(), shim);
    let states = second.containers().await.unwrap();
    assert!(
        matches!(states[0].status, ContainerStatus::Running { pid, .. } if pid == started.pid),
        "{states:?}"
    );
    let mut events = second.events();
    pod.sandbox.signal(&id, 9).await.unwrap();
    assert_eq!(exit_of(&mut events, &id).await.exit_code, 137);
    second.remove_container(&id).await.unwrap();
    assert!(pod.sandbox.containers().await.unwrap().is_empty());
    let next = container(&dir, &["true"]);
    second.start_container(next).await.unwrap();
    pod.end().await;
}

pub(crate) async fn exits_without_an_agent_are_known() {
    let temp = tempfile::tempdir().unwrap();
    let config = sandbox_config(temp.path());
    let dir = config.dir.clone();
    let runtime = runtime_at(temp.path());
    let sandbox = runtime.create_sandbox(config).await.unwrap();
    let config = container(
        &dir,
        &[
            "sh",
            "-c",
            "while [ ! -e /tmp/go ]; do sleep 0.01; done; exit 23",
        ],
    );
    let (id, go) = (config.id.clone(), config.rootfs.upper.join("tmp/go"));
    let started = sandbox.start_container(config).await.unwrap();
    drop(sandbox);
    drop(runtime);
    let _ = go;
    // Through the container's own eyes, for overlay does not promise to show what is written beneath it.
    std::fs::write(format!("/proc/{}/root/tmp/go", started.pid), "").unwrap();
    let exit_file = dir.join("runtime/containers").join(&id).join("exit.json");
    for _ in 0..1000 {
        if exit_file.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let sandbox = adopted(temp.path()).await;
    let states = sandbox.containers().await.unwrap();
    let ContainerStatus::Exited(exit) = &states[0].status else {
        panic!("{states:?}")
    };
    assert_eq!((exit.exit_code, &exit.id), (23, &id));
    sandbox.shutdown().await.unwrap();
}

pub(crate) async fn a_killed_shim_is_swept() {
    let pod = Pod::new().await;
    let ended = container(&pod.dir, &["sh", "-c", "exit 12"]);
    let ended_id = ended.id.clone();
    let mut events = pod.sandbox.events();
    pod.sandbox.start_container(ended).await.unwrap();
    exit_of(&mut events, &ended_id).await;
    let running = container(&pod.dir, &["sleep", "100"]);
    let pid = pod.sandbox.start_container(running).await.unwrap().pid;

    let shim = nix::unistd::Pid::from_raw(pod.sandbox.shim_pid());
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(events.next().await, Some(SandboxEvent::Lost));
    assert!(!pod.sandbox.is_alive());
    let codes: Vec<i32> = pod
        .sandbox
        .containers()
        .await
        .unwrap()
        .iter()
        .map(|state| match &state.status {
            ContainerStatus::Exited(exit) => exit.exit_code,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(codes, [12, UNKNOWN_EXIT_CODE]);
    let again = adopted(pod.pods()).await;
    assert!(!again.is_alive());
    assert_eq!(again.containers().await.unwrap().len(), 2);
    // The same pod can be made again over what is left.
    let remade = runtime_at(pod.pods())
        .create_sandbox(pod.sandbox.config().clone())
        .await
        .unwrap();
    assert!(remade.containers().await.unwrap().is_empty());
    assert!(!std::path::Path::new(&format!("/proc/{pid}/root/bin")).exists());
    remade.shutdown().await.unwrap();
    pod.end().await;
}

/// Another process is the agent, and is killed by SIGKILL.
pub(crate) async fn the_agents_death_is_survived() {
    let temp = tempfile::tempdir().unwrap();
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .arg("agent")
        .arg(temp.path())
        .arg(crate::fixture::cgroup_root())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(agent.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    let pid: i32 = line.trim().parse().unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();

    let sandbox = adopted(temp.path()).await;
    let states = sandbox.containers().await.unwrap();
    assert!(
        matches!(states[0].status, ContainerStatus::Running { pid: now, .. } if now == pid),
        "{states:?}"
    );
    let log = sandbox.config().dir.join("logs/main");
    let mut files = std::fs::read_dir(log).unwrap();
    until_logged(&files.next().unwrap().unwrap().path(), "tick 20").await;
    let id = states[0].id.clone();
    let exit = sandbox
        .stop_container(&id, 15, Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(exit.exit_code, 31);
    sandbox.shutdown().await.unwrap();
}

/// What that other process does: start a pod with a container, say its pid, and wait to be killed.
pub(crate) fn agent_process(args: Vec<OsString>) -> ExitCode {
    let pods = PathBuf::from(&args[0]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let program = std::env::current_exe().unwrap();
        let mut config = davit_node::runtime::RuntimeConfig::new(&pods, program);
        config.cgroup_root = args[1].to_string_lossy().into_owned();
        let runtime = davit_node::runtime::Runtime::new(config).unwrap();
        let config = sandbox_config(&pods);
        let dir = config.dir.clone();
        let sandbox = runtime.create_sandbox(config).await.unwrap();
        let script =
            "trap 'exit 31' TERM; i=0; while true; do echo tick $i; i=$((i+1)); sleep 0.01; done";
        let started = sandbox
            .start_container(container(&dir, &["sh", "-c", script]))
            .await
            .unwrap();
        println!("{}", started.pid);
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}
