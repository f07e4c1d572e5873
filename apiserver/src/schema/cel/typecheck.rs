//! What schemas say about expressions before there are values: fields that do not exist and operators between
//! types that never fit.
//!
//! Only what is certain is said; of most values nothing is known, and then nothing is complained about.

use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, LiteralValue};
use cel::parser::Expression as Tree;

use super::loops;
use crate::schema::node::{Node, Shape, Text};

/// What is known of a value.
#[derive(Clone, Copy)]
pub(super) enum Type<'a> {
    /// It is what a schema describes.
    Of(&'a Node),
    /// A scalar of this type.
    Plain(&'static str),
    Unknown,
}

/// The names that an expression may use, innermost last. What is not among them is of an unknown type.
pub(super) type Scope<'a> = Vec<(&'a str, Type<'a>)>;

/// Complaints about an expression that may use `variables`, each of which may use those before it. They are named
/// `variables.x` here.
pub(crate) fn faults_with(
    names: &[(&str, &Node)],
    variables: &[(String, &Tree)],
    tree: &Tree,
) -> Vec<String> {
    let mut scope: Scope<'_> = names
        .iter()
        .map(|(name, node)| (*name, Type::Of(node)))
        .collect();
    for (name, tree) in variables {
        let outcome = infer(&mut scope, tree, &mut Vec::new());
        scope.push((name, outcome));
    }
    let mut faults = Vec::new();
    infer(&mut scope, tree, &mut faults);
    faults
}

/// Complaints, and the type of the outcome if it is a known scalar.
pub(super) fn check(names: &[(&str, &Node)], tree: &Tree) -> (Vec<String>, Option<&'static str>) {
    let mut faults = Vec::new();
    let mut scope = names
        .iter()
        .map(|(name, node)| (*name, Type::Of(node)))
        .collect();
    let outcome = infer(&mut scope, tree, &mut faults).scalar();
    (faults, outcome)
}

impl<'a> Type<'a> {
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

    /// What a loop over the value puts into its one or two variables.
    pub(super) fn looped(self, two: bool) -> (Type<'a>, Type<'a>) {
        let Type::Of(node) = self else {
            return (Type::Unknown, Type::Unknown);
        };
        match (&node.shape, two) {
            (Shape::List(list), false) => (Type::Of(&list.items), Type::Unknown),
            (Shape::List(list), true) => (Type::Plain("int"), Type::Of(&list.items)),
            (Shape::Object(object), _) => match &object.values {
                Some(values) if object.fields.is_empty() => {
                    (Type::Plain("string"), Type::Of(values))
                }
                _ => (Type::Plain("string"), Type::Unknown),
            },
            _ => (Type::Unknown, Type::Unknown),
        }
    }
}

fn formatted(node: &Node) -> bool {
    node.rules
        .as_ref()
        .is_some_and(|rules| rules.format.is_some())
}

/// The type of an expression; what is wrong in it goes to `out`.
pub(super) fn infer<'a>(scope: &mut Scope<'a>, tree: &'a Tree, out: &mut Vec<String>) -> Type<'a> {
    match &tree.expr {
        Expr::Unspecified => Type::Unknown,
        Expr::Ident(name) => named(scope, name),
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(_) => Type::Plain("bool"),
            LiteralValue::Int(_) => Type::Plain("int"),
            LiteralValue::UInt(_) => Type::Plain("uint"),
            LiteralValue::Double(_) => Type::Plain("double"),
            LiteralValue::String(_) => Type::Plain("string"),
            LiteralValue::Bytes(_) | LiteralValue::Null => Type::Unknown,
        },
        Expr::Select(select) if is_variables(scope, &select.operand) => {
            named(scope, &format!("variables.{}", select.field))
        }
        Expr::Select(select) => {
            let operand = infer(scope, &select.operand, out);
            let field = field(operand, &select.field, out);
            if select.test {
                Type::Plain("bool")
            } else {
                field
            }
        }
        Expr::Call(call) => {
            if let Some(target) = &call.target {
                infer(scope, target, out);
            }
            let types: Vec<Type<'a>> = call.args.iter().map(|a| infer(scope, a, out)).collect();
            if let (loops::PAIRS, [range]) = (&*call.func_name, &*types) {
                // As long as what it is made of.
                return *range;
            }
            operator(&call.func_name, &types, out)
        }
        Expr::List(list) => {
            for element in &list.elements {
                infer(scope, element, out);
            }
            Type::Unknown
        }
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    infer(scope, &entry.value, out);
                }
            }
            Type::Unknown
        }
        Expr::Struct(_) => Type::Unknown,
        Expr::Comprehension(comprehension) => {
            let range = infer(scope, &comprehension.iter_range, out);
            inside(scope, comprehension, range, |scope| {
                for part in [&comprehension.loop_step, &comprehension.result] {
                    infer(scope, part, out);
                }
            });
            Type::Unknown
        }
    }
}

/// Whether the fields of an expression are the outcomes of others, which are in scope under `variables.x`.
fn is_variables(scope: &Scope<'_>, tree: &Tree) -> bool {
    matches!(&tree.expr, Expr::Ident(name) if name == "variables")
        && scope.iter().any(|(name, _)| name.starts_with("variables."))
}

fn named<'a>(scope: &Scope<'a>, name: &str) -> Type<'a> {
    let known = scope.iter().rev().find(|(known, _)| *known == name);
    known.map_or(Type::Unknown, |(_, kind)| *kind)
}

/// Runs `visit` with the variables of a loop over `range` in scope.
pub(super) fn inside<'a, T>(
    scope: &mut Scope<'a>,
    comprehension: &'a ComprehensionExpr,
    range: Type<'a>,
    visit: impl FnOnce(&mut Scope<'a>) -> T,
) -> T {
    let outside = scope.len();
    let (first, second) = match loops::is_pair(&comprehension.iter_var) {
        true => (Type::Unknown, Type::Unknown),
        false => range.looped(comprehension.iter_var2.is_some()),
    };
    scope.push((&comprehension.iter_var, first));
    if let Some(name) = &comprehension.iter_var2 {
        scope.push((name, second));
    }
    scope.push((&comprehension.accu_var, Type::Unknown));
    let outcome = visit(scope);
    scope.truncate(outside);
    outcome
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
    if name == "_[_]" {
        return element(*left);
    }
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

/// What an index gives.
fn element(operand: Type<'_>) -> Type<'_> {
    let Type::Of(node) = operand else {
        return Type::Unknown;
    };
    match &node.shape {
        Shape::List(list) => Type::Of(&list.items),
        Shape::Object(object) if object.fields.is_empty() => {
            object.values.as_deref().map_or(Type::Unknown, Type::Of)
        }
        _ => Type::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Expression, POLICY_NAMES};
    use super::*;
    use crate::schema::Schema;

    #[test]
    fn variables_have_the_types_of_their_expressions() {
        let schema = Schema::builtin("apps", "v1", "Deployment").unwrap();
        let names = [("object", schema.root())];
        let compile = |source: &str| Expression::compile(source, POLICY_NAMES).unwrap();
        let sources = [
            ("variables.pod", "object.spec.template"),
            ("variables.spec", "variables.pod.spec"),
            ("variables.any", "params.x"),
            (
                "variables.both",
                "object.metadata.labels.transformList(k, v, k + v)",
            ),
        ];
        let compiled: Vec<_> = sources
            .iter()
            .map(|(name, source)| ((*name).to_owned(), compile(source)))
            .collect();
        let variables: Vec<_> = compiled
            .iter()
            .map(|(name, expression)| (name.clone(), expression.tree()))
            .collect();
        for (source, expected) in [
            ("variables.spec.containers.all(c, c.name != '')", None),
            ("variables.any > 1 && variables.unknown.x == 2", None),
            ("variables.both.all(x, x == 1)", None),
            (
                "variables.spec.nonsense == 1",
                Some("undefined field 'nonsense'"),
            ),
            ("variables.spec.containers.all(i, c, c.name != '')", None),
            (
                "variables.pod.spec.nodeName == 1",
                Some("found no matching overload for '_==_' applied to '(string, int)'"),
            ),
        ] {
            let found = faults_with(&names, &variables, compile(source).tree());
            assert_eq!(found.first().map(String::as_str), expected, "{source}");
        }
    }

    #[test]
    fn only_what_cannot_be_is_complained_about() {
        let schema = Schema::builtin("apps", "v1", "Deployment").unwrap();
        let names = [("object", schema.root())];
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
            (
                "object.metadata.labels.all(key, key != '' && key.size() < 9)",
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
            (
                "object.spec.template.spec.containers.exists(c, c.picture == '')",
                Some("undefined field 'picture'"),
            ),
            (
                "object.spec.template.spec.containers[0].picture == ''",
                Some("undefined field 'picture'"),
            ),
            (
                "object.metadata.labels['a'] == 1",
                Some("found no matching overload for '_==_' applied to '(string, int)'"),
            ),
        ];
        for (source, expected) in table {
            let expression = Expression::compile(source, POLICY_NAMES).unwrap();
            let found = faults_with(&names, &[], expression.tree());
            assert_eq!(found.first().map(String::as_str), expected, "{source}");
        }
    }
}
