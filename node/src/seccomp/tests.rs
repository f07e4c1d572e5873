//! Filters run on an interpreter of the few instructions they consist of.
use caps::{Capability, CapsHashSet};
use seccompiler::sock_filter;
use serde_json::json;

use super::*;

mod containerd;

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const LOG: u32 = 0x7ffc_0000;

fn errno(code: i32) -> u32 {
    0x0005_0000 | code as u32
}

/// What one program answers to a call.
pub(crate) fn answer(program: &[sock_filter], arch: u32, number: i64, arguments: &[u64]) -> u32 {
    let mut data = vec![number as u32, arch, 0, 0];
    for index in 0..6 {
        let value = arguments.get(index).copied().unwrap_or(0);
        data.extend([value as u32, (value >> 32) as u32]);
    }
    let (mut at, mut a) = (0usize, 0u32);
    loop {
        let i = &program[at];
        at += 1;
        let jump = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
        match i.code {
            0x20 => a = data[i.k as usize / 4],
            0x54 => a &= i.k,
            0x05 => at += i.k as usize,
            0x15 => at += jump(a == i.k),
            0x25 => at += jump(a > i.k),
            0x35 => at += jump(a >= i.k),
            0x06 => return i.k,
            code => panic!("instruction {code:#x}"),
        }
    }
}

/// The strictest answer of all programs; of equal actions the newest program's.
fn verdict(filter: &Filter, number: i64, arguments: &[u64]) -> u32 {
    let rank = |answer: u32| answer as i32 & 0xffff_0000u32 as i32;
    filter
        .programs
        .iter()
        .rev()
        .map(|program| answer(program, native(), number, arguments))
        .reduce(|best, next| if rank(next) < rank(best) { next } else { best })
        .unwrap()
}

fn native() -> u32 {
    if cfg!(target_arch = "x86_64") {
        0xC000_003E
    } else {
        0xC000_00B7
    }
}

fn default_filter(capabilities: &[Capability]) -> Filter {
    let capabilities: CapsHashSet = capabilities.iter().copied().collect();
    Filter::for_container(&Seccomp::RuntimeDefault, &capabilities)
        .unwrap()
        .unwrap()
}

#[test]
fn the_default_refuses_what_reaches_the_host() {
    let filter = default_filter(&[]);
    for number in [
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_keyctl,
        libc::SYS_io_uring_setup,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_settimeofday,
        libc::SYS_open_by_handle_at,
        libc::SYS_userfaultfd,
    ] {
        assert_eq!(
            verdict(&filter, number, &[]),
            errno(libc::EPERM),
            "{number}"
        );
    }
    for number in [
        libc::SYS_read,
        libc::SYS_openat,
        libc::SYS_execve,
        libc::SYS_ptrace,
        libc::SYS_futex,
        libc::SYS_statx,
        libc::SYS_close_range,
        libc::SYS_landlock_create_ruleset,
    ] {
        assert_eq!(verdict(&filter, number, &[]), ALLOW, "{number}");
    }
}

#[test]
fn the_default_looks_at_arguments() {
    let filter = default_filter(&[]);
    let clone = |flags: i32| verdict(&filter, libc::SYS_clone, &[flags as u64]);
    assert_eq!(clone(libc::SIGCHLD | libc::CLONE_VM), ALLOW);
    assert_eq!(
        clone(libc::CLONE_NEWUSER | libc::SIGCHLD),
        errno(libc::EPERM)
    );
    assert_eq!(clone(libc::CLONE_NEWNET), errno(libc::EPERM));
    let socket = |family: i32| verdict(&filter, libc::SYS_socket, &[family as u64]);
    assert_eq!(socket(libc::AF_INET6), ALLOW);
    assert_eq!(socket(libc::AF_VSOCK), errno(libc::EPERM));
    assert_eq!(socket(libc::AF_ALG), errno(libc::EPERM));
    let personality = |value: u64| verdict(&filter, libc::SYS_personality, &[value]);
    assert_eq!(personality(0xffff_ffff), ALLOW);
    assert_eq!(personality(0x0040_0000), errno(libc::EPERM));
}

/// The kernel reads an `int` from the lower half of a register, so nothing in the upper half may change the answer.
#[test]
fn the_upper_half_of_a_register_decides_nothing() {
    let filter = default_filter(&[]);
    for above in [0, 1 << 32, 0x8000_0000_0000_0000, 0xffff_ffff_0000_0000] {
        for family in 0..=64 {
            let refused = [libc::AF_VSOCK, libc::AF_ALG].contains(&family);
            let expected = if refused { errno(libc::EPERM) } else { ALLOW };
            let argument = above | u64::from(family.unsigned_abs());
            let socket = verdict(&filter, libc::SYS_socket, &[argument, 1, 0]);
            assert_eq!(socket, expected, "{argument:#x}");
        }
        let clone = |flags: i32| {
            let flags = above | u64::from(flags.unsigned_abs());
            verdict(&filter, libc::SYS_clone, &[flags])
        };
        assert_eq!(clone(libc::CLONE_NEWNS), errno(libc::EPERM), "{above:#x}");
        assert_eq!(clone(libc::SIGCHLD), ALLOW, "{above:#x}");
        let personality = |value: u64| verdict(&filter, libc::SYS_personality, &[above | value]);
        assert_eq!(personality(0x0040_0000), errno(libc::EPERM), "{above:#x}");
    }
}

/// Rules of users are about values as well: TIOCSTI with a bit above it is TIOCSTI to the kernel.
#[test]
fn rules_of_profiles_compare_what_the_kernel_reads() {
    let tiocsti = 0x5412;
    let refuse = |op: &str, value: u64, two: u64| {
        profile(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["ioctl", "mmap"], "action": "SCMP_ACT_ERRNO", "args": [
                {"index": 1, "value": value, "valueTwo": two, "op": op}]}]
        }))
        .unwrap()
    };
    let rules = [
        refuse("SCMP_CMP_EQ", tiocsti, 0),
        refuse("SCMP_CMP_MASKED_EQ", u64::MAX, tiocsti),
    ];
    for filter in rules {
        for above in [0, 1 << 32, 0xffff_ffff_0000_0000] {
            let ioctl = verdict(&filter, libc::SYS_ioctl, &[0, above | tiocsti]);
            assert_eq!(ioctl, errno(libc::EPERM), "{above:#x}");
        }
        // A length is read whole.
        let mmap = |length| verdict(&filter, libc::SYS_mmap, &[0, length]);
        assert_eq!(mmap(tiocsti), errno(libc::EPERM));
        assert_eq!(mmap(1 << 32 | tiocsti), ALLOW);
    }
}

#[test]
fn unknown_calls_do_not_exist_and_foreign_ones_kill() {
    let filter = default_filter(&[]);
    for number in [libc::SYS_clone3, 9999, 0x4000_0000] {
        assert_eq!(
            verdict(&filter, number, &[]),
            errno(libc::ENOSYS),
            "{number}"
        );
    }
    assert_eq!(answer(&filter.programs[0], 0x4000_0003, 1, &[]), KILL);
}

#[test]
fn capabilities_lift_restrictions() {
    let filter = default_filter(&[Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_TIME]);
    for number in [
        libc::SYS_mount,
        libc::SYS_clone3,
        libc::SYS_settimeofday,
        libc::SYS_bpf,
    ] {
        assert_eq!(verdict(&filter, number, &[]), ALLOW, "{number}");
    }
    assert_eq!(
        verdict(&filter, libc::SYS_clone, &[libc::CLONE_NEWUSER as u64]),
        ALLOW
    );
    assert_eq!(verdict(&filter, libc::SYS_keyctl, &[]), errno(libc::EPERM));
}

#[test]
fn every_restricted_name_is_known_here_or_on_another_architecture() {
    for restriction in restricted::RESTRICTIONS {
        for name in restriction.calls {
            let other = cfg!(not(target_arch = "x86_64"));
            assert!(calls::number(name).is_some() || other, "{name}");
        }
    }
}

fn profile(json: serde_json::Value) -> Result<Filter, Error> {
    Filter::for_container(&Seccomp::Profile(json), &CapsHashSet::new()).map(Option::unwrap)
}

#[test]
fn a_profile_with_several_actions() {
    let filter = profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "syscalls": [
            {"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["getpid"], "action": "SCMP_ACT_LOG"},
            {"names": ["mount"], "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
            {"names": ["setns"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
                {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}
        ]
    }))
    .unwrap();
    let cases = [
        (libc::SYS_read, 0, ALLOW),
        (libc::SYS_getpid, 0, LOG),
        (libc::SYS_mount, 0, KILL),
        (libc::SYS_bpf, 0, errno(13)),
        (libc::SYS_setns, 0, errno(38)),
        (libc::SYS_socket, 2, ALLOW),
        (libc::SYS_socket, 3, errno(38)),
        (libc::SYS_clone, 17, ALLOW),
        (libc::SYS_clone, 0x1000_0000, errno(38)),
    ];
    for (number, argument, expected) in cases {
        assert_eq!(
            verdict(&filter, number, &[argument]),
            expected,
            "{number} {argument}"
        );
    }
}

#[test]
fn a_profile_that_allows_by_default() {
    let filter = profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]
    }))
    .unwrap();
    assert_eq!(verdict(&filter, libc::SYS_mkdirat, &[]), errno(libc::EPERM));
    assert_eq!(verdict(&filter, libc::SYS_read, &[]), ALLOW);
}

#[test]
fn empty_and_broken_profiles_are_never_unconfined() {
    assert_eq!(profile(json!({})).unwrap_err(), Error::Empty);
    assert!(matches!(profile(json!("x")).unwrap_err(), Error::Shape(_)));
    let notify = json!({"defaultAction": "SCMP_ACT_NOTIFY"});
    assert!(matches!(profile(notify).unwrap_err(), Error::Action(_)));
}

#[test]
fn bytes_and_back() {
    let filter = default_filter(&[]);
    let bytes = filter.to_bytes();
    let back: Vec<_> = bytes
        .iter()
        .map(|b| crate::kernel::process::filter_from_bytes(b).unwrap())
        .collect();
    assert_eq!(back, filter.programs);
    assert!(crate::kernel::process::filter_from_bytes(&[0; 7]).is_none());
}
