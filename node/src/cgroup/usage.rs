//! Reading counters from control files.
use std::path::Path;

/// A file that holds one number.
pub(super) fn number(path: &Path) -> u64 {
    std::fs::read_to_string(path)
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(0)
}

/// The value of a key in a file of `key value` lines; zero if file or key is missing.
pub(super) fn keyed(path: &Path, key: &str) -> u64 {
    std::fs::read_to_string(path).map_or(0, |text| in_text(&text, key))
}

/// The value of a key in text of `key value` lines; zero if it is missing.
pub(super) fn in_text(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}
