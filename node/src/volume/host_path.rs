//! `hostPath.type`: what must be there, and what is made if nothing is.

use std::fs::{self, DirBuilder, FileType};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::HostPathType;
use super::error::Cause;

/// Checks the path as kubelet does, following symbolic links: the host's own paths are trusted.
pub(super) fn check(path: &Path, check: HostPathType) -> Result<(), Cause> {
    let (wanted, fits): (_, fn(&FileType) -> bool) = match check {
        HostPathType::Unset => return Ok(()),
        HostPathType::DirectoryOrCreate | HostPathType::Directory => {
            ("a directory", |kind| kind.is_dir())
        }
        HostPathType::FileOrCreate | HostPathType::File => ("a file", |kind| kind.is_file()),
        HostPathType::Socket => ("a socket file", |kind| kind.is_socket()),
        HostPathType::CharDevice => ("a character device", |kind| kind.is_char_device()),
        HostPathType::BlockDevice => ("a block device", |kind| kind.is_block_device()),
    };
    let found = match fs::metadata(path) {
        Ok(meta) => Some(meta.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Cause::io("look at", path)(error)),
    };
    match (found, check) {
        (Some(kind), _) if fits(&kind) => Ok(()),
        (None, HostPathType::DirectoryOrCreate) => {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.map_err(Cause::io("make", path))
        }
        (None, HostPathType::FileOrCreate) => {
            let made = fs::File::options()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(path);
            made.map(drop).map_err(Cause::io("make", path))
        }
        _ => Err(Cause::HostPath {
            path: path.to_owned(),
            wanted,
        }),
    }
}
