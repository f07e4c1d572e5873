//! Functions over lists: sums, extremes, order, places and sets.

use std::cmp::Ordering;

use cel::Value;

use super::operators::{compare, contains, equal};
use super::{Metered, list, text};
use crate::schema::cel::meter::{Failure, Meter};

pub(super) const METERED: &[(&str, Metered)] = &[
    ("indexOf", |v, m| place(v, m, false)),
    ("isSorted", is_sorted),
    ("lastIndexOf", |v, m| place(v, m, true)),
    ("max", |v, m| extreme(v, m, Ordering::Greater)),
    ("min", |v, m| extreme(v, m, Ordering::Less)),
    ("sets.contains", |v, m| {
        all_in(list(v, 0)?, list(v, 1)?, m).map(Value::Bool)
    }),
    ("sets.equivalent", |v, m| {
        let (a, b) = (list(v, 0)?, list(v, 1)?);
        Ok(Value::Bool(all_in(a, b, m)? && all_in(b, a, m)?))
    }),
    ("sets.intersects", |v, m| {
        let (a, b) = (list(v, 0)?, list(v, 1)?);
        for item in b {
            if contains(a, item, m)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
    ("sum", sum),
];

fn all_in(list: &[Value], items: &[Value], meter: &mut Meter) -> Result<bool, Failure> {
    for item in items {
        if !contains(list, item, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_sorted(values: &[Value], meter: &mut Meter) -> Result<Value, Failure> {
    for pair in list(values, 0)?.windows(2) {
        if let [a, b] = pair
            && compare(a, b, meter)? == Ordering::Greater
        {
            return Ok(Value::Bool(false));
        }
    }
    meter.pass(0)?;
    Ok(Value::Bool(true))
}

fn extreme(values: &[Value], meter: &mut Meter, wanted: Ordering) -> Result<Value, Failure> {
    // As a function, the arguments may also stand for themselves.
    let items = match values {
        [Value::List(items)] => items,
        items => items,
    };
    let (first, rest) = items
        .split_first()
        .ok_or("an empty list has no such value")?;
    meter.pass(0)?;
    let mut best = first;
    for item in rest {
        if compare(item, best, meter)? == wanted {
            best = item;
        }
    }
    Ok(best.clone())
}

fn sum(values: &[Value], meter: &mut Meter) -> Result<Value, Failure> {
    meter.charge(1)?;
    let mut total = Value::Int(0);
    for (at, item) in list(values, 0)?.iter().enumerate() {
        let overflow = "integer overflow";
        meter.charge(1)?;
        total = match (at, &total, item) {
            (0, _, item) => item.clone(),
            (_, Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or(overflow)?),
            (_, Value::UInt(a), Value::UInt(b)) => Value::UInt(a.checked_add(*b).ok_or(overflow)?),
            (_, Value::Float(a), Value::Float(b)) => Value::Float(a + b),
            (_, Value::Duration(a), Value::Duration(b)) => {
                Value::Duration(a.checked_add(b).ok_or(overflow)?)
            }
            (_, a, b) => {
                return Err(format!("cannot add {} and {}", a.type_of(), b.type_of()).into());
            }
        };
    }
    Ok(total)
}

/// The place of an item in a list, or of a part in a text; -1 if it is not there.
fn place(values: &[Value], meter: &mut Meter, last: bool) -> Result<Value, Failure> {
    let found = if matches!(values.first(), Some(Value::String(_))) {
        let (whole, part) = (text(values, 0)?, text(values, 1)?);
        meter.pass(whole.len().saturating_add(part.len()))?;
        let at = if last {
            whole.rfind(part)
        } else {
            whole.find(part)
        };
        at.and_then(|at| whole.get(..at))
            .map(|before| before.chars().count())
    } else {
        let items = list(values, 0)?;
        let wanted = values.get(1).ok_or("missing argument")?;
        meter.pass(0)?;
        let mut places = 0..items.len();
        loop {
            let next = if last {
                places.next_back()
            } else {
                places.next()
            };
            match next.and_then(|at| Some((at, items.get(at)?))) {
                None => break None,
                Some((at, item)) if equal(item, wanted, meter)? => break Some(at),
                Some(_) => {}
            }
        }
    };
    Ok(Value::Int(
        found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1),
    ))
}
