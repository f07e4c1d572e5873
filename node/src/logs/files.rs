//! The files one log consists of.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Error;

/// A file of a log that is open, so that a rename or removal does not matter any more.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) file: File,
    /// Tells whether a name still means this file.
    pub(super) inode: u64,
}

impl Piece {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode })
    }
}

/// Opens all files of a log, oldest first; the last one is being written.
///
/// # Errors
/// There is none.
pub(super) fn open_all(path: &Path) -> Result<Vec<Piece>, Error> {
    // A rotation between listing and opening shows as a missing number or as the same file twice; the current file is
    // opened first, so that whatever is put aside meanwhile is found under its new name too.
    let current = Piece::open(path);
    let mut pieces = Vec::new();
    for (_, path) in put_aside(path)? {
        match Piece::open(&path) {
            Ok(piece) => pieces.push(piece),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("read", &path)(error)),
        }
    }
    match current {
        Ok(current) => {
            if let Some(at) = pieces.iter().position(|piece| piece.inode == current.inode) {
                // It was put aside just now; what is newer comes when the reader gets there.
                pieces.truncate(at);
            }
            pieces.push(current);
        }
        // Between two files for a moment.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !pieces.is_empty() => {}
        Err(error) => return Err(Error::io("read", path)(error)),
    }
    Ok(pieces)
}

/// The file after the one with `inode`: none while that one is being written.
pub(super) fn next(path: &Path, inode: u64) -> Result<Option<Piece>, Error> {
    let mut pieces = open_all(path)?;
    match pieces.iter().position(|piece| piece.inode == inode) {
        Some(at) => Ok(pieces.drain(at..).nth(1)),
        // It was removed as the oldest, so that all that are left are newer.
        None => Ok(pieces.into_iter().next()),
    }
}

/// Files put aside, oldest first.
fn put_aside(path: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let mut prefix = name.to_os_string();
    prefix.push(".");
    let prefix = prefix.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix)?.parse().ok());
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}
