//! Takes configuration files in again when they change; a broken one changes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use crate::auth::{ConfigError, Issuers, load_steps};
use crate::{ApiServer, Error};

/// Follows the files that say who is believed and who is asked for rights.
///
/// # Errors
/// When the kernel will not watch their folders.
pub(crate) fn start(server: &Arc<ApiServer>) -> Result<(), Error> {
    if let Some(path) = &server.config.authentication {
        follow(server, path, |server, path| {
            let issuers = Issuers::load(path, &server.callouts)?;
            server.authenticator.set_issuers(issuers);
            Ok(())
        })?;
    }
    if let Some(path) = &server.config.authorization {
        follow(server, path, |server, path| {
            let steps = load_steps(path, &server.callouts)?;
            server.authorizer.set_steps(steps);
            Ok(())
        })?;
    }
    Ok(())
}

fn follow(
    server: &Arc<ApiServer>,
    path: &Path,
    take: impl Fn(&ApiServer, &Path) -> Result<(), ConfigError> + Send + Sync + 'static,
) -> Result<(), Error> {
    let failed = |source| Error::Follow {
        file: path.display().to_string(),
        source,
    };
    let mut folder = Folder::of(path).map_err(failed)?;
    let mut known = std::fs::read(path).unwrap_or_default();
    let (server, path) = (server.clone(), path.to_owned());
    tokio::spawn(async move {
        let stop = server.shutdown.clone();
        while stop.run_until_cancelled(folder.changed()).await.is_some() {
            let file = path.display();
            // A file that is missing for a moment is being replaced.
            let Ok(text) = std::fs::read(&path) else {
                continue;
            };
            if text == known {
                continue;
            }
            known = text;
            match take(&server, &path) {
                Ok(()) => tracing::info!(%file, "the changed file is in force"),
                Err(error) => {
                    tracing::error!(%file, error = &error as &dyn std::error::Error, "the changed file is not used");
                }
            }
        }
    });
    Ok(())
}

/// Tells of changes in a folder: a file may be written, renamed into place, or reached by a link that is pointed elsewhere,
/// as in a mounted ConfigMap.
struct Folder {
    changed: watch::Receiver<()>,
    /// Watches until it is dropped.
    _watcher: RecommendedWatcher,
}

impl Folder {
    fn of(file: &Path) -> notify::Result<Self> {
        let (sender, changed) = watch::channel(());
        let tell = move || {
            sender.send_replace(());
        };
        Ok(Self {
            changed,
            _watcher: self::watch(&[file.to_owned()], tell)?,
        })
    }

    /// Waits for changes since the last call.
    async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Calls `tell` when something was written in the folders of these files, until the watcher is dropped.
///
/// # Errors
/// When the kernel will not watch a folder.
pub(crate) fn watch(
    files: &[PathBuf],
    tell: impl Fn() + Send + 'static,
) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let read_only = event.is_ok_and(|event| event.kind.is_access() && !is_written(&event));
        if !read_only {
            tell();
        }
    })?;
    let folder = |file: &PathBuf| match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let folders: BTreeSet<PathBuf> = files.iter().map(folder).collect();
    for folder in folders {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Closing what was written counts as an access.
fn is_written(event: &notify::Event) -> bool {
    event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn files_written_renamed_and_linked_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, "a").unwrap();
        let mut folder = Folder::of(&file).unwrap();
        let mut noticed = async || {
            let changed = tokio::time::timeout(Duration::from_secs(30), folder.changed());
            changed.await.expect("a change is not noticed");
        };
        std::fs::write(&file, "b").unwrap();
        noticed().await;
        std::fs::write(dir.path().join("next"), "c").unwrap();
        noticed().await;
        std::fs::rename(dir.path().join("next"), &file).unwrap();
        noticed().await;
        std::os::unix::fs::symlink(&file, dir.path().join("link")).unwrap();
        noticed().await;
    }
}
