//! Values of storage steps against the grants. Paths stay beneath their root, mounts are always
//! `nosuid,nodev`, and a volume's scopes see that volume only.

use super::{Denied, GrantSet, Refused, Server, covers_ip};
use crate::plan::{Root, ScopeId, Source, StorageOp};
use davit_api::Access;
use std::net::IpAddr;
use std::path::{Component, Path};

/// What a check must know about the call besides the step.
#[derive(Debug)]
pub(crate) struct StorageView<'a> {
    /// The scope that is planned.
    pub(crate) scope: &'a ScopeId,
    /// A volume that a new one is filled from.
    pub(crate) content: Option<&'a ScopeId>,
}

impl GrantSet {
    /// Checks one step of a storage plan.
    pub(crate) fn check_storage(
        &self,
        op: &StorageOp,
        view: &StorageView<'_>,
    ) -> Result<(), Refused> {
        if let Some(key) = op.made() {
            check_key(key)?;
        }
        if let Some((root, path)) = op.path() {
            self.path(root, path)?;
        }
        for source in sources(op) {
            check_source(source, view)?;
        }
        if op.holds_data() && !view.scope.is_durable() {
            return Err(Refused::Invalid(format!(
                "{} ends with its user, and the step would hold data that nothing deletes: make it when the volume is made",
                view.scope
            )));
        }
        match op {
            StorageOp::Directory { owner, .. } if owner.mode > 0o7777 => Err(Refused::Invalid(
                format!("{:o} is no file mode", owner.mode),
            )),
            StorageOp::Directory { .. }
            | StorageOp::Quota { .. }
            | StorageOp::Image { .. }
            | StorageOp::ImageCopy { .. }
            | StorageOp::TreeCopy { .. }
            | StorageOp::ExposeBlock { .. } => Ok(()),
            StorageOp::LoopDevice { .. } => self.block_device("/dev/loop*"),
            StorageOp::Device { path_glob, .. } => self.block_device(path_glob),
            StorageOp::Filesystem { fs_type, .. } => match self.mkfs.contains(fs_type) {
                true => Ok(()),
                false => deny(format!("making a {fs_type} file system"), "mkfs", fs_type),
            },
            StorageOp::Mount { options, .. } => check_options(options),
            StorageOp::Tmpfs { bytes, options, .. } => {
                self.mount("tmpfs", options)?;
                check_tmpfs(*bytes, options)
            }
            StorageOp::Overlay { .. } => self.mount("overlay", &[]),
            StorageOp::RemoteMount {
                fs_type,
                server,
                options,
                ..
            } => {
                self.mount(fs_type, options)?;
                if !REMOTE.contains(&fs_type.as_str()) {
                    return Err(Refused::Invalid(format!(
                        "{fs_type} is no file system of another machine: {}",
                        REMOTE.join(", ")
                    )));
                }
                self.server(server)
            }
            StorageOp::Expose { sub_path, .. } if sub_path.is_empty() => Ok(()),
            StorageOp::Expose { sub_path, .. } => beneath(sub_path),
        }
    }

    fn path(&self, root: &Root, path: &str) -> Result<(), Refused> {
        let grant = self.root(&root.name)?;
        if grant.access != Access::ReadWrite {
            let what = format!("writing beneath {}", grant.root.path.display());
            return deny(what, "hostPaths", format!("access: rw for {}", root.name));
        }
        beneath(path)
    }

    fn block_device(&self, wanted: &str) -> Result<(), Refused> {
        let granted = |glob: &super::Glob| glob.as_str() == wanted || glob.matches(wanted);
        match self.devices.iter().any(granted) {
            true => Ok(()),
            false => deny(format!("device {wanted}"), "devices", wanted),
        }
    }

    fn mount(&self, fs_type: &str, options: &[String]) -> Result<(), Refused> {
        if !self.fs_types.contains(fs_type) {
            return deny(
                format!("mounting a {fs_type} file system"),
                "mounts.fsTypes",
                fs_type,
            );
        }
        check_options(options)
    }

    fn server(&self, server: &str) -> Result<(), Refused> {
        let ip: Option<IpAddr> = server.parse().ok();
        let granted = self.remote.iter().any(|grant| match (grant, ip) {
            (Server::Net(net), Some(ip)) => covers_ip(&[*net], ip),
            (Server::Name(glob), None) => glob.matches(server),
            _ => false,
        });
        match granted {
            true => Ok(()),
            false => deny(format!("mounting from {server}"), "mounts.remote", server),
        }
    }
}

/// A relative path that names something beneath its root, and nothing of davit's own there.
fn beneath(path: &str) -> Result<(), Refused> {
    let mut parts = Path::new(path).components().peekable();
    let empty = parts.peek().is_none();
    let plain = parts.all(|part| match part {
        Component::Normal(name) => !name.to_string_lossy().starts_with(".davit"),
        _ => false,
    });
    if empty || !plain || path.contains('\0') || path.len() > 1024 {
        return Err(Refused::Invalid(format!(
            "{path:?} is no path beneath a root: relative, without `.`, `..` and names beginning \
             with .davit"
        )));
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), Refused> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if key.is_empty() || key.len() > 64 || !key.bytes().all(plain) || key.starts_with('.') {
        return Err(Refused::Invalid(format!(
            "{key:?} is no key: 1 to 64 letters, digits, '-', '_' and '.'"
        )));
    }
    Ok(())
}

fn check_options(options: &[String]) -> Result<(), Refused> {
    for option in options {
        let name = option.split('=').next().unwrap_or_default();
        if ["suid", "dev", "bind", "remount", "move"].contains(&name) || option.contains(',') {
            return Err(Refused::Invalid(format!(
                "mount option {option:?} is not allowed: mounts are always nosuid and nodev"
            )));
        }
    }
    Ok(())
}

/// A size that is one, and nothing among the options that would give another.
fn check_tmpfs(bytes: u64, options: &[String]) -> Result<(), Refused> {
    if bytes == 0 || i64::try_from(bytes).is_err() {
        return Err(Refused::Invalid(format!(
            "{bytes} is no size of a file system in memory"
        )));
    }
    let allowed = |option: &&String| {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "ro" | "rw" => value.is_empty(),
            "mode" | "uid" | "gid" => !value.is_empty(),
            "nr_inodes" => value.parse::<u32>().is_ok_and(|count| count > 0),
            _ => false,
        }
    };
    match options.iter().find(|option| !allowed(option)) {
        None => Ok(()),
        Some(option) => Err(Refused::Invalid(format!(
            "option {option:?} of a file system in memory is not allowed: only mode, uid, gid, nr_inodes, ro and rw"
        ))),
    }
}

/// Types whose source is a server. Others take theirs from options, which no grant of servers bounds.
const REMOTE: [&str; 6] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p"];

fn sources(op: &StorageOp) -> Vec<&Source> {
    match op {
        StorageOp::Quota {
            directory: source, ..
        }
        | StorageOp::ImageCopy { source, .. }
        | StorageOp::TreeCopy { source, .. }
        | StorageOp::LoopDevice { image: source, .. }
        | StorageOp::Filesystem { device: source, .. }
        | StorageOp::Mount {
            filesystem: source, ..
        }
        | StorageOp::Expose { source, .. }
        | StorageOp::ExposeBlock { source, .. } => vec![source],
        StorageOp::Overlay {
            lower, upper, work, ..
        } => lower.iter().chain([upper, work]).collect(),
        _ => Vec::new(),
    }
}

/// A scope sees itself, the other scopes of its volume, and the volume it is filled from.
fn check_source(source: &Source, view: &StorageView<'_>) -> Result<(), Refused> {
    let same_volume = source.scope.parts().next() == view.scope.parts().next()
        && ["volume", "stage"].contains(&source.scope.kind());
    if source.scope == *view.scope || same_volume || view.content == Some(&source.scope) {
        return Ok(());
    }
    Err(Refused::Invalid(format!(
        "{} cannot use {}#{}: it belongs to another volume",
        view.scope, source.scope, source.key
    )))
}

fn deny(what: impl Into<String>, grant: &'static str, value: impl ToString) -> Result<(), Refused> {
    Err(Denied::new(what, grant, value).into())
}
