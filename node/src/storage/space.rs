//! How much room there is, and which block devices.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt as _};
use std::path::{Path, PathBuf};

use davit_plugins::capabilities::{ActError, DeviceInfo, SpaceInfo};
use davit_plugins::plan::Root;
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC,
    TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs,
};

use super::failed;

const FILE_SYSTEMS: [(FsType, &str); 6] = [
    (BTRFS_SUPER_MAGIC, "btrfs"),
    (EXT4_SUPER_MAGIC, "ext4"),
    (NFS_SUPER_MAGIC, "nfs"),
    (OVERLAYFS_SUPER_MAGIC, "overlay"),
    (TMPFS_MAGIC, "tmpfs"),
    (XFS_SUPER_MAGIC, "xfs"),
];

pub(super) fn of(root: &Root) -> Result<SpaceInfo, ActError> {
    fs::create_dir_all(&root.path).map_err(|error| failed("make", &root.path, &error))?;
    let stat = statfs(&root.path).map_err(|errno| failed("look at", &root.path, &errno.into()))?;
    let unit = u64::try_from(stat.block_size()).unwrap_or(0);
    let kind = stat.filesystem_type();
    let name = FILE_SYSTEMS.iter().find(|(magic, _)| *magic == kind);
    let fs_type = name.map_or_else(|| format!("0x{:x}", kind.0), |(_, name)| (*name).to_owned());
    Ok(SpaceInfo {
        total_bytes: stat.blocks().saturating_mul(unit),
        available_bytes: stat.blocks_available().saturating_mul(unit),
        // Copies by reference are these file systems' own; XFS made without them is refused later.
        reflink: fs_type == "btrfs" || fs_type == "xfs",
        project_quota: false,
        fs_type,
    })
}

/// Bytes of the blocks beneath the root, without what is at `but` beneath it. Links are not followed, other file systems
/// not entered, and what vanishes meanwhile takes nothing.
pub(super) fn used(root: &Root, but: &[PathBuf]) -> Result<u64, ActError> {
    let device = match fs::metadata(&root.path) {
        Ok(metadata) => metadata.dev(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed("look at", &root.path, &error)),
    };
    let but: Vec<PathBuf> = but.iter().map(|path| root.path.join(path)).collect();
    // A file with several names is counted once.
    let mut seen = HashSet::new();
    let mut total: u64 = 0;
    let mut folders = vec![root.path.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            if metadata.dev() != device || but.contains(&path) {
                continue;
            }
            if metadata.nlink() < 2 || metadata.is_dir() || seen.insert(metadata.ino()) {
                total = total.saturating_add(metadata.blocks().saturating_mul(512));
            }
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(total)
}

pub(super) fn devices(glob: &str) -> Result<Vec<DeviceInfo>, ActError> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/dev")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| failed("list", &folder, &error))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let block = fs::metadata(&path).is_ok_and(|meta| meta.file_type().is_block_device());
            let Some(text) = path.to_str().filter(|_| block) else {
                continue;
            };
            if crate::network::glob_matches(glob, text) {
                found.push(DeviceInfo {
                    properties: properties(&path),
                    path: text.to_owned(),
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn properties(path: &Path) -> Vec<(String, String)> {
    let Ok(real) = fs::canonicalize(path) else {
        return Vec::new();
    };
    let Some(name) = real.file_name() else {
        return Vec::new();
    };
    let sys = Path::new("/sys/class/block").join(name);
    let read = |file: &str| {
        fs::read_to_string(sys.join(file))
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let sectors = read("size").and_then(|size| size.parse::<u64>().ok());
    [
        ("model", read("device/model")),
        ("read-only", read("ro")),
        ("serial", read("device/serial")),
        ("size", sectors.map(|sectors| (sectors * 512).to_string())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}
