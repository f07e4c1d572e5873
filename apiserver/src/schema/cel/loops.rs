//! Loops with two variables: `all(i, v, …)`, `exists`, `existsOne`, `transformList`, `transformMap` and `transformMapEntry`
//! over the places and values of lists and the keys and values of maps.
//!
//! The parser leaves them as calls. Here they become loops with one variable over pairs, which the evaluator knows.

use cel::common::ast::operators;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, ListExpr, LiteralValue, MapExpr,
};
use cel::parser::Expression as Tree;

/// Makes the list of pairs of a list or map.
pub(super) const PAIRS: &str = "@pairs";
/// Puts a key with its value, or all entries of another map, into a map.
pub(super) const INSERT: &str = "@insert";
/// What the variable is called that holds a pair; names of users never begin so.
const PAIR: &str = "@pair";
const RESULT: &str = "@result";

/// Whether a variable of a loop holds pairs.
pub(super) fn is_pair(name: &str) -> bool {
    name.starts_with(PAIR)
}

/// Expands all such loops in an expression.
///
/// # Errors
/// Text for the user when a variable is not a name.
pub(super) fn expand(tree: &mut Tree) -> Result<(), String> {
    for part in parts(&mut tree.expr) {
        expand(part)?;
    }
    let Expr::Call(call) = &mut tree.expr else {
        return Ok(());
    };
    if call.target.is_none() || !is_loop(&call.func_name, call.args.len()) {
        return Ok(());
    }
    let call = std::mem::take(call);
    tree.expr = Expr::Comprehension(Box::new(unroll(tree.id, call)?));
    Ok(())
}

fn is_loop(name: &str, arguments: usize) -> bool {
    match name {
        "all" | "exists" | "exists_one" | "existsOne" => arguments == 3,
        "transformList" | "transformMap" | "transformMapEntry" => matches!(arguments, 3 | 4),
        _ => false,
    }
}

fn unroll(id: u64, call: CallExpr) -> Result<ComprehensionExpr, String> {
    let node = |expr| Tree { id, expr };
    let mut arguments = call.args.into_iter();
    let mut name = || match arguments.next().map(|argument| argument.expr) {
        Some(Expr::Ident(name)) => Ok(name),
        _ => Err("argument must be a simple name".to_owned()),
    };
    let (first, second) = (name()?, name()?);
    if first == second {
        return Err(format!("the variable '{first}' is declared twice"));
    }
    let pair = format!("{PAIR}:{first}:{second}");
    let mut body: Vec<Tree> = arguments.collect();
    for part in &mut body {
        for (variable, place) in [(&first, 0), (&second, 1)] {
            let index = node(Expr::Literal(LiteralValue::Int(place.into())));
            let holder = node(Expr::Ident(pair.clone()));
            let element = function(operators::INDEX, vec![holder, index]);
            replace(part, variable, &element);
        }
    }
    let last = body.pop().unwrap_or_default();
    let filter = body.pop();
    let accu = || node(Expr::Ident(RESULT.to_owned()));
    let of = |name: &str, arguments| node(function(name, arguments));
    let flag = |value: bool| node(Expr::Literal(LiteralValue::Boolean(value.into())));
    let count = |value: i64| node(Expr::Literal(LiteralValue::Int(value.into())));
    let undecided = |value| of(operators::NOT_STRICTLY_FALSE, vec![value]);
    let list = |elements| node(Expr::List(ListExpr::new(elements)));
    let map = || node(Expr::Map(MapExpr::default()));
    let (init, goes_on, step, result) = match &*call.func_name {
        "all" => {
            let step = of(operators::LOGICAL_AND, vec![accu(), last]);
            (flag(true), undecided(accu()), step, accu())
        }
        "exists" => {
            let open = of(operators::LOGICAL_NOT, vec![accu()]);
            let step = of(operators::LOGICAL_OR, vec![accu(), last]);
            (flag(false), undecided(open), step, accu())
        }
        "exists_one" | "existsOne" => {
            let more = of(operators::ADD, vec![accu(), count(1)]);
            let step = of(operators::CONDITIONAL, vec![last, more, accu()]);
            let result = of(operators::EQUALS, vec![accu(), count(1)]);
            (count(0), flag(true), step, result)
        }
        "transformList" => {
            let step = of(operators::ADD, vec![accu(), list(vec![last])]);
            (list(Vec::new()), flag(true), step, accu())
        }
        "transformMap" => {
            let index = count(0);
            let key = of(
                operators::INDEX,
                vec![node(Expr::Ident(pair.clone())), index],
            );
            let step = of(INSERT, vec![accu(), key, last]);
            (map(), flag(true), step, accu())
        }
        _ => (map(), flag(true), of(INSERT, vec![accu(), last]), accu()),
    };
    let step = match filter {
        Some(filter) => of(operators::CONDITIONAL, vec![filter, step, accu()]),
        None => step,
    };
    let range = call.target.map(|target| *target).unwrap_or_default();
    Ok(ComprehensionExpr {
        iter_range: of(PAIRS, vec![range]),
        iter_var: pair,
        iter_var2: None,
        accu_var: RESULT.to_owned(),
        accu_init: init,
        loop_cond: goes_on,
        loop_step: step,
        result,
    })
}

fn function(name: &str, args: Vec<Tree>) -> Expr {
    Expr::Call(CallExpr {
        func_name: name.to_owned(),
        target: None,
        args,
    })
}

/// Puts `with` in the place of a variable, but not where an inner loop has one of the same name.
fn replace(tree: &mut Tree, variable: &str, with: &Expr) {
    match &mut tree.expr {
        Expr::Ident(name) if name == variable => tree.expr = with.clone(),
        Expr::Comprehension(inner) if inner.iter_var == variable => {
            replace(&mut inner.iter_range, variable, with);
        }
        other => {
            for part in parts(other) {
                replace(part, variable, with);
            }
        }
    }
}

fn parts(expr: &mut Expr) -> Vec<&mut Tree> {
    fn entries(entries: &mut [IdedEntryExpr]) -> Vec<&mut Tree> {
        let parts = entries.iter_mut().flat_map(|entry| match &mut entry.expr {
            EntryExpr::StructField(field) => vec![&mut field.value],
            EntryExpr::MapEntry(entry) => vec![&mut entry.key, &mut entry.value],
        });
        parts.collect()
    }
    match expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Select(select) => vec![&mut *select.operand],
        Expr::List(list) => list.elements.iter_mut().collect(),
        Expr::Map(map) => entries(&mut map.entries),
        Expr::Struct(object) => entries(&mut object.entries),
        Expr::Call(call) => {
            let target = call.target.iter_mut().map(|target| &mut **target);
            target.chain(&mut call.args).collect()
        }
        Expr::Comprehension(inner) => vec![
            &mut inner.iter_range,
            &mut inner.accu_init,
            &mut inner.loop_cond,
            &mut inner.loop_step,
            &mut inner.result,
        ],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Expression, Scope, to_json};

    fn outcome(source: &str) -> Result<Value, String> {
        let mut scope = Scope::default();
        let object = json!({"list": ["a", "b", "c"], "map": {"x": 1, "y": 2}, "i": 7});
        scope.set("object", &object);
        to_json(&Expression::compile(source, &["object"])?.evaluate(&scope)?)
    }

    #[test]
    fn loops_see_places_and_values() {
        let table = [
            ("object.list.all(i, v, i < 3 && v != 'd')", json!(true)),
            ("object.list.all(i, v, i < 2)", json!(false)),
            ("object.list.exists(i, v, i == 1 && v == 'b')", json!(true)),
            ("object.map.exists(k, v, k == 'y' && v == 2)", json!(true)),
            ("object.map.exists(k, v, k == 'x' && v == 2)", json!(false)),
            ("object.list.existsOne(i, v, i > 1)", json!(true)),
            ("object.list.exists_one(i, v, i > 0)", json!(false)),
            (
                "object.list.transformList(i, v, v + string(i))",
                json!(["a0", "b1", "c2"]),
            ),
            (
                "object.list.transformList(i, v, i != 1, v)",
                json!(["a", "c"]),
            ),
            (
                "object.map.transformMap(k, v, v + 1)",
                json!({"x": 2, "y": 3}),
            ),
            (
                "object.map.transformMap(k, v, k == 'y', v * 10)",
                json!({"y": 20}),
            ),
            ("object.list.transformMap(i, v, v)['a'] == 'a'", Value::Null),
            (
                "object.list.transformMapEntry(i, v, {v: i})",
                json!({"a": 0, "b": 1, "c": 2}),
            ),
            (
                "object.map.transformMapEntry(k, v, v > 1, {k: v})",
                json!({"y": 2}),
            ),
            // Names of fields and of inner loops are not touched; outer ones are seen inside.
            ("object.list.all(i, v, object.i == 7)", json!(true)),
            ("object.list.all(i, v, [9].all(i, i == 9))", json!(true)),
            (
                "object.list.transformList(i, v, object.list.exists(j, w, j == i && w == v))",
                json!([true, true, true]),
            ),
            (
                "object.list.transformList(i, v, object.list.transformList(i, v, i))[1]",
                json!([0, 1, 2]),
            ),
        ];
        for (source, expected) in table {
            match outcome(source) {
                Ok(found) => assert_eq!(found, expected, "{source}"),
                Err(error) => assert!(expected.is_null(), "{source}: {error}"),
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (source, why) in [
            ("object.list.all(1, v, true)", "simple name"),
            ("object.list.all(v, v, true)", "declared twice"),
            (
                "object.list.all(i, v, w == 1)",
                "undeclared reference to 'w'",
            ),
        ] {
            let error = Expression::compile(source, &["object"]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let twice = outcome("object.list.transformMapEntry(i, v, {'same': i})");
        assert!(twice.unwrap_err().contains("already exists"));
        assert!(outcome("object.i.all(i, v, true)").is_err());
    }
}
