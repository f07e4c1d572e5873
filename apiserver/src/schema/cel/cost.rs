//! A bound on what an expression can cost, from its shape and the sizes of the data.

use std::collections::HashSet;

use cel::common::ast::{EntryExpr, Expr};
use cel::parser::Expression;
use serde_json::Value;

/// Steps an evaluation may take; about a second at worst.
pub(super) const BUDGET: u64 = 1_000_000;

/// An upper bound of the steps, when no list or map has more than `length` entries.
pub(super) fn estimate(expression: &Expression, length: u64) -> u64 {
    match &expression.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => 1,
        Expr::Select(select) => estimate(&select.operand, length).saturating_add(1),
        Expr::List(list) => sum(list.elements.iter(), length),
        Expr::Map(map) => sum(map.entries.iter().flat_map(|e| parts(&e.expr)), length),
        Expr::Struct(map) => sum(map.entries.iter().flat_map(|e| parts(&e.expr)), length),
        Expr::Call(call) => {
            let arguments = call.target.iter().map(|t| &**t).chain(&call.args);
            sum(arguments, length).saturating_add(weight(&call.func_name, length))
        }
        Expr::Comprehension(loop_) => {
            let rounds = match &loop_.iter_range.expr {
                Expr::List(list) => list.elements.len() as u64,
                _ => length,
            };
            let body = [&loop_.loop_cond, &loop_.loop_step];
            let round = sum(body.into_iter(), length);
            let around = [&loop_.iter_range, &loop_.accu_init, &loop_.result];
            round
                .saturating_mul(rounds)
                .saturating_add(sum(around.into_iter(), length))
        }
    }
}

fn sum<'a>(expressions: impl Iterator<Item = &'a Expression>, length: u64) -> u64 {
    expressions.fold(1, |total: u64, e| total.saturating_add(estimate(e, length)))
}

fn parts(entry: &EntryExpr) -> Vec<&Expression> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// What one call costs: patterns are compiled, and some functions go through whole lists.
fn weight(function: &str, length: u64) -> u64 {
    match function {
        "matches" | "find" | "findAll" => 200,
        "format" | "url" | "isURL" | "semver" | "isSemver" => 20,
        "_==_" | "_!=_" | "@in" | "in" | "_+_" | "sum" | "min" | "max" | "isSorted" | "indexOf"
        | "lastIndexOf" | "join" | "@pairs" | "@insert" | "sets.contains" | "sets.equivalent"
        | "sets.intersects" => length / 8 + 1,
        _ => 2,
    }
}

/// The greatest number of entries of any list or map in a value.
pub(super) fn longest(value: &Value) -> u64 {
    let (own, inner) = match value {
        Value::Array(items) => (items.len(), items.iter().map(longest).max()),
        Value::Object(map) => (map.len(), map.values().map(longest).max()),
        _ => return 1,
    };
    inner.unwrap_or(0).max(own as u64).max(1)
}

/// The names that macros of the expression declare.
pub(super) fn declared(expression: &Expression) -> HashSet<&str> {
    let mut names = HashSet::new();
    collect(expression, &mut names);
    names
}

fn collect<'a>(expression: &'a Expression, names: &mut HashSet<&'a str>) {
    match &expression.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Select(select) => collect(&select.operand, names),
        Expr::List(list) => list.elements.iter().for_each(|e| collect(e, names)),
        Expr::Map(map) => {
            map.entries
                .iter()
                .flat_map(|e| parts(&e.expr))
                .for_each(|e| collect(e, names));
        }
        Expr::Struct(map) => {
            map.entries
                .iter()
                .flat_map(|e| parts(&e.expr))
                .for_each(|e| collect(e, names));
        }
        Expr::Call(call) => {
            let arguments = call.target.iter().map(|t| &**t).chain(&call.args);
            arguments.for_each(|e| collect(e, names));
        }
        Expr::Comprehension(loop_) => {
            names.insert(&loop_.iter_var);
            names.insert(&loop_.accu_var);
            names.extend(loop_.iter_var2.as_deref());
            let all = [
                &loop_.iter_range,
                &loop_.accu_init,
                &loop_.loop_cond,
                &loop_.loop_step,
                &loop_.result,
            ];
            all.into_iter().for_each(|e| collect(e, names));
        }
    }
}
