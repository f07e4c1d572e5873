//! What a container must not be able to do.
use std::os::unix::fs::symlink;

use davit_node::runtime::{Error, Mount, MountKind, Propagation, Seccomp, User};
use serde_json::json;

use crate::fixture::{Pod, bind, chain};

pub(crate) async fn capabilities_and_seccomp_apply() {
    let pod = Pod::new().await;
    let script = "grep -E 'CapEff|CapBnd|CapInh|CapAmb|NoNewPrivs|Seccomp:' /proc/self/status; \
                  mount -t tmpfs none /tmp 2>&1; unshare -U true 2>&1; chroot / true && echo chroot";
    let (_, text) = pod.run(script).await;
    assert!(text.contains("CapEff:\t00000000a80425fb"), "{text}");
    assert!(text.contains("CapBnd:\t00000000a80425fb"), "{text}");
    assert!(text.contains("CapInh:\t0000000000000000"), "{text}");
    assert!(text.contains("NoNewPrivs:\t0"), "{text}");
    assert!(text.contains("Seccomp:\t2"), "{text}");
    assert!(text.contains("mount: permission denied"), "{text}");
    assert!(
        text.contains("unshare(0x10000000): Operation not permitted"),
        "{text}"
    );
    assert!(text.contains("chroot"), "{text}");

    let mut config = pod.shell(script);
    config.security.drop_capabilities = vec!["ALL".to_owned()];
    config.security.add_capabilities = vec!["NET_BIND_SERVICE".to_owned()];
    let (_, text) = pod.run_config(config).await;
    assert!(text.contains("CapEff:\t0000000000000400"), "{text}");
    assert!(text.contains("CapBnd:\t0000000000000400"), "{text}");

    let mut config = pod.shell("mkdir /tmp/x 2>&1; grep Seccomp: /proc/self/status");
    config.security.seccomp = Seccomp::Profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]
    }));
    let (_, text) = pod.run_config(config).await;
    assert!(
        text.contains("not permitted") && text.contains("Seccomp:\t2"),
        "{text}"
    );

    let mut config = pod.command(&["true"]);
    config.security.seccomp = Seccomp::Profile(json!({}));
    let error = pod.sandbox.start_container(config).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    pod.end().await;
}

pub(crate) async fn no_new_privileges() {
    let pod = Pod::new().await;
    let mut config = pod.shell("grep -E 'NoNewPrivs|Seccomp:' /proc/self/status");
    config.security.no_new_privileges = true;
    let (_, text) = pod.run_config(config).await;
    assert_eq!(text, "NoNewPrivs:\t1\nSeccomp:\t2\n");
    pod.end().await;
}

pub(crate) async fn paths_are_masked() {
    let pod = Pod::new().await;
    let script = "wc -c < /proc/interrupts; wc -c < /proc/timer_list; ls /sys/firmware | wc -l; \
                  echo 1 > /proc/sys/kernel/printk; echo b > /proc/sysrq-trigger; \
                  echo x > /sys/kernel/uevent_seqnum; echo 1 > /sys/fs/cgroup/cgroup.procs; \
                  umount /proc/interrupts; echo end";
    let (_, text) = pod.run(&format!("({script}) 2>&1")).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["0", "0", "0"], "{text}");
    assert!(text.matches("Read-only file system").count() >= 3, "{text}");
    assert!(lines.last() == Some(&"end"), "{text}");
    let mut config = pod.shell("wc -c < /proc/interrupts");
    config.security.unmasked_proc = true;
    assert_ne!(pod.run_config(config).await.1, "0\n");
    pod.end().await;
}

pub(crate) async fn nothing_covers_proc() {
    let pod = Pod::new().await;
    let volume = tempfile::tempdir().unwrap();
    let layer = tempfile::tempdir().unwrap();
    symlink("/proc", layer.path().join("there")).unwrap();
    let tries = [
        "/proc",
        "/proc/sys",
        "/a/../proc",
        "/srv/./../proc/sys",
        "//proc",
        "/there",
        "/there/sys",
        "/there/../proc",
    ];
    for path in tries {
        let mut config = pod.shell("cat /proc/sys/kernel/ostype");
        config.rootfs.lower.insert(0, layer.path().to_owned());
        config.mounts.push(bind(volume.path(), path));
        let error = pod.sandbox.start_container(config).await.unwrap_err();
        assert!(
            chain(&error).contains("/proc") || chain(&error).contains("mountPath"),
            "{path}: {}",
            chain(&error)
        );
    }
    pod.end().await;
}

pub(crate) async fn no_descriptor_leaks() {
    let pod = Pod::new().await;
    // The one that lists has its own directory open as number 3.
    let script =
        "ls /proc/self/fd | tr '\\n' ' '; for n in 0 1 2; do readlink /proc/self/fd/$n; done";
    let (_, text) = pod.run(script).await;
    let mut lines = text.lines();
    assert_eq!(
        lines.next().unwrap().split("/dev").next().unwrap().trim(),
        "0 1 2 3",
        "{text}"
    );
    assert!(
        text.contains("/dev/null") && text.matches("pipe:").count() == 2,
        "{text}"
    );

    for number in 3..20 {
        let mut config = pod.command(&["pwd"]);
        config.cwd = format!("/proc/self/fd/{number}");
        let started = pod.sandbox.start_container(config).await;
        assert!(started.is_err(), "{number}");
    }
    let config = pod.command(&["sleep", "100"]);
    let id = config.id.clone();
    pod.sandbox.start_container(config).await.unwrap();
    for number in 3..20 {
        let exec = davit_node::runtime::ExecConfig {
            args: vec!["pwd".to_owned()],
            cwd: Some(format!("/proc/self/fd/{number}")),
            ..Default::default()
        };
        assert!(pod.sandbox.exec(&id, exec, 100).await.is_err(), "{number}");
    }
    let exec = davit_node::runtime::ExecConfig {
        args: ["ls", "/proc/self/fd"].map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let outcome = pod.sandbox.exec(&id, exec, 100).await.unwrap();
    assert_eq!(String::from_utf8(outcome.stdout).unwrap(), "0\n1\n2\n3\n");
    pod.end().await;
}

pub(crate) async fn the_shims_executable_is_safe() {
    let pod = Pod::new().await;
    let before = std::fs::read(std::env::current_exe().unwrap())
        .unwrap()
        .len();
    // An entry point that is the runtime's own executable cannot be started into something else, nor written.
    let link = pod.command(&["/proc/self/exe"]);
    let _ = pod.sandbox.start_container(link).await;
    let shim = pod.sandbox.shim_pid();
    let error = std::fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/{shim}/exe"));
    let errno = error.unwrap_err().raw_os_error();
    assert!(
        errno == Some(libc::EROFS) || errno == Some(libc::ETXTBSY),
        "{errno:?}"
    );
    assert_eq!(
        std::fs::read(std::env::current_exe().unwrap())
            .unwrap()
            .len(),
        before
    );
    pod.end().await;
}

pub(crate) async fn links_do_not_lead_out() {
    let pod = Pod::new().await;
    let volume = pod.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "data").unwrap();
    let outside = tempfile::tempdir().unwrap();

    let mut config = pod.shell("cat /data/file /link/inside/file; ls /host 2>&1");
    // The image has a link where the volume goes, absolute and climbing.
    let upper = config.rootfs.upper.clone();
    symlink(outside.path(), upper.join("data")).unwrap();
    symlink("../../../../../../../../tmp", upper.join("link")).unwrap();
    config.mounts = vec![bind(&volume, "/data"), bind(&volume, "/link/inside")];
    let (_, text) = pod.run_config(config).await;
    assert!(text.starts_with("datadata"), "{text}");
    assert!(std::fs::read_dir(outside.path()).unwrap().next().is_none());

    for destination in ["/proc/self", "/", "relative", "/proc"] {
        let mut config = pod.command(&["true"]);
        config.mounts = vec![bind(&volume, destination)];
        let error = pod.sandbox.start_container(config).await.unwrap_err();
        assert!(
            matches!(error, Error::Invalid { .. }),
            "{destination}: {error:?}"
        );
    }
    // A link where a masked path or a device should be.
    let config = pod.shell("ls -l /dev/null; echo over");
    symlink("/etc/passwd", config.rootfs.upper.join("dev")).unwrap();
    let result = pod.sandbox.start_container(config).await;
    assert!(result.is_err());
    pod.end().await;
}

pub(crate) async fn sub_paths_stay_in_their_volume() {
    let pod = Pod::new().await;
    let volume = pod.dir.join("volume");
    std::fs::create_dir_all(volume.join("a")).unwrap();
    std::fs::write(volume.join("a/file"), "data").unwrap();
    symlink("/etc", volume.join("absolute")).unwrap();
    symlink("../..", volume.join("climbing")).unwrap();
    symlink("a", volume.join("inside")).unwrap();
    let with = |sub_path: &str, script: &str| {
        let mut config = pod.shell(script);
        config.mounts = vec![Mount {
            kind: MountKind::Bind {
                source: volume.clone(),
                sub_path: Some(sub_path.into()),
            },
            ..bind(&volume, "/mnt")
        }];
        config
    };
    assert_eq!(pod.run_config(with("a", "cat /mnt/file")).await.1, "data\n");
    assert_eq!(
        pod.run_config(with("inside", "cat /mnt/file")).await.1,
        "data\n"
    );
    assert_eq!(pod.run_config(with("a/file", "cat /mnt")).await.1, "data\n");
    assert_eq!(
        pod.run_config(with("new/deep", "touch /mnt/made"))
            .await
            .0
            .exit_code,
        0
    );
    assert!(volume.join("new/deep/made").exists());
    for bad in ["absolute", "climbing", "../x", "absolute/passwd"] {
        let error = pod
            .sandbox
            .start_container(with(bad, "true"))
            .await
            .unwrap_err();
        assert!(
            chain(&error).contains("leads out of its volume"),
            "{bad}: {}",
            chain(&error)
        );
    }
    pod.end().await;
}

pub(crate) async fn mounts_are_read_only_where_asked() {
    let pod = Pod::new().await;
    let volume = pod.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    let mut config = pod.shell(
        "touch /rw/x && echo rw; touch /ro/y 2>&1; touch /ro/sub/y 2>&1; \
         mount | grep -E ' /(rw|ro|tmpfs) '; stat -c %a /tmpfs",
    );
    let tmpfs = Mount {
        kind: MountKind::Tmpfs {
            size_bytes: Some(1 << 20),
            mode: 0o1750,
        },
        ..bind(&volume, "/tmpfs")
    };
    let nested = Mount {
        kind: MountKind::Tmpfs {
            size_bytes: None,
            mode: 0o755,
        },
        ..bind(&volume, "/rw/nested")
    };
    let read_only = Mount {
        read_only: true,
        recursive_read_only: true,
        propagation: Propagation::HostToContainer,
        ..bind(&volume, "/ro")
    };
    std::fs::create_dir(volume.join("sub")).unwrap();
    // Deeper places come later, whatever the order they are given in.
    config.mounts = vec![nested, read_only, tmpfs, bind(&volume, "/rw")];
    let (_, text) = pod.run_config(config).await;
    assert!(text.starts_with("rw\n"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    assert!(text.contains("1750"), "{text}");
    pod.end().await;
}

pub(crate) async fn users_and_groups() {
    let pod = Pod::new().await;
    let as_user = |name: Option<&str>, uid, gid, additional: &[u32]| {
        let mut config =
            pod.shell("id -u; id -g; id -G; echo $HOME; grep CapEff /proc/self/status");
        config.user = User {
            name: name.map(str::to_owned),
            uid,
            gid,
            additional_gids: additional.to_vec(),
            ..User::default()
        };
        config
    };
    let (_, text) = pod
        .run_config(as_user(Some("web"), None, None, &[2000]))
        .await;
    assert_eq!(text, "33\n34\n34 9 2000\n/srv\nCapEff:\t0000000000000000\n");
    let (_, text) = pod.run_config(as_user(None, Some(1234), None, &[])).await;
    assert_eq!(text, "1234\n0\n0\n/\nCapEff:\t0000000000000000\n");
    let (_, text) = pod
        .run_config(as_user(None, Some(1234), Some(77), &[]))
        .await;
    assert_eq!(text, "1234\n77\n77\n/\nCapEff:\t0000000000000000\n");
    let error = pod
        .sandbox
        .start_container(as_user(Some("4294967296"), None, None, &[]))
        .await;
    assert!(error.is_err());
    pod.end().await;
}

pub(crate) async fn the_user_is_resolved_once() {
    let pod = Pod::new().await;
    let root = |name: &str| User {
        name: Some(name.to_owned()),
        not_root: true,
        ..User::default()
    };
    // Accounts and groups of root's that are named like numbers.
    let accounts = |config: &davit_node::runtime::ContainerConfig| {
        let etc = config.rootfs.upper.join("etc");
        std::fs::create_dir(&etc).unwrap();
        let passwd = "root:x:0:0::/root:\n1000:x:0:0::/root:\napp:x:77:78::/srv:\nboss:x:0:0::/:\n";
        std::fs::write(etc.join("passwd"), passwd).unwrap();
        std::fs::write(etc.join("group"), "root:x:0:1000\n5:x:0:\nteam:x:79:app\n").unwrap();
    };
    let mut config = pod.shell("id -u; id -g; id -G");
    accounts(&config);
    config.user = root("1000:5");
    assert_eq!(pod.run_config(config).await.1, "1000\n5\n5\n");
    let mut config = pod.shell("id");
    accounts(&config);
    config.user = root("boss");
    let error = pod.sandbox.start_container(config).await.unwrap_err();
    assert!(chain(&error).contains("runAsNonRoot"), "{}", chain(&error));

    // What is executed later runs as the container does, whatever it has made of its files.
    let mut config = pod.command(&["sleep", "100"]);
    accounts(&config);
    let id = config.id.clone();
    config.user = root("app");
    let started = pod.sandbox.start_container(config).await.unwrap();
    let etc = format!("/proc/{}/root/etc", started.pid);
    std::fs::write(format!("{etc}/passwd"), "app:x:0:0::/:\nx:x:77:0::/:\n").unwrap();
    std::fs::write(format!("{etc}/group"), "root:x:0:app,x\n").unwrap();
    let exec = davit_node::runtime::ExecConfig {
        args: ["sh", "-c", "id -u; id -g; id -G; echo $HOME"]
            .map(str::to_owned)
            .to_vec(),
        ..Default::default()
    };
    let outcome = pod.sandbox.exec(&id, exec, 100).await.unwrap();
    assert_eq!(
        String::from_utf8(outcome.stdout).unwrap(),
        "77\n78\n78 79\n/srv\n"
    );
    pod.end().await;
}

pub(crate) async fn a_password_file_that_is_a_pipe() {
    let pod = Pod::new().await;
    let with_pipe = |name: Option<&str>| {
        let mut config = pod.shell("grep ^Uid: /proc/self/status | cut -f2");
        let etc = config.rootfs.upper.join("etc");
        std::fs::create_dir(&etc).unwrap();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        for file in ["passwd", "group"] {
            nix::unistd::mkfifo(&etc.join(file), mode).unwrap();
        }
        config.user.name = name.map(str::to_owned);
        config
    };
    assert_eq!(pod.run_config(with_pipe(None)).await.1, "0\n");
    assert_eq!(pod.run_config(with_pipe(Some("5:6"))).await.1, "5\n");
    let error = pod
        .sandbox
        .start_container(with_pipe(Some("web")))
        .await
        .unwrap_err();
    assert!(
        chain(&error).contains("no regular file"),
        "{}",
        chain(&error)
    );
    pod.end().await;
}

pub(crate) async fn working_directories() {
    let pod = Pod::new().await;
    let mut config = pod.command(&["pwd"]);
    config.cwd = "/made/for/me".to_owned();
    assert_eq!(pod.run_config(config).await.1, "/made/for/me\n");
    let mut config = pod.command(&["pwd"]);
    config.cwd = "relative".to_owned();
    assert!(pod.sandbox.start_container(config).await.is_err());
    let mut config = pod.command(&["pwd"]);
    config.cwd = "/etc/passwd".to_owned();
    let error = pod.sandbox.start_container(config).await.unwrap_err();
    assert!(chain(&error).contains("/etc/passwd"), "{}", chain(&error));
    pod.end().await;
}

pub(crate) async fn a_read_only_root() {
    let pod = Pod::new().await;
    let volume = pod.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    let mut config = pod.shell(
        "touch /file 2>&1; touch /made/here/file && echo volume; touch /dev/shm/x && echo shm",
    );
    config.rootfs.read_only = true;
    config.mounts = vec![bind(&volume, "/made/here")];
    let (_, text) = pod.run_config(config).await;
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(text.contains("volume\nshm"), "{text}");
    pod.end().await;
}

pub(crate) async fn volumes_of_the_image_are_writable_on_a_read_only_root() {
    let pod = Pod::new().await;
    let layer = tempfile::tempdir().unwrap();
    std::fs::create_dir(layer.path().join("data")).unwrap();
    std::fs::write(layer.path().join("data/seed"), "seed\n").unwrap();
    let script = "cat /data/seed; echo w >/data/w && cat /data/w; echo n >/new/deep/w && cat /new/deep/w; \
                  touch /no";
    let mut config = pod.shell(&format!("({script}) 2>&1"));
    config.rootfs.lower.insert(0, layer.path().to_owned());
    config.rootfs.read_only = true;
    for path in ["/data", "/new/deep"] {
        config.mounts.push(Mount {
            kind: MountKind::OwnRoot,
            ..bind(layer.path(), path)
        });
    }
    let (_, text) = pod.run_config(config).await;
    assert!(text.starts_with("seed\nw\nn\n"), "{text}");
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(
        !layer.path().join("data/w").exists(),
        "the image is untouched"
    );
    pod.end().await;
}

pub(crate) async fn privileged_containers() {
    let pod = Pod::new().await;
    let mut config = pod.shell(
        "grep -E 'CapEff|Seccomp:' /proc/self/status; mkdir /m; mount -t tmpfs none /m && echo mounted; \
         ls /dev | wc -l; wc -c < /proc/interrupts; touch /sys/fs/cgroup/x 2>&1",
    );
    config.security.privileged = true;
    let (_, text) = pod.run_config(config).await;
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = own
        .lines()
        .find_map(|l| l.strip_prefix("CapBnd:"))
        .unwrap()
        .trim();
    assert!(text.contains(bounding), "{text}");
    assert!(
        text.contains("Seccomp:\t0") && text.contains("mounted"),
        "{text}"
    );
    assert!(!text.contains("\n0\n"), "{text}");
    pod.end().await;
}
