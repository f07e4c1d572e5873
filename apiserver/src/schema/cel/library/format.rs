//! `"%s has %d".format([name, count])`: texts made from values, as CEL's strings extension does it.

use cel::Value;

use super::{list, opaque_text, string, text};
use crate::schema::cel::meter::{Failure, Meter};

/// Digits after the point, unless the text says otherwise, and at most.
const DIGITS: usize = 6;
const MOST_DIGITS: usize = 1000;

/// The text with its clauses replaced by values. What each value adds is charged before it is added.
pub(super) fn format(values: &[Value], meter: &mut Meter) -> Result<Value, Failure> {
    let (source, arguments) = (text(values, 0)?, list(values, 1)?);
    meter.pass(source.len())?;
    meter.make_values(1, source.len())?;
    let mut out = String::with_capacity(source.len());
    let mut rest = source.chars().peekable();
    let mut next = 0;
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        if rest.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let mut digits = None;
        if rest.next_if_eq(&'.').is_some() {
            let mut number = String::new();
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                number.push(digit);
            }
            let number = number.parse::<usize>().ok();
            let number = number.filter(|number| *number <= MOST_DIGITS);
            digits = Some(number.ok_or("could not parse formatting clause: invalid precision")?);
        }
        let clause = rest.next().ok_or("unexpected end of format string")?;
        let value = arguments
            .get(next)
            .ok_or_else(|| format!("index {next} out of range"))?;
        next += 1;
        match clause {
            's' => show(value, &mut out, meter)?,
            _ => {
                let bytes = super::length(value).saturating_mul(2).max(MOST_DIGITS);
                meter.pass(bytes / 8)?;
                meter.make_values(1, bytes)?;
                out.push_str(&one(clause, digits, value)?);
            }
        }
    }
    Ok(string(out))
}

fn one(clause: char, digits: Option<usize>, value: &Value) -> Result<String, String> {
    let refused = |wanted: &str| {
        let found = value.type_of();
        Err(format!(
            "error during formatting: %{clause} takes {wanted}, was given {found}"
        ))
    };
    let digits = digits.unwrap_or(DIGITS);
    match (clause, value) {
        ('d', Value::Int(number)) => Ok(number.to_string()),
        ('d', Value::UInt(number)) => Ok(number.to_string()),
        ('d' | 'f' | 'e', Value::Float(number)) if !number.is_finite() => Ok(float(*number)),
        ('d', _) => refused("an integer"),
        ('f', Value::Float(number)) => Ok(format!("{number:.digits$}")),
        ('f', Value::Int(number)) => Ok(format!("{:.digits$}", *number as f64)),
        ('f', Value::UInt(number)) => Ok(format!("{:.digits$}", *number as f64)),
        ('f', _) => refused("a number"),
        ('e', Value::Float(number)) => Ok(scientific(*number, digits)),
        ('e', Value::Int(number)) => Ok(scientific(*number as f64, digits)),
        ('e', Value::UInt(number)) => Ok(scientific(*number as f64, digits)),
        ('e', _) => refused("a number"),
        ('b', Value::Int(number)) => Ok(signed(*number, |n| format!("{n:b}"))),
        ('b', Value::UInt(number)) => Ok(format!("{number:b}")),
        ('b', Value::Bool(flag)) => Ok(u8::from(*flag).to_string()),
        ('b', _) => refused("an integer or a bool"),
        ('o', Value::Int(number)) => Ok(signed(*number, |n| format!("{n:o}"))),
        ('o', Value::UInt(number)) => Ok(format!("{number:o}")),
        ('o', _) => refused("an integer"),
        ('x' | 'X', Value::Int(number)) => Ok(cased(clause, signed(*number, |n| format!("{n:x}")))),
        ('x' | 'X', Value::UInt(number)) => Ok(cased(clause, format!("{number:x}"))),
        ('x' | 'X', Value::String(text)) => Ok(cased(clause, hex(text.as_bytes()))),
        ('x' | 'X', Value::Bytes(bytes)) => Ok(cased(clause, hex(bytes))),
        ('x' | 'X', _) => refused("an integer, a string or bytes"),
        _ => Err(format!("unrecognized formatting clause \"{clause}\"")),
    }
}

fn signed(number: i64, digits: impl Fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", digits(number.unsigned_abs()))
}

fn cased(clause: char, text: String) -> String {
    if clause == 'X' {
        text.to_ascii_uppercase()
    } else {
        text
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `1.500000e+03`: the exponent has a sign and at least two digits.
fn scientific(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$e}");
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text;
    };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{exponent:0>2}")
}

pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        let sign = if number < 0.0 { "-" } else { "" };
        format!("{sign}Infinity")
    } else {
        number.to_string()
    }
}

/// Adds a value as `%s` shows it. A part that a value holds many times is charged each time.
fn show(value: &Value, out: &mut String, meter: &mut Meter) -> Result<(), Failure> {
    let shown = match value {
        Value::String(text) => return add(text, out, meter),
        Value::Bytes(bytes) => {
            meter.make(bytes.len() as u64)?;
            return add(&String::from_utf8_lossy(bytes), out, meter);
        }
        Value::List(items) => {
            add("[", out, meter)?;
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    add(", ", out, meter)?;
                }
                show(item, out, meter)?;
            }
            return add("]", out, meter);
        }
        Value::Map(map) => {
            meter.make_values(map.map.len(), 0)?;
            let mut entries = Vec::with_capacity(map.map.len());
            for (key, value) in map.map.iter() {
                let mut entry = String::new();
                show(&super::plain(key), &mut entry, meter)?;
                entry.push_str(": ");
                show(value, &mut entry, meter)?;
                entries.push(entry);
            }
            entries.sort();
            let inside = entries.join(", ");
            add("{", out, meter)?;
            add(&inside, out, meter)?;
            return add("}", out, meter);
        }
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => float(*number),
        Value::Null => "null".to_owned(),
        Value::Timestamp(time) => time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        Value::Duration(duration) => seconds(duration),
        other => match opaque_text(other) {
            Some(text) => text,
            None => {
                let kind = other.type_of();
                let why = format!("error during formatting: string clause cannot show {kind}");
                return Err(why.into());
            }
        },
    };
    add(&shown, out, meter)
}

fn add(text: &str, out: &mut String, meter: &mut Meter) -> Result<(), Failure> {
    meter.tenths(1 + text.len() as u64)?;
    meter.make(text.len() as u64)?;
    out.push_str(text);
    Ok(())
}

/// Whole and broken seconds, without zeros at the end.
pub(super) fn seconds(duration: &chrono::Duration) -> String {
    let (whole, nanos) = (duration.num_seconds(), duration.subsec_nanos());
    if nanos == 0 {
        return format!("{whole}s");
    }
    let sign = if whole == 0 && nanos < 0 { "-" } else { "" };
    let broken = format!("{:09}", nanos.unsigned_abs());
    format!("{sign}{whole}.{}s", broken.trim_end_matches('0'))
}
