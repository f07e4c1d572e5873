//! One line of the CRI log format: `<RFC 3339 time> <stdout|stderr> <tags> <text>`.

use jiff::Timestamp;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'l> {
    pub(super) time: Timestamp,
    pub(super) stream: LogStream,
    /// The text goes on in the next line of the same stream.
    pub(super) partial: bool,
    pub(super) text: &'l [u8],
}

/// Reads a line without its newline; none if it is not in the format.
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let (time, rest) = word(line)?;
    let (stream, rest) = word(rest)?;
    let (tags, text) = word(rest).unwrap_or((rest, &[]));
    let time = std::str::from_utf8(time).ok()?.parse().ok()?;
    let stream = match stream {
        b"stdout" => LogStream::Stdout,
        b"stderr" => LogStream::Stderr,
        _ => return None,
    };
    let partial = is_partial_tag(tags)?;
    Some(Line {
        time,
        stream,
        partial,
        text,
    })
}

/// True if a line's tags say that the text goes on, without reading the rest; a line that is none counts as whole.
pub(super) fn is_partial(line: &[u8]) -> bool {
    let mut words = line.splitn(4, |b| *b == b' ');
    words.nth(2).and_then(is_partial_tag).unwrap_or(false)
}

/// Tags are separated by colons; the first tells whether the line is whole.
fn is_partial_tag(tags: &[u8]) -> Option<bool> {
    match tags.split(|b| *b == b':').next()? {
        b"P" => Some(true),
        b"F" => Some(false),
        _ => None,
    }
}

fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == b' ')?;
    let (word, rest) = text.split_at(at);
    Some((word, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_forms_that_runtimes_write() {
        let time: Timestamp = "2026-01-02T03:04:05.000000006Z".parse().unwrap();
        let line = |stream, partial, text| {
            Some(Line {
                time,
                stream,
                partial,
                text,
            })
        };
        let table: [(&[u8], _); 9] = [
            (
                b"2026-01-02T03:04:05.000000006Z stdout F  two  spaces ",
                line(LogStream::Stdout, false, b" two  spaces "),
            ),
            (
                b"2026-01-02T04:04:05.000000006+01:00 stderr P x",
                line(LogStream::Stderr, true, b"x"),
            ),
            (
                b"2026-01-02T03:04:05.000000006Z stdout F:tag x",
                line(LogStream::Stdout, false, b"x"),
            ),
            (
                b"2026-01-02T03:04:05.000000006Z stdout F",
                line(LogStream::Stdout, false, b""),
            ),
            (
                b"2026-01-02T03:04:05.000000006Z stdout F ",
                line(LogStream::Stdout, false, b""),
            ),
            (b"2026-01-02T03:04:05.000000006Z stdin F x", None),
            (b"yesterday stdout F x", None),
            (b"2026-01-02T03:04:05.000000006Z stdout X x", None),
            (b"", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let parsed = parse(&line);
            if let Some(parsed) = parsed {
                prop_assert_eq!(parsed.partial, is_partial(&line));
            }
        }

        #[test]
        fn what_is_written_is_read(text in proptest::collection::vec(any::<u8>(), 0..80), nanos in 0_i64..i64::MAX / 4, partial: bool) {
            let time = Timestamp::from_nanosecond(nanos.into()).unwrap();
            let tag = if partial { "P" } else { "F" };
            let line = [format!("{time} stderr {tag} ").as_bytes(), &text].concat();
            prop_assert_eq!(parse(&line), Some(Line { time, stream: LogStream::Stderr, partial, text: &text }));
            prop_assert_eq!(is_partial(&line), partial);
        }
    }
}
