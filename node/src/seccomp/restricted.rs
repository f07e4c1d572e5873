//! davit's default policy as data: which known system calls a container may not use.
//!
//! It takes away what containerd's default takes away: everything that reaches the kernel's own state, other containers or
//! the host's clock, keys and devices, and what has no use in a container but has had holes. A call that this build does
//! not know at all answers `ENOSYS`, so programs fall back to an older one. Each difference from containerd is in a test
//! with its reason (`seccomp/tests/containerd.rs`).
use caps::Capability;

/// Calls that are refused unless the container has one of these capabilities; with none, always.
pub(super) struct Restriction {
    /// The calls.
    pub(super) calls: &'static [&'static str],
    /// Any of these lifts the restriction.
    pub(super) unless: &'static [Capability],
}

const fn never(calls: &'static [&'static str]) -> Restriction {
    Restriction { calls, unless: &[] }
}

const fn unless(unless: &'static [Capability], calls: &'static [&'static str]) -> Restriction {
    Restriction { calls, unless }
}

/// The policy. `clone`, `personality` and `socket` are restricted by their arguments and are not listed here.
pub(super) const RESTRICTIONS: &[Restriction] = &[
    // Keys are not namespaced.
    never(&["add_key", "keyctl", "request_key"]),
    // A large and young interface that other filters cannot see into.
    never(&["io_uring_enter", "io_uring_register", "io_uring_setup"]),
    // Page faults handled in user space make races in the kernel winnable.
    never(&["userfaultfd"]),
    never(&[
        "migrate_pages",
        "move_pages",
        "swapoff",
        "swapon",
        "pivot_root",
        "nfsservctl",
    ]),
    // Answered with EPERM on any modern kernel or not implemented at all.
    never(&[
        "_sysctl",
        "afs_syscall",
        "getpmsg",
        "putpmsg",
        "security",
        "sysfs",
        "tuxcall",
        "uselib",
        "ustat",
        "vserver",
    ]),
    unless(
        &[Capability::CAP_SYS_ADMIN],
        &[
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
            "open_tree_attr",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "umount2",
            "unshare",
        ],
    ),
    unless(&[Capability::CAP_SYS_ADMIN, Capability::CAP_BPF], &["bpf"]),
    unless(
        &[Capability::CAP_SYS_ADMIN, Capability::CAP_PERFMON],
        &["perf_event_open"],
    ),
    unless(
        &[Capability::CAP_SYS_ADMIN, Capability::CAP_SYSLOG],
        &["syslog"],
    ),
    unless(&[Capability::CAP_DAC_READ_SEARCH], &["open_by_handle_at"]),
    // Another kernel is nobody's to start from a container, whatever its capabilities.
    never(&["kexec_file_load", "kexec_load"]),
    unless(&[Capability::CAP_SYS_BOOT], &["reboot"]),
    unless(&[Capability::CAP_SYS_CHROOT], &["chroot"]),
    unless(
        &[Capability::CAP_SYS_MODULE],
        &["delete_module", "finit_module", "init_module"],
    ),
    unless(
        &[Capability::CAP_SYS_NICE],
        &[
            "get_mempolicy",
            "mbind",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    unless(&[Capability::CAP_SYS_PACCT], &["acct"]),
    unless(
        &[Capability::CAP_SYS_PTRACE],
        &["kcmp", "pidfd_getfd", "process_madvise"],
    ),
    unless(&[Capability::CAP_SYS_RAWIO], &["ioperm", "iopl"]),
    unless(
        &[Capability::CAP_SYS_TIME],
        &["clock_settime", "settimeofday"],
    ),
    unless(&[Capability::CAP_SYS_TTY_CONFIG], &["vhangup"]),
];

/// Flags of `clone` that make namespaces; refused without `CAP_SYS_ADMIN`.
pub(super) const NAMESPACE_FLAGS: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Execution domains a process may ask for: Linux, 32-bit uname and addresses, and the question itself.
pub(super) const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

/// Address families that no container gets: one reaches the hypervisor and so leaves every namespace, the other is the
/// kernel's own cryptography, which has had holes and which libraries do without.
pub(super) const REFUSED_FAMILIES: [i32; 2] = [libc::AF_VSOCK, libc::AF_ALG];

/// Calls that look absent to every container. They do what `ioctl` does as well, so nothing is lost, and programs that
/// were built for them fall back to it.
pub(super) const ABSENT: [&str; 2] = ["file_getattr", "file_setattr"];
