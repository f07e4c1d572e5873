//! Launch plans worked out from specs.
use super::*;
use crate::runtime::spec::tests::{container, facts, sandbox};
use crate::runtime::{Mount, Propagation, spec};

fn planned(config: &ContainerConfig) -> Result<Launch, Error> {
    let sandbox = sandbox();
    let spec = spec::build(&sandbox, config, "g", &facts()).unwrap();
    plan(&sandbox, config, &spec, "g", "/bundle".into())
}

#[test]
fn the_usual_container() {
    let launch = planned(&container()).unwrap();
    assert!(launch.own_pid_namespace);
    assert_eq!(launch.process.capabilities.effective, 0xa804_25fb);
    assert_eq!(launch.process.capabilities.inheritable, 0);
    assert_eq!(launch.process.rlimits, [(libc::RLIMIT_NOFILE, 1024, 4096)]);
    assert_eq!(launch.devices.len(), 6);
    let rules = launch.device_rules.unwrap();
    assert_eq!(
        rules[0],
        DeviceRule {
            kind: DeviceKind::Character,
            major: None,
            minor: None,
            access: Access::MKNOD,
        }
    );
    assert_eq!(rules.len(), 11);
    let step = |target: &str| {
        launch
            .mounts
            .iter()
            .find(|m| m.target == target)
            .unwrap()
            .clone()
    };
    assert_eq!(step("/dev/shm").source, MountSource::SharedMemory);
    assert_eq!(step("/sys/fs/cgroup").source, MountSource::Cgroups);
    assert_eq!(step("/sys").attributes, 0xf);
    let MountSource::FileSystem { kind, parameters } = step("/dev").source else {
        panic!()
    };
    assert_eq!(kind, "tmpfs");
    assert_eq!(parameters[0], ("mode".to_owned(), Some("755".to_owned())));
}

#[test]
fn sub_paths_stay_apart_from_their_volume() {
    let mut config = container();
    config.mounts = vec![Mount {
        kind: MountKind::Bind {
            source: "/volume".into(),
            sub_path: Some("part".into()),
        },
        destination: "/data".to_owned(),
        read_only: true,
        recursive_read_only: true,
        propagation: Propagation::Bidirectional,
    }];
    let launch = planned(&config).unwrap();
    let step = launch.mounts.last().unwrap();
    let expected = MountStep {
        target: "/data".to_owned(),
        source: MountSource::Bind {
            source: "/volume".into(),
            sub_path: Some("part".into()),
            alone: false,
        },
        attributes: attr::READ_ONLY,
        recursive: true,
        spread: SpreadPlan::Shared,
    };
    assert_eq!(*step, expected);
}

#[test]
fn volumes_of_an_image_come_from_the_root_itself() {
    let mut config = container();
    config.mounts = vec![Mount {
        kind: MountKind::OwnRoot,
        ..at("/data", None)
    }];
    let launch = planned(&config).unwrap();
    let step = launch.mounts.last().unwrap();
    assert_eq!(
        (step.target.as_str(), &step.source),
        ("/data", &MountSource::OwnRoot)
    );
    assert_eq!((step.attributes, step.spread), (0, SpreadPlan::Private));
}

#[test]
fn privileged_containers_have_no_device_rules() {
    let mut config = container();
    config.security.privileged = true;
    assert_eq!(planned(&config).unwrap().device_rules, None);
}

fn at(destination: &str, beneath: Option<&str>) -> Mount {
    Mount {
        kind: MountKind::Bind {
            source: "/volume".into(),
            sub_path: beneath.map(PathBuf::from),
        },
        destination: destination.to_owned(),
        read_only: false,
        recursive_read_only: false,
        propagation: Propagation::Private,
    }
}

#[test]
fn what_no_container_can_have_is_refused() {
    type Change = fn(&mut ContainerConfig);
    let changes: [(&str, Change); 17] = [
        ("id", |c| c.id = "../x".to_owned()),
        ("id", |c| c.id = String::new()),
        ("command", |c| c.args.clear()),
        ("command", |c| c.args = vec!["a\0b".to_owned()]),
        ("workingDir", |c| c.cwd = "tmp".to_owned()),
        ("rootfs", |c| c.rootfs.lower.clear()),
        ("env", |c| c.env = vec![("A=B".to_owned(), String::new())]),
        ("env", |c| c.env = vec![(String::new(), String::new())]),
        ("env", |c| c.env = vec![("A".to_owned(), "\0".to_owned())]),
        ("mountPath", |c| c.mounts = vec![at("/", None)]),
        ("mountPath", |c| c.mounts = vec![at("/proc/sys", None)]),
        ("mountPath", |c| c.mounts = vec![at("/a/../proc", None)]),
        ("mountPath", |c| c.mounts = vec![at("//proc", None)]),
        ("mountPath", |c| c.mounts = vec![at("/./proc", None)]),
        ("mountPath", |c| c.mounts = vec![at("proc", None)]),
        ("mountPath", |c| c.mounts = vec![at("/a", Some("../b"))]),
        ("mountPath", |c| c.mounts = vec![at("/a", Some("/b"))]),
    ];
    for (field, change) in changes {
        let mut config = container();
        change(&mut config);
        let error = check(&config).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("main"), "{error}");
    }
}
