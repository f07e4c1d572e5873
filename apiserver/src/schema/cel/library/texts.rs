//! Functions over texts: the strings extension and patterns.

use cel::Value;

use super::{Native, format, int, list, list_of, string, text};

pub(super) const FUNCTIONS: &[(&str, Native)] = &[
    ("charAt", char_at),
    ("find", find),
    ("findAll", find_all),
    ("format", format::format),
    ("join", join),
    ("jsonpatch.escapeKey", |v| {
        Ok(string(text(v, 0)?.replace('~', "~0").replace('/', "~1")))
    }),
    ("lowerAscii", |v| {
        Ok(string(text(v, 0)?.to_ascii_lowercase()))
    }),
    ("replace", replace),
    ("reverse", |v| {
        Ok(string(text(v, 0)?.chars().rev().collect::<String>()))
    }),
    ("split", split),
    ("substring", substring),
    ("trim", |v| Ok(string(text(v, 0)?.trim()))),
    ("upperAscii", |v| {
        Ok(string(text(v, 0)?.to_ascii_uppercase()))
    }),
];

fn pattern(source: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(source)
        .size_limit(512 * 1024)
        .build()
        .map_err(|e| format!("not a valid pattern: {e}"))
}

fn find(values: &[Value]) -> Result<Value, String> {
    let found = pattern(text(values, 1)?)?
        .find(text(values, 0)?)
        .map(|m| m.as_str().to_owned());
    Ok(string(found.unwrap_or_default()))
}

fn find_all(values: &[Value]) -> Result<Value, String> {
    let most = match values.get(2) {
        Some(_) => usize::try_from(int(values, 2)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let pattern = pattern(text(values, 1)?)?;
    Ok(list_of(
        pattern
            .find_iter(text(values, 0)?)
            .take(most)
            .map(|m| string(m.as_str())),
    ))
}

fn char_at(values: &[Value]) -> Result<Value, String> {
    let (text, at) = (text(values, 0)?, int(values, 1)?);
    let length = text.chars().count();
    let place = usize::try_from(at).ok().filter(|at| *at <= length);
    let place = place.ok_or_else(|| format!("index out of range: {at}"))?;
    Ok(string(
        text.chars()
            .nth(place)
            .map(String::from)
            .unwrap_or_default(),
    ))
}

fn join(values: &[Value]) -> Result<Value, String> {
    let separator = if values.len() > 1 {
        text(values, 1)?
    } else {
        ""
    };
    let parts = list(values, 0)?;
    let parts: Result<Vec<&str>, String> = (0..parts.len()).map(|at| text(parts, at)).collect();
    Ok(string(parts?.join(separator)))
}

fn replace(values: &[Value]) -> Result<Value, String> {
    let (whole, from, to) = (text(values, 0)?, text(values, 1)?, text(values, 2)?);
    let replaced = match values.get(3) {
        Some(_) => match usize::try_from(int(values, 3)?) {
            Ok(most) => whole.replacen(from, to, most),
            Err(_) => whole.replace(from, to),
        },
        None => whole.replace(from, to),
    };
    if replaced.len() > 4 * 1024 * 1024 {
        return Err("the text would be too long".to_owned());
    }
    Ok(string(replaced))
}

fn split(values: &[Value]) -> Result<Value, String> {
    let (whole, separator) = (text(values, 0)?, text(values, 1)?);
    let most = match values.get(2) {
        Some(_) => usize::try_from(int(values, 2)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    if separator.is_empty() {
        return Ok(list_of(
            whole.chars().take(most).map(|c| string(c.to_string())),
        ));
    }
    Ok(list_of(whole.splitn(most, separator).map(string)))
}

fn substring(values: &[Value]) -> Result<Value, String> {
    let characters: Vec<char> = text(values, 0)?.chars().collect();
    let place = |at: usize| -> Result<usize, String> {
        let index = int(values, at)?;
        usize::try_from(index)
            .ok()
            .filter(|i| *i <= characters.len())
            .ok_or_else(|| format!("index out of range: {index}"))
    };
    let start = place(1)?;
    let end = if values.len() > 2 {
        place(2)?
    } else {
        characters.len()
    };
    let part = characters
        .get(start..end)
        .ok_or_else(|| format!("invalid substring range. start: {start}, end: {end}"))?;
    Ok(string(part.iter().collect::<String>()))
}
