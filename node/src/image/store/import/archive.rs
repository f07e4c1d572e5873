//! The members of an archive, copied to files of davit's own naming.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::beneath;
use crate::image::digest::{Digest, Hasher};
use crate::image::error::Error;
use crate::image::store::Inner;
use crate::image::tar::{Archive, Entry, Kind, TarError};
use crate::image::unpack::decompress;

/// No image archive has more members; each costs memory.
const MAX_MEMBERS: usize = 100_000;
const MAX_LINKS: usize = 8;
/// Most bytes of `manifest.json` and `index.json`.
const MAX_JSON: u64 = 16 << 20;

/// What was found: names in the archive → files on disk.
pub(super) struct Contents {
    archive: PathBuf,
    files: BTreeMap<PathBuf, PathBuf>,
    /// Old versions of `docker save` write equal layers as links.
    links: BTreeMap<PathBuf, PathBuf>,
}

impl Contents {
    /// Copies all files of `archive` to `scratch`; whatever is called `blobs/<algorithm>/<digest>` must match its name.
    pub(super) fn extract(inner: &Inner, archive: &Path, scratch: &Path) -> Result<Self, Error> {
        let file = File::open(archive).map_err(Error::io("open", archive))?;
        let mut contents = Self {
            archive: archive.to_owned(),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        let stream = decompress(BufReader::with_capacity(1 << 16, file));
        let stream = stream.map_err(Error::io("read", archive))?;
        let mut reader = Archive::new(stream);
        let broken = |error: TarError| {
            let mut reason = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                reason = format!("{reason}: {source}");
            }
            Error::Archive {
                path: archive.to_owned(),
                reason,
            }
        };
        let free = inner.layout.free(&inner.options.limits)?;
        let mut left = free;
        let mut members = 0;
        while let Some(entry) = reader.next_entry().map_err(broken)? {
            let Some(name) = beneath::clean(&entry.name) else {
                return Err(contents.unusable("a name leads out of it"));
            };
            members += 1;
            if members > MAX_MEMBERS {
                return Err(contents.unusable("it has too many members"));
            }
            match entry.kind {
                Kind::File => {
                    left = left.checked_sub(entry.size).ok_or_else(|| Error::NoSpace {
                        what: format!("{} in {}", name.display(), archive.display()),
                        needed: entry.size,
                        free,
                        path: inner.layout.dir.clone(),
                    })?;
                    let path = scratch.join(members.to_string());
                    contents.copy(&name, &entry, &mut reader, &path, &broken)?;
                    contents.insert(name, path)?;
                }
                Kind::Symlink | Kind::HardLink => contents.link(name, &entry),
                Kind::Directory | Kind::Device | Kind::Fifo => {}
            }
        }
        Ok(contents)
    }

    fn copy<R: io::Read>(
        &self,
        name: &Path,
        entry: &Entry,
        reader: &mut Archive<R>,
        path: &Path,
        broken: &dyn Fn(TarError) -> Error,
    ) -> Result<(), Error> {
        if entry.segments.is_some() {
            return Err(self.unusable("it holds sparse files"));
        }
        let expected = digest_of(name);
        let mut hasher: Option<Hasher> = expected.as_ref().map(|d| d.algorithm().hasher());
        let file = File::create_new(path).map_err(Error::io("make", path))?;
        let mut file = BufWriter::with_capacity(1 << 16, file);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = reader.data(&mut buffer).map_err(broken)?;
            let Some(data) = buffer.get(..read).filter(|data| !data.is_empty()) else {
                break;
            };
            if let Some(hasher) = &mut hasher {
                hasher.update(data);
            }
            file.write_all(data).map_err(Error::io("write", path))?;
        }
        file.flush().map_err(Error::io("write", path))?;
        match (expected, hasher.map(Hasher::finish)) {
            (Some(expected), Some(actual)) if expected != actual => {
                let what = format!("{} in {}", name.display(), self.archive.display());
                Err(Error::DigestMismatch {
                    what,
                    expected,
                    actual,
                })
            }
            _ => Ok(()),
        }
    }

    /// Some tools write a member twice, equal layers above all; as with tar, the later one counts.
    fn insert(&mut self, name: PathBuf, path: PathBuf) -> Result<(), Error> {
        self.links.remove(&name);
        match self.files.insert(name, path) {
            Some(earlier) => fs::remove_file(&earlier).map_err(Error::io("remove", &earlier)),
            None => Ok(()),
        }
    }

    fn link(&mut self, name: PathBuf, entry: &Entry) {
        let from = match (entry.kind, name.parent()) {
            (Kind::Symlink, Some(parent)) => {
                use std::os::unix::ffi::OsStrExt as _;
                [parent.as_os_str().as_bytes(), b"/", &entry.link].concat()
            }
            _ => entry.link.clone(),
        };
        if let Some(target) = beneath::clean(&from) {
            self.links.insert(name, target);
        }
    }

    /// The file of a member.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let missing = || self.unusable(&format!("it lacks {name}"));
        let mut at = beneath::clean(name.as_bytes()).ok_or_else(missing)?;
        for _ in 0..MAX_LINKS {
            if let Some(file) = self.files.get(&at) {
                return Ok(file.clone());
            }
            at = self.links.get(&at).ok_or_else(missing)?.clone();
        }
        Err(missing())
    }

    /// The content of a small member.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let path = self.path(name)?;
        let size = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
        if size > limit {
            let what = format!("{name} in {}", self.archive.display());
            return Err(Error::TooLarge { what, limit });
        }
        fs::read(&path).map_err(Error::io("read", &path))
    }

    /// A JSON member at the top; none if there is no such member.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        if self.path(name).is_err() {
            return Ok(None);
        }
        let bytes = self.read(name, MAX_JSON)?;
        let parsed = serde_json::from_slice(&bytes);
        parsed
            .map(Some)
            .map_err(|error| self.unusable(&format!("{name}: {error}")))
    }

    /// A small blob of an OCI layout; its digest was verified when it was copied.
    pub(super) fn blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
        self.read(&blob_name(digest), limit)
    }

    /// The file of a blob of an OCI layout.
    pub(super) fn blob_path(&self, digest: &Digest) -> Result<PathBuf, Error> {
        self.path(&blob_name(digest))
    }

    pub(super) fn unusable(&self, reason: &str) -> Error {
        Error::Archive {
            path: self.archive.clone(),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn shown(&self) -> String {
        self.archive.display().to_string()
    }

    /// A name for images that come without: `davit.local/` and the file's name up to its first dot.
    pub(super) fn name(&self) -> String {
        let file = self
            .archive
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let stem = file
            .split('.')
            .find(|part| !part.is_empty())
            .unwrap_or_default();
        let mut name = String::new();
        for c in stem.to_ascii_lowercase().chars() {
            if c.is_ascii_alphanumeric() {
                name.push(c);
            } else if !name.ends_with('-') {
                name.push('-');
            }
        }
        let name = name.trim_matches('-');
        format!(
            "davit.local/{}",
            if name.is_empty() { "image" } else { name }
        )
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn digest_of(name: &Path) -> Option<Digest> {
    let (algorithm, hex) = name.to_str()?.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}
