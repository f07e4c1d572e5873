//! A storage plan as plain data with short builder methods.

use super::{CopyMode, Owner};

/// The whole desired state of a scope.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Steps, in the order they are made.
    pub ops: Vec<Op>,
}

/// One step. Sources are keys: `data` in this scope, `volume/<id>#data` in another.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "fields have the names and meanings of the WIT's parameters"
)]
pub enum Op {
    Directory {
        key: String,
        root: String,
        path: String,
        owner: Owner,
        data: bool,
    },
    Quota {
        key: String,
        directory: String,
        bytes: u64,
        inodes: u64,
    },
    Image {
        key: String,
        root: String,
        path: String,
        bytes: u64,
        preallocate: bool,
    },
    ImageCopy {
        key: String,
        root: String,
        path: String,
        source: String,
        bytes: u64,
        mode: CopyMode,
    },
    TreeCopy {
        key: String,
        root: String,
        path: String,
        source: String,
        mode: CopyMode,
    },
    LoopDevice {
        key: String,
        image: String,
        sector_bytes: u32,
        direct_io: bool,
        read_only: bool,
    },
    Device {
        key: String,
        path_glob: String,
    },
    Filesystem {
        key: String,
        device: String,
        fs_type: String,
        label: String,
        options: Vec<String>,
    },
    Mount {
        key: String,
        filesystem: String,
        options: Vec<String>,
    },
    Tmpfs {
        key: String,
        bytes: u64,
        options: Vec<String>,
    },
    RemoteMount {
        key: String,
        fs_type: String,
        server: String,
        path: String,
        options: Vec<String>,
    },
    Overlay {
        key: String,
        lower: Vec<String>,
        upper: String,
        work: String,
    },
    Expose {
        source: String,
        sub_path: String,
        read_only: bool,
    },
    ExposeBlock {
        source: String,
        read_only: bool,
    },
}

impl Plan {
    /// A plan without steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds any step.
    #[must_use]
    pub fn with(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// A directory that holds the volume's data, with permission bits.
    #[must_use]
    pub fn data_directory(self, key: &str, root: &str, path: &str, mode: u32) -> Self {
        self.with(Op::Directory {
            key: key.to_owned(),
            root: root.to_owned(),
            path: path.to_owned(),
            owner: Owner {
                uid: 0,
                gid: 0,
                mode,
            },
            data: true,
        })
    }

    /// A quota on a directory of this scope.
    #[must_use]
    pub fn quota(self, key: &str, directory: &str, bytes: u64) -> Self {
        self.with(Op::Quota {
            key: key.to_owned(),
            directory: directory.to_owned(),
            bytes,
            inodes: 0,
        })
    }

    /// What the pod gets.
    #[must_use]
    pub fn expose(self, source: impl Into<String>, read_only: bool) -> Self {
        self.with(Op::Expose {
            source: source.into(),
            sub_path: String::new(),
            read_only,
        })
    }
}
