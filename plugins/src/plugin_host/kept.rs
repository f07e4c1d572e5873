//! Which file each `Plugin` object was last loaded from on this node, so that a file that is gone at a start
//! takes no driver away whose compiled code is still in the cache.

use davit_api::PluginSource;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A file that was loaded before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    file: String,
    /// sha256, hexadecimal.
    pub(super) digest: String,
}

impl Kept {
    /// What an object was loaded from before, if that is what it asks for now.
    pub(super) fn of(cache: &Path, plugin: &str, source: &PluginSource) -> Option<Self> {
        let text = std::fs::read(place(cache, plugin)?).ok()?;
        let kept: Self = serde_json::from_slice(&text).ok()?;
        let wanted = source.digest.as_deref();
        let same = source.file.as_ref() == Some(&kept.file)
            && wanted.is_none_or(|wanted| wanted == format!("sha256:{}", kept.digest));
        same.then_some(kept)
    }

    /// Notes what an object was loaded from. Without the note a lost file is only told earlier.
    pub(super) fn note(cache: &Path, plugin: &str, source: &PluginSource, digest: &str) {
        let (Some(place), Some(file)) = (place(cache, plugin), &source.file) else {
            return Self::forget(cache, plugin);
        };
        let kept = Self {
            file: file.clone(),
            digest: digest.to_owned(),
        };
        let save = || {
            let fresh = place.with_extension("new");
            std::fs::write(&fresh, serde_json::to_vec(&kept)?)?;
            std::fs::rename(fresh, &place)
        };
        if let Err(error) = save() {
            tracing::warn!(plugin, %error, "cannot note what a plugin was loaded from");
        }
    }

    /// The object is gone, or has no file of its own any more.
    pub(super) fn forget(cache: &Path, plugin: &str) {
        // It is usually not there.
        let _ = place(cache, plugin).map(std::fs::remove_file);
    }
}

fn place(cache: &Path, plugin: &str) -> Option<PathBuf> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
    let is_name = !plugin.is_empty() && plugin.bytes().all(plain) && !plugin.starts_with('.');
    is_name.then(|| cache.join(format!("{plugin}.loaded.json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_file_is_remembered() {
        let cache = tempfile::tempdir().unwrap();
        let source = |file: &str, digest: Option<&str>| PluginSource {
            file: Some(file.into()),
            digest: digest.map(str::to_owned),
            ..PluginSource::default()
        };
        Kept::note(cache.path(), "p", &source("/a.wasm", None), "ab");
        for (plugin, asked, found) in [
            ("p", source("/a.wasm", None), true),
            ("p", source("/a.wasm", Some("sha256:ab")), true),
            ("p", source("/a.wasm", Some("sha256:cd")), false),
            ("p", source("/b.wasm", None), false),
            ("q", source("/a.wasm", None), false),
            ("../p", source("/a.wasm", None), false),
        ] {
            let kept = Kept::of(cache.path(), plugin, &asked);
            assert_eq!(kept.is_some(), found, "{plugin} {asked:?}");
        }
        Kept::note(cache.path(), "p", &PluginSource::default(), "ab");
        assert_eq!(Kept::of(cache.path(), "p", &source("/a.wasm", None)), None);
    }
}
