//! The running program: its binary, its dynamic loader, and the shared libraries it needs.
//!
//! What the loader of this process found is listed in `/proc/self/maps`; what is needed, in the ELF files. Together
//! they give the closure without asking `ldd` or reading the loader's cache.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{DT_NEEDED, DT_SONAME, FileHeader64};
use object::read::ReadCache;
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use crate::image::error::Error;

const SELF: &str = "/proc/self/exe";
const MAPS: &str = "/proc/self/maps";

/// A program and what it cannot run without.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// The binary's file.
    pub(super) binary: PathBuf,
    /// Place in the image → file on this machine. Empty for a static binary.
    pub(super) libraries: BTreeMap<PathBuf, PathBuf>,
}

/// What an ELF file says of its linking.
#[derive(Debug, Default)]
struct Linking {
    interpreter: Option<PathBuf>,
    name: Option<String>,
    needed: Vec<String>,
}

impl Program {
    /// The directories of libraries that no loader looks into by itself, for `LD_LIBRARY_PATH`.
    pub(super) fn library_path(&self) -> Option<String> {
        let dirs: BTreeSet<String> = self
            .libraries
            .keys()
            .filter_map(|place| place.parent()?.to_str())
            .filter(|dir| !is_default(dir))
            .map(|dir| format!("/{dir}"))
            .collect();
        (!dirs.is_empty()).then(|| dirs.into_iter().collect::<Vec<_>>().join(":"))
    }
}

/// `lib`, `lib64`, their namesakes in `usr`, and Debian's directories per architecture.
fn is_default(dir: &str) -> bool {
    let dir = dir.strip_prefix("usr/").unwrap_or(dir);
    match dir.split_once('/') {
        None => matches!(dir, "lib" | "lib64"),
        Some((lib, architecture)) => lib == "lib" && architecture.contains("-linux-"),
    }
}

/// This process.
pub(super) fn running() -> Result<Program, Error> {
    let binary = PathBuf::from(SELF);
    let linking = read(&binary)?;
    let mut libraries = BTreeMap::new();
    let Some(interpreter) = linking.interpreter else {
        return Ok(Program { binary, libraries });
    };
    let loaded = loaded()?;
    let mut wanted = linking.needed;
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let Some((place, linking)) = loaded.get(&name) else {
            let reason = format!("{name}, which it needs, is not among its libraries");
            return Err(Error::Damaged {
                path: binary,
                reason,
            });
        };
        let dir = place.parent().and_then(|dir| dir.strip_prefix("/").ok());
        libraries.insert(dir.unwrap_or(Path::new("lib")).join(&name), place.clone());
        wanted.extend(linking.needed.iter().cloned());
    }
    if let Ok(place) = interpreter.strip_prefix("/") {
        libraries.insert(place.to_owned(), interpreter.clone());
    }
    Ok(Program { binary, libraries })
}

/// The libraries in this process by the name others need them by.
fn loaded() -> Result<BTreeMap<String, (PathBuf, Linking)>, Error> {
    let path = Path::new(MAPS);
    let maps = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let files: BTreeSet<&str> = maps
        .lines()
        .filter_map(|line| line.find('/').and_then(|at| line.get(at..)))
        .filter(|file| !file.ends_with(" (deleted)"))
        .collect();
    let mut loaded = BTreeMap::new();
    for file in files {
        let file = PathBuf::from(file);
        // Mapped data files are no libraries.
        let Ok(linking) = read(&file) else { continue };
        let own = file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        if let Some(name) = linking.name.clone().or(own) {
            loaded.insert(name, (file, linking));
        }
    }
    Ok(loaded)
}

/// Reads only the headers and the dynamic section: binaries are large.
fn read(path: &Path) -> Result<Linking, Error> {
    let wrong = |error: object::read::Error| {
        let reason = format!("not a 64-bit ELF file: {error}");
        Error::Damaged {
            path: path.to_owned(),
            reason,
        }
    };
    let data = ReadCache::new(File::open(path).map_err(Error::io("open", path))?);
    let parse = || -> Result<Linking, object::read::Error> {
        let header = FileHeader64::<Endianness>::parse(&data)?;
        let endian = header.endian()?;
        let mut linking = Linking::default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for segment in header.program_headers(endian, &data)? {
            if let Some(interpreter) = segment.interpreter(endian, &data)? {
                linking.interpreter = Some(PathBuf::from(text(interpreter)));
            }
        }
        let table = header
            .sections(endian, &data)?
            .dynamic_table(endian, &data)?;
        for entry in table.iter() {
            match entry.tag {
                DT_NEEDED => linking.needed.push(text(table.string(entry)?)),
                DT_SONAME => linking.name = Some(text(table.string(entry)?)),
                _ => {}
            }
        }
        Ok(linking)
    };
    parse().map_err(wrong)
}
