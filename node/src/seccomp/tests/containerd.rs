//! The default policy beside containerd's (its main branch of August 2026), call by call, each difference with its reason.
use Capability as C;

use super::*;

/// Of the calls this build knows, those that containerd's default refuses unless the container has one of these capabilities.
/// It lets all others through.
const REFUSED: &[(&[Capability], &[&str])] = &[
    (
        &[],
        &[
            "_sysctl",
            "add_key",
            "afs_syscall",
            "file_getattr",
            "file_setattr",
            "getpmsg",
            "io_uring_enter",
            "io_uring_register",
            "io_uring_setup",
            "kexec_file_load",
            "kexec_load",
            "keyctl",
            "migrate_pages",
            "move_pages",
            "nfsservctl",
            "open_tree_attr",
            "pivot_root",
            "putpmsg",
            "request_key",
            "security",
            "swapoff",
            "swapon",
            "sysfs",
            "tuxcall",
            "uselib",
            "userfaultfd",
            "ustat",
            "vserver",
        ],
    ),
    (
        &[C::CAP_SYS_ADMIN],
        &[
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "umount2",
            "unshare",
        ],
    ),
    (&[C::CAP_SYS_ADMIN, C::CAP_BPF], &["bpf"]),
    (&[C::CAP_SYS_ADMIN, C::CAP_PERFMON], &["perf_event_open"]),
    (&[C::CAP_SYS_ADMIN, C::CAP_SYSLOG], &["syslog"]),
    (&[C::CAP_DAC_READ_SEARCH], &["open_by_handle_at"]),
    (&[C::CAP_SYS_BOOT], &["reboot"]),
    (&[C::CAP_SYS_CHROOT], &["chroot"]),
    (
        &[C::CAP_SYS_MODULE],
        &["delete_module", "finit_module", "init_module"],
    ),
    (
        &[C::CAP_SYS_NICE],
        &[
            "get_mempolicy",
            "mbind",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    (&[C::CAP_SYS_PACCT], &["acct"]),
    (
        &[C::CAP_SYS_PTRACE],
        &["kcmp", "pidfd_getfd", "process_madvise"],
    ),
    (&[C::CAP_SYS_RAWIO], &["ioperm", "iopl"]),
    (&[C::CAP_SYS_TIME], &["clock_settime", "settimeofday"]),
    (&[C::CAP_SYS_TTY_CONFIG], &["vhangup"]),
];

/// Where davit answers otherwise: the call, what is different, and why. `true` is for calls that davit lets through and
/// containerd does not.
const DIFFERENCES: &[(&str, bool, &str)] = &[(
    "open_tree_attr",
    true,
    "open_tree and mount_setattr in one; containerd's list was made before it, and gives both to CAP_SYS_ADMIN",
)];

/// How many calls were held against containerd's list; whoever adds one looks there and counts it here.
#[cfg(target_arch = "x86_64")]
const COMPARED: usize = 379;

fn containerd_allows(name: &str, capability: Option<Capability>) -> bool {
    let refusal = REFUSED.iter().find(|(_, calls)| calls.contains(&name));
    refusal.is_none_or(|(unless, _)| capability.is_some_and(|own| unless.contains(&own)))
}

#[test]
fn every_call_is_answered_as_containerd_does_or_for_a_reason() {
    let one_each = caps::all().into_iter().map(Some);
    let mut met = std::collections::BTreeSet::new();
    for capability in std::iter::once(None).chain(one_each) {
        let own: Vec<Capability> = capability.into_iter().collect();
        let filter = default_filter(&own);
        for (name, number) in calls::all() {
            // The arguments are the harmless ones: no flag of clone, no family, the execution domain that is in force.
            let allowed = verdict(&filter, number, &[]) == ALLOW;
            if allowed == containerd_allows(name, capability) {
                continue;
            }
            let known = DIFFERENCES.iter().find(|(other, ..)| *other == name);
            let known = known.unwrap_or_else(|| panic!("{name} with {capability:?}: {allowed}"));
            assert_eq!(known.1, allowed, "{name}");
            met.insert(known.0);
        }
    }
    let listed: std::collections::BTreeSet<_> =
        DIFFERENCES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(met, listed, "a difference that is none any more");
    #[cfg(target_arch = "x86_64")]
    assert_eq!(calls::all().count(), COMPARED);
}

/// containerd refuses with `EPERM` what it does not list. davit says `ENOSYS` where the call may be one that a program has
/// a replacement for, as it does itself for `clone3`.
#[test]
fn what_looks_absent_is_refused_by_containerd_too() {
    for capability in [None, Some(C::CAP_SYS_ADMIN)] {
        let filter = default_filter(&capability.into_iter().collect::<Vec<_>>());
        for name in restricted::ABSENT {
            assert!(!containerd_allows(name, capability), "{name}");
            let number = calls::number(name).unwrap();
            let answer = verdict(&filter, number, &[]);
            assert_eq!(answer, errno(libc::ENOSYS), "{name}");
        }
        // create_module, get_kernel_syms and query_module are gone from the kernel, 471 and later are not in it yet.
        let gone: &[i64] = if cfg!(target_arch = "x86_64") {
            &[174, 177, 178]
        } else {
            &[]
        };
        for number in gone.iter().copied().chain([471, 600]) {
            let answer = verdict(&filter, number, &[]);
            assert_eq!(answer, errno(libc::ENOSYS), "{number}");
        }
    }
}

/// containerd lets 32-bit programs run, whose sockets come from `socketcall`, where no filter sees the family, so that both
/// refused families are open to them. davit has no second set of numbers: such a program is ended at its first call.
#[test]
fn there_is_no_second_set_of_numbers() {
    const I386: u32 = 0x4000_0003;
    const X32: i64 = 0x4000_0000;
    let filter = default_filter(&[]);
    for number in [1, 11, 102, 359] {
        assert_eq!(answer(&filter.programs[0], I386, number, &[]), KILL);
    }
    let x32_socket = X32 + libc::SYS_socket;
    assert_eq!(verdict(&filter, x32_socket, &[]), errno(libc::ENOSYS));
}
