//! Standard output and error of the commands.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::fault::Fault;
use crate::sanitize;

/// Standard output.
///
/// Lines are cleaned of control characters wherever they go, because a pipe often ends at a terminal. Data
/// (logs, YAML, JSON) is cleaned on a terminal only; a file or a pipe gets it as it is.
pub(crate) struct Output {
    out: BufWriter<io::Stdout>,
    terminal: bool,
    stream: sanitize::Stream,
}

impl Output {
    /// Writes to standard output.
    pub(crate) fn new() -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        Self {
            out: BufWriter::new(out),
            terminal,
            stream: sanitize::Stream::default(),
        }
    }

    /// Whether somebody reads along.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// One line of text.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Fault> {
        self.write_line(&sanitize::text(text))
    }

    /// Data of several lines, with or without a last line feed.
    pub(crate) fn data(&mut self, text: &str) -> Result<(), Fault> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        if self.terminal {
            self.line(text)
        } else {
            self.write_line(text)
        }
    }

    fn write_line(&mut self, text: &str) -> Result<(), Fault> {
        writeln!(self.out, "{text}")
            .and_then(|()| self.out.flush())
            .map_err(failed)
    }

    /// A piece of a stream that may be cut anywhere.
    pub(crate) fn piece(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let written = if self.terminal {
            let clean = self.stream.push(bytes);
            self.out.write_all(clean.as_bytes())
        } else {
            self.out.write_all(bytes)
        };
        written.and_then(|()| self.out.flush()).map_err(failed)
    }
}

fn failed(error: io::Error) -> Fault {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Fault::ClosedPipe;
    }
    Fault::new("writing the output", error, "")
}

/// Prints a failure on standard error.
pub(crate) fn complain(fault: &Fault) {
    note(&format!("davit: {fault}"));
}

/// Answers a command line that runs nothing: help where it was asked for, or one line about what is wrong with it.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nobody is left to tell when standard output is closed.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    note(&usage_line(error));
    ExitCode::from(2)
}

fn usage_line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return error.to_string();
    }
    let text = error.to_string();
    let (cause, _) = text.split_once("\n\n").unwrap_or((&text, ""));
    let words: Vec<&str> = cause.split_whitespace().skip(1).collect();
    format!("davit: {}; see `davit --help`", words.join(" "))
}

/// Prints a remark on standard error.
pub(crate) fn note(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "{}", sanitize::text(text));
}

/// Rows as columns: each as wide as its widest cell, three spaces between.
pub(crate) fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..count)
        .map(|column| width(column).unwrap_or_default())
        .collect();
    rows.iter()
        .map(|row| {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn a_wrong_command_line_is_one_line() {
        let line = |args: &[&str]| {
            let error = crate::cli::Cli::try_parse_from(args).unwrap_err();
            usage_line(&error)
        };
        assert_eq!(
            line(&["davit", "up", "--listen", "nowhere"]),
            "davit: invalid value 'nowhere' for '--listen <ADDR:PORT>': invalid socket address syntax; see `davit --help`"
        );
        assert_eq!(
            line(&["davit", "logs"]),
            "davit: the following required arguments were not provided: <POD>; see `davit --help`"
        );
    }

    #[test]
    fn columns_are_aligned() {
        let row = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect();
        let lines = columns(&[
            row(&["NAME", "AGE"]),
            row(&["a-long-name", "1d"]),
            row(&["ü"]),
        ]);
        assert_eq!(lines, ["NAME          AGE", "a-long-name   1d", "ü"]);
    }
}
