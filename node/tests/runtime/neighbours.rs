//! Containers with neighbours: what they see of each other and of davit, and what they can do to it.
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use davit_node::runtime::{ContainerConfig, ContainerStatus, ExecConfig, Sandbox};

use crate::fixture::{Pod, bind, exit_of, texts, until_logged};

/// In the environment of every container but the attacker's.
const SECRET: &str = "secret-of-another-container";

/// The container that runs this executable as an attack, with what it is linked to.
fn attacker(pod: &Pod, args: &[&str], tracer: bool) -> ContainerConfig {
    let mut line = vec!["/attack", "attack"];
    line.extend(args);
    let mut config = pod.command(&line);
    let program = std::env::current_exe().unwrap();
    config.mounts = vec![bind(&program, "/attack"), bind(Path::new("/usr"), "/usr")];
    for name in ["lib", "lib64"] {
        let link = config.rootfs.upper.join(name);
        std::os::unix::fs::symlink(format!("usr/{name}"), link).unwrap();
    }
    if tracer {
        config.security.add_capabilities = vec!["SYS_PTRACE".to_owned()];
    }
    config
}

fn looking(pod: &Pod, share: bool, tracer: bool) -> ContainerConfig {
    let device = |path: &Path| std::fs::metadata(path).unwrap().dev();
    let mut devices = vec![device(Path::new("/")), device(&pod.dir)];
    devices.dedup();
    let devices: Vec<String> = devices.iter().map(u64::to_string).collect();
    let namespaces: Vec<String> = ["mnt", "pid", "net", "ipc", "uts", "cgroup"]
        .iter()
        .map(|kind| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    // What the shim knows; who sees a neighbour's processes sees their environment in any case.
    let mut secrets = pod.dir.join("runtime").display().to_string();
    if !share {
        secrets = format!("{secrets},{SECRET}");
    }
    // The attack reads them backwards.
    let secrets: String = secrets.chars().rev().collect();
    let (devices, namespaces) = (devices.join(","), namespaces.join(","));
    let args = ["look", "20", "40", &devices, &secrets, &namespaces];
    attacker(pod, &args, tracer)
}

fn quiet(pod: &Pod) -> ContainerConfig {
    let mut config = pod.command(&["sleep", "100"]);
    config.env.push(("SECRET".to_owned(), SECRET.to_owned()));
    config
}

/// Runs commands in a container, with and without a terminal, until told to stop.
async fn keep_busy(sandbox: Sandbox, id: String) {
    for round in 0u64.. {
        let exec = ExecConfig {
            args: vec!["true".to_owned()],
            tty: round % 4 == 3,
            timeout: Some(Duration::from_secs(5)),
            ..ExecConfig::default()
        };
        if exec.tty {
            let Ok(streams) = sandbox.exec_stream(&id, exec).await else {
                return;
            };
            let _ = streams.exit.await;
        } else if sandbox.exec(&id, exec, 100).await.is_err() {
            return;
        }
    }
}

/// Has the attacker look while commands run in it and in a neighbour, and containers come and go.
async fn nothing_is_found(share: bool, tracer: bool) {
    let pod = Pod::with(|config| config.share_pid = share).await;
    let neighbour = quiet(&pod);
    let neighbour_id = neighbour.id.clone();
    pod.sandbox.start_container(neighbour).await.unwrap();
    let attack = looking(&pod, share, tracer);
    let (id, log) = (attack.id.clone(), attack.log_path.clone());
    let mut events = pod.sandbox.events();
    pod.sandbox.start_container(attack).await.unwrap();
    let busy = [
        tokio::spawn(keep_busy(pod.sandbox.clone(), id.clone())),
        tokio::spawn(keep_busy(pod.sandbox.clone(), neighbour_id.clone())),
    ];
    let ended = exit_of(&mut events, &id);
    tokio::pin!(ended);
    let exit = loop {
        let mut among = pod.command(&["sleep", "100"]);
        among.among = Some(id.clone());
        let others = [quiet(&pod), among];
        let mut started = Vec::new();
        for other in others {
            let other_id = other.id.clone();
            // The one to live among may have ended.
            if pod.sandbox.start_container(other).await.is_ok() {
                started.push(other_id);
            }
        }
        for other in started {
            pod.sandbox.remove_container(&other).await.unwrap();
        }
        if let Ok(exit) = tokio::time::timeout(Duration::ZERO, &mut ended).await {
            break exit;
        }
    };
    for task in busy {
        task.abort();
    }
    let text = texts(&log);
    assert_eq!(exit.exit_code, 0, "{text}");
    assert!(!text.contains("VIOLATION"), "{text}");
    let seen = text.lines().find_map(|line| line.strip_prefix("SEEN "));
    let seen = seen.and_then(|line| line.split(' ').next()?.parse::<usize>().ok());
    assert!(
        seen.is_some_and(|seen| seen > 0),
        "the attack saw nobody: {text}"
    );
    pod.end().await;
}

pub(crate) async fn nobody_of_the_host_is_seen_in_a_containers_processes() {
    nothing_is_found(false, true).await;
}

pub(crate) async fn nobody_of_the_host_is_seen_in_the_pods_processes() {
    nothing_is_found(true, true).await;
    nothing_is_found(true, false).await;
}

pub(crate) async fn the_first_process_of_the_pod_has_nothing() {
    let pod = Pod::with(|config| config.share_pid = true).await;
    let script = "ls -a /proc/1/root/ /proc/1/cwd/; echo fds; ls /proc/1/fd; echo end; touch /proc/1/root/x 2>&1; \
                  grep -E 'Cap|Seccomp:|NoNewPrivs|^Uid|^Gid|Groups' /proc/1/status; wc -l < /proc/1/maps; \
                  wc -c < /proc/1/environ; wc -c < /proc/1/cmdline; readlink /proc/1/ns/mnt";
    let mut config = pod.shell(script);
    config.security.add_capabilities = vec!["SYS_PTRACE".to_owned()];
    let (_, text) = pod.run_config(config).await;
    assert!(text.contains("fds\nend\n"), "{text}");
    assert!(text.contains("Read-only file system"), "{text}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            text.contains(&format!("{set}:\t0000000000000000")),
            "{text}"
        );
    }
    for line in [
        "Uid:\t65534\t65534\t65534\t65534",
        "Gid:\t65534\t65534\t65534\t65534",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let host = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    assert!(!text.contains(&*host.to_string_lossy()), "{text}");
    // Nothing but `.` and `..` in its root.
    assert!(
        !text.contains("proc\n") && !text.contains("etc\n"),
        "{text}"
    );
    pod.end().await;
}

pub(crate) async fn a_container_lives_among_anothers_processes() {
    let pod = Pod::new().await;
    let target = pod.command(&["sleep", "12345"]);
    let id = target.id.clone();
    pod.sandbox.start_container(target).await.unwrap();
    let mut debug = pod.shell("ps; readlink /proc/self/exe; ls /proc/1/root/bin/busybox");
    debug.among = Some(id.clone());
    debug.security.add_capabilities = vec!["SYS_PTRACE".to_owned()];
    let (exit, text) = pod.run_config(debug).await;
    assert_eq!(exit.exit_code, 0, "{text}");
    assert!(
        text.contains("sleep 12345") && text.contains("/bin/busybox"),
        "{text}"
    );
    // It ends with the target.
    let mut debug = pod.command(&["sleep", "100"]);
    debug.among = Some(id.clone());
    let debug_id = debug.id.clone();
    pod.sandbox.start_container(debug).await.unwrap();
    let mut events = pod.sandbox.events();
    pod.sandbox.kill(&id).await.unwrap();
    assert_eq!(exit_of(&mut events, &debug_id).await.exit_code, 137);
    let mut late = pod.command(&["true"]);
    late.among = Some(id);
    assert!(pod.sandbox.start_container(late).await.is_err());
    pod.end().await;
}

pub(crate) async fn the_hosts_keys_stay_there() {
    let pod = Pod::new().await;
    let mut config = attacker(&pod, &["keyring"], false);
    config.security.seccomp = davit_node::runtime::Seccomp::Unconfined;
    let (_, text) = pod.run_config(config).await;
    let own = format!("keyring {}", crate::attack::session_keyring());
    assert!(
        text.starts_with("keyring ") && text.trim() != own,
        "{text}{own}"
    );
    pod.end().await;
}

pub(crate) async fn failures_behind_the_gate_are_told() {
    for share in [false, true] {
        let pod = Pod::with(|config| config.share_pid = share).await;
        let config = pod.command(&["sleep", "100"]);
        let id = config.id.clone();
        pod.sandbox.start_container(config).await.unwrap();
        std::fs::write(pod.dir.join("text"), "no program").unwrap();
        for args in [&["/etc/passwd"][..], &["/bin"], &["/missing"]] {
            let exec = ExecConfig {
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                ..ExecConfig::default()
            };
            let error = pod.sandbox.exec(&id, exec, 10).await.unwrap_err();
            assert!(crate::fixture::chain(&error).contains("exec"), "{error:?}");
            let config = pod.command(args);
            let failed = config.id.clone();
            pod.sandbox.start_container(config).await.unwrap_err();
            assert!(crate::fixture::cgroups_named(&failed).is_empty());
        }
        assert_eq!(pod.sandbox.containers().await.unwrap().len(), 1);
        pod.end().await;
    }
}

pub(crate) async fn whoever_asks_to_be_traced_is_let_go() {
    for share in [false, true] {
        let pod = Pod::with(|config| config.share_pid = share).await;
        let config = attacker(&pod, &["traceme"], false);
        let (id, log) = (config.id.clone(), config.log_path.clone());
        pod.sandbox.start_container(config).await.unwrap();
        until_logged(&log, "through").await;
        let states = pod.sandbox.containers().await.unwrap();
        assert!(
            matches!(states[0].status, ContainerStatus::Running { .. }),
            "{states:?}"
        );
        // A program that is executed while traced is stopped as well.
        let exec = ExecConfig {
            args: ["/attack", "attack", "traced-program"]
                .map(str::to_owned)
                .to_vec(),
            ..ExecConfig::default()
        };
        let outcome = pod.sandbox.exec(&id, exec, 10).await.unwrap();
        assert_eq!(outcome.exit_code, 0);
        // It can be told to end, killed, and removed.
        let exit = pod
            .sandbox
            .stop_container(&id, 15, Duration::from_secs(1))
            .await
            .unwrap();
        assert!(matches!(exit.signal, Some(15 | 9)), "{exit:?}");
        pod.sandbox.remove_container(&id).await.unwrap();
        pod.end().await;
    }
}

pub(crate) async fn real_time_signals_end_containers_and_are_sent() {
    // Where they are no first processes of a namespace, which get only signals that they handle.
    let pod = Pod::with(|config| config.share_pid = true).await;
    let (exit, _) = pod.run("kill -36 $$; sleep 100").await;
    assert_eq!((exit.exit_code, exit.signal), (128 + 36, Some(36)));
    let config = pod.command(&["sleep", "100"]);
    let (id, mut events) = (config.id.clone(), pod.sandbox.events());
    pod.sandbox.start_container(config).await.unwrap();
    let error = pod.sandbox.signal(&id, 99).await.unwrap_err();
    assert!(crate::fixture::chain(&error).contains("99"), "{error:?}");
    pod.sandbox.signal(&id, 37).await.unwrap();
    let exit = exit_of(&mut events, &id).await;
    assert_eq!((exit.exit_code, exit.signal), (128 + 37, Some(37)));
    pod.end().await;
}

pub(crate) async fn a_tracer_that_does_not_let_go_holds_nobody() {
    let pod = Pod::with(|config| config.share_pid = true).await;
    let victim = pod.command(&["sleep", "100"]);
    let (id, mut events) = (victim.id.clone(), pod.sandbox.events());
    pod.sandbox.start_container(victim).await.unwrap();
    let tracer = attacker(&pod, &["hold", "sleep"], true);
    let log = tracer.log_path.clone();
    pod.sandbox.start_container(tracer).await.unwrap();
    until_logged(&log, "held ").await;
    assert!(texts(&log).trim().ends_with(" 0"), "{}", texts(&log));
    pod.sandbox.kill(&id).await.unwrap();
    let exit = exit_of(&mut events, &id).await;
    assert_eq!(exit.signal, Some(9));
    pod.sandbox.remove_container(&id).await.unwrap();
    pod.end().await;
}
