//! The mounts that plans ask for, each at a place told by its scope and key.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use davit_plugins::capabilities::{ActError, ActErrorKind, ScopeContext};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, fstatvfs, statvfs};
use sha2::{Digest, Sha256};

use super::failed;

/// File in a scope's folder that holds the scope's mark.
const MARK: &str = "mark";
/// Key of what a scope gives away; no driver's key begins with a dot.
pub(super) const EXPOSED: &str = ".exposed";

/// See the module's first lines.
#[derive(Clone, Debug)]
pub(super) struct Mounts {
    root: PathBuf,
}

impl Mounts {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn folder(&self, scope: &str) -> PathBuf {
        let digest = Sha256::digest(scope.as_bytes());
        self.root
            .join(hex::encode(digest.get(..10).unwrap_or_default()))
    }

    /// Where a mount of a scope is. Keys are names that drivers chose, so they are spelled safely.
    pub(super) fn place(&self, scope: &str, key: &str) -> PathBuf {
        self.folder(scope)
            .join(format!("m-{}", hex::encode(key.as_bytes())))
    }

    pub(super) fn is_mounted(&self, cx: &ScopeContext, key: &str) -> bool {
        is_mount_point(&self.place(cx.scope.as_str(), key))
    }

    pub(super) fn tmpfs(
        &self,
        cx: &ScopeContext,
        key: &str,
        bytes: u64,
        options: &[String],
    ) -> Result<(), ActError> {
        // The kernel takes 0, and what overflows when it counts in pages, for no limit at all.
        let most = memory();
        if bytes == 0 || bytes > most {
            let message = format!(
                "{key}: a file system in memory of {bytes} bytes; this machine has {most} bytes of memory"
            );
            return Err(ActError::new(ActErrorKind::Exhausted, message));
        }
        let mut data = vec![format!("size={bytes}"), "mode=1777".to_owned()];
        data.extend(options.iter().cloned());
        self.mount(cx, key, "davit", "tmpfs", &data)
    }

    pub(super) fn remote(
        &self,
        cx: &ScopeContext,
        key: &str,
        fs_type: &str,
        source: &str,
        options: &[String],
    ) -> Result<(), ActError> {
        self.mount(cx, key, source, fs_type, options)
    }

    pub(super) fn overlay(
        &self,
        cx: &ScopeContext,
        key: &str,
        lower: &[PathBuf],
        upper: &Path,
        work: &Path,
    ) -> Result<(), ActError> {
        let lower: Vec<String> = lower.iter().map(|path| escape(path)).collect();
        let data = [
            format!("lowerdir={}", lower.join(":")),
            format!("upperdir={}", escape(upper)),
            format!("workdir={}", escape(work)),
        ];
        self.mount(cx, key, "davit", "overlay", &data)
    }

    /// Gives a directory away under a mount of its own, which has the flags that the file system it lies on may not have.
    /// What is mounted beneath the directory stays behind.
    pub(super) fn expose(
        &self,
        cx: &ScopeContext,
        source: &OwnedFd,
        read_only: bool,
    ) -> Result<(), ActError> {
        let place = self.make_place(cx, EXPOSED)?;
        if is_mount_point(&place) {
            return Ok(());
        }
        // By the descriptor, since the path may lead elsewhere by now.
        let from = PathBuf::from(format!("/proc/thread-self/fd/{}", source.as_raw_fd()));
        let none: Option<&str> = None;
        mount(Some(&from), &place, none, MsFlags::MS_BIND, none)
            .map_err(|errno| failed("expose a directory at", &place, &errno.into()))?;
        let mut flags = MsFlags::MS_BIND
            | MsFlags::MS_REMOUNT
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV
            | flags_of(source);
        if read_only {
            flags |= MsFlags::MS_RDONLY;
        }
        mount(none, &place, none, flags, none).map_err(|errno| {
            // Without the flags it must not be used.
            let _ = umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
            failed("restrict the mount at", &place, &errno.into())
        })
    }

    /// Bytes that the file system at a mount can hold.
    pub(super) fn size(&self, cx: &ScopeContext, key: &str) -> Option<u64> {
        let stat = statvfs(&self.place(cx.scope.as_str(), key)).ok()?;
        Some(stat.blocks().saturating_mul(stat.fragment_size()))
    }

    fn make_place(&self, cx: &ScopeContext, key: &str) -> Result<PathBuf, ActError> {
        let place = self.place(cx.scope.as_str(), key);
        let folder = self.folder(cx.scope.as_str());
        fs::create_dir_all(&place).map_err(|error| failed("make", &place, &error))?;
        fs::write(folder.join(MARK), cx.mark()).map_err(|error| failed("mark", &folder, &error))?;
        Ok(place)
    }

    fn mount(
        &self,
        cx: &ScopeContext,
        key: &str,
        source: &str,
        fs_type: &str,
        options: &[String],
    ) -> Result<(), ActError> {
        let place = self.place(cx.scope.as_str(), key);
        if is_mount_point(&place) {
            return Ok(());
        }
        self.make_place(cx, key)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let data = options.join(",");
        let outcome = mount(
            Some(source),
            &place,
            Some(fs_type),
            flags,
            Some(data.as_str()),
        );
        outcome.map_err(|errno| {
            let error = failed(
                &format!("mount {fs_type} {source} at"),
                &place,
                &errno.into(),
            );
            if errno == Errno::ENODEV {
                let message = format!("{}; this kernel has no {fs_type}", error.message);
                return ActError::new(ActErrorKind::Unsupported, message);
            }
            error
        })
    }

    pub(super) fn unmount(&self, cx: &ScopeContext, key: &str) -> Result<(), ActError> {
        detach(&self.place(cx.scope.as_str(), key))
    }

    /// Removes the folder of a scope that has no mounts any more.
    pub(super) fn forget(&self, cx: &ScopeContext) -> Result<(), ActError> {
        let folder = self.folder(cx.scope.as_str());
        if folder.exists() {
            self.remove_folder(&folder)
        } else {
            Ok(())
        }
    }

    /// Every scope's folder with its mark.
    pub(super) fn marks(&self) -> Result<Vec<(PathBuf, String)>, ActError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", &self.root, &error)),
        };
        Ok(entries
            .flatten()
            .map(|entry| {
                let mark = fs::read_to_string(entry.path().join(MARK)).unwrap_or_default();
                (entry.path(), mark)
            })
            .collect())
    }

    /// Detaches every mount of a scope and removes its folder.
    pub(super) fn remove_folder(&self, folder: &Path) -> Result<(), ActError> {
        for entry in fs::read_dir(folder)
            .map_err(|error| failed("list", folder, &error))?
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                detach(&path)?;
            } else {
                fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
            }
        }
        fs::remove_dir(folder).map_err(|error| failed("remove", folder, &error))
    }
}

/// Flags that a mount has already and that changing others must not take away.
fn flags_of(source: &OwnedFd) -> MsFlags {
    let known = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let has = fstatvfs(source).map_or(FsFlags::empty(), |stat| stat.flags());
    let kept = known.into_iter().filter(|(flag, _)| has.contains(*flag));
    kept.fold(MsFlags::empty(), |all, (_, flag)| all | flag)
}

/// Memory of this machine in bytes; without an answer none, so that nothing without a bound is made.
fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib.saturating_mul(1024))
}

/// Unmounts lazily, so that a server that hangs holds nothing up, and removes the mount point,
/// which by then is an empty directory and never somebody's data.
fn detach(place: &Path) -> Result<(), ActError> {
    while is_mount_point(place) {
        umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .map_err(|errno| failed("unmount", place, &errno.into()))?;
    }
    match fs::remove_dir(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", place, &error))
        }
        _ => Ok(()),
    }
}

/// By the kernel's table rather than by `stat`, which would wait for a server that hangs.
fn is_mount_point(place: &Path) -> bool {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let wanted = place.to_string_lossy();
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(&*wanted))
}

/// Paths in overlay options: separators and commas are escaped.
fn escape(path: &Path) -> String {
    let mut text = String::new();
    for letter in path.to_string_lossy().chars() {
        if matches!(letter, ':' | ',' | '\\') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}
