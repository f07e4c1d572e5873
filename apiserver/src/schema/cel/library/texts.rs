//! Functions over texts: the strings extension.

use std::sync::Arc;

use cel::Value;

use super::{Metered, Native, format, int, length, list, list_of, most, string, text};
use crate::schema::cel::meter::{Failure, Meter};

pub(super) const FUNCTIONS: &[(&str, Native)] = &[
    ("charAt", char_at),
    ("jsonpatch.escapeKey", |v| {
        Ok(string(text(v, 0)?.replace('~', "~0").replace('/', "~1")))
    }),
    ("lowerAscii", |v| {
        Ok(string(text(v, 0)?.to_ascii_lowercase()))
    }),
    ("reverse", |v| {
        Ok(string(text(v, 0)?.chars().rev().collect::<String>()))
    }),
    ("substring", substring),
    ("trim", |v| Ok(string(text(v, 0)?.trim()))),
    ("upperAscii", |v| {
        Ok(string(text(v, 0)?.to_ascii_uppercase()))
    }),
];

pub(super) const METERED: &[(&str, Metered)] = &[
    ("format", format::format),
    ("join", join),
    ("replace", replace),
    ("split", split),
];

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

fn join(values: &[Value], meter: &mut Meter) -> Result<Value, Failure> {
    let separator = match values.len() {
        0 | 1 => "",
        _ => text(values, 1)?,
    };
    let parts = list(values, 0)?;
    meter.pass(parts.len())?;
    let own = parts.iter().map(length).fold(0, usize::saturating_add);
    let between = parts.len().saturating_sub(1);
    let whole = separator.len().saturating_mul(between).saturating_add(own);
    meter.pass(whole)?;
    meter.make_values(1, whole)?;
    let mut joined = String::with_capacity(whole);
    for at in 0..parts.len() {
        if at > 0 {
            joined.push_str(separator);
        }
        joined.push_str(text(parts, at)?);
    }
    Ok(Value::String(Arc::new(joined)))
}

fn replace(values: &[Value], meter: &mut Meter) -> Result<Value, Failure> {
    let (whole, from, to) = (text(values, 0)?, text(values, 1)?, text(values, 2)?);
    let most = most(values, 3)?;
    meter.pass(whole.len().saturating_add(from.len()))?;
    let count = whole.matches(from).take(most).count();
    let added = to.len().saturating_mul(count);
    let length = whole.len().saturating_add(added);
    meter.pass(length)?;
    meter.make_values(1, length)?;
    Ok(string(whole.replacen(from, to, most)))
}

fn split(values: &[Value], meter: &mut Meter) -> Result<Value, Failure> {
    let (whole, separator) = (text(values, 0)?, text(values, 1)?);
    let most = most(values, 2)?;
    meter.pass(whole.len().saturating_add(separator.len()))?;
    let count = match separator {
        "" => whole.chars().count(),
        separator => whole.matches(separator).count().saturating_add(1),
    };
    meter.pass(whole.len())?;
    meter.make_values(count.min(most).saturating_add(1), whole.len())?;
    if separator.is_empty() {
        let characters = whole.chars().take(most);
        return Ok(list_of(characters.map(|c| string(c.to_string()))));
    }
    Ok(list_of(whole.splitn(most, separator).map(string)))
}

fn substring(values: &[Value]) -> Result<Value, String> {
    let whole = text(values, 0)?;
    let length = whole.chars().count();
    let place = |at: usize| -> Result<usize, String> {
        let index = int(values, at)?;
        usize::try_from(index)
            .ok()
            .filter(|i| *i <= length)
            .ok_or_else(|| format!("index out of range: {index}"))
    };
    let start = place(1)?;
    let end = if values.len() > 2 { place(2)? } else { length };
    let count = end
        .checked_sub(start)
        .ok_or_else(|| format!("invalid substring range. start: {start}, end: {end}"))?;
    Ok(string(
        whole.chars().skip(start).take(count).collect::<String>(),
    ))
}
