//! `davit.local/hello:latest`: an image davit makes of itself, for machines that reach no registry.
//!
//! The running binary, the loader and the libraries it is linked to, and two account files. Everything else about it
//! (owners, times, order) is fixed, so the same binary makes the same image.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::layers::{self, Pins, Wanted};
use super::{Image, ImageStore, Inner, blocking, pull};
use crate::image::digest::{Algorithm, Digest, Hasher};
use crate::image::error::Error;
use crate::image::manifest::{self, Descriptor, Platform};
use crate::image::reference::Reference;
use linked::Program;

mod linked;
#[cfg(test)]
mod tests;

/// The registry that is this machine.
pub(super) const REGISTRY: &str = "davit.local";
pub(super) const NAME: &str = "davit.local/hello:latest";
const BINARY: &str = "bin/davit";
const PASSWD: &str =
    "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\n";

/// One path of the layer.
#[derive(Clone, Debug)]
enum Item {
    Directory(u32),
    /// A copy of a file of this machine.
    Copy(PathBuf),
    Text(&'static str),
}

/// A layer that was written, and the facts about it.
struct Made {
    layer: Wanted,
    bytes: u64,
}

/// Makes `davit.local/hello:latest` from the running binary and the libraries it is linked to, and names it in
/// `store`. Nothing is copied if the same binary made it before.
///
/// # Errors
/// The binary or a library cannot be read, or the store cannot be written.
pub async fn build_self(store: &ImageStore) -> Result<Image, Error> {
    build_running(&store.inner).await
}

pub(super) async fn build_running(inner: &Arc<Inner>) -> Result<Image, Error> {
    let program = blocking("look at the running binary", linked::running).await?;
    build(inner, program).await
}

async fn build(inner: &Arc<Inner>, program: Program) -> Result<Image, Error> {
    let reference = Reference::parse(NAME).map_err(|error| Error::Damaged {
        path: inner.layout.index(),
        reason: error.to_string(),
    })?;
    let memo = inner.layout.dir.join("hello.json");
    let print = fingerprint(&program)?;
    let known = inner
        .state
        .lock()
        .find(&reference)
        .map(super::index::Record::image);
    if let Some(image) = known.filter(|image| remembered(&memo, &print, &image.id)) {
        return Ok(image);
    }
    let (store, files) = (Arc::clone(inner), items(&program));
    let made = blocking("make the hello image", move || make(&store, &files)).await?;
    let config = config(&program, &made.layer.diff_id);
    let id = Digest::sha256(&config);
    let descriptor = Descriptor {
        media_type: manifest::OCI_LAYER.to_owned(),
        digest: made.layer.diff_id.clone(),
        size: made.bytes,
        platform: None,
        annotations: BTreeMap::new(),
    };
    let resolved = pull::resolve(inner, id.clone(), config, &[descriptor], BTreeMap::new())?;
    let chain = vec![made.layer.chain_id.clone()];
    let _pins = Pins::new(inner, &chain);
    let names = BTreeSet::from([reference]);
    let image = pull::commit(inner, resolved, &names, chain, made.bytes).await?;
    let memory = json!({ "version": 1, "print": print, "id": id });
    inner.layout.write(&memo, memory.to_string().as_bytes())?;
    Ok(image)
}

/// True if the image was made of files that have not changed since.
fn remembered(memo: &Path, print: &str, id: &Digest) -> bool {
    let memory = fs::read(memo).ok();
    let memory = memory.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let is = |key: &str, value: &str| {
        memory.as_ref().and_then(|memory| memory.get(key)?.as_str()) == Some(value)
    };
    is("print", print) && is("id", &id.to_string())
}

/// What changes when a file does: cheap to ask for, unlike its digest.
fn fingerprint(program: &Program) -> Result<String, Error> {
    let mut text = String::new();
    for (name, path) in program.files() {
        let meta = fs::metadata(path).map_err(Error::io("look at", path))?;
        let facts = [
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.mtime().cast_unsigned(),
        ];
        text.push_str(&format!("{name:?} {facts:?} {}\n", meta.mtime_nsec()));
    }
    Ok(Digest::sha256(text.as_bytes()).to_string())
}

/// All paths of the layer, parents included.
fn items(program: &Program) -> BTreeMap<PathBuf, Item> {
    let mut items = BTreeMap::from([
        (PathBuf::from(BINARY), Item::Copy(program.binary.clone())),
        (PathBuf::from("etc/passwd"), Item::Text(PASSWD)),
        (PathBuf::from("etc/group"), Item::Text(GROUP)),
    ]);
    for (place, source) in &program.libraries {
        items.insert(place.clone(), Item::Copy(source.clone()));
    }
    for dir in ["dev", "proc", "run", "sys"] {
        items.insert(PathBuf::from(dir), Item::Directory(0o755));
    }
    items.insert(PathBuf::from("tmp"), Item::Directory(0o1777));
    let parents: BTreeSet<PathBuf> = items
        .keys()
        .flat_map(|path| path.ancestors().skip(1))
        .filter(|path| !path.as_os_str().is_empty())
        .map(Path::to_owned)
        .collect();
    for parent in parents {
        items.entry(parent).or_insert(Item::Directory(0o755));
    }
    items
}

fn config(program: &Program, diff_id: &Digest) -> Vec<u8> {
    let mut env = vec!["PATH=/bin".to_owned()];
    if let Some(path) = program.library_path() {
        env.push(format!("LD_LIBRARY_PATH={path}"));
    }
    let created = "1970-01-01T00:00:00Z";
    let config = json!({
        "architecture": Platform::host().architecture,
        "os": "linux",
        "created": created,
        "config": {
            "User": "65534:65534",
            "ExposedPorts": { "8080/tcp": {} },
            "Env": env,
            "Entrypoint": ["/bin/davit", "hello-server"],
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": created, "created_by": "davit" }],
    });
    config.to_string().into_bytes()
}

/// Writes the layer and, in the same pass, hashes the archive it would be. Blocks.
fn make(inner: &Inner, items: &BTreeMap<PathBuf, Item>) -> Result<Made, Error> {
    let scratch = inner.layout.scratch()?;
    let dir = scratch.path.join("layer");
    let files = dir.join("fs");
    fs::create_dir_all(&files).map_err(Error::io("make", &files))?;
    let mut archive = ::tar::Builder::new(HashWriter(Algorithm::Sha256.hasher()));
    let mut bytes = 0;
    for (path, item) in items {
        let to = files.join(path);
        bytes += add(&mut archive, path, item, &to).map_err(Error::io("copy into", &to))?;
    }
    for path in items
        .keys()
        .rev()
        .map(|path| files.join(path))
        .chain([files.clone()])
    {
        set_epoch(&path).map_err(Error::io("set the time of", &path))?;
    }
    let hasher = archive.into_inner().map_err(Error::io("end", &files))?;
    let diff_id = hasher.0.finish();
    let layer = Wanted {
        chain_id: diff_id.clone(),
        diff_id: diff_id.clone(),
        blob: diff_id,
    };
    let entries = items.len() as u64;
    if layers::facts(&inner.layout, &layer.chain_id).is_err() {
        layers::place(&inner.layout, &dir, &layer, bytes, entries)?;
    }
    Ok(Made { layer, bytes })
}

fn add(
    archive: &mut ::tar::Builder<HashWriter>,
    path: &Path,
    item: &Item,
    to: &Path,
) -> io::Result<u64> {
    let mut header = ::tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let (mode, size) = match item {
        Item::Directory(mode) => {
            header.set_entry_type(::tar::EntryType::Directory);
            header.set_mode(*mode);
            header.set_size(0);
            fs::create_dir(to)?;
            archive.append_data(&mut header, path, io::empty())?;
            (*mode, 0)
        }
        Item::Text(text) => {
            let size = text.len() as u64;
            header.set_mode(0o644);
            header.set_size(size);
            let copy = Tee {
                from: text.as_bytes(),
                to: File::create_new(to)?,
            };
            archive.append_data(&mut header, path, copy)?;
            (0o644, size)
        }
        Item::Copy(source) => {
            let from = File::open(source)?;
            let size = from.metadata()?.len();
            header.set_mode(0o755);
            header.set_size(size);
            let copy = Tee {
                from: from.take(size),
                to: File::create_new(to)?,
            };
            archive.append_data(&mut header, path, copy)?;
            (0o755, size)
        }
    };
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(size)
}

fn set_epoch(path: &Path) -> io::Result<()> {
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    File::open(path)?.set_times(fs::FileTimes::new().set_modified(epoch))
}

/// Writes what is read through it.
struct Tee<R> {
    from: R,
    to: File,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.to.write_all(buffer.get(..read).unwrap_or_default())?;
        Ok(read)
    }
}

struct HashWriter(Hasher);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Program {
    /// Everything the image is made of, by name in the image.
    fn files(&self) -> impl Iterator<Item = (&OsStr, &PathBuf)> {
        let libraries = self
            .libraries
            .iter()
            .map(|(place, source)| (place.as_os_str(), source));
        std::iter::once((OsStr::new(BINARY), &self.binary)).chain(libraries)
    }
}
