//! Mutating: expressions that give configurations to merge or patches to apply.

use serde_json::Value;

use super::definition::Mutation;
use super::{Invocation, Policies, refusal};
use crate::admission::matching::{Hit, Scene};
use crate::admission::round::Turn;
use crate::admission::{Error, Request, Round, versions};
use crate::apply;
use crate::schema::cel::to_json;

impl Policies {
    pub(super) async fn change(
        &self,
        request: &Request<'_>,
        round: &Round,
        object: &mut Value,
    ) -> Result<(), Error> {
        let hooks = self.definitions.current(&*self.parts.source);
        let scene = Scene::new(request, &*self.parts.source, &self.parts.registry);
        let (invocations, misfits) = self.collect(&scene, &hooks, object).await?;
        let mut faults: Vec<(String, bool)> = misfits
            .iter()
            .filter(|misfit| !misfit.policy.ignores)
            .map(|misfit| {
                let binding = misfit.binding.map(|binding| binding.name.as_str());
                (
                    denied(&misfit.policy.name, binding, &misfit.message()),
                    false,
                )
            })
            .collect();
        round.begin(Turn::Policies, object);
        for invocation in &invocations {
            let (policy, binding) = (invocation.policy, invocation.binding);
            let param = &invocation.param["metadata"];
            let id = format!(
                "{}/{}/{}/{}",
                policy.name, binding.name, param["namespace"], param["name"]
            );
            if !round.calls(Turn::Policies, &id) {
                continue;
            }
            let before = object.clone();
            for fault in self.run(&scene, invocation, object).await? {
                if !policy.ignores {
                    faults.push((denied(&policy.name, Some(&binding.name), &fault), true));
                }
            }
            let changed = before != *object;
            round.called(Turn::Policies, &id, changed, policy.reinvoked);
        }
        round.end(Turn::Policies, object);
        let Some((first, evaluated)) = faults.first() else {
            return Ok(());
        };
        let reason = if *evaluated { "Invalid" } else { "Forbidden" };
        let causes: Vec<String> = faults.iter().map(|(message, _)| message.clone()).collect();
        Err(refusal(request, 403, reason, first, &causes))
    }

    /// Carries out the mutations in order; what goes wrong with one does not keep the next from running.
    async fn run(
        &self,
        scene: &Scene<'_>,
        invocation: &Invocation<'_>,
        object: &mut Value,
    ) -> Result<Vec<String>, Error> {
        let mut faults = Vec::new();
        for (index, mutation) in invocation.policy.mutations.iter().enumerate() {
            if object.is_null() {
                break;
            }
            let case = self.case(scene, &invocation.hit, object)?;
            let scope = self.scope(scene, invocation, &case, object).await?;
            let mut evaluation = invocation.evaluation(scope);
            if index == 0 {
                match evaluation.holds() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(why) => {
                        faults.push(why);
                        break;
                    }
                }
            }
            let (Mutation::Apply(expression) | Mutation::Patch(expression)) = mutation;
            let outcome = evaluation.run(expression).map_err(|why| {
                format!(
                    "expression '{}' resulted in error: {why}",
                    expression.source()
                )
            });
            let seen = versions::seen(scene, &invocation.hit, object).await?;
            let seen = seen.as_ref().unwrap_or(object);
            let outcome = outcome.and_then(|value| to_json(&value));
            let outcome = outcome.and_then(|value| match mutation {
                Mutation::Apply(_) => merged(scene, &invocation.hit, seen, value),
                Mutation::Patch(_) => patched(seen, &value),
            });
            match outcome {
                Ok(changed) => *object = versions::settled(scene, &invocation.hit, changed).await?,
                Err(why) => faults.push(why),
            }
        }
        Ok(faults)
    }
}

fn denied(policy: &str, binding: Option<&str>, why: &str) -> String {
    match binding {
        Some(binding) => {
            format!("policy '{policy}' with binding '{binding}' denied request: {why}")
        }
        None => format!("policy '{policy}' denied request: {why}"),
    }
}

fn merged(scene: &Scene<'_>, hit: &Hit, object: &Value, config: Value) -> Result<Value, String> {
    if !config.is_object() {
        return Err("unsupported return type from ApplyConfiguration expression".to_owned());
    }
    let resource = match hit {
        Hit::Own => scene.own(),
        Hit::As(other) => Some(other.clone()),
    };
    let resource = resource.ok_or("the resource is not served any more")?;
    apply::overlay(resource.schema(), object.clone(), config)
        .map_err(|why| format!("error applying patch: {why}"))
}

fn patched(object: &Value, operations: &Value) -> Result<Value, String> {
    let text = operations.to_string();
    crate::patch::json(object, text.as_bytes(), &mut Vec::new())
        .map_err(|error| format!("JSON Patch: {error}"))
}
