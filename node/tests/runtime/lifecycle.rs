//! From start to removal.
use std::time::{Duration, Instant};

use davit_node::runtime::{ContainerStatus, Error, NetnsMode, Step};

use crate::fixture::{Pod, cgroups_named, chain, container, until_logged};

pub(crate) async fn exit_codes_are_reported() {
    let pod = Pod::new().await;
    for code in [0, 1, 42, 255] {
        let (exit, _) = pod.run(&format!("exit {code}")).await;
        assert_eq!(
            (exit.exit_code, exit.signal, exit.oom_killed),
            (code, None, false)
        );
        assert!(exit.started_at <= exit.finished_at);
    }
    pod.end().await;
}

pub(crate) async fn signals_are_reported() {
    let pod = Pod::new().await;
    let config = pod.shell("trap 'exit 7' USR1; echo ready; while true; do sleep 0.01; done");
    let (id, log) = (config.id.clone(), config.log_path.clone());
    pod.sandbox.start_container(config).await.unwrap();
    until_logged(&log, "ready").await;
    let exit = pod
        .sandbox
        .stop_container(&id, 10, Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!((exit.exit_code, exit.signal), (7, None));

    let config = pod.command(&["sleep", "100"]);
    let id = config.id.clone();
    pod.sandbox.start_container(config).await.unwrap();
    pod.sandbox.signal(&id, 9).await.unwrap();
    let exit = pod
        .sandbox
        .stop_container(&id, 15, Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!((exit.exit_code, exit.signal), (137, Some(9)));
    assert!(matches!(
        pod.sandbox.signal("unknown", 15).await,
        Err(Error::NotFound { .. })
    ));
    pod.end().await;
}

pub(crate) async fn sigterm_may_be_ignored() {
    let pod = Pod::new().await;
    let config = pod.shell("trap '' TERM; echo ready; while true; do sleep 1; done");
    let (id, log) = (config.id.clone(), config.log_path.clone());
    pod.sandbox.start_container(config).await.unwrap();
    until_logged(&log, "ready").await;
    let begun = Instant::now();
    let exit = pod
        .sandbox
        .stop_container(&id, 15, Duration::from_millis(300))
        .await
        .unwrap();
    assert_eq!(exit.exit_code, 137);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(begun.elapsed() < Duration::from_secs(5));
    pod.end().await;
}

pub(crate) async fn a_program_that_is_missing() {
    let pod = Pod::new().await;
    for (command, words) in [
        ("no-such-program", "executable file not found in $PATH"),
        ("/no/such/program", "No such file"),
        ("/etc/passwd", "Permission denied"),
    ] {
        let error = pod
            .sandbox
            .start_container(pod.command(&[command]))
            .await
            .unwrap_err();
        let Error::Step { source, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(source.step, Step::Exec);
        assert!(chain(&error).contains(words), "{}", chain(&error));
    }
    assert!(pod.sandbox.containers().await.unwrap().is_empty());
    pod.end().await;
}

pub(crate) async fn failed_steps_leave_nothing() {
    let pod = Pod::new().await;
    let mut config = pod.command(&["true"]);
    config.rootfs.lower = vec!["/no/such/layer".into()];
    let id = config.id.clone();
    let error = pod.sandbox.start_container(config).await.unwrap_err();
    assert!(
        chain(&error).contains("/no/such/layer"),
        "{}",
        chain(&error)
    );
    assert!(cgroups_named(&id).is_empty());
    assert!(!pod.dir.join("runtime/containers").join(&id).exists());

    let mut config = pod.command(&["true"]);
    config.user.name = Some("nobody-knows".to_owned());
    let error = pod.sandbox.start_container(config).await.unwrap_err();
    assert!(chain(&error).contains("nobody-knows"), "{}", chain(&error));
    pod.end().await;
}

pub(crate) async fn names_are_used_once() {
    let pod = Pod::new().await;
    let first = pod.command(&["sleep", "100"]);
    let mut second = pod.command(&["true"]);
    second.id.clone_from(&first.id);
    pod.sandbox.start_container(first).await.unwrap();
    let error = pod.sandbox.start_container(second).await.unwrap_err();
    assert!(matches!(error, Error::WrongState { .. }), "{error:?}");
    assert_eq!(pod.sandbox.containers().await.unwrap().len(), 1);
    pod.end().await;
}

pub(crate) async fn namespaces_are_shared_in_the_pod() {
    let pod = Pod::new().await;
    let script = "for kind in net ipc uts; do readlink /proc/self/ns/$kind; done; hostname; \
                  for kind in pid mnt cgroup; do readlink /proc/self/ns/$kind; done; echo $$; \
                  cat /sys/class/net/lo/operstate; mount | grep -c ' /dev/shm '";
    let (_, one) = pod.run(script).await;
    let (_, two) = pod.run(script).await;
    let (one, two): (Vec<&str>, Vec<&str>) = (one.lines().collect(), two.lines().collect());
    assert_eq!(one[..4], two[..4]);
    assert_eq!(one[3], "host-of-pod");
    // Numbers of namespaces that are gone are used again, so only the host's can be compared.
    for (index, kind) in ["pid", "mnt", "cgroup"].iter().enumerate() {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(one[4 + index], host.to_string_lossy(), "{one:?}");
    }
    assert_eq!(one[7], "1");
    for (index, kind) in ["net", "ipc", "uts"].iter().enumerate() {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(one[index], host.to_string_lossy());
    }
    assert_eq!(one[9], "1");

    pod.run("echo shared > /dev/shm/file").await;
    assert_eq!(pod.run("cat /dev/shm/file").await.1, "shared\n");
    pod.end().await;
}

pub(crate) async fn one_pid_namespace_for_the_pod() {
    let pod = Pod::with(|config| config.share_pid = true).await;
    let first = pod.command(&["sleep", "12345"]);
    let id = first.id.clone();
    pod.sandbox.start_container(first).await.unwrap();
    let (_, text) = pod.run("ps; cat /proc/1/comm").await;
    assert!(text.contains("sleep 12345"), "{text}");
    assert!(text.contains("davit-init"), "{text}");
    // An orphan ends with its container although its pid namespace goes on.
    pod.run("setsid sleep 54321 & sleep 0.05; exit 0").await;
    let (_, text) = pod.run("ps").await;
    assert!(!text.contains("54321"), "{text}");
    let exit = pod
        .sandbox
        .stop_container(&id, 15, Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(exit.exit_code, 143);
    pod.end().await;
}

pub(crate) async fn host_namespaces() {
    let pod = Pod::with(|config| {
        config.netns = NetnsMode::Host;
        config.host_pid = true;
        config.host_ipc = true;
    })
    .await;
    let (_, text) = pod
        .run("for kind in net ipc uts pid; do readlink /proc/self/ns/$kind; done; sleep 999 & exit 3")
        .await;
    for (line, kind) in text.lines().zip(["net", "ipc", "uts", "pid"]) {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(line, host.to_string_lossy());
    }
    pod.end().await;
}

pub(crate) async fn removal_leaves_nothing() {
    let pod = Pod::new().await;
    let config = pod.command(&["sleep", "100"]);
    let id = config.id.clone();
    let started = pod.sandbox.start_container(config).await.unwrap();
    assert!(!cgroups_named(&id).is_empty());
    let states = pod.sandbox.containers().await.unwrap();
    assert!(
        matches!(states[0].status, ContainerStatus::Running { pid, .. } if pid == started.pid),
        "{states:?}"
    );
    assert!(
        pod.dir
            .join("runtime/containers")
            .join(&id)
            .join("config.json")
            .exists()
    );
    // Removing what runs kills it first.
    pod.sandbox.remove_container(&id).await.unwrap();
    pod.sandbox.remove_container(&id).await.unwrap();
    assert!(cgroups_named(&id).is_empty());
    assert!(!pod.dir.join("runtime/containers").join(&id).exists());
    assert!(pod.sandbox.containers().await.unwrap().is_empty());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*pod.dir.to_string_lossy()));

    // A whole pod full of containers goes as well, and can go twice.
    for _ in 0..5 {
        let config = container(&pod.dir, &["sleep", "100"]);
        pod.sandbox.start_container(config).await.unwrap();
    }
    let sandbox = pod.sandbox.clone();
    pod.end().await;
    sandbox.shutdown().await.unwrap();
}

pub(crate) async fn sysctls_are_the_pods_own() {
    let sysctls = vec![
        (
            "net.ipv4.ip_unprivileged_port_start".to_owned(),
            "80".to_owned(),
        ),
        ("kernel.shm_rmid_forced".to_owned(), "1".to_owned()),
    ];
    let pod = Pod::with(|config| config.sysctls = sysctls).await;
    let (_, text) = pod
        .run("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced")
        .await;
    assert_eq!(text, "80\n1\n");
    let temp = tempfile::tempdir().unwrap();
    let runtime = crate::fixture::runtime_at(temp.path());
    for name in ["vm.swappiness", "net..x", "kernel/../vm/swappiness"] {
        let mut config = crate::fixture::sandbox_config(temp.path());
        config.sysctls = vec![(name.to_owned(), "1".to_owned())];
        let dir = config.dir.clone();
        let error = runtime.create_sandbox(config).await.unwrap_err();
        assert!(chain(&error).contains(name), "{}", chain(&error));
        assert!(!dir.join("runtime").exists());
    }
    pod.end().await;
}
