//! Limits that hold.
use std::time::{Duration, Instant};

use davit_node::runtime::{Error, Resources};

use crate::fixture::{Pod, container, until_logged};

pub(crate) async fn too_much_memory_is_oom_killed() {
    let pod = Pod::new().await;
    let mut config = pod.shell("x=$(yes | head -c 200000000); echo survived ${#x}");
    config.resources.memory_bytes = Some(32 << 20);
    let (exit, text) = pod.run_config(config).await;
    assert!(exit.oom_killed, "{exit:?} {text}");
    assert_eq!(exit.exit_code, 137, "{exit:?} {text}");
    // Its neighbour in the same pod is not blamed.
    let (exit, _) = pod.run("exit 137").await;
    assert!(!exit.oom_killed);
    pod.end().await;
}

pub(crate) async fn a_fork_bomb_stays_in_its_limit() {
    for share_pid in [false, true] {
        let pod = Pod::with(|config| config.share_pid = share_pid).await;
        let mut config =
            pod.shell("echo go; bomb() { bomb | bomb & }; bomb; while true; do bomb; done");
        config.resources.pids_max = Some(50);
        let (id, log) = (config.id.clone(), config.log_path.clone());
        pod.sandbox.start_container(config).await.unwrap();
        until_logged(&log, "go").await;
        until_logged(&log, "can't fork").await;
        let stats = pod.sandbox.stats().await.unwrap();
        assert!(stats.containers[0].1.pids <= 50, "{stats:?}");
        // A neighbour runs on.
        assert_eq!(pod.run("exit 5").await.0.exit_code, 5);
        let begun = Instant::now();
        pod.sandbox
            .stop_container(&id, 15, Duration::ZERO)
            .await
            .unwrap();
        pod.sandbox.remove_container(&id).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        pod.end().await;
    }
}

pub(crate) async fn pod_limits_hold_too() {
    let resources = Resources {
        memory_bytes: Some(32 << 20),
        ..Resources::default()
    };
    let pod = Pod::with(|config| config.resources = resources).await;
    let (exit, _) = pod.run("x=$(yes | head -c 200000000); echo ${#x}").await;
    assert!(exit.oom_killed, "{exit:?}");
    pod.end().await;
}

pub(crate) async fn limits_change_while_it_runs_and_are_read_back() {
    let pod = Pod::new().await;
    let mut config = pod.command(&["sleep", "100"]);
    let limits = |memory, shares, quota| Resources {
        memory_bytes: Some(memory),
        cpu_shares: Some(shares),
        cpu_quota_us: Some(quota),
        ..Resources::default()
    };
    let told = |limits: &Resources| Resources {
        oom_score_adj: None,
        pids_max: None,
        ..limits.clone()
    };
    config.resources = limits(64 << 20, 256, 20_000);
    let id = config.id.clone();
    pod.sandbox.start_container(config).await.unwrap();
    // Up, down, and to an amount that is no whole number of pages.
    for wanted in [
        limits(64 << 20, 256, 20_000),
        limits(128 << 20, 512, 40_000),
        limits((32 << 20) + 1, 102, 10_000),
    ] {
        pod.sandbox.set_limits(Some(&id), &wanted).await.unwrap();
        let read = pod.sandbox.limits(Some(&id), &wanted);
        assert_eq!(read, told(&wanted));
        let other = pod.sandbox.limits(Some(&id), &Resources::default());
        assert_eq!(
            other.memory_bytes,
            wanted.memory_bytes.map(|bytes| bytes / 4096 * 4096)
        );
        assert_eq!(other.cpu_quota_us, wanted.cpu_quota_us);
    }
    let whole = pod.sandbox.limits(None, &Resources::default());
    assert_eq!((whole.memory_bytes, whole.cpu_quota_us), (None, None));
    pod.end().await;
}

pub(crate) async fn usage_is_reported() {
    let pod = Pod::new().await;
    let mut config =
        pod.shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 100");
    config.resources = Resources {
        memory_bytes: Some(64 << 20),
        cpu_shares: Some(512),
        cpu_quota_us: Some(80_000),
        pids_max: Some(10),
        oom_score_adj: Some(500),
    };
    let (id, log) = (config.id.clone(), config.log_path.clone());
    let started = pod.sandbox.start_container(config).await.unwrap();
    until_logged(&log, "done").await;
    let stats = pod.sandbox.stats().await.unwrap();
    let (name, usage) = &stats.containers[0];
    assert_eq!(*name, id);
    assert!(
        usage.cpu_nanos > 1_000_000 && usage.cpu_nanos < 60_000_000_000,
        "{usage:?}"
    );
    assert!(
        usage.memory_bytes > 0 && usage.memory_bytes < 64 << 20,
        "{usage:?}"
    );
    assert!(
        usage.pids >= 1 && stats.pod.memory_bytes >= usage.memory_bytes,
        "{stats:?}"
    );
    let adjustment =
        std::fs::read_to_string(format!("/proc/{}/oom_score_adj", started.pid)).unwrap();
    assert_eq!(adjustment.trim(), "500");
    pod.end().await;
}

pub(crate) async fn devices_are_refused() {
    let pod = Pod::new().await;
    // The root disk of the host is 254:0 or the like: a node can be made, opening it is refused.
    let script = "mknod /tmp/disk b 254 0 && dd if=/tmp/disk of=/dev/null count=1 2>&1; \
                  echo x > /dev/null && head -c 4 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c; \
                  mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg 2>&1 | head -1; ls /dev";
    let (_, text) = pod.run(script).await;
    assert_eq!(text.matches("Operation not permitted").count(), 2, "{text}");
    assert!(text.contains("\n4\n2\n"), "{text}");
    for name in [
        "full", "null", "ptmx", "pts", "shm", "stderr", "tty", "urandom", "zero",
    ] {
        assert!(
            text.lines().any(|line| line == name),
            "{name} is missing: {text}"
        );
    }

    let mut config = pod.shell("exec 3< /dev/loop-control && echo opened");
    config.devices = vec!["/dev/loop-control".into()];
    assert_eq!(pod.run_config(config).await.1, "opened\n");
    let (_, text) = pod
        .run("mknod /tmp/loop c 10 237; exec 3< /tmp/loop 2>&1")
        .await;
    assert!(text.contains("not permitted"), "{text}");

    let mut config = container(&pod.dir, &["true"]);
    config.devices = vec!["/dev/no-such-thing".into()];
    let error = pod.sandbox.start_container(config).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    pod.end().await;
}
