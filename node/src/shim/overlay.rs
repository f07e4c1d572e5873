//! A container's root: an overlay of its image's layers and a directory for its writes.
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use crate::kernel::mount::{FsContext, attach};
use crate::runtime::{RootFs, Step, StepError};

/// What `mount(2)` takes as options, without the NUL.
const MAX_OPTIONS: usize = 4095;

/// Mounts the root on the directory `at` and returns it, opened.
///
/// Writes to the overlay are not synced when it is unmounted: they go with the container, and syncing them would make
/// its end wait for everybody else's writes to that disk.
pub(super) fn mount_root(root: &RootFs, at: &Path) -> Result<OwnedFd, StepError> {
    let fail = |errno| StepError::os(Step::RootFs, at.display().to_string(), errno);
    match by_descriptors(root) {
        Ok(overlay) => {
            attach(&overlay, open_directory(at).map_err(fail)?).map_err(fail)?;
            Ok(overlay)
        }
        Err(Refused::Unsupported) => {
            by_options(root, at)?;
            open_directory(at).map_err(fail)
        }
        Err(Refused::Failed(error)) => Err(error),
    }
}

fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    open(
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

enum Refused {
    /// The kernel is older than this way of mounting (6.8).
    Unsupported,
    Failed(StepError),
}

fn by_descriptors(root: &RootFs) -> Result<OwnedFd, Refused> {
    let fs = FsContext::open("overlay").map_err(|errno| {
        let cause = "the kernel has no overlay file system; load module overlay";
        Refused::Failed(match errno {
            Errno::ENODEV => StepError::other(Step::RootFs, "overlay", cause),
            errno => StepError::os(Step::RootFs, "overlay", errno),
        })
    })?;
    let failed = |path: &Path, errno: Errno| {
        let object = path.display().to_string();
        Refused::Failed(match fs.complaint() {
            Some(cause) if !cause.is_empty() => StepError {
                errno: errno as i32,
                ..StepError::other(Step::RootFs, object, cause)
            },
            _ => StepError::os(Step::RootFs, object, errno),
        })
    };
    for (index, layer) in root.lower.iter().enumerate() {
        match fs.set("lowerdir+", layer.as_os_str().as_bytes()) {
            Err(Errno::EINVAL) if index == 0 => return Err(Refused::Unsupported),
            result => result.map_err(|errno| failed(layer, errno))?,
        }
    }
    for (key, path) in [("upperdir", &root.upper), ("workdir", &root.work)] {
        fs.set(key, path.as_os_str().as_bytes())
            .map_err(|errno| failed(path, errno))?;
    }
    // A kernel without it syncs; that is slower, not wrong.
    let _ = fs.set_flag("volatile");
    fs.mount(0).map_err(|errno| failed(&root.upper, errno))
}

/// The older way: all directories in one string, relative to their common parent if the string gets too long.
fn by_options(root: &RootFs, at: &Path) -> Result<(), StepError> {
    let fail = |errno| StepError::os(Step::RootFs, root.upper.display().to_string(), errno);
    let mut options = overlay_options(&root.lower, root);
    if options.len() > MAX_OPTIONS {
        let parent = common_parent(&root.lower);
        let relative: Vec<PathBuf> = root
            .lower
            .iter()
            .map(|layer| layer.strip_prefix(&parent).unwrap_or(layer).to_owned())
            .collect();
        options = overlay_options(&relative, root);
        nix::unistd::chdir(&parent).map_err(fail)?;
    }
    if options.len() > MAX_OPTIONS {
        let cause = "too many layers for this kernel; use Linux 6.8 or newer, or squash the image";
        return Err(StepError::other(
            Step::RootFs,
            root.upper.display().to_string(),
            cause,
        ));
    }
    let none = None::<&Path>;
    mount(
        none,
        at,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_slice()),
    )
    .map_err(fail)
}

fn overlay_options(lower: &[PathBuf], root: &RootFs) -> Vec<u8> {
    let mut text = b"volatile,lowerdir=".to_vec();
    for (index, layer) in lower.iter().enumerate() {
        if index > 0 {
            text.push(b':');
        }
        push_escaped(&mut text, layer);
    }
    for (key, path) in [(",upperdir=", &root.upper), (",workdir=", &root.work)] {
        text.extend_from_slice(key.as_bytes());
        push_escaped(&mut text, path);
    }
    text
}

fn push_escaped(text: &mut Vec<u8>, path: &Path) {
    for byte in path.as_os_str().as_bytes() {
        if b":,\\".contains(byte) {
            text.push(b'\\');
        }
        text.push(*byte);
    }
}

fn common_parent(paths: &[PathBuf]) -> PathBuf {
    let mut paths = paths
        .iter()
        .map(|path| path.parent().unwrap_or(Path::new("/")));
    let first: Vec<Component<'_>> = paths
        .next()
        .map(|p| p.components().collect())
        .unwrap_or_default();
    let shared = paths.fold(first.len(), |shared, path| {
        let same = first
            .iter()
            .zip(path.components())
            .take_while(|(a, b)| *a == b)
            .count();
        shared.min(same)
    });
    first.into_iter().take(shared).collect()
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn option_strings() {
        let root = RootFs {
            lower: vec!["/l/a:b".into(), "/l/c,d".into()],
            upper: "/u".into(),
            work: "/w".into(),
            read_only: false,
        };
        let options = String::from_utf8(overlay_options(&root.lower, &root)).unwrap();
        assert_eq!(
            options,
            r"volatile,lowerdir=/l/a\:b:/l/c\,d,upperdir=/u,workdir=/w"
        );
        let layers = ["/var/lib/x/1/fs", "/var/lib/x/2/fs", "/var/lib/y"].map(PathBuf::from);
        assert_eq!(common_parent(&layers), PathBuf::from("/var/lib"));
        assert_eq!(common_parent(&layers[..2]), PathBuf::from("/var/lib/x"));
    }

    #[test]
    fn both_ways_give_the_same_root() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: String| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        // As many layers as need relative names in the older way.
        let lower: Vec<PathBuf> = (0..60)
            .map(|n| {
                let layer = make(format!(
                    "a-rather-long-name-for-a-directory-of-layers/{n:040}/fs"
                ));
                std::fs::write(layer.join(format!("file{n}")), "x").unwrap();
                layer
            })
            .collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
                for way in ["new", "old"] {
                    let root = RootFs {
                        lower: lower.clone(),
                        upper: make(format!("{way}-upper")),
                        work: make(format!("{way}-work")),
                        read_only: false,
                    };
                    let at = make(format!("{way}-root"));
                    if way == "new" {
                        mount_root(&root, &at).unwrap();
                    } else {
                        by_options(&root, &at).unwrap();
                    }
                    assert_eq!(std::fs::read_dir(&at).unwrap().count(), 60, "{way}");
                    std::fs::write(at.join("written"), "y").unwrap();
                    assert!(root.upper.join("written").exists(), "{way}");
                }
            });
        });
    }
}
