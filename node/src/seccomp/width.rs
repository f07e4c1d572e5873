//! How much of a register a system call reads.
//!
//! An argument is a whole register to a filter, and often only its lower half to the call behind it. A rule that compares
//! more than the call reads is passed by whoever sets a bit in the upper half, with the same effect (CVE-2019-10063).
use seccompiler::SeccompCmpArgLen;

/// Arguments that the kernel takes as 32 bits, of the calls that are told apart by them. All others are read whole.
const HALVES: &[(&str, &[u8])] = &[
    ("bpf", &[0, 2]),
    ("clock_adjtime", &[0]),
    ("clock_settime", &[0]),
    ("clone", &[0]),
    ("close_range", &[0, 1, 2]),
    ("dup3", &[0, 1, 2]),
    ("fanotify_init", &[0, 1]),
    ("fcntl", &[0, 1]),
    ("fsconfig", &[0, 1, 4]),
    ("futex", &[1, 2, 5]),
    ("getsockopt", &[0, 1, 2]),
    ("ioctl", &[0, 1]),
    ("keyctl", &[0]),
    ("kill", &[0, 1]),
    ("madvise", &[2]),
    ("membarrier", &[0, 1]),
    ("memfd_create", &[1]),
    ("memfd_secret", &[0]),
    ("mkdirat", &[0]),
    ("open", &[1]),
    ("open_by_handle_at", &[0, 2]),
    ("openat", &[0, 2]),
    ("personality", &[0]),
    ("pidfd_open", &[0, 1]),
    ("pidfd_send_signal", &[0, 1, 3]),
    ("prctl", &[0]),
    ("quotactl", &[0]),
    ("reboot", &[0, 1, 2]),
    ("sched_setscheduler", &[0, 1]),
    ("seccomp", &[0, 1]),
    ("setns", &[0, 1]),
    ("setsockopt", &[0, 1, 2]),
    ("socket", &[0, 1, 2]),
    ("socketpair", &[0, 1, 2]),
    ("syslog", &[0]),
    ("tgkill", &[0, 1, 2]),
    ("tkill", &[0, 1]),
    ("umount2", &[1]),
    ("userfaultfd", &[0]),
];

/// What the kernel reads of this argument.
pub(super) fn width(call: &str, argument: u8) -> SeccompCmpArgLen {
    let half = HALVES
        .iter()
        .any(|(name, arguments)| *name == call && arguments.contains(&argument));
    if half {
        SeccompCmpArgLen::Dword
    } else {
        SeccompCmpArgLen::Qword
    }
}
