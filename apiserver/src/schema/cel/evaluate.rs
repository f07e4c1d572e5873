//! Evaluates expressions. Every part is charged before it is done, values are shared and never copied, and what a loop gathers
//! grows in place.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, ListExpr, LiteralValue, MapExpr, SelectExpr,
    operators,
};
use cel::objects::Map;
use cel::parser::Expression as Tree;

use super::library;
use super::loops::INSERT;
use super::meter::{Failure, Meter};

type Outcome = Result<Value, Failure>;

/// What Kubernetes charges for making a list and a map.
const LIST: u64 = 10;
const MAP: u64 = 30;

/// The outcome of an expression over these values, the last of a name counting.
///
/// # Errors
/// A fault in the expression, or a limit.
pub(super) fn evaluate<'a>(
    tree: &'a Tree,
    names: Vec<(&'a str, Value)>,
    meter: &mut Meter,
) -> Outcome {
    let mut evaluation = Evaluation {
        names,
        constants: HashMap::new(),
        meter,
    };
    evaluation.part(tree)
}

struct Evaluation<'a, 'm> {
    /// Values by name, innermost last.
    names: Vec<(&'a str, Value)>,
    /// Literals, and lists of nothing else, are made once. They are known by their place in the tree.
    constants: HashMap<*const Tree, Value>,
    meter: &'m mut Meter,
}

impl<'a> Evaluation<'a, '_> {
    fn part(&mut self, tree: &'a Tree) -> Outcome {
        self.meter.step()?;
        match &tree.expr {
            Expr::Ident(name) => self.named(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.fold(comprehension),
            Expr::Map(map) => self.map(map),
            Expr::Literal(_) | Expr::List(_) => self.constant(tree),
            Expr::Struct(object) => Err(format!("unknown type: {}", object.type_name).into()),
            Expr::Unspecified => Err("the expression is incomplete".into()),
        }
    }

    fn constant(&mut self, tree: &'a Tree) -> Outcome {
        let at: *const Tree = tree;
        if let Some(value) = self.constants.get(&at) {
            return Ok(value.clone());
        }
        let value = match &tree.expr {
            Expr::Literal(literal) => self.literal(literal)?,
            Expr::List(list) => {
                let value = self.list(list)?;
                let plain = |part: &Tree| matches!(part.expr, Expr::Literal(_));
                if !list.elements.iter().all(plain) {
                    return Ok(value);
                }
                value
            }
            _ => return Err("the expression is incomplete".into()),
        };
        self.constants.insert(at, value.clone());
        Ok(value)
    }

    fn literal(&mut self, literal: &LiteralValue) -> Outcome {
        let length = match literal {
            LiteralValue::String(text) => text.inner().len(),
            LiteralValue::Bytes(bytes) => bytes.inner().len(),
            _ => 0,
        };
        self.meter.make_values(1, length)?;
        Ok(match literal {
            LiteralValue::Boolean(flag) => Value::Bool(*flag.inner()),
            LiteralValue::Bytes(bytes) => Value::Bytes(Arc::new(bytes.inner().to_vec())),
            LiteralValue::Double(number) => Value::Float(*number.inner()),
            LiteralValue::Int(number) => Value::Int(*number.inner()),
            LiteralValue::Null => Value::Null,
            LiteralValue::String(text) => Value::String(Arc::new(text.inner().to_owned())),
            LiteralValue::UInt(number) => Value::UInt(*number.inner()),
        })
    }

    fn named(&mut self, name: &str) -> Outcome {
        self.meter.charge(1)?;
        let found = self.names.iter().rev().find(|(have, _)| *have == name);
        match found {
            Some((_, value)) => Ok(value.clone()),
            None => library::type_named(name)
                .ok_or_else(|| format!("undeclared reference to '{name}'").into()),
        }
    }

    fn select(&mut self, select: &'a SelectExpr) -> Outcome {
        let operand = self.part(&select.operand)?;
        self.meter.charge(1)?;
        library::select(&operand, &select.field, select.test)
    }

    fn list(&mut self, list: &'a ListExpr) -> Outcome {
        self.meter.charge(LIST)?;
        self.meter.make_values(list.elements.len() + 1, 0)?;
        let mut items = Vec::with_capacity(list.elements.len());
        for (at, element) in list.elements.iter().enumerate() {
            let item = self.part(element)?;
            if list.optional_indices.contains(&at) {
                items.extend(library::inside(item)?);
            } else {
                items.push(item);
            }
        }
        Ok(Value::List(Arc::new(items)))
    }

    fn map(&mut self, map: &'a MapExpr) -> Outcome {
        self.meter.charge(MAP)?;
        self.meter.make_values(2 * map.entries.len() + 1, 0)?;
        let mut entries = HashMap::with_capacity(map.entries.len());
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return Err("a map has keys and values".into());
            };
            let key = library::key(&self.part(&entry.key)?)?;
            let value = self.part(&entry.value)?;
            let value = match entry.optional {
                true => library::inside(value)?,
                false => Some(value),
            };
            let Some(value) = value else { continue };
            if entries.contains_key(&key) {
                let key = library::plain(&key);
                return Err(format!("failed with repeated key: {key:?}").into());
            }
            entries.insert(key, value);
        }
        let map = Arc::new(entries);
        Ok(Value::Map(Map { map }))
    }

    fn call(&mut self, call: &'a CallExpr) -> Outcome {
        match (&*call.func_name, &*call.args) {
            (operators::CONDITIONAL, [condition, yes, no]) => {
                let holds = self.flag(condition)?;
                self.part(if holds { yes } else { no })
            }
            (operators::LOGICAL_OR, [left, right]) => self.either(left, right, true),
            (operators::LOGICAL_AND, [left, right]) => self.either(left, right, false),
            (operators::NOT_STRICTLY_FALSE, [operand]) => {
                let open = self.truth(operand)?.unwrap_or(true);
                Ok(Value::Bool(open))
            }
            _ => self.function(call),
        }
    }

    fn function(&mut self, call: &'a CallExpr) -> Outcome {
        let mut values = Vec::with_capacity(call.args.len() + 1);
        let mut name = call.func_name.as_str();
        if let Some(target) = &call.target {
            let qualified = match &target.expr {
                Expr::Ident(prefix) => library::qualified(prefix, name),
                _ => None,
            };
            match qualified {
                Some(qualified) => name = qualified,
                None => values.push(self.part(target)?),
            }
        }
        for argument in &call.args {
            values.push(self.part(argument)?);
        }
        library::call(name, &values, self.meter)
    }

    fn flag(&mut self, tree: &'a Tree) -> Result<bool, Failure> {
        self.truth(tree)?.map_err(Failure::Fault)
    }

    /// The outcome as a bool, or what is wrong with it; `Err` is a limit.
    fn truth(&mut self, tree: &'a Tree) -> Result<Result<bool, String>, Failure> {
        match self.part(tree) {
            Ok(Value::Bool(flag)) => Ok(Ok(flag)),
            Ok(_) => Ok(Err("no such overload".to_owned())),
            Err(Failure::Fault(why)) => Ok(Err(why)),
            Err(limit) => Err(limit),
        }
    }

    /// `||` and `&&`: the value that `wins` makes errors of the other side irrelevant.
    fn either(&mut self, left: &'a Tree, right: &'a Tree, wins: bool) -> Outcome {
        let left = self.truth(left)?;
        if left == Ok(wins) {
            return Ok(Value::Bool(wins));
        }
        let right = self.truth(right)?;
        if right == Ok(wins) {
            return Ok(Value::Bool(wins));
        }
        left.and(right).map(Value::Bool).map_err(Failure::Fault)
    }

    fn fold(&mut self, fold: &'a ComprehensionExpr) -> Outcome {
        let range = self.part(&fold.iter_range)?;
        let start = self.part(&fold.accu_init)?;
        let outside = self.names.len();
        self.names.push((&fold.accu_var, start));
        self.names.push((&fold.iter_var, Value::Null));
        let outcome = match &range {
            Value::List(items) => self.rounds(fold, outside, items.iter().cloned()),
            Value::Map(map) => self.rounds(fold, outside, map.map.keys().map(library::plain)),
            _ => Err("no such overload".into()),
        };
        let outcome = outcome.and_then(|()| {
            self.names.truncate(outside + 1);
            self.part(&fold.result)
        });
        self.names.truncate(outside);
        outcome
    }

    /// `at` is the place of what the loop gathers among the names; its variable is the next.
    fn rounds(
        &mut self,
        fold: &'a ComprehensionExpr,
        at: usize,
        items: impl Iterator<Item = Value>,
    ) -> Result<(), Failure> {
        for item in items {
            if !self.flag(&fold.loop_cond)? {
                break;
            }
            self.put(at + 1, item);
            self.advance(at, &fold.accu_var, &fold.loop_step)?;
        }
        Ok(())
    }

    fn put(&mut self, at: usize, value: Value) {
        if let Some((_, have)) = self.names.get_mut(at) {
            *have = value;
        }
    }

    fn take(&mut self, at: usize) -> Value {
        let place = self.names.get_mut(at);
        place.map_or(Value::Null, |(_, value)| {
            std::mem::replace(value, Value::Null)
        })
    }

    /// One round's effect on what the loop gathers. Lists and maps that only it holds grow in place; anything else would
    /// copy them in each round.
    fn advance(&mut self, at: usize, gathered: &str, step: &'a Tree) -> Result<(), Failure> {
        let is_gathered = |tree: &Tree| matches!(&tree.expr, Expr::Ident(name) if name == gathered);
        if is_gathered(step) {
            return Ok(());
        }
        if let Expr::Call(call) = &step.expr {
            match (&*call.func_name, &*call.args) {
                (operators::CONDITIONAL, [condition, yes, no]) => {
                    let holds = self.flag(condition)?;
                    return self.advance(at, gathered, if holds { yes } else { no });
                }
                (operators::ADD, [first, more])
                    if is_gathered(first) && matches!(more.expr, Expr::List(_)) =>
                {
                    let more = self.part(more)?;
                    self.meter.charge(2)?;
                    let grown = library::append(self.take(at), &more, self.meter)?;
                    self.put(at, grown);
                    return Ok(());
                }
                (INSERT, [first, entries @ ..]) if is_gathered(first) => {
                    let mut values = Vec::with_capacity(entries.len());
                    for entry in entries {
                        values.push(self.part(entry)?);
                    }
                    let grown = library::insert(self.take(at), &values, self.meter)?;
                    self.put(at, grown);
                    return Ok(());
                }
                _ => {}
            }
        }
        let value = self.part(step)?;
        self.put(at, value);
        Ok(())
    }
}
