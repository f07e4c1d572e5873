//! Private files that are either the old or the new one, whatever happens.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Error;

/// Makes `dir` and its parents; `dir` itself is open to its owner only.
pub(crate) fn make_private_dir(dir: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write {
        path: dir.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)?;
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(failed)
}

/// The content of `path`; `None` when there is no such file. Bytes that are no text are replaced, for whoever parses it to refuse.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Replaces `path` with a file of mode 0600 that holds `text`, durable when this returns.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Error> {
    try_replace(path, text).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

fn try_replace(path: &Path, text: &str) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let fresh = sibling(path);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(parent)?.sync_all()
}

/// Where the new content is written first. One process owns the directory, so the name may be fixed.
fn sibling(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}
