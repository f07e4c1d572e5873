//! A terminal made inside a container.
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::statfs::fstatfs;

use crate::kernel::ioctl::open_terminal_peer;
use crate::kernel::path::open_in_root;
use crate::runtime::{Step, StepError};

/// A new terminal of the container whose file tree is `root`: the controlling side and the one its processes use.
///
/// It is opened through the container's own `/dev/pts`, checked to be one: a file planted there would be handed to the
/// host as a terminal otherwise.
pub(super) fn open_terminal(root: &OwnedFd) -> Result<(OwnedFd, OwnedFd), StepError> {
    const DEVPTS_MAGIC: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0x1cd1);
    let fail = |errno| StepError::os(Step::Terminal, "/dev/pts/ptmx", errno);
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let master = open_in_root(root, Path::new("/dev/pts/ptmx"), flags).map_err(fail)?;
    if fstatfs(&master).map_err(fail)?.filesystem_type() != DEVPTS_MAGIC {
        let cause = "is not on a devpts file system";
        return Err(StepError::other(Step::Terminal, "/dev/pts/ptmx", cause));
    }
    let peer = open_terminal_peer(&master).map_err(fail)?;
    Ok((master, peer))
}
