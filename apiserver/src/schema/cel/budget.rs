//! Whether the rules of a definition could ever become too expensive: what they cost on the largest object
//! that the schema and the size of a request allow.
//!
//! The measures and limits are those of Kubernetes. Where its model is finer (what texts cost by their
//! length, what functions cost), this one counts less, so that no definition is refused that Kubernetes takes.

use std::collections::HashSet;

use cel::common::ast::{EntryExpr, Expr};
use cel::parser::Expression as Tree;

use super::Rule;
use super::typecheck::{self, Scope, Type};
use crate::schema::field::{FieldError, Path};
use crate::schema::node::{Node, Shape};

/// Bytes of the largest request.
const REQUEST: u64 = 3 * 1024 * 1024;
/// What one rule may cost in all places it applies to.
const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a version may cost together.
const TOTAL_LIMIT: u64 = 100_000_000;

/// Complains about the rules of a schema: wrong types, and those that may cost too much. Expressions that are `known` were
/// taken before and are not looked at.
pub(crate) fn check(
    root: &Node,
    known: &HashSet<String>,
    at: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    let mut tally = Tally {
        known,
        total: 0,
        out,
    };
    walk(root, at, Some(1), &mut tally);
    let total = tally.total;
    if total > TOTAL_LIMIT {
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        out.push(FieldError::forbidden(at, exceeds(what, total, TOTAL_LIMIT)));
    }
}

/// What was found out so far.
struct Tally<'t> {
    known: &'t HashSet<String>,
    total: u64,
    out: &'t mut Vec<FieldError>,
}

/// `places`: how many values of the node an object can have; `None` when only its size bounds that.
fn walk(node: &Node, at: &Path<'_>, places: Option<u64>, tally: &mut Tally<'_>) {
    // Built-in types have no rules.
    let Some(rules) = node.rules.as_ref().filter(|_| !node.typed) else {
        return;
    };
    let at_rules = at.field("x-kubernetes-validations");
    for (index, rule) in rules.expressions.iter().enumerate() {
        let times = places.unwrap_or_else(|| REQUEST / (least(node) + 1));
        one(rule, node, times, &at_rules.index(index), tally);
    }
    match &node.shape {
        Shape::Object(object) => {
            let at_properties = at.field("properties");
            for field in &object.fields {
                let at = at_properties.key(&field.name);
                walk(&field.node, &at, places, tally);
            }
            if let Some(values) = &object.values {
                let places = multiplied(places, rules.max_properties);
                walk(values, &at.field("additionalProperties"), places, tally);
            }
        }
        Shape::List(list) => {
            let places = multiplied(places, rules.max_items);
            walk(&list.items, &at.field("items"), places, tally);
        }
        _ => {}
    }
}

fn multiplied(places: Option<u64>, bound: Option<usize>) -> Option<u64> {
    Some(places?.saturating_mul(u64::try_from(bound?).unwrap_or(u64::MAX)))
}

fn one(rule: &Rule, node: &Node, times: u64, at: &Path<'_>, tally: &mut Tally<'_>) {
    let mut names = vec![("self", node)];
    if !rule.optional_old {
        names.push(("oldSelf", node));
    }
    let expressions = [
        ("rule", "bool", Some(&rule.program), &rule.source),
        (
            "messageExpression",
            "string",
            rule.message_expression.as_ref(),
            &rule.message_source,
        ),
    ];
    for (field, wanted, program, source) in expressions {
        let Some(program) = program.filter(|_| !tally.known.contains(&**source)) else {
            continue;
        };
        let (faults, outcome) = typecheck::check(&names, program);
        let at = at.field(field);
        if let Some(fault) = faults.first() {
            let detail = format!("compilation failed: ERROR: <input>: {fault}\n | {}", source);
            tally.out.push(FieldError::invalid(at, &**source, detail));
            continue;
        }
        if outcome.is_some_and(|outcome| outcome != wanted) {
            let detail = format!("{field} must evaluate to a {wanted}");
            let detail = detail.replacen("rule ", "cel expression ", 1);
            tally.out.push(FieldError::invalid(at, &**source, detail));
            continue;
        }
        let mut scope = names.iter().map(|(n, node)| (*n, Type::Of(node))).collect();
        let cost = cost(&mut scope, program).saturating_mul(times);
        tally.total = tally.total.saturating_add(cost);
        if cost > RULE_LIMIT {
            let what = format!("estimated {field} cost");
            tally
                .out
                .push(FieldError::forbidden(at, exceeds(&what, cost, RULE_LIMIT)));
        }
    }
}

fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    // Hundredths are exact enough to tell people how far off they are.
    let hundredths = cost.saturating_mul(100) / limit;
    let factor = match hundredths {
        10_001.. => "more than 100x".to_owned(),
        150.. => format!("{}.{}x", hundredths / 100, hundredths % 100 / 10),
        _ => format!("{}.{:02}x", hundredths / 100, hundredths % 100),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, \
         maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// Steps of an expression on the largest values.
fn cost<'a>(scope: &mut Scope<'a>, tree: &'a Tree) -> u64 {
    let mut sum = |parts: Vec<&'a Tree>| {
        let costs = parts.into_iter().map(|part| cost(scope, part));
        costs.fold(0, u64::saturating_add)
    };
    match &tree.expr {
        Expr::Unspecified | Expr::Literal(_) => 0,
        Expr::Ident(_) => 1,
        Expr::Select(select) => sum(vec![&select.operand]) + u64::from(!select.test),
        Expr::List(list) => sum(list.elements.iter().collect()).saturating_add(1),
        Expr::Map(map) => sum(map.entries.iter().flat_map(|e| parts(&e.expr)).collect()) + 1,
        Expr::Struct(map) => sum(map.entries.iter().flat_map(|e| parts(&e.expr)).collect()) + 1,
        Expr::Call(call) => {
            if let ("_?_:_", [condition, yes, no]) = (call.func_name.as_str(), &*call.args) {
                let branch = sum(vec![yes]).max(sum(vec![no]));
                return sum(vec![condition]).saturating_add(branch);
            }
            let own = u64::from(!is_logic(&call.func_name));
            let arguments = call.target.iter().map(|t| &**t).chain(&call.args);
            sum(arguments.collect()).saturating_add(own)
        }
        Expr::Comprehension(loop_) => {
            let around = sum(vec![&loop_.iter_range, &loop_.accu_init]);
            let range = typecheck::infer(scope, &loop_.iter_range, &mut Vec::new());
            let rounds = match &loop_.iter_range.expr {
                Expr::List(list) => list.elements.len() as u64,
                _ => most(range),
            };
            typecheck::inside(scope, loop_, range, |scope| {
                let round =
                    cost(scope, &loop_.loop_cond).saturating_add(cost(scope, &loop_.loop_step));
                let rounds = rounds.saturating_mul(round);
                around
                    .saturating_add(rounds)
                    .saturating_add(cost(scope, &loop_.result))
            })
        }
    }
}

fn is_logic(function: &str) -> bool {
    matches!(function, "_&&_" | "_||_" | "!_" | "@not_strictly_false")
}

fn parts(entry: &EntryExpr) -> Vec<&Tree> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// The entries that a list or map has at most; 1 when nothing is known of it.
fn most(value: Type<'_>) -> u64 {
    let Type::Of(node) = value else { return 1 };
    let rules = node.rules.as_ref();
    let (bound, room) = match &node.shape {
        Shape::List(list) => {
            let bound = rules.and_then(|rules| rules.max_items);
            (bound, (REQUEST - 2) / (least(&list.items) + 1))
        }
        Shape::Object(object) => {
            let bound = rules.and_then(|rules| rules.max_properties);
            match &object.values {
                Some(values) => (bound, (REQUEST - 2) / (least(values) + 6)),
                None => return 1,
            }
        }
        _ => return 1,
    };
    bound.map_or(room, |bound| u64::try_from(bound).unwrap_or(room).min(room))
}

/// Bytes that a value takes at least.
fn least(node: &Node) -> u64 {
    let Some(rules) = node.rules.as_ref().filter(|_| !node.typed) else {
        return 4;
    };
    match &node.shape {
        Shape::Any | Shape::Boolean => 4,
        Shape::List(_) => 2,
        Shape::String(_) => match rules.format.as_deref() {
            Some("date-time") => 22,
            Some("date") => 12,
            _ => 2 + rules.min_length.unwrap_or(0) as u64,
        },
        Shape::Integer { .. } | Shape::Number | Shape::IntOrString | Shape::Quantity => 1,
        Shape::Object(object) => {
            let required = rules.required.iter().filter_map(|name| object.field(name));
            let needed = required.filter(|field| field.default.is_none());
            needed.fold(2, |sum: u64, field| {
                sum.saturating_add(field.name.len() as u64 + least(&field.node) + 4)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::schema::Schema;

    fn faults(schema: Value) -> Vec<String> {
        let at = Path::new("s");
        let spec = json!({"type": "object", "properties": {"spec": schema}});
        let schema = Schema::from_crd("example.com", "v1", "X", &spec, &at).unwrap();
        let faults = schema.rule_faults(&HashSet::new(), &at);
        faults.iter().map(ToString::to_string).collect()
    }

    /// An object with the properties of `properties` and one rule.
    fn ruled(rule: &str, properties: Value) -> Value {
        json!({"type": "object", "properties": properties, "x-kubernetes-validations": [{"rule": rule}]})
    }

    #[test]
    fn rules_are_refused_for_types_and_for_what_they_could_cost() {
        let int = json!({"type": "integer"});
        let list =
            |most: Value| json!({"type": "array", "items": {"type": "string"}, "maxItems": most});
        let nested = |outer: Value, inner: Value| {
            let rules = json!([{"rule": "self.all(s, s == 'constant')"}]);
            json!({"type": "array", "maxItems": outer, "items": {"type": "array", "items": {"type": "string"},
                "maxItems": inner, "x-kubernetes-validations": rules}})
        };
        let pairs = "self.x.all(a, self.x.all(b, a == b))";
        let table = [
            (ruled("self.x > 0", json!({"x": int})), None),
            (
                ruled("self.z == 100", json!({"x": int})),
                Some("undefined field 'z'"),
            ),
            (
                ruled("self.x", json!({"x": int})),
                Some("cel expression must evaluate to a bool"),
            ),
            (
                ruled("self.x > 'a'", json!({"x": int})),
                Some("applied to '(int, string)'"),
            ),
            (
                ruled("self.x.all(a, a != '')", json!({"x": list(Value::Null)})),
                None,
            ),
            (ruled(pairs, json!({"x": list(json!(725))})), None),
            (
                ruled(pairs, json!({"x": list(Value::Null)})),
                Some("estimated rule cost exceeds budget by factor of more than 100x"),
            ),
            (
                ruled(pairs, json!({"x": list(json!(2000))})),
                Some("by factor of 2."),
            ),
            (nested(json!(1000), json!(100)), None),
            (
                nested(Value::Null, Value::Null),
                Some(
                    "s.properties[spec].items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost",
                ),
            ),
        ];
        for (schema, expected) in table {
            let schema: Value =
                serde_json::from_str(&schema.to_string().replace(",\"maxItems\":null", ""))
                    .unwrap();
            let found = faults(schema.clone());
            match expected {
                None => assert!(found.is_empty(), "{schema}: {found:?}"),
                Some(part) => assert!(
                    found.first().is_some_and(|text| text.contains(part)),
                    "{schema}: {found:?}"
                ),
            }
        }
    }

    #[test]
    fn rules_that_are_cheap_alone_may_be_too_many() {
        let list = json!({"type": "array", "maxItems": 1200, "items": {"type": "integer"}});
        let rule = json!({"rule": "self.x.all(a, self.x.all(b, a == b))"});
        let rules = vec![rule; 20];
        let found = faults(
            json!({"type": "object", "properties": {"x": list}, "x-kubernetes-validations": rules}),
        );
        let wanted = "s: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of";
        assert!(
            found.len() == 1 && found[0].starts_with(wanted),
            "{found:?}"
        );
    }
}
