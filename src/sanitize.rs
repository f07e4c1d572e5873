//! Text from others on the user's terminal: nothing in it may command the terminal.

/// Replaces what a terminal would obey or what would disguise text: control characters (but for line feed
/// and tab), and the characters that break lines or turn the direction of writing. They become visible escapes.
pub(crate) fn text(input: &str) -> String {
    let mut clean = String::with_capacity(input.len());
    for character in input.chars() {
        push(&mut clean, character);
    }
    clean
}

fn push(clean: &mut String, character: char) {
    if matches!(character, '\n' | '\t') || !is_unsafe(character) {
        clean.push(character);
    } else {
        clean.extend(character.escape_default());
    }
}

fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether something of the text would not be shown as it is.
pub(crate) fn is_clean(text: &str) -> bool {
    text.chars()
        .all(|character| matches!(character, '\n' | '\t') || !is_unsafe(character))
}

/// The text as a string of JSON, which is one of YAML too.
pub(crate) fn quoted(text: &str) -> String {
    escaped(&serde_json::Value::from(text).to_string())
}

/// JSON in which the characters of strings that are unsafe are written as escapes: the same data.
pub(crate) fn escaped(json: &str) -> String {
    let mut clean = String::with_capacity(json.len());
    for character in json.chars() {
        if matches!(character, '\n' | '\t') || !is_unsafe(character) {
            clean.push(character);
            continue;
        }
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            clean.push_str(&format!("\\u{unit:04x}"));
        }
    }
    clean
}

/// Cleans a stream of bytes that may be cut anywhere, also within a character.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The beginning of a character whose rest has not come yet; at most three bytes.
    pending: Vec<u8>,
}

impl Stream {
    /// The clean text of what came so far and was not returned yet.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.pending);
        let mut clean = String::with_capacity(input.len());
        let mut chunks = input.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            chunk
                .valid()
                .chars()
                .for_each(|character| push(&mut clean, character));
            let invalid = chunk.invalid();
            if chunks.peek().is_none() && may_continue(invalid) {
                self.pending = invalid.to_vec();
            } else if !invalid.is_empty() {
                clean.push(char::REPLACEMENT_CHARACTER);
            }
        }
        clean
    }
}

/// Whether more bytes can make a character of these.
fn may_continue(bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => false,
        Err(error) => error.valid_up_to() == 0 && error.error_len().is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_become_visible() {
        let cases = [
            ("plain\tünï\n", "plain\tünï\n"),
            (
                "\u{1b}[31mred\u{1b}]0;title\u{7}",
                "\\u{1b}[31mred\\u{1b}]0;title\\u{7}",
            ),
            ("a\rb", "a\\rb"),
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
            ("x\u{202e}fdp.exe", "x\\u{202e}fdp.exe"),
            ("a\u{2028}b\u{61c}", "a\\u{2028}b\\u{61c}"),
        ];
        for (input, expected) in cases {
            assert_eq!(text(input), expected);
        }
    }

    #[test]
    fn a_character_may_come_in_pieces() {
        let mut stream = Stream::default();
        assert_eq!(stream.push(b"a\xc3"), "a");
        assert_eq!(stream.push(b"\xbcb\xff"), "üb\u{fffd}");
        assert_eq!(stream.push(b"\xc2"), "");
        assert_eq!(stream.push(b"\x9b1m"), "\\u{9b}1m");
    }

    proptest! {
        #[test]
        fn no_cut_lets_a_control_character_through(bytes: Vec<u8>, cut in 0..64_usize) {
            let cut = cut.min(bytes.len());
            let mut stream = Stream::default();
            let mut clean = stream.push(&bytes[..cut]);
            clean.push_str(&stream.push(&bytes[cut..]));
            prop_assert!(clean.chars().all(|c| !is_unsafe(c) || matches!(c, '\n' | '\t')));
        }
    }
}
