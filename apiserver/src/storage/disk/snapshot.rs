//! sled's snapshots: lists of pages that it writes when it opens a database, so that the next opening is quicker.
//!
//! One that was being written when the disk was full or the process ended stays behind, sorts after all others, and sled then
//! refuses the database for ever. Nothing is lost with a snapshot: without one, sled reads its whole log.
use std::io;
use std::path::Path;

const PREFIX: &str = "snap.";
const UNFINISHED: &str = ".generating";
/// The length of the list and its checksum stand behind it.
const TAIL_BYTES: usize = 8 + 4;

/// Removes what sled would stumble over: snapshots that were not finished, or are not as they were written.
pub(super) fn tidy(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        if name.ends_with(UNFINISHED) || !is_whole(&std::fs::read(&path)?) {
            tracing::info!(file = %path.display(), "a list of pages that is not whole is made anew");
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some((list, tail)) = bytes
        .len()
        .checked_sub(TAIL_BYTES)
        .filter(|&length| length > 0)
        .map(|length| bytes.split_at(length))
    else {
        return false;
    };
    tail.ends_with(&crc32fast::hash(list).to_le_bytes())
}
