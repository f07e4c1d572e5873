//! The way into a pid namespace in which others live already.
//!
//! Who sets a process up has the host's file tree, descriptors, memory and rights, and must not be seen in there. So it
//! stays outside, and sends in a process that has none of that ([`crate::kernel::passage`]), confined by the container's
//! own filters from its first instruction on.
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use seccompiler::sock_filter;

use crate::kernel::mount::clone_tree;
use crate::kernel::passage::{CLONE_FLAGS, Slip, TopOfMemory, random};
use crate::kernel::process::NATIVE_ARCH;
use crate::runtime::{Step, StepError};

/// What a process outside needs to send another one in.
#[derive(Debug)]
pub(super) struct Gate<'a> {
    /// Names the new process to the shim.
    pub(super) slip: &'a Slip,
    /// End of the memory that is given up.
    pub(super) top: TopOfMemory,
    /// By this number the filters know the few calls that lead in.
    pub(super) pass: u64,
}

impl<'a> Gate<'a> {
    /// Has children of the calling process be born in the pid namespace of `target`.
    pub(super) fn to(target: &OwnedFd, slip: &'a Slip) -> Result<Self, StepError> {
        let fail = |errno| StepError::os(Step::Namespaces, "pid", errno);
        setns(target, CloneFlags::CLONE_NEWPID).map_err(fail)?;
        let top = TopOfMemory::look()
            .map_err(|error| StepError::io(Step::Namespaces, "/proc/self/maps", &error))?;
        Ok(Self {
            slip,
            top,
            pass: random().map_err(fail)?,
        })
    }
}

/// What shows the processes of the namespace to the process behind `target`: for kernels that show them to nobody
/// outside. The caller is in a mount namespace that it can leave and come back to.
pub(super) fn processes_seen_by(target: &OwnedFd) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let own = open("/proc/self/ns/mnt", flags, Mode::empty())?;
    setns(target, CloneFlags::CLONE_NEWNS)?;
    let tree = clone_tree(AT_FDCWD, Path::new("/proc"), false);
    setns(own, CloneFlags::CLONE_NEWNS)?;
    let tree = tree?;
    // Whoever may mount in there could have put something else in its place.
    match fstatfs(&tree)?.filesystem_type() {
        PROC_SUPER_MAGIC => Ok(tree),
        _ => Err(Errno::ENODEV),
    }
}

const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;

/// Where things are in what a filter looks at.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const fn argument(index: u32) -> (u32, u32) {
    (16 + 8 * index, 20 + 8 * index)
}

fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// The filter with a door in front: the calls that lead into the namespace, exactly as they are made there, are known
/// by the pass in their sixth argument, which they do not use. All others are the filter's to decide.
///
/// Whoever learned a process's pass could make that process fork, become a session leader and take a terminal.
pub(super) fn with_pass(filter: &[sock_filter], pass: u64) -> Vec<sock_filter> {
    let (low, high) = (pass as u32, (pass >> 32) as u32);
    let number = |call: libc::c_long| call as u32;
    let (flags_low, flags_high) = argument(0);
    let (request_low, _) = argument(1);
    let (pass_low, pass_high) = argument(5);
    // Jumps count the instructions they leave out; the filter itself begins at 18.
    let mut program = vec![
        instruction(LOAD, ARCH, 0, 0),
        instruction(JUMP_IF_EQUAL, NATIVE_ARCH, 0, 16),
        instruction(LOAD, NUMBER, 0, 0),
        instruction(JUMP_IF_EQUAL, number(libc::SYS_clone), 3, 0),
        instruction(JUMP_IF_EQUAL, number(libc::SYS_setsid), 8, 0),
        instruction(JUMP_IF_EQUAL, number(libc::SYS_ioctl), 5, 0),
        instruction(JUMP, 11, 0, 0),
        // 7: clone
        instruction(LOAD, flags_low, 0, 0),
        instruction(JUMP_IF_EQUAL, CLONE_FLAGS, 0, 9),
        instruction(LOAD, flags_high, 0, 0),
        instruction(JUMP_IF_EQUAL, 0, 2, 7),
        // 11: ioctl
        instruction(LOAD, request_low, 0, 0),
        instruction(JUMP_IF_EQUAL, libc::TIOCSCTTY as u32, 0, 5),
        // 13: the pass
        instruction(LOAD, pass_low, 0, 0),
        instruction(JUMP_IF_EQUAL, low, 0, 3),
        instruction(LOAD, pass_high, 0, 0),
        instruction(JUMP_IF_EQUAL, high, 0, 1),
        instruction(RETURN, ALLOW, 0, 0),
    ];
    program.extend_from_slice(filter);
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::tests::answer;

    const REFUSE: u32 = 0x0005_0001;
    const PASS: u64 = 0x0123_4567_89ab_cdef;

    fn asked(arch: u32, number: libc::c_long, arguments: [u64; 6]) -> bool {
        let refuse_all = [instruction(RETURN, REFUSE, 0, 0)];
        match answer(&with_pass(&refuse_all, PASS), arch, number, &arguments) {
            ALLOW => true,
            REFUSE => false,
            other => panic!("{other:#x}"),
        }
    }

    #[test]
    fn only_who_has_the_pass_gets_through() {
        let flags = u64::from(CLONE_FLAGS);
        let tty = libc::TIOCSCTTY;
        let good = [
            (libc::SYS_clone, [flags, 0, 9, 0, 0, PASS]),
            (libc::SYS_setsid, [1, 2, 3, 4, 5, PASS]),
            (libc::SYS_ioctl, [0, tty, 0, 0, 0, PASS]),
        ];
        for (number, arguments) in good {
            assert!(asked(NATIVE_ARCH, number, arguments), "{number}");
            // Another architecture's numbers are other calls.
            assert!(!asked(0x4000_0003, number, arguments), "{number}");
            for bit in 0..64 {
                let mut arguments = arguments;
                arguments[5] ^= 1 << bit;
                assert!(!asked(NATIVE_ARCH, number, arguments), "{number} {bit}");
            }
        }
        for flag in 0..64 {
            let arguments = [flags ^ (1 << flag), 0, 9, 0, 0, PASS];
            assert!(!asked(NATIVE_ARCH, libc::SYS_clone, arguments), "{flag}");
        }
        let other = [0, libc::TIOCSTI, 0, 0, 0, PASS];
        assert!(!asked(NATIVE_ARCH, libc::SYS_ioctl, other));
        for number in 0..512 {
            if ![libc::SYS_clone, libc::SYS_setsid, libc::SYS_ioctl].contains(&number) {
                let arguments = [flags, tty, PASS, PASS, PASS, PASS];
                assert!(!asked(NATIVE_ARCH, number, arguments), "{number}");
            }
        }
    }

    #[test]
    fn the_filter_itself_stays_as_it_is() {
        let filter = [
            instruction(LOAD, NUMBER, 0, 0),
            instruction(JUMP_IF_EQUAL, 60, 0, 1),
            instruction(RETURN, 77, 0, 0),
            instruction(RETURN, 88, 0, 0),
        ];
        let program = with_pass(&filter, PASS);
        for number in 0..512 {
            let expected = answer(&filter, NATIVE_ARCH, number, &[0; 6]);
            assert_eq!(answer(&program, NATIVE_ARCH, number, &[0; 6]), expected);
        }
    }
}
