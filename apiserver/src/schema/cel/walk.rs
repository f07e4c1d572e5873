//! Runs the rules of a schema over an object and its old version.

use cel::Value as Cel;
use cel::parser::Expression as Tree;
use serde_json::{Map, Value};

use super::meter::{Budget, Failure, Limit};
use super::{Rule, convert, evaluate, library};
use crate::schema::before::Before;
use crate::schema::field::{FieldError, FieldErrorKind, Path};
use crate::schema::node::{ListKind, Node, ObjectNode, Shape};
use crate::schema::rules::Declared;

/// More errors than this are cut off.
const MAX_ERRORS: usize = 100;

/// All complaints of rules. Rules about parts that did not change are not run again, but those
/// that compare with the old value always are.
pub(crate) fn validate(node: &Node, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut walk = Walk::default();
    walk.node(node, value, old, &Path::ROOT);
    walk.errors
}

/// What was found so far.
#[derive(Default)]
struct Walk {
    errors: Vec<FieldError>,
    /// For all rules together.
    budget: Budget,
    /// A limit was reached; no more rules are run.
    ended: bool,
}

impl Walk {
    fn node(&mut self, node: &Node, value: &Value, old: Option<&Value>, at: &Path<'_>) {
        let is_over = self.ended || self.errors.len() >= MAX_ERRORS;
        if is_over || node.typed || value.is_null() {
            return;
        }
        if let Some(rules) = node.rules.as_ref().filter(|r| !r.expressions.is_empty()) {
            let kind = rules.declared.map_or("object", Declared::name);
            self.run(&rules.expressions, kind, node, value, old, at);
        }
        match (&node.shape, value) {
            (Shape::Object(object), Value::Object(map)) => self.children(object, map, old, at),
            (Shape::List(list), Value::Array(items)) => {
                // Items of lists without keys have no past here.
                let old = old.filter(|_| matches!(list.kind, ListKind::Map(_)));
                let before = Before::new(&list.kind, old);
                for (index, item) in items.iter().enumerate() {
                    self.node(&list.items, item, before.of(item), &at.index(index));
                }
            }
            _ => {}
        }
    }

    fn children(
        &mut self,
        object: &ObjectNode,
        map: &Map<String, Value>,
        old: Option<&Value>,
        at: &Path<'_>,
    ) {
        for (key, value) in map {
            let old = old.and_then(|old| old.get(key));
            match (object.field(key), &object.values) {
                (Some(field), _) => self.node(&field.node, value, old, &at.field(key)),
                (None, Some(values)) => self.node(values, value, old, &at.field(key)),
                (None, None) => {}
            }
        }
    }

    fn run(
        &mut self,
        rules: &[Rule],
        kind: &str,
        node: &Node,
        value: &Value,
        old: Option<&Value>,
        at: &Path<'_>,
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
        let new = convert::convert(node, value);
        let old = old.map(|old| convert::convert(node, old));
        for rule in due {
            if self.ended {
                return;
            }
            if let Err(detail) = self.evaluate(rule, &new, old.as_ref()) {
                self.errors.push(complaint(rule, kind, at, detail));
            }
        }
    }

    /// `Err` is what to tell the user.
    fn evaluate(&mut self, rule: &Rule, new: &Cel, old: Option<&Cel>) -> Result<(), String> {
        match self.execute(&rule.program, rule, new, old) {
            Ok(Cel::Bool(true)) => return Ok(()),
            Ok(Cel::Bool(false)) => {}
            Ok(other) => {
                let kind = other.type_of();
                return Err(format!(
                    "rule must evaluate to a bool, got {kind}: {}",
                    rule.source
                ));
            }
            Err(Failure::Fault(reason)) => return Err(format!("rule {}: {reason}", rule.source)),
            Err(Failure::Spent(limit)) => {
                self.ended = true;
                return Err(over(limit, &rule.source));
            }
        }
        if let Some(program) = &rule.message_expression {
            match self.execute(program, rule, new, old) {
                Ok(Cel::String(text)) => {
                    let text = text.trim();
                    if !text.is_empty() && !text.contains('\n') && text.len() <= 5 * 1024 {
                        return Err(text.to_owned());
                    }
                }
                // The message is the plain one then.
                Err(Failure::Spent(_)) => self.ended = true,
                _ => {}
            }
        }
        Err(match &rule.message {
            Some(message) => message.to_string(),
            None => format!("failed rule: {}", rule.source),
        })
    }

    fn execute(
        &self,
        program: &Tree,
        rule: &Rule,
        new: &Cel,
        old: Option<&Cel>,
    ) -> Result<Cel, Failure> {
        let old = if rule.optional_old {
            library::optional(old.cloned())
        } else {
            old.cloned().unwrap_or(Cel::Null)
        };
        let names = vec![("self", new.clone()), ("oldSelf", old)];
        let mut meter = self.budget.meter();
        let outcome = evaluate::evaluate(program, names, &mut meter);
        self.budget.settle(&meter);
        outcome
    }
}

/// What to say when a limit ended a rule.
fn over(limit: Limit, rule: &str) -> String {
    let what = match limit {
        Limit::Budget => return limit.message().to_owned(),
        Limit::Call => "call cost exceeds limit",
        Limit::Memory => "memory exceeds limit",
        Limit::Time => "time exceeds limit",
    };
    format!(
        "no further validation rules will be run due to {what} for rule: {rule} (bound lists, maps and texts with maxItems, \
         maxProperties and maxLength, or make the rule simpler)"
    )
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
