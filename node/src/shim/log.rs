//! A container's output as a log file in the CRI format, put aside when it grows too large.
//!
//! Each line is `<time> <stream> <F|P> <text>`; P marks a part of a line that goes on in the next one. Files put aside
//! are siblings with a number that grows: `0.log.1` is older than `0.log.2`.
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::protocol::LogPlan;

/// Longest text of one line; what is longer is cut into parts.
const MAX_TEXT: usize = 16 << 10;

/// Which stream a text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The begin of a line that has not ended yet.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer(Vec<u8>);

/// One container's log.
#[derive(Debug)]
pub(crate) struct LogWriter {
    plan: LogPlan,
    file: File,
    size: u64,
    pending: Vec<u8>,
    lost: u64,
}

impl LogWriter {
    /// Opens the log and goes on behind what is there.
    pub(crate) fn open(plan: LogPlan) -> std::io::Result<Self> {
        let file = open_file(&plan.path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            plan,
            file,
            size,
            pending: Vec::new(),
            lost: 0,
        })
    }

    /// Takes what was read from a stream at `now`. A full disk loses lines but never blocks the container.
    pub(crate) fn take(
        &mut self,
        stream: Stream,
        line: &mut LineBuffer,
        mut bytes: &[u8],
        now: Timestamp,
    ) {
        let time = now.to_string();
        while !bytes.is_empty() {
            let room = MAX_TEXT - line.0.len();
            let window = bytes.get(..room).unwrap_or(bytes);
            match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    line.0
                        .extend_from_slice(window.get(..end).unwrap_or_default());
                    self.add(&time, stream, 'F', &line.0);
                    line.0.clear();
                    bytes = bytes.get(end + 1..).unwrap_or_default();
                }
                None => {
                    line.0.extend_from_slice(window);
                    bytes = bytes.get(window.len()..).unwrap_or_default();
                    if line.0.len() == MAX_TEXT {
                        self.add(&time, stream, 'P', &line.0);
                        line.0.clear();
                    }
                }
            }
        }
        self.flush();
    }

    /// The stream has ended: a line without its end is written as what it is, the begin of one.
    pub(crate) fn end(&mut self, stream: Stream, line: &mut LineBuffer, now: Timestamp) {
        if !line.0.is_empty() {
            self.add(&now.to_string(), stream, 'P', &line.0);
            line.0.clear();
            self.flush();
        }
    }

    /// How many bytes could not be written, since this was last asked.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn add(&mut self, time: &str, stream: Stream, tag: char, text: &[u8]) {
        let length = (time.len() + stream.name().len() + text.len() + 5) as u64;
        let limit = if self.plan.max_bytes == 0 {
            u64::MAX
        } else {
            self.plan.max_bytes
        };
        let full = self.size + self.pending.len() as u64 + length > limit;
        if full && self.size + self.pending.len() as u64 > 0 {
            self.flush();
            self.put_aside();
        }
        // Writing to a vector cannot fail.
        let _ = write!(self.pending, "{time} {} {tag} ", stream.name());
        self.pending.extend_from_slice(text);
        self.pending.push(b'\n');
    }

    fn flush(&mut self) {
        match self.file.write_all(&self.pending) {
            Ok(()) => self.size += self.pending.len() as u64,
            Err(_) => {
                self.lost += self.pending.len() as u64;
                self.size = self.file.metadata().map_or(self.size, |m| m.len());
            }
        }
        self.pending.clear();
    }

    /// Renames the current file, begins a new one, and removes those that are too many. If that is not possible the
    /// current file is emptied, so that a log stays within its limit whatever happens.
    fn put_aside(&mut self) {
        let mut old = rotated(&self.plan.path);
        let next = old.last().map_or(1, |(number, _)| number + 1);
        let keep = self.plan.max_files.saturating_sub(1) as usize;
        let aside = numbered(&self.plan.path, next);
        let renamed = keep > 0 && std::fs::rename(&self.plan.path, &aside).is_ok();
        if renamed {
            old.push((next, aside));
        }
        let surplus = old.len().saturating_sub(keep);
        for (_, path) in old.iter().take(surplus) {
            // One that is gone already is what was wanted.
            let _ = std::fs::remove_file(path);
        }
        match open_file(&self.plan.path) {
            Ok(file) if renamed => self.file = file,
            _ => {
                let _ = self.file.set_len(0);
            }
        }
        self.size = 0;
    }
}

fn open_file(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    File::options()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Files put aside, oldest first.
fn rotated(path: &Path) -> Vec<(u64, PathBuf)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Vec::new();
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut found: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix(&prefix)?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn writer(dir: &Path, max_bytes: u64, max_files: u32) -> LogWriter {
        LogWriter::open(LogPlan {
            path: dir.join("0.log"),
            max_bytes,
            max_files,
        })
        .unwrap()
    }

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn lines_in_the_cri_format() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 1 << 20, 3);
        let now: Timestamp = "2024-01-02T03:04:05.678901234Z".parse().unwrap();
        let (mut out, mut err) = (LineBuffer::default(), LineBuffer::default());
        log.take(Stream::Stdout, &mut out, b"hel", now);
        log.take(Stream::Stderr, &mut err, b"oops\n\nunended", now);
        log.take(Stream::Stdout, &mut out, b"lo\n", now);
        log.end(Stream::Stderr, &mut err, now);
        log.end(Stream::Stdout, &mut out, now);
        let time = "2024-01-02T03:04:05.678901234Z";
        let expected = [
            format!("{time} stderr F oops"),
            format!("{time} stderr F "),
            format!("{time} stdout F hello"),
            format!("{time} stderr P unended"),
        ];
        assert_eq!(lines(&dir.path().join("0.log")), expected);
    }

    #[test]
    fn files_are_put_aside_by_size_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 400, 3);
        let mut line = LineBuffer::default();
        for number in 0..40 {
            let text = format!("line {number}\n");
            log.take(
                Stream::Stdout,
                &mut line,
                text.as_bytes(),
                Timestamp::UNIX_EPOCH,
            );
        }
        let files = rotated(&dir.path().join("0.log"));
        assert_eq!(files.len(), 2);
        assert!(files[0].0 + 1 == files[1].0 && files[0].0 > 1);
        let mut all = Vec::new();
        for (_, path) in &files {
            assert!(path.metadata().unwrap().len() <= 400);
            all.extend(lines(path));
        }
        all.extend(lines(&dir.path().join("0.log")));
        let texts: Vec<u32> = all
            .iter()
            .map(|l| l.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(texts.windows(2).all(|w| w[0] + 1 == w[1]), "{texts:?}");
        assert_eq!(*texts.last().unwrap(), 39);
    }

    #[test]
    fn one_file_only_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 100, 1);
        let mut line = LineBuffer::default();
        for _ in 0..20 {
            log.take(
                Stream::Stdout,
                &mut line,
                b"0123456789\n",
                Timestamp::UNIX_EPOCH,
            );
        }
        assert!(dir.path().join("0.log").metadata().unwrap().len() <= 100);
        assert!(rotated(&dir.path().join("0.log")).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn no_byte_is_lost_and_no_line_too_long(
            bytes in prop::collection::vec(prop_oneof![9 => Just(b'x'), 1 => Just(b'\n')], 0..50_000),
            cut in 1usize..40_000,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut log = writer(dir.path(), 1 << 30, 1);
            let mut line = LineBuffer::default();
            for part in bytes.chunks(cut) {
                log.take(Stream::Stdout, &mut line, part, Timestamp::UNIX_EPOCH);
            }
            log.end(Stream::Stdout, &mut line, Timestamp::UNIX_EPOCH);
            let mut text = String::new();
            for line in lines(&dir.path().join("0.log")) {
                let mut fields = line.splitn(4, ' ').skip(2);
                let tag = fields.next().unwrap();
                let part = fields.next().unwrap();
                prop_assert!(part.len() <= MAX_TEXT);
                text.push_str(part);
                if tag == "F" { text.push('\n'); }
            }
            prop_assert_eq!(text, String::from_utf8(bytes).unwrap());
        }
    }
}
