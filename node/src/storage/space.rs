//! How much room there is, and which block devices.

use std::fs;
use std::os::unix::fs::FileTypeExt;
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
