//! Whiteouts: `.wh.name` in archives, character device 0/0 and the opaque attribute in overlayfs.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use std::os::fd::AsFd;

use super::layer::{is_directory, stat};
use crate::beneath;

const PREFIX: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The attribute of directories that hide their namesakes below.
pub(super) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// What a name with the whiteout prefix means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The directory hides everything of lower layers.
    Opaque,
    /// This name of lower layers is gone.
    Gone(OsString),
    /// Bookkeeping of aufs.
    Ignored,
    /// It marks nothing.
    Invalid,
}

/// Reads a whiteout's name; none for ordinary names.
pub(super) fn mark(name: &OsStr) -> Option<Mark> {
    let hidden = name.as_bytes().strip_prefix(PREFIX)?;
    Some(match hidden {
        _ if name.as_bytes() == OPAQUE => Mark::Opaque,
        _ if name.as_bytes().starts_with(META) => Mark::Ignored,
        b"" | b"." | b".." => Mark::Invalid,
        hidden => Mark::Gone(OsStr::from_bytes(hidden).to_owned()),
    })
}

/// True for paths inside a directory that is a mark itself: aufs keeps hard links there.
pub(super) fn is_beneath_mark(parent: &Path) -> bool {
    parent
        .iter()
        .any(|name| name.as_bytes().starts_with(PREFIX))
}

/// Hides `name` of lower layers. What this layer itself has under that name stays: a file hides them anyway, a
/// directory becomes opaque.
pub(super) fn hide(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match stat(dir, name)? {
        Some(stat) if is_directory(&stat) => {
            let dir = beneath::open_child(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
            make_opaque(dir.as_fd())
        }
        Some(_) => Ok(()),
        None => Ok(rustix::fs::mknodat(
            dir,
            name,
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        )?),
    }
}

/// Makes a directory hide its namesakes in lower layers.
pub(super) fn make_opaque(dir: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(
        dir,
        OPAQUE_XATTR,
        b"y",
        XattrFlags::empty(),
    )?)
}

pub(super) fn is_whiteout(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(is_whiteout_stat(&stat))
}

pub(super) fn is_whiteout_stat(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_marks_from_tricks() {
        let table = [
            ("file", None),
            (".wh.file", Some(Mark::Gone("file".into()))),
            (".wh.x.wh.y", Some(Mark::Gone("x.wh.y".into()))),
            (".wh..wh..opq", Some(Mark::Opaque)),
            (".wh..wh.plnk", Some(Mark::Ignored)),
            (".wh.", Some(Mark::Invalid)),
            (".wh..", Some(Mark::Invalid)),
            (".wh...", Some(Mark::Invalid)),
        ];
        for (name, expected) in table {
            assert_eq!(mark(OsStr::new(name)), expected, "{name}");
        }
        assert!(is_beneath_mark(Path::new(".wh..wh.plnk/x")));
        assert!(!is_beneath_mark(Path::new("a/b.wh.c")));
    }
}
