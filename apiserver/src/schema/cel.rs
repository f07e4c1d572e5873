//! `x-kubernetes-validations`: CEL rules of custom schemas.
//!
//! Rules are compiled once. What they do is charged before it is done (`meter.rs`), so that no rule can stall the server
//! or fill its memory.

pub(crate) mod budget;
mod convert;
mod declared;
mod evaluate;
mod expression;
mod library;
mod loops;
mod meter;
pub(crate) mod typecheck;
mod walk;

use cel::parser::{Expression as Tree, Parser};
use serde_json::{Map, Value};

use super::field::{FieldError, FieldErrorKind, Path};
pub(crate) use expression::{Expression, Scope, to_json};
pub(crate) use library::{Access, Question, Verdict};
pub(crate) use walk::validate;

/// The names that the expressions of webhooks speak of.
pub(crate) const WEBHOOK_NAMES: &[&str] = &["object", "oldObject", "request", "authorizer"];

/// The names that the expressions of policies speak of.
pub(crate) const POLICY_NAMES: &[&str] = &[
    "object",
    "oldObject",
    "request",
    "params",
    "namespaceObject",
    "variables",
    "authorizer",
    "Object",
    "JSONPatch",
];

/// Longer expressions are refused.
const MAX_BYTES: usize = 8 * 1024;
/// Expressions with more operators and brackets are refused: they are evaluated recursively.
const MAX_TOKENS: usize = 600;

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    source: Box<str>,
    message: Option<Box<str>>,
    /// An expression that gives the message.
    message_expression: Option<Tree>,
    /// That expression as it was written.
    message_source: Box<str>,
    reason: FieldErrorKind,
    /// The field under the rule's own that the error is about.
    field_path: Box<str>,
    /// Runs without an old value too.
    optional_old: bool,
    program: Tree,
    /// Speaks of the old value.
    pub(super) transition: bool,
}

/// The rules of one schema node; those that do not compile are left out, since the definition was
/// refused for them.
pub(crate) fn rules(schema: &Map<String, Value>) -> Vec<Rule> {
    let rules = schema
        .get("x-kubernetes-validations")
        .and_then(Value::as_array);
    rules
        .into_iter()
        .flatten()
        .filter_map(|rule| compile(rule).ok())
        .collect()
}

/// Complains about rules that cannot be used.
pub(crate) fn check(schema: &Map<String, Value>, at: &Path<'_>, out: &mut Vec<FieldError>) {
    let at = at.field("x-kubernetes-validations");
    let rules = schema
        .get("x-kubernetes-validations")
        .and_then(Value::as_array);
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        let at = at.index(index);
        let source = rule.get("rule").and_then(Value::as_str).unwrap_or_default();
        if source.trim().is_empty() {
            out.push(FieldError::required(
                at.field("rule"),
                "rule is not specified",
            ));
        } else if let Err((field, reason)) = compile(rule) {
            let detail = format!("compilation failed: {reason}");
            out.push(FieldError::invalid(at.field(field), rule.clone(), detail));
        }
        let message = rule
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if message.contains('\n') {
            out.push(FieldError::invalid(
                at.field("message"),
                message,
                "message must not contain line breaks",
            ));
        }
    }
}

fn compile(rule: &Value) -> Result<Rule, (&'static str, String)> {
    let text = |key: &str| {
        rule.get(key)
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty())
    };
    let source = text("rule").unwrap_or_default();
    let program = program(source, OWN).map_err(|e| ("rule", e))?;
    let message_expression = match text("messageExpression") {
        Some(source) => Some(self::program(source, OWN).map_err(|e| ("messageExpression", e))?),
        None => None,
    };
    let reason = match text("reason") {
        None | Some("FieldValueInvalid") => FieldErrorKind::Invalid,
        Some("FieldValueForbidden") => FieldErrorKind::Forbidden,
        Some("FieldValueRequired") => FieldErrorKind::Required,
        Some("FieldValueDuplicate") => FieldErrorKind::Duplicate,
        Some(other) => return Err(("reason", format!("unknown reason {other:?}"))),
    };
    Ok(Rule {
        source: source.into(),
        message: text("message").map(Box::from),
        message_expression,
        message_source: text("messageExpression").unwrap_or_default().into(),
        reason,
        field_path: text("fieldPath").unwrap_or_default().into(),
        optional_old: rule
            .get("optionalOldSelf")
            .and_then(Value::as_bool)
            .unwrap_or_default(),
        transition: program.references().has_variable("oldSelf"),
        program,
    })
}

/// What the rules of a schema speak of.
const OWN: &[&str] = &["self", "oldSelf"];

/// Compiles an expression over the values called `names`.
fn program(source: &str, names: &[&str]) -> Result<Tree, String> {
    if source.len() > MAX_BYTES {
        return Err(format!("the expression is longer than {MAX_BYTES} bytes"));
    }
    let tokens = source
        .bytes()
        .filter(|b| !b.is_ascii_alphanumeric() && !matches!(b, b' ' | b'_'));
    if tokens.count() > MAX_TOKENS {
        return Err(format!(
            "the expression has more than {MAX_TOKENS} operators"
        ));
    }
    let mut program = shielded(|| {
        let parser = Parser::new().enable_optional_syntax(true);
        parser.parse(source).map_err(|e| first_line(&e.to_string()))
    })?;
    loops::expand(&mut program)?;
    let references = program.references();
    let known = |name: &&str| names.contains(name) || !is_plain(name);
    if let Some(unknown) = references.variables().into_iter().find(|name| !known(name)) {
        let declared = declared::names(&program);
        if !declared.contains(unknown) && !library::is_type(unknown) {
            return Err(format!(
                "undeclared reference to '{unknown}' (in container '')"
            ));
        }
    }
    Ok(program)
}

/// The parser shows the source under its errors; the first line says all.
fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(300)
        .collect()
}

/// Whether a name could be a user's; the parser makes others for itself.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.starts_with("__")
}

/// Runs foreign code that might panic; a panic becomes an error.
fn shielded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err("the expression cannot be evaluated".to_owned()))
}

#[cfg(test)]
mod limits;
#[cfg(test)]
mod tests;
