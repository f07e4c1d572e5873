//! Runs the rules of a schema over an object and its old version.

use cel::parser::Expression as Tree;
use cel::{Context, Value as Cel};
use serde_json::{Map, Value};

use super::{Rule, convert, cost, library, shielded};
use crate::schema::field::{FieldError, FieldErrorKind, Path};
use crate::schema::node::{ListKind, Node, ObjectNode, Shape};
use crate::schema::rules::Declared;

/// More errors than this are cut off.
const MAX_ERRORS: usize = 100;

/// All complaints of rules. Rules about parts that did not change are not run again, but those
/// that compare with the old value always are.
pub(crate) fn validate(node: &Node, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(node, value, old, &Path::ROOT, &mut errors);
    errors
}

fn walk(node: &Node, value: &Value, old: Option<&Value>, at: &Path<'_>, out: &mut Vec<FieldError>) {
    if node.typed || value.is_null() || out.len() >= MAX_ERRORS {
        return;
    }
    if let Some(rules) = node.rules.as_ref().filter(|r| !r.expressions.is_empty()) {
        let kind = rules.declared.map_or("object", Declared::name);
        run(&rules.expressions, kind, node, value, old, at, out);
    }
    match (&node.shape, value) {
        (Shape::Object(object), Value::Object(map)) => children(object, map, old, at, out),
        (Shape::List(list), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                let old = old
                    .and_then(Value::as_array)
                    .and_then(|old| match &list.kind {
                        ListKind::Map(keys) => old
                            .iter()
                            .find(|o| keys.iter().all(|k| o.get(&**k) == item.get(&**k))),
                        ListKind::Set | ListKind::Atomic => None,
                    });
                walk(&list.items, item, old, &at.index(index), out);
            }
        }
        _ => {}
    }
}

fn children(
    object: &ObjectNode,
    map: &Map<String, Value>,
    old: Option<&Value>,
    at: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    for (key, value) in map {
        let old = old.and_then(|old| old.get(key));
        match (object.field(key), &object.values) {
            (Some(field), _) => walk(&field.node, value, old, &at.field(key), out),
            (None, Some(values)) => walk(values, value, old, &at.field(key), out),
            (None, None) => {}
        }
    }
}

fn run(
    rules: &[Rule],
    kind: &str,
    node: &Node,
    value: &Value,
    old: Option<&Value>,
    at: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    let unchanged = old == Some(value);
    let due = |rule: &&Rule| {
        if rule.transition {
            old.is_some() || rule.optional_old
        } else {
            !unchanged
        }
    };
    let mut due = rules.iter().filter(due).peekable();
    if due.peek().is_none() {
        return;
    }
    let length = cost::longest(value).max(old.map_or(1, cost::longest));
    let new = convert::convert(node, value);
    let old = old.map(|old| convert::convert(node, old));
    for rule in due {
        if let Err(detail) = evaluate(rule, &new, old.as_ref(), length) {
            out.push(complaint(rule, kind, at, detail));
        }
    }
}

fn complaint(rule: &Rule, kind: &str, at: &Path<'_>, detail: String) -> FieldError {
    let value = match rule.reason {
        FieldErrorKind::Invalid | FieldErrorKind::Duplicate => Some(Value::from(kind)),
        _ => None,
    };
    let path = format!("{at}{}", rule.field_path);
    let path = path.strip_prefix('.').map(str::to_owned).unwrap_or(path);
    FieldError {
        path,
        kind: rule.reason,
        value,
        detail,
    }
}

/// `Err` is what to tell the user.
fn evaluate(rule: &Rule, new: &Cel, old: Option<&Cel>, length: u64) -> Result<(), String> {
    let outcome = execute(&rule.program, new, old, rule.optional_old, length);
    match outcome {
        Ok(Cel::Bool(true)) => return Ok(()),
        Ok(Cel::Bool(false)) => {}
        Ok(other) => {
            let kind = other.type_of();
            return Err(format!(
                "rule must evaluate to a bool, got {kind}: {}",
                rule.source
            ));
        }
        Err(reason) => return Err(format!("rule {}: {reason}", rule.source)),
    }
    if let Some(program) = &rule.message_expression
        && let Ok(Cel::String(text)) = execute(program, new, old, rule.optional_old, length)
    {
        let text = text.trim();
        if !text.is_empty() && !text.contains('\n') && text.len() <= 5 * 1024 {
            return Err(text.to_owned());
        }
    }
    Err(match &rule.message {
        Some(message) => message.to_string(),
        None => format!("failed rule: {}", rule.source),
    })
}

fn execute(
    program: &Tree,
    new: &Cel,
    old: Option<&Cel>,
    optional: bool,
    length: u64,
) -> Result<Cel, String> {
    if cost::estimate(program, length) > cost::BUDGET {
        return Err(
            "no further validation rules will be run due to call cost exceeds limit for rule; bound \
             the lists with maxItems, or make the rule simpler"
                .to_owned(),
        );
    }
    library::with_functions(|root| {
        let mut scope: Context<'_> = root.new_inner_scope();
        scope.add_variable_from_value("self", new.clone());
        let old = if optional {
            library::optional(old.cloned())
        } else {
            old.cloned().unwrap_or(Cel::Null)
        };
        scope.add_variable_from_value("oldSelf", old);
        shielded(|| scope.resolve(program).map_err(|e| e.to_string()))
    })
}
