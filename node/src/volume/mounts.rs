//! The memory-backed volumes of a pod as mounts of the host.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags};

const MOUNT_INFO: &str = "/proc/self/mountinfo";

/// Mounts a tmpfs of `size` bytes unless one is there.
pub(super) fn mount_tmpfs(path: &Path, size: Option<u64>) -> io::Result<()> {
    if beneath(path)?.iter().any(|mounted| mounted == path) {
        return Ok(());
    }
    let size = size.map(|size| format!(",size={size}")).unwrap_or_default();
    Ok(tmpfs(path, &format!("mode=0777{size}"))?)
}

/// Makes `path` a directory in memory that only root may enter, unless it is one; its content is not swapped out where
/// the kernel can promise that (6.4 and newer).
pub(crate) fn mount_secrets(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    if beneath(path)?.iter().any(|mounted| mounted == path) {
        return Ok(());
    }
    match tmpfs(path, "mode=0700,noswap") {
        Err(nix::errno::Errno::EINVAL) => Ok(tmpfs(path, "mode=0700")?),
        mounted => Ok(mounted?),
    }
}

fn tmpfs(path: &Path, options: &str) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options))
}

/// Unmounts everything at or beneath `path`, the innermost first: tmpfs of davit's, and what containers with
/// bidirectional propagation left behind.
pub(crate) fn unmount_all(path: &Path) -> io::Result<()> {
    for mounted in beneath(path)?.iter().rev() {
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        match nix::mount::umount2(mounted, flags) {
            // Gone with another mount.
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Mount points at or beneath `path`, in the order they were made.
fn beneath(path: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read(MOUNT_INFO)?;
    let points = table.split(|b| *b == b'\n').filter_map(|line| {
        let point = line.split(|b| *b == b' ').nth(4)?;
        Some(unescape(point))
    });
    Ok(points.filter(|point| point.starts_with(path)).collect())
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

/// True if `name` can be one directory of a path.
pub(super) fn is_name(name: &str) -> bool {
    let name = OsStr::new(name);
    !name.is_empty()
        && name != "."
        && name != ".."
        && !name.as_bytes().iter().any(|b| matches!(b, b'/' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_escapes() {
        let table = [
            ("/a/b", "/a/b"),
            ("/a\\040b\\134", "/a b\\"),
            ("/a\\", "/a\\"),
            ("/\\09", "/\\09"),
        ];
        for (text, plain) in table {
            assert_eq!(unescape(text.as_bytes()), Path::new(plain), "{text}");
        }
        assert!(
            beneath(Path::new("/proc"))
                .unwrap()
                .contains(&PathBuf::from("/proc"))
        );
    }
}
