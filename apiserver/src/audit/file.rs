//! The log file, put aside when it is large; old ones are removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::{Error, Settings};

pub(super) struct LogFile {
    path: PathBuf,
    out: Out,
    bytes: u64,
    max_bytes: u64,
    max_files: usize,
    max_age: Duration,
}

enum Out {
    Stdout,
    File(BufWriter<File>),
}

impl LogFile {
    pub(super) fn open(settings: &Settings) -> Result<Self, Error> {
        let path = settings.log.clone();
        let failed = |source| Error::Write {
            path: path.clone(),
            source,
        };
        let (out, bytes) = if path == Path::new("-") {
            (Out::Stdout, 0)
        } else {
            let file = open(&path).map_err(failed)?;
            let bytes = file.metadata().map_err(failed)?.len();
            (Out::File(BufWriter::new(file)), bytes)
        };
        Ok(Self {
            path,
            out,
            bytes,
            max_bytes: settings.max_bytes,
            max_files: settings.max_files,
            max_age: settings.max_age,
        })
    }

    pub(super) fn append(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.max_bytes {
            self.put_aside()?;
        }
        self.bytes += length;
        match &mut self.out {
            Out::Stdout => io::stdout().lock().write_all(line.as_bytes()),
            Out::File(file) => file.write_all(line.as_bytes()),
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.out {
            Out::Stdout => io::stdout().lock().flush(),
            Out::File(file) => file.flush(),
        }
    }

    /// Goes on in a new file; the old one gets the time into its name.
    fn put_aside(&mut self) -> io::Result<()> {
        let aside = self.aside(Timestamp::now());
        let Out::File(file) = &mut self.out else {
            return Ok(());
        };
        file.flush()?;
        fs::rename(&self.path, aside)?;
        *file = BufWriter::new(open(&self.path)?);
        self.bytes = 0;
        self.remove_old()
    }

    fn parts(&self) -> (String, String) {
        let extension = self.path.extension().unwrap_or_default();
        let dot = if extension.is_empty() { "" } else { "." };
        let stem = self.path.file_stem().unwrap_or_default();
        let extension = extension.to_string_lossy();
        let stem = stem.to_string_lossy();
        (format!("{stem}-"), format!("{dot}{extension}"))
    }

    /// `audit.log` becomes `audit-2026-01-02T03-04-05.678.log`.
    fn aside(&self, now: Timestamp) -> PathBuf {
        let (stem, extension) = self.parts();
        let time = now.strftime("%Y-%m-%dT%H-%M-%S.%6f");
        self.path.with_file_name(format!("{stem}{time}{extension}"))
    }

    /// Logs put aside, oldest first.
    fn put_aside_before(&self) -> io::Result<Vec<PathBuf>> {
        let (stem, extension) = self.parts();
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let mut found = Vec::new();
        for entry in fs::read_dir(dir.unwrap_or(Path::new(".")))? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let time = name
                .strip_prefix(&stem)
                .and_then(|rest| rest.strip_suffix(&extension));
            let is_time = |time: &str| {
                time.len() == 26
                    && time
                        .bytes()
                        .all(|b| b.is_ascii_digit() || b"-T.".contains(&b))
            };
            if time.is_some_and(is_time) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    fn remove_old(&self) -> io::Result<()> {
        let files = self.put_aside_before()?;
        let surplus = match self.max_files {
            0 => 0,
            keep => files.len().saturating_sub(keep),
        };
        let now = SystemTime::now();
        for (number, path) in files.iter().enumerate() {
            let modified = fs::metadata(path)?.modified()?;
            let age = now.duration_since(modified).unwrap_or_default();
            if number < surplus || (!self.max_age.is_zero() && age > self.max_age) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}
