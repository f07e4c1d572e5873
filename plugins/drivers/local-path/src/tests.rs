//! The driver's plans, natively.

use super::*;
use davit_plugin::FakeHost;

fn host(quota: bool) -> FakeHost {
    FakeHost::new().root(
        ROOT,
        SpaceInfo {
            total_bytes: 100 << 30,
            available_bytes: 10 << 30,
            fs_type: "ext4".into(),
            reflink: false,
            project_quota: quota,
        },
    )
}

fn request(bytes: u64) -> CreateRequest {
    CreateRequest {
        name: "pvc-1".into(),
        required_bytes: bytes,
        limit_bytes: None,
        parameters: vec![],
        uses: vec![UseMode {
            mode: VolumeMode::Filesystem,
            access: vec![AccessMode::Rwo],
            fs_type: String::new(),
            mount_options: vec![],
        }],
        source: Source::Empty,
        requisite: vec![],
        preferred: vec![],
    }
}

#[test]
fn a_volume_is_a_directory_on_its_node() {
    let (volume, plan) = LocalPath::create(&host(false).cx().unwrap(), &request(5 << 30)).unwrap();
    assert_eq!(volume.id, "pvc-1");
    assert_eq!(volume.capacity_bytes, 5 << 30);
    assert_eq!(
        volume.topology,
        [vec![(
            "kubernetes.io/hostname".to_owned(),
            "node-1".to_owned()
        )]]
    );
    assert_eq!(
        plan,
        Plan::new().data_directory("data", "volumes", "pvc-1", 0o777)
    );
}

#[test]
fn quotas_where_the_file_system_has_them() {
    let (_, plan) = LocalPath::create(&host(true).cx().unwrap(), &request(5 << 30)).unwrap();
    assert_eq!(plan.ops.len(), 2);
    let volume = VolumeRef {
        id: "pvc-1".into(),
        capacity_bytes: 5 << 30,
        context: vec![],
    };
    let how = request(0).uses.remove(0);
    let cx = host(true).cx().unwrap();
    let (expanded, plan) = LocalPath::expand(&cx, &volume, 6 << 30, None, &how).unwrap();
    assert_eq!(expanded.capacity_bytes, 6 << 30);
    assert!(matches!(&plan.ops[1], Op::Quota { bytes, .. } if *bytes == 6 << 30));
}

#[test]
fn what_a_directory_cannot_do_is_refused() {
    let cx = host(false).cx().unwrap();
    let refuse = |change: &dyn Fn(&mut CreateRequest)| {
        let mut request = request(1 << 30);
        change(&mut request);
        LocalPath::create(&cx, &request).unwrap_err().code
    };
    assert_eq!(
        refuse(&|r| r.required_bytes = 11 << 30),
        Code::ResourceExhausted
    );
    assert_eq!(
        refuse(&|r| r.source = Source::Volume("pvc-0".into())),
        Code::Unimplemented
    );
    assert_eq!(
        refuse(&|r| r.uses[0].mode = VolumeMode::Block),
        Code::InvalidArgument
    );
    assert_eq!(refuse(&|r| r.limit_bytes = Some(1)), Code::OutOfRange);
    assert_eq!(
        refuse(&|r| r.parameters = vec![("x".into(), "y".into())]),
        Code::InvalidArgument
    );
    assert_eq!(refuse(&|r| r.name.clear()), Code::InvalidArgument);
}

#[test]
fn capacity_is_this_nodes() {
    let cx = host(false).cx().unwrap();
    let on = |node: &str| {
        let segment = [("kubernetes.io/hostname".to_owned(), node.to_owned())];
        LocalPath::capacity(&cx, &[], &segment).unwrap()
    };
    assert_eq!(on("node-1"), 10 << 30);
    assert_eq!(on("node-2"), 0);
}

#[test]
fn a_pod_gets_the_directory() {
    let publish = PublishRequest {
        volume: VolumeRef {
            id: "pvc-1".into(),
            capacity_bytes: 1,
            context: vec![],
        },
        use_as: request(1).uses.remove(0),
        publish_context: vec![],
        read_only: true,
        pod: None,
        fs_group: None,
    };
    let plan = LocalPath::publish(&host(false).cx().unwrap(), &publish).unwrap();
    assert_eq!(plan, Plan::new().expose("volume/pvc-1#data", true));
}
