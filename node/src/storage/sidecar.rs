//! The note beside everything that holds data: whose it is. It survives the loss of every record.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use davit_plugins::capabilities::{ActError, ActErrorKind, ScopeContext};
use serde::{Deserialize, Serialize};

use super::failed;

/// Content of a sidecar file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sidecar {
    version: u32,
    scope: String,
    driver: String,
}

impl Sidecar {
    fn of(cx: &ScopeContext) -> Self {
        Self {
            version: 1,
            scope: cx.scope.to_string(),
            driver: cx.driver.clone(),
        }
    }
}

/// `…/name` has its sidecar at `…/.name.davit.json`.
fn place(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    Some(path.with_file_name(format!(".{name}.davit.json")))
}

/// What stands at a path, as far as ownership goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Free,
    Ours,
}

/// Whether a path may be used by the scope.
///
/// # Errors
/// `Occupied` when it holds somebody else's data, or data nobody signed for.
pub(super) fn check(cx: &ScopeContext, path: &Path) -> Result<Claim, ActError> {
    let owner = place(path).map_or(Ok(None), |file| read(&file))?;
    match owner {
        Some(owner) if owner == Sidecar::of(cx) => Ok(Claim::Ours),
        Some(owner) => Err(occupied(
            path,
            &format!("belongs to {} of {}", owner.scope, owner.driver),
        )),
        None if fs::symlink_metadata(path).is_ok() => Err(occupied(path, "was not made by davit")),
        None => Ok(Claim::Free),
    }
}

fn occupied(path: &Path, why: &str) -> ActError {
    let message = format!(
        "{} exists and {why}; move it away or choose another path",
        path.display()
    );
    ActError::new(ActErrorKind::Occupied, message)
}

fn read(file: &Path) -> Result<Option<Sidecar>, ActError> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", file, &error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        failed(
            "read",
            file,
            &io::Error::new(io::ErrorKind::InvalidData, error),
        )
    })
}

/// Writes the sidecar, on disk before it returns: data must never be there unsigned.
pub(super) fn write(cx: &ScopeContext, path: &Path) -> Result<(), ActError> {
    let Some(file) = place(path) else {
        return Ok(());
    };
    let save = || -> io::Result<()> {
        let text = serde_json::to_vec(&Sidecar::of(cx))?;
        let fresh = file.with_extension("new");
        let mut out = File::create(&fresh)?;
        out.write_all(&text)?;
        out.sync_all()?;
        fs::rename(&fresh, &file)?;
        File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    save().map_err(|error| failed("write", &file, &error))
}

/// Removes the sidecar, after what it stands for.
pub(super) fn remove(path: &Path) -> Result<(), ActError> {
    let Some(file) = place(path) else {
        return Ok(());
    };
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", &file, &error))
        }
        _ => Ok(()),
    }
}
