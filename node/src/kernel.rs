//! System calls that nix has no safe wrapper for, each behind a function that is safe to call.
//!
//! This is the node's only module with `unsafe`. Needs Linux 5.12 or newer (`mount_setattr`).
#![allow(
    unsafe_code,
    reason = "the one place of the node that speaks to the kernel directly"
)]

pub(crate) mod bpf;
pub(crate) mod ioctl;
pub(crate) mod mount;
pub(crate) mod passage;
pub(crate) mod path;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod socket;
pub(crate) mod wait;

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// Turns the result of a raw system call that makes a descriptor into that descriptor.
fn owned(result: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(result)?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the system call has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
