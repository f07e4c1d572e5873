//! Everything a container sees of file systems, built inside its own mount namespace.
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, makedev, mknodat, umask};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{Gid, Uid, chdir, fchdir, fchownat, pivot_root, symlinkat};

use super::overlay;
use super::protocol::{DeviceNode, Launch, MountSource, MountStep, SpreadPlan};
use crate::cgroup::View;
use crate::kernel::mount::{FsContext, Spread, attach, attr, clone_tree, set_attributes};
use crate::kernel::path::{
    TargetKind, directory_beneath, is_kind, open_beneath, open_in_root, target_in_root,
};
use crate::runtime::{Step, StepError};

/// Links every container has in `/dev`.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// What the shim prepares for a container's root in its own namespaces.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    /// A copy of the pod's shared memory mount.
    pub(super) shared_memory: Option<OwnedFd>,
    /// What is shown at `/sys/fs/cgroup`.
    pub(super) cgroup_view: &'a View,
    /// What shows the processes of a pid namespace that this process is not in.
    pub(super) processes: Option<OwnedFd>,
}

/// The root under construction.
struct Builder<'a> {
    launch: &'a Launch,
    prepared: Prepared<'a>,
    root: OwnedFd,
}

/// Builds the container's file tree and opens it. The caller is in a new mount namespace; nothing done here is seen
/// outside of it.
pub(super) fn build(launch: &Launch, prepared: Prepared<'_>) -> Result<OwnedFd, StepError> {
    umask(Mode::empty());
    // Taken before the namespace turns private, so that a mount that shall spread still can.
    let mut sources = Vec::with_capacity(launch.mounts.len());
    for step in &launch.mounts {
        sources.push(bind_source(step).map_err(|errno| mount_failure(step, errno))?);
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|errno| StepError::os(Step::Mount, "/", errno))?;
    let root = overlay::mount_root(&launch.rootfs, &launch.bundle.join("rootfs"))?;
    for (step, source) in launch.mounts.iter().zip(&mut sources) {
        if step.source == MountSource::OwnRoot {
            *source = Some(own_directory(&root, step).map_err(|errno| mount_failure(step, errno))?);
        }
    }
    let mut builder = Builder {
        launch,
        prepared,
        root,
    };
    for (step, source) in launch.mounts.iter().zip(sources) {
        builder.mount(step, source)?;
        if step.target == "/dev" {
            builder.devices()?;
        }
    }
    builder.hide()?;
    Ok(builder.root)
}

/// Makes `root` the only file tree there is.
pub(super) fn enter(root: &OwnedFd) -> Result<(), StepError> {
    let fail = |errno| StepError::os(Step::PivotRoot, "/", errno);
    fchdir(root).map_err(fail)?;
    // The old root ends up on top of the new one, and is taken away from there.
    pivot_root(".", ".").map_err(fail)?;
    umount2(".", MntFlags::MNT_DETACH).map_err(fail)?;
    chdir("/").map_err(fail)
}

fn mount_failure(step: &MountStep, errno: Errno) -> StepError {
    let object = match &step.source {
        MountSource::Bind {
            source,
            sub_path: Some(beneath),
            ..
        } => {
            format!(
                "{} of {} at {}",
                beneath.display(),
                source.display(),
                step.target
            )
        }
        MountSource::Bind { source, .. } => format!("{} at {}", source.display(), step.target),
        MountSource::FileSystem { kind, .. } => format!("{kind} at {}", step.target),
        _ => step.target.clone(),
    };
    match errno {
        Errno::EXDEV => StepError::other(Step::Mount, object, "leads out of its volume"),
        errno => StepError::os(Step::Mount, object, errno),
    }
}

/// A detached copy of a directory of the bare root, made there if the image has none.
fn own_directory(root: &OwnedFd, step: &MountStep) -> nix::Result<OwnedFd> {
    let directory = target_in_root(root, Path::new(&step.target), TargetKind::Directory)?;
    clone_tree(directory.as_fd(), Path::new(""), false)
}

/// A detached copy of what a bind mount shows; none for other mounts.
fn bind_source(step: &MountStep) -> nix::Result<Option<OwnedFd>> {
    let MountSource::Bind {
        source,
        sub_path,
        alone,
    } = &step.source
    else {
        return Ok(None);
    };
    let Some(beneath) = sub_path else {
        return clone_tree(AT_FDCWD, source, !alone).map(Some);
    };
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let volume = open(source, flags, Mode::empty())?;
    let part = match open_beneath(&volume, beneath, OFlag::O_PATH) {
        Err(Errno::ENOENT) => directory_beneath(&volume, beneath)?,
        result => result?,
    };
    clone_tree(part.as_fd(), Path::new(""), !alone).map(Some)
}

impl Builder<'_> {
    fn mount(&mut self, step: &MountStep, source: Option<OwnedFd>) -> Result<(), StepError> {
        let fail = |errno| mount_failure(step, errno);
        let tree = match &step.source {
            MountSource::Bind { .. } | MountSource::OwnRoot => {
                source.ok_or_else(|| fail(Errno::ENOENT))?
            }
            MountSource::FileSystem { kind, parameters } => match self.prepared.processes.take() {
                Some(tree) if kind == "proc" => {
                    set_attributes(&tree, step.attributes, Spread::Private, false).map_err(fail)?;
                    tree
                }
                other => {
                    self.prepared.processes = other;
                    new_file_system(kind, parameters, step)?
                }
            },
            MountSource::SharedMemory => self
                .prepared
                .shared_memory
                .take()
                .ok_or_else(|| fail(Errno::ENOENT))?,
            MountSource::Cgroups => return self.cgroups(step),
        };
        // A new file system has its attributes already, and nothing to spread to.
        if matches!(step.source, MountSource::Bind { .. } | MountSource::OwnRoot) {
            restrict(&tree, step).map_err(fail)?;
        }
        let kind = TargetKind::of(&fstat(&tree).map_err(fail)?);
        let target = target_in_root(&self.root, Path::new(&step.target), kind).map_err(fail)?;
        // A link of the image may lead there, which nobody who looks at the path alone can see.
        let covered = fstatfs(&target).map_err(fail)?.filesystem_type();
        if covered == PROC_SUPER_MAGIC {
            let cause = "leads into /proc, which nothing may cover";
            return Err(StepError::other(Step::Mount, step.target.as_str(), cause));
        }
        attach(&tree, &target).map_err(fail)
    }

    /// Shows the container its own cgroups: a fresh mount where there is one hierarchy, directories of the host where
    /// there are many.
    fn cgroups(&self, step: &MountStep) -> Result<(), StepError> {
        let fail = |errno| mount_failure(step, errno);
        let target = target_in_root(&self.root, Path::new(&step.target), TargetKind::Directory)
            .map_err(fail)?;
        let views = match self.prepared.cgroup_view {
            View::Unified => {
                let tree = FsContext::open("cgroup2").and_then(|fs| fs.mount(step.attributes));
                return attach(tree.map_err(fail)?, target).map_err(fail);
            }
            View::Split(views) => views,
        };
        let fs = FsContext::open("tmpfs").map_err(fail)?;
        fs.set("mode", b"755").map_err(fail)?;
        let base = fs.mount(step.attributes & !attr::READ_ONLY).map_err(fail)?;
        attach(&base, target).map_err(fail)?;
        for view in views {
            let tree = clone_tree(AT_FDCWD, &view.directory, false).map_err(fail)?;
            set_attributes(&tree, step.attributes, Spread::Private, false).map_err(fail)?;
            let place = target_in_root(&base, Path::new(&view.name), TargetKind::Directory);
            attach(&tree, place.map_err(fail)?).map_err(fail)?;
            for alias in &view.aliases {
                symlinkat(view.name.as_str(), &base, alias.as_str()).map_err(fail)?;
            }
        }
        set_attributes(&base, step.attributes, Spread::Keep, false).map_err(fail)
    }

    /// Makes the nodes and links of the `/dev` that was just mounted.
    fn devices(&self) -> Result<(), StepError> {
        let fail = |path: &str| {
            let path = path.to_owned();
            move |errno| StepError::os(Step::Device, path, errno)
        };
        for node in &self.launch.devices {
            self.device(node).map_err(fail(&node.path))?;
        }
        let dev =
            open_in_root(&self.root, Path::new("/dev"), OFlag::O_PATH).map_err(fail("/dev"))?;
        for (to, name) in DEVICE_LINKS {
            symlinkat(to, &dev, name).map_err(fail(name))?;
        }
        Ok(())
    }

    fn device(&self, node: &DeviceNode) -> nix::Result<()> {
        let path = Path::new(&node.path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::EINVAL);
        };
        let parent = target_in_root(&self.root, parent, TargetKind::Directory)?;
        let kind = if node.block {
            SFlag::S_IFBLK
        } else {
            SFlag::S_IFCHR
        };
        let mode = Mode::from_bits_truncate(node.mode);
        let number = makedev(node.major.into(), node.minor.into());
        mknodat(&parent, name, kind, mode, number)?;
        if (node.uid, node.gid) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
            let no_follow = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
            fchownat(&parent, name, Some(uid), Some(gid), no_follow)?;
            fchmodat(&parent, name, mode, FchmodatFlags::FollowSymlink)?;
        }
        Ok(())
    }

    /// Masked paths, read-only paths, and the root itself.
    fn hide(&self) -> Result<(), StepError> {
        for path in &self.launch.readonly_paths {
            self.lock(path)
                .map_err(|errno| StepError::os(Step::MaskedPath, path, errno))?;
        }
        for path in &self.launch.masked_paths {
            self.mask(path)
                .map_err(|errno| StepError::os(Step::MaskedPath, path, errno))?;
        }
        if self.launch.rootfs.read_only {
            set_attributes(&self.root, attr::READ_ONLY, Spread::Keep, false)
                .map_err(|errno| StepError::os(Step::RootFs, "/", errno))?;
        }
        Ok(())
    }

    fn lock(&self, path: &str) -> nix::Result<()> {
        let Some(target) = self.existing(path)? else {
            return Ok(());
        };
        let tree = clone_tree(target.as_fd(), Path::new(""), true)?;
        set_attributes(&tree, attr::READ_ONLY, Spread::Private, true)?;
        attach(tree, target)
    }

    fn mask(&self, path: &str) -> nix::Result<()> {
        let Some(target) = self.existing(path)? else {
            return Ok(());
        };
        let cover = if TargetKind::of(&fstat(&target)?) == TargetKind::Directory {
            FsContext::open("tmpfs")?.mount(attr::READ_ONLY)?
        } else {
            let null = open_in_root(&self.root, Path::new("/dev/null"), OFlag::O_PATH)?;
            let stat = fstat(&null)?;
            if !is_kind(&stat, SFlag::S_IFCHR) || stat.st_rdev != makedev(1, 3) {
                return Err(Errno::ENODEV);
            }
            clone_tree(null.as_fd(), Path::new(""), false)?
        };
        attach(cover, target)
    }

    /// What is at `path`, if anything; paths that this kernel does not have need no hiding.
    fn existing(&self, path: &str) -> nix::Result<Option<OwnedFd>> {
        match open_in_root(&self.root, Path::new(path), OFlag::O_PATH) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            result => result.map(Some),
        }
    }
}

/// Sets a bind mount's attributes and how it spreads.
fn restrict(tree: &OwnedFd, step: &MountStep) -> nix::Result<()> {
    let spread = match step.spread {
        SpreadPlan::Private => Spread::Private,
        SpreadPlan::Slave => Spread::Slave,
        SpreadPlan::Shared => Spread::Shared,
    };
    if step.recursive {
        return set_attributes(tree, step.attributes, spread, true);
    }
    set_attributes(tree, 0, spread, true)?;
    if step.attributes == 0 {
        Ok(())
    } else {
        set_attributes(tree, step.attributes, Spread::Keep, false)
    }
}

fn new_file_system(
    kind: &str,
    parameters: &[(String, Option<String>)],
    step: &MountStep,
) -> Result<OwnedFd, StepError> {
    let fail = |errno| mount_failure(step, errno);
    let fs = FsContext::open(kind).map_err(fail)?;
    for (key, value) in parameters {
        let set = match value {
            Some(value) => fs.set(key, value.as_bytes()),
            None => fs.set_flag(key),
        };
        set.map_err(|errno| {
            let object = format!("{kind} at {}: option {key}", step.target);
            StepError::os(Step::Mount, object, errno)
        })?;
    }
    fs.mount(step.attributes).map_err(fail)
}
