//! Expressions of admission: compiled once, evaluated over named values.

use cel::Value as Cel;
use cel::common::ast::{
    EntryExpr, Expr, LiteralValue, MapEntryExpr, MapExpr, StructExpr, StructFieldExpr,
};
use cel::common::types::CelString;
use cel::parser::Expression as Tree;
use serde_json::Value;

use super::library::{self, Access, Question};
use super::meter::{Budget, Failure, Meter};
use super::{convert, evaluate, program};
use crate::schema::node::Node;

/// The name under which `authorizer.requestResource` is bound.
const REQUEST_RESOURCE: &str = "authorizer.requestResource";

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Expression {
    source: Box<str>,
    tree: Tree,
    /// The names `x` of all `variables.x` in it.
    variables: Vec<Box<str>>,
}

/// The values that expressions speak of.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    values: Vec<(Box<str>, Cel)>,
    /// What all expressions over them may cost together.
    budget: Budget,
}

impl Scope {
    /// Values for match conditions of webhooks, which may cost less than other expressions.
    pub(crate) fn of_conditions() -> Self {
        Self {
            budget: Budget::of_conditions(),
            ..Self::default()
        }
    }

    /// Binds a JSON value.
    pub(crate) fn set(&mut self, name: &str, value: &Value) {
        self.set_value(name, convert::convert(Node::any(), value));
    }

    /// Binds the outcome of another expression.
    pub(crate) fn set_value(&mut self, name: &str, value: Cel) {
        self.values.retain(|(have, _)| **have != *name);
        self.values.push((name.into(), value));
    }

    /// Binds `authorizer`, which asks `access`, and `authorizer.requestResource`, which is about `request`.
    pub(crate) fn set_authorizer(&mut self, access: std::sync::Arc<dyn Access>, request: Question) {
        let own = library::authorizer(access.clone(), Question::default());
        self.set_value("authorizer", own);
        self.set_value(REQUEST_RESOURCE, library::authorizer(access, request));
    }
}

impl Expression {
    /// Compiles an expression over the values called `names`.
    ///
    /// # Errors
    /// Text for the user: syntax, an unknown name, or a size over the limits.
    pub(crate) fn compile(source: &str, names: &[&str]) -> Result<Self, String> {
        let mut tree = program(source, names)?;
        let mut variables = Vec::new();
        rewrite(&mut tree, &mut variables);
        Ok(Self {
            source: source.trim().into(),
            tree,
            variables,
        })
    }

    /// What the user wrote.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// What it was compiled to, for those who look into it.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The names `x` of all `variables.x` in it.
    pub(crate) fn variables(&self) -> &[Box<str>] {
        &self.variables
    }

    /// The outcome over these values.
    ///
    /// # Errors
    /// Text for the user; also when the evaluation reaches a limit, or all over these values together do.
    pub(crate) fn evaluate(&self, scope: &Scope) -> Result<Cel, String> {
        let names = scope.values.iter();
        let names = names.map(|(name, value)| (&**name, value.clone()));
        let mut meter = scope.budget.meter();
        let outcome = evaluate::evaluate(&self.tree, names.collect(), &mut meter);
        scope.budget.settle(&meter);
        outcome.map_err(Failure::message)
    }
}

/// Turns what the evaluator does not know into what it does: `Object{...}` becomes a map.
fn rewrite(tree: &mut Tree, variables: &mut Vec<Box<str>>) {
    match &mut tree.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Select(select) => {
            if let Expr::Ident(name) = &select.operand.expr {
                match (name.as_str(), select.field.as_str()) {
                    ("variables", field) => variables.push(field.into()),
                    ("authorizer", "requestResource") => {
                        tree.expr = Expr::Ident(REQUEST_RESOURCE.to_owned());
                        return;
                    }
                    _ => {}
                }
            }
            rewrite(&mut select.operand, variables);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(|e| rewrite(e, variables)),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    rewrite(&mut entry.key, variables);
                    rewrite(&mut entry.value, variables);
                }
            }
        }
        Expr::Struct(object) => {
            tree.expr = Expr::Map(map_of(std::mem::take(object)));
            rewrite(tree, variables);
        }
        Expr::Call(call) => {
            let target = call.target.iter_mut().map(|target| &mut **target);
            target
                .chain(&mut call.args)
                .for_each(|e| rewrite(e, variables));
        }
        Expr::Comprehension(loop_) => {
            let parts = [
                &mut loop_.iter_range,
                &mut loop_.accu_init,
                &mut loop_.loop_cond,
                &mut loop_.loop_step,
                &mut loop_.result,
            ];
            parts.into_iter().for_each(|e| rewrite(e, variables));
        }
    }
}

fn map_of(object: StructExpr) -> MapExpr {
    let entries = object.entries.into_iter().map(|mut entry| {
        if let EntryExpr::StructField(StructFieldExpr {
            field,
            value,
            optional,
        }) = entry.expr
        {
            let key = Tree {
                id: entry.id,
                expr: Expr::Literal(LiteralValue::String(CelString::from(
                    convert::unescape(&field).as_str(),
                ))),
            };
            entry.expr = EntryExpr::MapEntry(MapEntryExpr {
                key,
                value,
                optional,
            });
        }
        entry
    });
    MapExpr {
        entries: entries.collect(),
    }
}

/// The outcome of an expression as JSON.
///
/// # Errors
/// Text for the user when it has no JSON form, or would be too large: a value may hold the same part many times.
pub(crate) fn to_json(value: &Cel) -> Result<Value, String> {
    json(value, &mut Meter::default()).map_err(Failure::message)
}

fn json(value: &Cel, meter: &mut Meter) -> Result<Value, Failure> {
    meter.tenths(1)?;
    meter.make_values(1, library::length(value))?;
    Ok(match value {
        Cel::Null => Value::Null,
        Cel::Bool(flag) => (*flag).into(),
        Cel::Int(number) => (*number).into(),
        Cel::UInt(number) => (*number).into(),
        Cel::Float(number) => serde_json::Number::from_f64(*number)
            .map(Value::Number)
            .ok_or("a number that is not finite has no JSON form")?,
        Cel::String(text) => Value::from(text.as_str()),
        Cel::Bytes(bytes) => {
            use base64::Engine as _;
            Value::from(base64::engine::general_purpose::STANDARD.encode(bytes.as_slice()))
        }
        Cel::List(items) => {
            let mut list = Vec::with_capacity(items.len());
            for item in items.iter() {
                list.push(json(item, meter)?);
            }
            Value::Array(list)
        }
        Cel::Map(map) => {
            let mut object = serde_json::Map::new();
            for (key, value) in map.map.iter() {
                let key = key.to_string();
                meter.make(key.len() as u64)?;
                object.insert(key, json(value, meter)?);
            }
            Value::Object(object)
        }
        Cel::Timestamp(time) => {
            Value::from(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
        }
        Cel::Duration(duration) => Value::from(format!("{}s", duration.num_seconds())),
        other => return Err(format!("a {} has no JSON form", other.type_of()).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn evaluate(source: &str) -> Result<Value, String> {
        let mut scope = Scope::default();
        let object = json!({
            "metadata": {"name": "x", "namespace": "n", "labels": {"app": "web"}},
            "spec": {"replicas": 3, "list": [1, 2]},
        });
        scope.set("object", &object);
        scope.set("oldObject", &Value::Null);
        let expression = Expression::compile(source, &["object", "oldObject"])?;
        to_json(&expression.evaluate(&scope)?)
    }

    #[test]
    fn expressions_over_objects() {
        let table = [
            ("object.metadata.name == 'x'", json!(true)),
            ("object.metadata.namespace", json!("n")),
            ("oldObject == null", json!(true)),
            ("has(object.spec.missing)", json!(false)),
            ("object.spec.replicas > 5 ? 'many' : 'few'", json!("few")),
            (
                "object.metadata.labels['app'] + string(object.spec.replicas)",
                json!("web3"),
            ),
            ("object.spec.list.map(x, x + 1)", json!([2, 3])),
            ("object.?spec.?missing.orValue(7)", json!(7)),
            (
                "Object{spec: Object.spec{replicas: object.spec.replicas + 1}}",
                json!({"spec": {"replicas": 4}}),
            ),
            (
                "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('x/y~z'), value: {'k': 'v'}}]",
                json!([{"op": "add", "path": "/a/x~1y~0z", "value": {"k": "v"}}]),
            ),
            (
                "Object{metadata: Object.metadata{?name: optional.none(), labels: {'a': 'b'}}}",
                json!({"metadata": {"labels": {"a": "b"}}}),
            ),
        ];
        for (source, expected) in table {
            assert_eq!(evaluate(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn what_goes_wrong_is_said() {
        let missing = evaluate("object.spec.missing").unwrap_err();
        assert!(missing.starts_with("no such key: missing"), "{missing}");
        let unknown = Expression::compile("nothing.here", &["object"]).unwrap_err();
        assert_eq!(
            unknown,
            "undeclared reference to 'nothing' (in container '')"
        );
        assert!(Expression::compile("object.", &["object"]).is_err());
    }
}
