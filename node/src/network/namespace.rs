//! Network namespaces pinned as files, so that they live without a process in them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use davit_plugins::capabilities::{ActError, ActErrorKind};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Makes a namespace with its loopback link up and pins it at `path`. One that is there already
/// is left as it is.
///
/// # Errors
/// The kernel's refusal, naming the path.
pub async fn create(path: &Path) -> Result<(), ActError> {
    if !is_pinned(path) {
        let pin = path.to_owned();
        run(move || pin_new(&pin))
            .await
            .map_err(|error| refused("create", path, &error))?;
    }
    let inside = super::socket::Netlink::open(Some(path)).await?;
    let loopback = inside.find("lo").await?;
    match loopback {
        Some(found) if !found.up => inside.set_up(found.index, "lo").await,
        _ => Ok(()),
    }
}

/// Unpins the namespace; it ends with the last process in it. One that is gone is fine.
///
/// # Errors
/// The kernel's refusal, naming the path.
pub fn remove(path: &Path) -> Result<(), ActError> {
    while is_pinned(path) {
        umount2(path, MntFlags::MNT_DETACH)
            .map_err(|errno| refused("remove", path, &errno.into()))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(refused("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// True when a namespace is mounted at `path`.
#[must_use]
pub fn is_pinned(path: &Path) -> bool {
    nix::sys::statfs::statfs(path)
        .is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}

/// Runs `work` on a thread of its own inside the namespace at `netns`, or the node's own.
pub(crate) async fn inside<T: Send + 'static>(
    netns: Option<&Path>,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ActError> {
    let Some(path) = netns else {
        return run(work).await.map_err(|error| {
            ActError::new(
                ActErrorKind::Failed,
                format!("in the node's namespace: {error}"),
            )
        });
    };
    let pin = path.to_owned();
    run(move || {
        setns(File::open(&pin)?, CloneFlags::CLONE_NEWNET)?;
        work()
    })
    .await
    .map_err(|error| refused("enter", path, &error))
}

/// A new thread, since a namespace belongs to a thread and must not leak into the pool's.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new()
        .name("netns".into())
        .spawn(move || {
            let _inside = runtime.enter();
            // Nobody waits any more when the receiver is gone.
            let _ = done.send(work());
        })?;
    result
        .await
        .map_err(|_| io::Error::other("the namespace thread ended early"))?
}

fn pin_new(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create(path)?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    let none: Option<&str> = None;
    mount(
        Some("/proc/thread-self/ns/net"),
        path,
        none,
        MsFlags::MS_BIND,
        none,
    )?;
    Ok(())
}

fn refused(action: &str, path: &Path, error: &io::Error) -> ActError {
    let kind = match error.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(nix::errno::Errno::ENOENT) => ActErrorKind::Missing,
        Some(nix::errno::Errno::ENOSPC | nix::errno::Errno::ENOMEM) => ActErrorKind::Exhausted,
        _ => ActErrorKind::Failed,
    };
    ActError::new(
        kind,
        format!(
            "cannot {action} network namespace {}: {error}",
            path.display()
        ),
    )
}
