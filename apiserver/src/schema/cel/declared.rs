//! The names that loops of an expression declare.

use std::collections::HashSet;

use cel::common::ast::{EntryExpr, Expr};
use cel::parser::Expression;

/// All names that are declared anywhere in the expression.
pub(super) fn names(expression: &Expression) -> HashSet<&str> {
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

fn parts(entry: &EntryExpr) -> Vec<&Expression> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}
