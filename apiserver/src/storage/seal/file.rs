//! The file of a ring: one key a line, newest first: its number, when it was made, the key itself.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Key;

const HEAD: &str = "\
# Keys that confidential values are sealed with, newest first: number, date, key.
# Keep a copy apart from the backups of the store: neither is of use without the other.
# A line may be removed when no store and no backup needs its key any more.
";

pub(super) fn render(keys: &[Key]) -> String {
    let lines = keys.iter().map(|key| {
        let (id, made) = (key.id, key.made);
        format!("{id:08x} {made} {}\n", STANDARD.encode(key.secret))
    });
    HEAD.chars()
        .chain(lines.collect::<String>().chars())
        .collect()
}

/// The keys of a file, at least one; or what is wrong with it, without telling any of it.
pub(super) fn parse(text: &str) -> Result<Vec<Key>, String> {
    let mut keys: Vec<Key> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = parse_line(line).ok_or_else(|| format!("line {number} is no key"))?;
        if keys.iter().any(|have| have.id == key.id) {
            return Err(format!("line {number} has the number of another key"));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err("it has no key".to_owned());
    }
    Ok(keys)
}

fn parse_line(line: &str) -> Option<Key> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [id, made, secret] = *words.as_slice() else {
        return None;
    };
    Some(Key {
        id: u32::from_str_radix(id, 16).ok()?,
        made: made.parse().ok()?,
        secret: STANDARD.decode(secret).ok()?.try_into().ok()?,
    })
}
