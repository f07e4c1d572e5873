//! Keys that occur twice in one map of a YAML text, with the lines they are on.
//!
//! Looked for only once the decoder has met one: values do not tell where they stood.

use std::collections::HashSet;

use granit_parser::{Event, Parser};

/// More of them are not listed.
const MAX: usize = 100;

/// A map or list that is not at its end yet.
enum Open {
    /// The keys so far, and the one whose value comes next.
    Map(HashSet<String>, Next),
    List,
}

/// What a map expects.
enum Next {
    Key,
    /// The value of a key that was there before, or of a fresh one.
    Value(Option<String>),
}

/// `line 3: key "a" already set in map` for every key that its map had before. A text that cannot be parsed
/// is complained about elsewhere.
pub(super) fn lines(body: &[u8]) -> Vec<String> {
    let (mut open, mut found) = (Vec::new(), Vec::new());
    let Ok(text) = std::str::from_utf8(body) else {
        return found;
    };
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else {
            break;
        };
        if found.len() >= MAX {
            break;
        }
        match &event {
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
                continue;
            }
            _ if !event.is_node() => continue,
            _ => {}
        }
        if let Some(Open::Map(keys, next)) = open.last_mut() {
            let key = event.scalar().map(|(text, _)| text);
            if let Some(key) = step(keys, next, key) {
                found.push(format!(
                    "line {}: key {key:?} already set in map",
                    span.start.line()
                ));
            }
        }
        match event {
            Event::MappingStart(..) => open.push(Open::Map(HashSet::new(), Next::Key)),
            Event::SequenceStart(..) => open.push(Open::List),
            _ => {}
        }
    }
    found
}

/// Takes the next node of a map; the key whose second value it is.
fn step(keys: &mut HashSet<String>, next: &mut Next, node: Option<&str>) -> Option<String> {
    match std::mem::replace(next, Next::Key) {
        Next::Key => {
            let again = node.filter(|key| !keys.insert((*key).to_owned()));
            *next = Next::Value(again.map(str::to_owned));
            None
        }
        Next::Value(again) => again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_value_is_named_with_its_line() {
        let table: [(&str, &[&str]); 6] = [
            ("a: 1\nb: 2\n", &[]),
            ("a: 1\na: 2\n", &["line 2: key \"a\" already set in map"]),
            (
                "x:\n  - a: {b: 1}\n    a:\n      b: 1\n      b: [b, b]\na: 1\n",
                &[
                    "line 4: key \"a\" already set in map",
                    "line 5: key \"b\" already set in map",
                ],
            ),
            (
                "{\"a\": {\"b\": 1,\n\"b\": 2}}",
                &["line 2: key \"b\" already set in map"],
            ),
            ("- a: 1\n- a: 1\n", &[]),
            ("a: [", &[]),
        ];
        for (text, expected) in table {
            assert_eq!(lines(text.as_bytes()), expected, "{text}");
        }
    }
}
