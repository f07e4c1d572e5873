//! `status.typeChecking` of validating policies: what the schemas of the matched kinds say about the expressions.
//!
//! Only what is certain is said: fields that a kind does not have, and operators between types that never fit.

use cel::common::ast::{EntryExpr, Expr, LiteralValue};
use cel::parser::Expression as Tree;
use serde_json::{Map, Value, json};

use crate::ApiServer;
use crate::error::StatusError;
use crate::resource::{Companion, Resource, Snapshot};
use crate::schema::cel::{Expression, POLICY_NAMES};
use crate::schema::node::{Node, Shape, Text};
use crate::storage::Txn;

/// Kinds looked at for one policy.
const MAX_KINDS: usize = 10;

/// The companion of ValidatingAdmissionPolicies: the write of a policy brings its status along.
#[derive(Debug)]
pub(crate) struct TypeChecked;

impl Companion for TypeChecked {
    fn plan(
        &self,
        server: &ApiServer,
        _old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Txn, StatusError> {
        if let Some(policy) = new {
            let warnings = check(&server.registry.snapshot(), &policy["spec"]);
            let mut checking = json!({});
            if !warnings.is_empty() {
                checking["expressionWarnings"] = warnings.into();
            }
            let generation = policy["metadata"]["generation"].clone();
            if !policy["status"].is_object() {
                policy["status"] = Map::new().into();
            }
            policy["status"]["observedGeneration"] = generation;
            policy["status"]["typeChecking"] = checking;
        }
        Ok(Txn::default())
    }
}

fn check(snapshot: &Snapshot, spec: &Value) -> Vec<Value> {
    let kinds = kinds(snapshot, spec);
    let mut warnings = Vec::new();
    let validations = spec["validations"].as_array().into_iter().flatten();
    for (index, validation) in validations.enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = validation[field].as_str().unwrap_or_default();
            let Ok(expression) = Expression::compile(source, POLICY_NAMES) else {
                continue;
            };
            let said: Vec<String> = kinds
                .iter()
                .filter_map(|kind| {
                    let faults = faults(kind.schema().root(), expression.tree());
                    let what = format!("{}, Kind={}", kind.api_version(), kind.kind);
                    let first = faults.first()?;
                    Some(format!("{what}: ERROR: <input>: {first}\n | {source}"))
                })
                .collect();
            if !said.is_empty() {
                warnings.push(json!({
                    "fieldRef": format!("spec.validations[{index}].{field}"),
                    "warning": said.join("\n"),
                }));
            }
        }
    }
    warnings
}

/// The kinds that the rules name one by one.
fn kinds(snapshot: &Snapshot, spec: &Value) -> Vec<std::sync::Arc<Resource>> {
    let rules = spec["matchConstraints"]["resourceRules"].as_array();
    let texts = |rule: &Value, key: &str| -> Vec<String> {
        let list = rule[key].as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    };
    let mut found: Vec<std::sync::Arc<Resource>> = Vec::new();
    for rule in rules.into_iter().flatten() {
        for group in texts(rule, "apiGroups") {
            for version in texts(rule, "apiVersions") {
                for plural in texts(rule, "resources") {
                    let resource = snapshot.find(&group, &version, &plural);
                    found.extend(resource.filter(|_| found.len() < MAX_KINDS));
                }
            }
        }
    }
    found
}

/// What is known of a value before there is one.
#[derive(Clone, Copy)]
enum Type<'a> {
    Of(&'a Node),
    Plain(&'static str),
    Unknown,
}

impl Type<'_> {
    /// The name of a scalar type.
    fn scalar(self) -> Option<&'static str> {
        match self {
            Type::Plain(name) => Some(name),
            Type::Of(node) => match node.shape {
                // Texts with a format may be other types to expressions.
                Shape::String(Text::Plain) if !formatted(node) => Some("string"),
                Shape::Integer { .. } => Some("int"),
                Shape::Boolean => Some("bool"),
                Shape::Number => Some("double"),
                _ => None,
            },
            Type::Unknown => None,
        }
    }
}

fn formatted(node: &Node) -> bool {
    node.rules
        .as_ref()
        .is_some_and(|rules| rules.format.is_some())
}

fn faults(root: &Node, tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    infer(root, tree, &mut faults);
    faults
}

fn infer<'a>(root: &'a Node, tree: &Tree, out: &mut Vec<String>) -> Type<'a> {
    match &tree.expr {
        Expr::Ident(name) if matches!(name.as_str(), "object" | "oldObject") => Type::Of(root),
        Expr::Unspecified | Expr::Ident(_) => Type::Unknown,
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(_) => Type::Plain("bool"),
            LiteralValue::Int(_) => Type::Plain("int"),
            LiteralValue::UInt(_) => Type::Plain("uint"),
            LiteralValue::Double(_) => Type::Plain("double"),
            LiteralValue::String(_) => Type::Plain("string"),
            LiteralValue::Bytes(_) | LiteralValue::Null => Type::Unknown,
        },
        Expr::Select(select) => {
            let operand = infer(root, &select.operand, out);
            let field = field(operand, &select.field, out);
            if select.test {
                Type::Plain("bool")
            } else {
                field
            }
        }
        Expr::Call(call) => {
            if let Some(target) = &call.target {
                infer(root, target, out);
            }
            let types: Vec<Type<'a>> = call.args.iter().map(|a| infer(root, a, out)).collect();
            operator(&call.func_name, &types, out)
        }
        Expr::List(list) => {
            list.elements.iter().for_each(|e| {
                infer(root, e, out);
            });
            Type::Unknown
        }
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    infer(root, &entry.value, out);
                }
            }
            Type::Unknown
        }
        Expr::Struct(_) => Type::Unknown,
        Expr::Comprehension(loop_) => {
            for part in [&loop_.iter_range, &loop_.loop_step, &loop_.result] {
                infer(root, part, out);
            }
            Type::Unknown
        }
    }
}

fn field<'a>(operand: Type<'a>, name: &str, out: &mut Vec<String>) -> Type<'a> {
    let Type::Of(node) = operand else {
        return Type::Unknown;
    };
    let Some(object) = node.object() else {
        return Type::Unknown;
    };
    match (object.field(name), object.values.as_deref()) {
        (Some(field), _) => Type::Of(&field.node),
        (None, Some(values)) => Type::Of(values),
        // An object that says nothing of its fields, or an escaped name.
        (None, None) if object.fields.is_empty() || object.keep_unknown || name.contains("__") => {
            Type::Unknown
        }
        (None, None) => {
            out.push(format!("undefined field '{name}'"));
            Type::Unknown
        }
    }
}

/// The type of an operator's outcome; a fault when no overload fits.
fn operator<'a>(name: &str, types: &[Type<'a>], out: &mut Vec<String>) -> Type<'a> {
    let compares = matches!(name, "_<_" | "_<=_" | "_>_" | "_>=_");
    let equates = matches!(name, "_==_" | "_!=_");
    let adds = matches!(name, "_+_" | "_-_" | "_*_" | "_/_");
    let outcome = if compares || equates {
        Type::Plain("bool")
    } else {
        Type::Unknown
    };
    let [left, right] = types else { return outcome };
    if !(compares || equates || adds) {
        return outcome;
    }
    let (Some(left), Some(right)) = (left.scalar(), right.scalar()) else {
        return outcome;
    };
    let number = |name| matches!(name, "int" | "uint" | "double");
    let mixes = !adds && number(left) && number(right);
    if left != right && !mixes {
        out.push(format!(
            "found no matching overload for '{name}' applied to '({left}, {right})'"
        ));
        return outcome;
    }
    if adds { Type::Plain(left) } else { outcome }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;

    #[test]
    fn only_what_cannot_be_is_complained_about() {
        let schema = Schema::builtin("apps", "v1", "Deployment").unwrap();
        let table = [
            ("object.spec.replicas > 1", None),
            ("object.spec.replicas > 1.5", None),
            ("object.metadata.labels['a'] == 'x'", None),
            ("object.metadata.labels.anything == 'x'", None),
            ("has(object.spec.paused) && object.spec.paused", None),
            (
                "object.spec.template.spec.containers.all(c, c.image != '')",
                None,
            ),
            ("variables.x > '1' || params.y == 2", None),
            (
                "object.spec.replicas > '1'",
                Some("found no matching overload for '_>_' applied to '(int, string)'"),
            ),
            (
                "'got ' + object.spec.replicas",
                Some("found no matching overload for '_+_' applied to '(string, int)'"),
            ),
            (
                "object.spec.nonsense == 1",
                Some("undefined field 'nonsense'"),
            ),
            ("!has(object.nonsense)", Some("undefined field 'nonsense'")),
        ];
        for (source, expected) in table {
            let expression = Expression::compile(source, POLICY_NAMES).unwrap();
            let found = faults(schema.root(), expression.tree());
            assert_eq!(found.first().map(String::as_str), expected, "{source}");
        }
    }
}
