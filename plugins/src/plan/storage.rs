//! Steps of storage plans.

use super::{Claim, Op, ScopeId};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The whole desired state of one storage scope, in the order it is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoragePlan {
    /// Steps; undone in reverse.
    pub ops: Vec<StorageOp>,
}

/// A granted directory of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The name that grants and plans use.
    pub name: String,
    /// Absolute path. Everything is resolved beneath it without following symbolic links.
    pub path: PathBuf,
}

/// Owner and mode of a new directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
}

/// How data is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyMode {
    /// By reference where the file system can, else a sparse copy.
    Auto,
    /// By reference, or fail.
    Reflink,
    /// A sparse copy.
    Full,
}

/// A thing made by an earlier step of this scope or by another scope of the same plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The scope that made it.
    pub scope: ScopeId,
    /// Its key there.
    pub key: String,
    /// Where it is.
    pub location: Location,
}

/// Where a source is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Location {
    /// A directory or file beneath a root.
    Path {
        /// The root.
        root: Root,
        /// Relative path, no `..`.
        path: String,
    },
    /// A device or mount that the actuator made for (`scope`, `key`).
    Made,
}

/// One step of a storage plan. Making it twice is the same as making it once.
///
/// Steps marked *data* are destroyed only together with their own `volume/` or `snapshot/` scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum StorageOp {
    /// A directory. Undone with everything in it when `data`, else only when empty.
    Directory {
        /// Name in the scope.
        key: String,
        /// Granted root.
        root: Root,
        /// Relative path beneath it.
        path: String,
        /// Owner and mode, set when it is made.
        owner: Owner,
        /// Whether it holds the volume's data.
        data: bool,
    },
    /// A project quota on a directory of this scope.
    Quota {
        /// Name in the scope.
        key: String,
        /// The directory.
        directory: Source,
        /// Bytes; 0 is no limit.
        bytes: u64,
        /// Files; 0 is no limit.
        inodes: u64,
    },
    /// A file of a size (*data*), grown but never shrunk.
    Image {
        /// Name in the scope.
        key: String,
        /// Granted root.
        root: Root,
        /// Relative path beneath it.
        path: String,
        /// Size.
        bytes: u64,
        /// Whether blocks are reserved at once.
        preallocate: bool,
    },
    /// A copy of an image (*data*).
    ImageCopy {
        /// Name in the scope.
        key: String,
        /// Granted root.
        root: Root,
        /// Relative path beneath it.
        path: String,
        /// The image.
        source: Source,
        /// Size, at least the source's.
        bytes: u64,
        /// How to copy.
        mode: CopyMode,
    },
    /// A copy of a directory tree (*data*).
    TreeCopy {
        /// Name in the scope.
        key: String,
        /// Granted root.
        root: Root,
        /// Relative path beneath it.
        path: String,
        /// The directory.
        source: Source,
        /// How to copy.
        mode: CopyMode,
    },
    /// An image as a block device.
    LoopDevice {
        /// Name in the scope.
        key: String,
        /// The image.
        image: Source,
        /// Sector size; 0 is the kernel's default.
        sector_bytes: u32,
        /// Whether the page cache is bypassed.
        direct_io: bool,
        /// Whether writes are refused.
        read_only: bool,
    },
    /// An existing block device, the only one that matches.
    Device {
        /// Name in the scope.
        key: String,
        /// Glob of absolute paths.
        path_glob: String,
    },
    /// A file system: made if the device is blank, grown if the device grew, a foreign one refused.
    Filesystem {
        /// Name in the scope.
        key: String,
        /// The device.
        device: Source,
        /// Type.
        fs_type: String,
        /// Label.
        label: String,
        /// Options of the type's mkfs.
        mkfs_options: Vec<String>,
    },
    /// A mount of a file system, `nosuid,nodev` always.
    Mount {
        /// Name in the scope.
        key: String,
        /// The file system.
        filesystem: Source,
        /// Mount options.
        options: Vec<String>,
    },
    /// A file system in memory.
    Tmpfs {
        /// Name in the scope.
        key: String,
        /// Size.
        bytes: u64,
        /// Mount options.
        options: Vec<String>,
    },
    /// A mount of another machine's file system.
    RemoteMount {
        /// Name in the scope.
        key: String,
        /// Type, such as `nfs4`.
        fs_type: String,
        /// Server.
        server: String,
        /// Path there.
        path: String,
        /// Mount options.
        options: Vec<String>,
    },
    /// Directories laid over each other.
    Overlay {
        /// Name in the scope.
        key: String,
        /// Lower directories, top first.
        lower: Vec<Source>,
        /// Upper directory.
        upper: Source,
        /// Work directory.
        work: Source,
    },
    /// What the pod gets as a directory; the host picks the target.
    Expose {
        /// The directory or mount.
        source: Source,
        /// Relative path inside it; empty for all of it.
        sub_path: String,
        /// Whether writes are refused.
        read_only: bool,
    },
    /// What the pod gets as a block device.
    ExposeBlock {
        /// The device or image.
        source: Source,
        /// Whether writes are refused.
        read_only: bool,
    },
}

impl StorageOp {
    /// The driver's name for what the step makes; `None` for what is exposed.
    #[must_use]
    pub fn made(&self) -> Option<&str> {
        match self {
            Self::Directory { key, .. }
            | Self::Quota { key, .. }
            | Self::Image { key, .. }
            | Self::ImageCopy { key, .. }
            | Self::TreeCopy { key, .. }
            | Self::LoopDevice { key, .. }
            | Self::Device { key, .. }
            | Self::Filesystem { key, .. }
            | Self::Mount { key, .. }
            | Self::Tmpfs { key, .. }
            | Self::RemoteMount { key, .. }
            | Self::Overlay { key, .. } => Some(key),
            Self::Expose { .. } | Self::ExposeBlock { .. } => None,
        }
    }

    /// Whether the step makes what holds data: it is destroyed only together with its volume.
    #[must_use]
    pub fn holds_data(&self) -> bool {
        match self {
            Self::Directory { data, .. } => *data,
            Self::Image { .. } | Self::ImageCopy { .. } | Self::TreeCopy { .. } => true,
            _ => false,
        }
    }

    /// The path beneath a root that the step makes.
    #[must_use]
    pub fn path(&self) -> Option<(&Root, &str)> {
        match self {
            Self::Directory { root, path, .. }
            | Self::Image { root, path, .. }
            | Self::ImageCopy { root, path, .. }
            | Self::TreeCopy { root, path, .. } => Some((root, path)),
            _ => None,
        }
    }

    /// What other steps see of this one, when it makes something.
    #[must_use]
    pub fn location(&self) -> Option<Location> {
        self.made()?;
        Some(match self.path() {
            Some((root, path)) => Location::Path {
                root: root.clone(),
                path: path.to_owned(),
            },
            None => Location::Made,
        })
    }
}

impl Op for StorageOp {
    fn key(&self) -> String {
        match self.made() {
            Some(key) => format!("storage/{key}"),
            None => "expose".to_owned(),
        }
    }

    fn claims(&self, _: &ScopeId) -> Vec<Claim> {
        let claim = |(root, path): (&Root, &str)| {
            Claim::new(format!("path/{}", root.path.join(path).display()))
        };
        self.path().map(claim).into_iter().collect()
    }
}
