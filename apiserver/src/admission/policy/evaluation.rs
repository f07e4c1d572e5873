//! The expressions of one policy over one request: variables are computed when they are first used, and once.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value as Cel;
use cel::objects::{Key, Map};

use super::definition::Policy;
use crate::admission::facts::judge;
use crate::schema::cel::{Expression, Scope};

/// An evaluation in progress.
pub(super) struct Evaluation<'a> {
    policy: &'a Policy,
    scope: Scope,
    variables: HashMap<&'a str, Result<Cel, String>>,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(policy: &'a Policy, scope: Scope) -> Self {
        Self {
            policy,
            scope,
            variables: HashMap::new(),
        }
    }

    /// Whether the match conditions of the policy hold.
    ///
    /// # Errors
    /// Text for the user: one fails and none says no.
    pub(super) fn holds(&mut self) -> Result<bool, String> {
        if self.policy.conditions.is_empty() {
            return Ok(true);
        }
        let policy = self.policy;
        let outcomes = policy.conditions.iter();
        judge(outcomes.map(|(_, expression)| (expression.source(), self.run(expression))))
    }

    /// The outcome of an expression.
    ///
    /// # Errors
    /// Text for the user.
    pub(super) fn run(&mut self, expression: &Expression) -> Result<Cel, String> {
        if !expression.variables().is_empty() {
            for name in expression.variables() {
                self.compute(name);
            }
            let computed = self.variables.iter().filter_map(|(name, value)| {
                let key = Key::String(Arc::new((*name).to_owned()));
                Some((key, value.clone().ok()?))
            });
            let map = Arc::new(computed.collect::<HashMap<Key, Cel>>());
            self.scope.set_value("variables", Cel::Map(Map { map }));
        }
        let outcome = expression.evaluate(&self.scope);
        outcome.map_err(|why| self.explain(expression, why))
    }

    /// Computes a variable and those it uses. Variables may only use those before them, so this ends.
    fn compute(&mut self, name: &str) {
        let policy = self.policy;
        let Some(at) = policy.variables.iter().position(|(have, _)| have == name) else {
            return;
        };
        let Some((name, expression)) = policy.variables.get(at) else {
            return;
        };
        if self.variables.contains_key(name.as_str()) {
            return;
        }
        let earlier = policy.variables.get(..at).unwrap_or_default();
        let used = expression.variables();
        if used
            .iter()
            .any(|used| !earlier.iter().any(|(have, _)| **have == **used))
        {
            let why = "undefined field among variables".to_owned();
            self.variables.insert(name, Err(why));
            return;
        }
        let outcome = self.run(expression);
        self.variables.insert(name, outcome);
    }

    /// A variable that is missing because its own expression failed.
    fn explain(&self, expression: &Expression, why: String) -> String {
        let failed = expression.variables().iter().find_map(|name| {
            let outcome = self.variables.get(&**name)?.as_ref().err()?;
            why.starts_with(&format!("no such key: {name}"))
                .then(|| format!("composited variable {name:?} fails to evaluate: {outcome}"))
        });
        failed.unwrap_or(why)
    }
}
