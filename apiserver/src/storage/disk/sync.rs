//! Real syncs. sled asks Linux only for `sync_file_range`, which leaves data in the disk's cache and the file's size in the
//! journal of the file system; a power cut then loses or tears what was acknowledged. The symbol defined here takes the place
//! of libc's for everything linked into this program, sled included, and syncs for real.
#![allow(
    unsafe_code,
    reason = "replacing a function of libc and calling it is foreign code"
)]
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Syncs that succeeded through [`sync_file_range`].
static SYNCS: AtomicU64 = AtomicU64::new(0);

/// Makes all data of the file durable, where libc's function of this name would only start to write a range of it. A caller
/// that wanted less loses nothing but time.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn sync_file_range(
    fd: libc::c_int,
    _offset: libc::off64_t,
    _bytes: libc::off64_t,
    _flags: libc::c_uint,
) -> libc::c_int {
    // SAFETY: fdatasync takes any number as a descriptor, answers EBADF for one that is not open, and touches no memory.
    let result = unsafe { libc::fdatasync(fd) };
    if result == 0 {
        SYNCS.fetch_add(1, Ordering::AcqRel);
    }
    result
}

/// How many syncs succeeded so far.
pub(super) fn syncs() -> u64 {
    SYNCS.load(Ordering::Acquire)
}

/// Whether the function that sled is linked to is the one above.
pub(super) fn is_linked(file: &File) -> io::Result<bool> {
    let before = syncs();
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and the call touches no memory.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(syncs() > before)
}

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a directory with all its parents, durably.
pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    create_dir(parent)?;
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_dir(parent)
}

/// Makes or replaces a small file: afterwards, and after a crash, it has the old or the new content, never a part.
pub(super) fn replace_file(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let draft = dir.join(format!("{name}.new"));
    let mut file = File::create(&draft)?;
    io::Write::write_all(&mut file, content)?;
    file.sync_all()?;
    std::fs::rename(&draft, dir.join(name))?;
    sync_dir(dir)
}
