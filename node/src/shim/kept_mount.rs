//! A mount that is not part of anybody's file tree until copies of it are.
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;

use crate::kernel::mount::{Spread, attach, clone_tree, set_attributes};
use crate::runtime::{Step, StepError};

/// The mount, for the pod's containers to be given copies of.
#[derive(Debug)]
pub(super) enum KeptMount {
    /// Attached nowhere.
    Detached(OwnedFd),
    /// Kernels before 6.15 cannot copy a detached mount: it is on the pod's directory.
    OnHost(PathBuf),
}

impl KeptMount {
    /// Keeps a detached mount; `place` is where it goes if it must be attached.
    pub(super) fn new(mount: OwnedFd, place: PathBuf) -> Result<Self, StepError> {
        if clone_tree(mount.as_fd(), Path::new(""), false).is_ok() {
            return Ok(Self::Detached(mount));
        }
        Self::attached(&mount, place)
    }

    fn attached(mount: &OwnedFd, place: PathBuf) -> Result<Self, StepError> {
        let fail = |errno| StepError::os(Step::Mount, place.display().to_string(), errno);
        std::fs::create_dir_all(&place)
            .map_err(|e| StepError::io(Step::Mount, place.display().to_string(), &e))?;
        let target = open(&place, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(fail)?;
        set_attributes(mount, 0, Spread::Private, false).map_err(fail)?;
        attach(mount, target).map_err(fail)?;
        Ok(Self::OnHost(place))
    }

    /// A detached copy.
    pub(super) fn copy(&self) -> nix::Result<OwnedFd> {
        match self {
            Self::Detached(fd) => clone_tree(fd.as_fd(), Path::new(""), false),
            Self::OnHost(path) => clone_tree(AT_FDCWD, path, false),
        }
    }
}

impl Drop for KeptMount {
    fn drop(&mut self) {
        if let Self::OnHost(path) = self {
            // One that somebody has taken away already is what was wanted.
            let _ = umount2(path.as_path(), MntFlags::MNT_DETACH);
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::kernel::mount::FsContext;

    #[test]
    fn both_ways_give_copies_of_one_mount() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
                let new = || FsContext::open("tmpfs").unwrap().mount(0).unwrap();
                let place = |name: &str| dir.path().join(name);
                let kept = [
                    KeptMount::new(new(), place("first")).unwrap(),
                    KeptMount::attached(&new(), place("second")).unwrap(),
                ];
                for kept in kept {
                    for round in 0..2 {
                        let target = place(&format!("copy{round}"));
                        std::fs::create_dir_all(&target).unwrap();
                        attach(kept.copy().unwrap(), std::fs::File::open(&target).unwrap())
                            .unwrap();
                        assert_eq!(target.join("file").exists(), round == 1);
                        std::fs::write(target.join("file"), "x").unwrap();
                    }
                    drop(kept);
                    for round in 0..2 {
                        umount2(&place(&format!("copy{round}")), MntFlags::empty()).unwrap();
                    }
                }
                let left = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
                assert!(!left.contains(&*dir.path().to_string_lossy()), "{left}");
            });
        });
    }
}
