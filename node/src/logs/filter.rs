//! What of a log is shown, and how: time, stream, timestamps and the limit.

use super::LogOptions;
use super::cri;

/// Longest line kept while its newline is awaited; the shim writes none that is longer.
const MAX_LINE: usize = 1 << 20;

/// Takes a log's bytes and gives the text to be shown.
#[derive(Debug)]
pub(super) struct Filter {
    options: LogOptions,
    /// The begin of a line whose newline did not come yet.
    partial: Vec<u8>,
    /// The line before was whole, so that the next begins with a timestamp.
    at_line_start: bool,
    left: u64,
}

impl Filter {
    pub(super) fn new(options: LogOptions) -> Self {
        let left = options.limit_bytes.unwrap_or(u64::MAX);
        Self {
            options,
            partial: Vec::new(),
            at_line_start: true,
            left,
        }
    }

    /// Nothing more is shown.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// A new file begins: an unfinished line of the old one will never be finished.
    pub(super) fn begin_file(&mut self) {
        self.partial.clear();
    }

    /// Adds what `bytes` of the log say to `shown`.
    pub(super) fn feed(&mut self, bytes: &[u8], shown: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (line, after) = rest.split_at(end);
            if self.partial.is_empty() {
                self.show(line, shown);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.show(&whole, shown);
                whole.clear();
                self.partial = whole;
            }
            rest = after.get(1..).unwrap_or_default();
        }
        let room = MAX_LINE.saturating_sub(self.partial.len());
        self.partial
            .extend_from_slice(rest.get(..room).unwrap_or(rest));
    }

    fn show(&mut self, line: &[u8], shown: &mut Vec<u8>) {
        let Some(line) = cri::parse(line) else { return };
        let too_early = self.options.since.is_some_and(|since| line.time < since);
        let other = self
            .options
            .stream
            .is_some_and(|stream| line.stream != stream);
        if too_early || other || self.is_full() {
            return;
        }
        let from = shown.len();
        if self.options.timestamps && self.at_line_start {
            let time = line.time.strftime("%Y-%m-%dT%H:%M:%S%.9fZ ").to_string();
            shown.extend_from_slice(time.as_bytes());
        }
        shown.extend_from_slice(line.text);
        if !line.partial {
            shown.push(b'\n');
        }
        self.at_line_start = !line.partial;
        let added = (shown.len() - from) as u64;
        if added > self.left {
            let surplus = usize::try_from(added - self.left).unwrap_or(usize::MAX);
            shown.truncate(shown.len().saturating_sub(surplus));
        }
        self.left = self.left.saturating_sub(added);
    }
}
