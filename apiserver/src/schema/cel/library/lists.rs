//! Functions over lists: sums, extremes, order, places and sets.

use std::cmp::Ordering;

use cel::Value;

use super::{Native, list, text};

pub(super) const FUNCTIONS: &[(&str, Native)] = &[
    ("indexOf", |v| place(v, false)),
    ("isSorted", is_sorted),
    ("lastIndexOf", |v| place(v, true)),
    ("max", |v| extreme(v, Ordering::Greater)),
    ("min", |v| extreme(v, Ordering::Less)),
    ("sets.contains", |v| {
        Ok(Value::Bool(contains(list(v, 0)?, list(v, 1)?)))
    }),
    ("sets.equivalent", |v| {
        let (a, b) = (list(v, 0)?, list(v, 1)?);
        Ok(Value::Bool(contains(a, b) && contains(b, a)))
    }),
    ("sets.intersects", |v| {
        let (a, b) = (list(v, 0)?, list(v, 1)?);
        Ok(Value::Bool(b.iter().any(|item| a.contains(item))))
    }),
    ("sum", sum),
];

fn contains(list: &[Value], items: &[Value]) -> bool {
    items.iter().all(|item| list.contains(item))
}

fn compare(a: &Value, b: &Value) -> Result<Ordering, String> {
    a.partial_cmp(b)
        .ok_or_else(|| format!("{} and {} have no order", a.type_of(), b.type_of()))
}

fn is_sorted(values: &[Value]) -> Result<Value, String> {
    for pair in list(values, 0)?.windows(2) {
        if let [a, b] = pair
            && compare(a, b)? == Ordering::Greater
        {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn extreme(values: &[Value], wanted: Ordering) -> Result<Value, String> {
    // As a function, the arguments may also stand for themselves.
    let items = match values {
        [Value::List(items)] => items,
        items => items,
    };
    let (first, rest) = items
        .split_first()
        .ok_or("an empty list has no such value")?;
    let mut best = first;
    for item in rest {
        if compare(item, best)? == wanted {
            best = item;
        }
    }
    Ok(best.clone())
}

fn sum(values: &[Value]) -> Result<Value, String> {
    let mut total = Value::Int(0);
    for (at, item) in list(values, 0)?.iter().enumerate() {
        let overflow = || "integer overflow".to_owned();
        total = match (at, &total, item) {
            (0, _, item) => item.clone(),
            (_, Value::Int(a), Value::Int(b)) => {
                Value::Int(a.checked_add(*b).ok_or_else(overflow)?)
            }
            (_, Value::UInt(a), Value::UInt(b)) => {
                Value::UInt(a.checked_add(*b).ok_or_else(overflow)?)
            }
            (_, Value::Float(a), Value::Float(b)) => Value::Float(a + b),
            (_, Value::Duration(a), Value::Duration(b)) => {
                Value::Duration(a.checked_add(b).ok_or_else(overflow)?)
            }
            (_, a, b) => return Err(format!("cannot add {} and {}", a.type_of(), b.type_of())),
        };
    }
    Ok(total)
}

/// The place of an item in a list, or of a part in a text; -1 if it is not there.
fn place(values: &[Value], last: bool) -> Result<Value, String> {
    let found = if matches!(values.first(), Some(Value::String(_))) {
        let (whole, part) = (text(values, 0)?, text(values, 1)?);
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
        let is = |item: &Value| item == wanted;
        if last {
            items.iter().rposition(is)
        } else {
            items.iter().position(is)
        }
    };
    Ok(Value::Int(
        found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1),
    ))
}
