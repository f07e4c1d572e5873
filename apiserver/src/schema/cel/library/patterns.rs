//! Patterns: `matches`, `find` and `findAll`.

use std::cell::RefCell;

use cel::Value;

use super::{Metered, list_of, most, string, text};
use crate::schema::cel::meter::{Failure, Meter};
use crate::schema::pattern::{self, Compiled};

pub(super) const METERED: &[(&str, Metered)] = &[
    ("matches", |v, m| {
        let (whole, pattern) = prepared(v, m)?;
        Ok(Value::Bool(pattern.regex.is_match(whole)))
    }),
    ("find", |v, m| {
        let (whole, pattern) = prepared(v, m)?;
        m.make_values(1, whole.len())?;
        let found = pattern.regex.find(whole);
        Ok(string(found.map(|m| m.as_str()).unwrap_or_default()))
    }),
    ("findAll", find_all),
];

/// Patterns that a thread keeps. Rules use few, and use them for each item of a list.
const KEPT: usize = 32;
/// Larger ones are not kept.
const KEPT_STATES: u64 = 2_000;

thread_local! {
    static PATTERNS: RefCell<Vec<(Box<str>, Compiled)>> = const { RefCell::new(Vec::new()) };
}

/// The text and the pattern of a call, after it was charged: a tenth for each byte of the text, times a quarter for each
/// byte of the pattern, or for each state that it stands for if those are more.
fn prepared<'v>(values: &'v [Value], meter: &mut Meter) -> Result<(&'v str, Compiled), Failure> {
    let (whole, source) = (text(values, 0)?, text(values, 1)?);
    let text_price = (whole.len() as u64).saturating_add(1).div_ceil(10);
    let price = |states: u64| {
        let states = states.max(source.len() as u64).div_ceil(4).max(1);
        text_price.saturating_mul(states)
    };
    meter.charge(price(0))?;
    let kept = PATTERNS.with_borrow(|all| {
        let found = all.iter().find(|(have, _)| **have == *source);
        found.map(|(_, compiled)| compiled.clone())
    });
    // The price is the same whether the pattern was kept or not.
    let states = match &kept {
        Some(compiled) => compiled.states,
        None => pattern::states(&pattern::parse(source)?),
    };
    meter.charge(price(states).saturating_sub(price(0)))?;
    if let Some(compiled) = kept {
        return Ok((whole, compiled));
    }
    let compiled = pattern::compile(source)?;
    keep(source, &compiled);
    Ok((whole, compiled))
}

fn keep(source: &str, compiled: &Compiled) {
    if compiled.states > KEPT_STATES {
        return;
    }
    PATTERNS.with_borrow_mut(|all| {
        if all.len() >= KEPT {
            all.remove(0);
        }
        all.push((source.into(), compiled.clone()));
    });
}

fn find_all(values: &[Value], meter: &mut Meter) -> Result<Value, Failure> {
    let most = most(values, 2)?;
    let (whole, pattern) = prepared(values, meter)?;
    let count = pattern.regex.find_iter(whole).take(most).count();
    // Found again, they are made; the second time is paid for as well.
    meter.pass(whole.len())?;
    meter.make_values(count, whole.len())?;
    let found = pattern.regex.find_iter(whole).take(most);
    Ok(list_of(found.map(|found| string(found.as_str()))))
}
