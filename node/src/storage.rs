//! Carries out storage plans: directories and images beneath granted roots, and mounts in a place
//! of davit's own.

mod directory;
mod mounts;
mod sidecar;
mod space;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use davit_plugins::capabilities::{
    ActError, ActErrorKind, DeviceInfo, Drift, ScopeContext, SpaceInfo, StepError, StorageActuator,
};
use davit_plugins::plan::{Location, Root, Source, StorageOp};

use crate::beneath::{self, Links};
use mounts::{EXPOSED, Mounts};

/// The node's hands for storage plans.
#[derive(Clone, Debug)]
pub struct Storage {
    mounts: Mounts,
}

impl Storage {
    /// `mounts` is a directory that is void after a reboot; everything that plans mount goes there.
    #[must_use]
    pub fn new(mounts: PathBuf) -> Self {
        Self {
            mounts: Mounts::new(mounts),
        }
    }

    /// Space beneath a granted root, which is made first if it is absent.
    ///
    /// # Errors
    /// When the root cannot be made or asked.
    pub async fn space(&self, root: &Root) -> Result<SpaceInfo, ActError> {
        let root = root.clone();
        blocking(move || space::of(&root)).await
    }

    /// Bytes that are really taken beneath a granted root, without what is at these paths beneath it.
    ///
    /// # Errors
    /// When it cannot be looked through.
    pub async fn used_bytes(&self, root: &Root, but: &[&str]) -> Result<u64, ActError> {
        let (root, but) = (
            root.clone(),
            but.iter().map(PathBuf::from).collect::<Vec<_>>(),
        );
        blocking(move || space::used(&root, &but)).await
    }

    /// Block devices whose absolute path matches the glob, with their properties.
    ///
    /// # Errors
    /// When `/dev` cannot be read.
    pub async fn devices(&self, glob: &str) -> Result<Vec<DeviceInfo>, ActError> {
        let glob = glob.to_owned();
        blocking(move || space::devices(&glob)).await
    }
}

#[async_trait]
impl StorageActuator for Storage {
    async fn ensure(&self, cx: &ScopeContext, ops: &[StorageOp]) -> Result<(), StepError> {
        for (index, op) in ops.iter().enumerate() {
            let (mounts, cx, op) = (self.mounts.clone(), cx.clone(), op.clone());
            let outcome = blocking(move || ensure(&mounts, &cx, &op)).await;
            outcome.map_err(|error| StepError { index, error })?;
        }
        Ok(())
    }

    async fn undo(&self, cx: &ScopeContext, ops: &[StorageOp]) -> Vec<StepError> {
        let mut failures = Vec::new();
        for (index, op) in ops.iter().enumerate().rev() {
            let (mounts, cx, op) = (self.mounts.clone(), cx.clone(), op.clone());
            if let Err(error) = blocking(move || undo(&mounts, &cx, &op)).await {
                failures.push(StepError { index, error });
            }
        }
        let (mounts, cx) = (self.mounts.clone(), cx.clone());
        if let Err(error) = blocking(move || mounts.forget(&cx)).await {
            failures.push(StepError { index: 0, error });
        }
        failures
    }

    async fn read_back(
        &self,
        cx: &ScopeContext,
        ops: &[StorageOp],
    ) -> Result<Vec<Drift>, ActError> {
        let (mounts, cx, ops) = (self.mounts.clone(), cx.clone(), ops.to_vec());
        blocking(move || {
            let missing = |op: &StorageOp| missing(&mounts, &cx, op);
            Ok(ops
                .iter()
                .enumerate()
                .filter_map(|(index, op)| missing(op).map(|what| Drift { index, what }))
                .collect())
        })
        .await
    }

    async fn exposed(&self, cx: &ScopeContext, op: &StorageOp) -> Result<PathBuf, ActError> {
        match op {
            StorageOp::Expose { .. } => Ok(self.mounts.place(cx.scope.as_str(), EXPOSED)),
            StorageOp::ExposeBlock { source, .. } => locate(&self.mounts, source),
            _ => Err(unsupported(op)),
        }
    }

    async fn collect(
        &self,
        keep: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
    ) -> Result<Vec<String>, ActError> {
        let mounts = self.mounts.clone();
        let marks = blocking(move || mounts.marks()).await?;
        let mut removed = Vec::new();
        for (folder, mark) in marks.into_iter().filter(|(_, mark)| !keep(mark)) {
            let mounts = self.mounts.clone();
            blocking(move || mounts.remove_folder(&folder)).await?;
            removed.push(mark);
        }
        Ok(removed)
    }
}

fn ensure(mounts: &Mounts, cx: &ScopeContext, op: &StorageOp) -> Result<(), ActError> {
    match op {
        StorageOp::Directory {
            root, path, owner, ..
        } => directory::ensure(cx, root, path, *owner),
        StorageOp::Image {
            root,
            path,
            bytes,
            preallocate,
            ..
        } => directory::ensure_image(cx, root, path, *bytes, *preallocate),
        StorageOp::Tmpfs {
            key,
            bytes,
            options,
        } => mounts.tmpfs(cx, key, *bytes, options),
        StorageOp::RemoteMount {
            key,
            fs_type,
            server,
            path,
            options,
        } => mounts.remote(cx, key, fs_type, &format!("{server}:{path}"), options),
        StorageOp::Overlay {
            key,
            lower,
            upper,
            work,
        } => {
            let lower = lower.iter().map(|source| locate(mounts, source));
            let lower = lower.collect::<Result<Vec<_>, _>>()?;
            mounts.overlay(
                cx,
                key,
                &lower,
                &locate(mounts, upper)?,
                &locate(mounts, work)?,
            )
        }
        StorageOp::Expose {
            source, read_only, ..
        } => mounts.expose(cx, &open(mounts, source)?, *read_only),
        StorageOp::ExposeBlock { source, .. } => {
            let path = locate(mounts, source)?;
            if path.exists() {
                Ok(())
            } else {
                Err(absent(&path))
            }
        }
        _ => Err(unsupported(op)),
    }
}

fn undo(mounts: &Mounts, cx: &ScopeContext, op: &StorageOp) -> Result<(), ActError> {
    match op {
        StorageOp::Directory {
            root, path, data, ..
        } => directory::undo(cx, root, path, *data),
        StorageOp::Image { root, path, .. } => directory::undo_image(cx, root, path),
        StorageOp::Tmpfs { key, .. }
        | StorageOp::RemoteMount { key, .. }
        | StorageOp::Overlay { key, .. } => mounts.unmount(cx, key),
        StorageOp::Expose { .. } => mounts.unmount(cx, EXPOSED),
        _ => Ok(()),
    }
}

fn missing(mounts: &Mounts, cx: &ScopeContext, op: &StorageOp) -> Option<String> {
    match op {
        StorageOp::Directory { root, path, .. } | StorageOp::Image { root, path, .. } => {
            let full = root.path.join(path);
            (!full.exists()).then(|| format!("{} is missing", full.display()))
        }
        StorageOp::Tmpfs { key, .. }
        | StorageOp::RemoteMount { key, .. }
        | StorageOp::Overlay { key, .. }
            if !mounts.is_mounted(cx, key) =>
        {
            Some(format!("{key} is not mounted"))
        }
        StorageOp::Tmpfs { key, bytes, .. } => {
            let size = mounts.size(cx, key);
            // Sizes are rounded up to whole pages.
            let fits = size.is_some_and(|size| size > 0 && size <= bytes.saturating_add(1 << 16));
            (!fits).then(|| format!("{key} can hold {size:?} bytes, not {bytes}"))
        }
        StorageOp::Expose { source, .. } => match open(mounts, source) {
            Ok(_) if mounts.is_mounted(cx, EXPOSED) => None,
            Ok(_) => Some("what the pod gets is not mounted".to_owned()),
            Err(error) => Some(error.message),
        },
        StorageOp::ExposeBlock { source, .. } => match locate(mounts, source) {
            Ok(path) if path.exists() => None,
            Ok(path) => Some(format!("{} is missing", path.display())),
            Err(error) => Some(error.message),
        },
        _ => None,
    }
}

fn locate(mounts: &Mounts, source: &Source) -> Result<PathBuf, ActError> {
    match &source.location {
        Location::Path { root, path } => Ok(root.path.join(path)),
        Location::Made => Ok(mounts.place(source.scope.as_str(), &source.key)),
    }
}

/// The directory that a source is, beneath its root and without following any symbolic link.
fn open(mounts: &Mounts, source: &Source) -> Result<OwnedFd, ActError> {
    let (top, path) = match &source.location {
        Location::Path { root, path } => (root.path.clone(), PathBuf::from(path)),
        Location::Made => {
            let place = mounts.place(source.scope.as_str(), &source.key);
            (place, PathBuf::new())
        }
    };
    let opened = beneath::Root::open(&top).and_then(|root| root.open_dir(&path, Links::Refuse));
    opened.map_err(|error| failed("open", &top.join(&path), &error))
}

fn absent(path: &Path) -> ActError {
    ActError::new(
        ActErrorKind::Missing,
        format!("{} does not exist", path.display()),
    )
}

/// Steps of drivers that this version does not come with.
fn unsupported(op: &StorageOp) -> ActError {
    let what = match op {
        StorageOp::Quota { .. } => "project quotas",
        StorageOp::ImageCopy { .. } | StorageOp::TreeCopy { .. } => "copies of volumes",
        StorageOp::LoopDevice { .. } => "loop devices",
        StorageOp::Device { .. } => "block devices",
        StorageOp::Filesystem { .. } | StorageOp::Mount { .. } => "file systems on devices",
        _ => "this step",
    };
    let message = format!(
        "{what} are not supported by this version of davit; the driver must plan without them"
    );
    ActError::new(ActErrorKind::Unsupported, message)
}

fn failed(action: &str, path: &Path, error: &std::io::Error) -> ActError {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ActErrorKind::Missing,
        std::io::ErrorKind::StorageFull
        | std::io::ErrorKind::QuotaExceeded
        | std::io::ErrorKind::OutOfMemory => ActErrorKind::Exhausted,
        std::io::ErrorKind::Unsupported => ActErrorKind::Unsupported,
        _ => match error.raw_os_error() {
            Some(libc::ENODEV | libc::EOPNOTSUPP) => ActErrorKind::Unsupported,
            _ => ActErrorKind::Failed,
        },
    };
    ActError::new(kind, format!("cannot {action} {}: {error}", path.display()))
}

/// File systems may hang (a server that is gone), so no worker of the runtime waits for them.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ActError> + Send + 'static,
) -> Result<T, ActError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(ActError::new(
                ActErrorKind::Failed,
                format!("a storage task failed: {error}"),
            ))
        })
}

#[cfg(test)]
mod tests;
