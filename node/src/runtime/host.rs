//! What of the host's devices a container asks for.
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};

use super::{ContainerConfig, Error};
use crate::kernel::path::normal_absolute;

/// Parts of `/dev` that a container has of its own.
const OWN: [&str; 5] = [
    "/dev/pts",
    "/dev/ptmx",
    "/dev/shm",
    "/dev/mqueue",
    "/dev/console",
];

/// The devices a container is given: all of the host's if it is privileged, else those it names.
pub(super) fn devices(config: &ContainerConfig) -> Result<Vec<LinuxDevice>, Error> {
    let mut found = Vec::new();
    if config.security.privileged {
        collect(Path::new("/dev"), &mut found);
        return Ok(found);
    }
    for path in &config.devices {
        let normal = path.to_str().map(normal_absolute);
        let in_dev = normal.is_some_and(|normal| normal.starts_with("/dev") && normal == *path);
        if !in_dev {
            return Err(unusable(config, path, "is not in /dev by the shortest way"));
        }
        let before = found.len();
        collect(path, &mut found);
        if found.len() == before {
            return Err(unusable(config, path, "is no device of this host"));
        }
    }
    Ok(found)
}

fn unusable(config: &ContainerConfig, path: &Path, problem: &str) -> Error {
    Error::Invalid {
        object: format!("container {}", config.name),
        field: "devices".to_owned(),
        problem: format!("name {}, which {problem}", path.display()),
    }
}

/// Adds the device at `path`, or all beneath it if it is a directory.
fn collect(path: &Path, into: &mut Vec<LinuxDevice>) {
    if OWN.iter().any(|own| path == Path::new(own)) {
        return;
    }
    // Links are not followed: what they lead to is found under its own name.
    let Ok(metadata) = path.symlink_metadata() else {
        return;
    };
    let kind = metadata.file_type();
    if kind.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths.iter().for_each(|path| collect(path, into));
        return;
    }
    let typ = if kind.is_block_device() {
        LinuxDeviceType::B
    } else if kind.is_char_device() {
        LinuxDeviceType::C
    } else {
        return;
    };
    let number = |n: u64| i64::try_from(n).unwrap_or(0);
    let device = LinuxDeviceBuilder::default()
        .path(path)
        .typ(typ)
        .major(number(major(metadata.rdev())))
        .minor(number(minor(metadata.rdev())))
        .file_mode(metadata.mode() & 0o7777)
        .uid(metadata.uid())
        .gid(metadata.gid())
        .build();
    into.extend(device);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_with_their_numbers() {
        let mut found = Vec::new();
        collect(Path::new("/dev/null"), &mut found);
        collect(Path::new("/dev/pts"), &mut found);
        collect(Path::new("/etc/passwd"), &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].major(), found[0].minor()), (1, 3));
    }
}
