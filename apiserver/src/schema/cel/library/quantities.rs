//! Quantities: `quantity("1Gi").isGreaterThan(quantity("1M"))`.

use std::cmp::Ordering;
use std::sync::Arc;

use cel::Value;
use cel::objects::Opaque;
use davit_api::Quantity;

use super::{Native, text, versions};

#[derive(Debug, PartialEq, Eq)]
struct Amount(Quantity);

impl Opaque for Amount {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.Quantity"
    }
}

pub(super) const FUNCTIONS: &[(&str, Native)] = &[
    ("add", |v| Ok(wrap(amount(v, 0)? + amount(v, 1)?))),
    ("asApproximateFloat", |v| {
        Ok(Value::Float(amount(v, 0)?.as_f64()))
    }),
    ("asInteger", |v| {
        let amount = amount(v, 0)?;
        let exact = Quantity::from_int(amount.value()) == amount;
        if exact {
            Ok(Value::Int(amount.value()))
        } else {
            Err("cannot convert value to integer".into())
        }
    }),
    ("compareTo", |v| Ok(Value::Int(compare(v)? as i64))),
    ("isGreaterThan", |v| Ok(Value::Bool(compare(v)?.is_gt()))),
    ("isInteger", |v| {
        let amount = amount(v, 0)?;
        Ok(Value::Bool(Quantity::from_int(amount.value()) == amount))
    }),
    ("isLessThan", |v| Ok(Value::Bool(compare(v)?.is_lt()))),
    ("isQuantity", |v| {
        Ok(Value::Bool(text(v, 0)?.parse::<Quantity>().is_ok()))
    }),
    ("quantity", |v| {
        text(v, 0)?
            .parse::<Quantity>()
            .map(wrap)
            .map_err(|e| e.to_string())
    }),
    ("sign", |v| {
        let amount = amount(v, 0)?;
        Ok(Value::Int(
            i64::from(!amount.is_zero()) * if amount.is_negative() { -1 } else { 1 },
        ))
    }),
    ("sub", |v| Ok(wrap(amount(v, 0)? - amount(v, 1)?))),
];

/// How a quantity or version stands to another; both have these functions.
fn compare(values: &[Value]) -> Result<Ordering, String> {
    match versions::compare(values) {
        Some(ordering) => ordering,
        None => Ok(amount(values, 0)?.cmp(&amount(values, 1)?)),
    }
}

fn wrap(quantity: Quantity) -> Value {
    Value::Opaque(Arc::new(Amount(quantity)) as Arc<dyn Opaque>)
}

fn amount(values: &[Value], at: usize) -> Result<Quantity, String> {
    match values.get(at) {
        Some(Value::Opaque(opaque)) => match opaque.downcast_ref::<Amount>() {
            Some(amount) => Ok(amount.0),
            None => Err(format!(
                "expected quantity, got {}",
                opaque.runtime_type_name()
            )),
        },
        Some(Value::Int(number)) => Ok(Quantity::from_int(*number)),
        Some(other) => Err(format!("expected quantity, got {}", other.type_of())),
        None => Err("missing argument".to_owned()),
    }
}
