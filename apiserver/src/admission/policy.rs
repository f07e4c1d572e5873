//! `ValidatingAdmissionPolicy` and `MutatingAdmissionPolicy`: admission by expressions in the cluster's own objects.

mod definition;
mod evaluation;
mod mutating;
mod params;
mod typecheck;
mod validating;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::facts;
use super::matching::{Hit, Scene, is_exempt};
use super::webhook::Parts;
use super::{Error, Plugin, Request, versions};
use crate::schema::cel::Scope;
use definition::{Binding, Definitions, Hook, Policy};
use evaluation::Evaluation;
pub(crate) use typecheck::TypeChecked;

/// The plugin of one of the two kinds of policies.
pub(super) struct Policies {
    parts: Parts,
    definitions: Definitions,
    mutating: bool,
}

/// A policy that applies through one of its bindings, with one of its parameters.
struct Invocation<'a> {
    policy: &'a Policy,
    binding: &'a Binding,
    hit: Hit,
    param: Value,
}

/// A policy that cannot be asked, and why.
struct Misfit<'a> {
    policy: &'a Policy,
    binding: Option<&'a Binding>,
    why: String,
}

/// What is asked of a policy: the same for all its expressions.
struct Case {
    facts: Value,
    namespace: Value,
}

impl Policies {
    pub(super) fn mutating(parts: Parts) -> Self {
        Self {
            parts,
            definitions: Definitions::new(definition::MUTATING),
            mutating: true,
        }
    }

    pub(super) fn validating(parts: Parts) -> Self {
        Self {
            parts,
            definitions: Definitions::new(definition::VALIDATING),
            mutating: false,
        }
    }

    /// All policies that apply, and those that would if they could be asked.
    async fn collect<'a>(
        &self,
        scene: &Scene<'_>,
        hooks: &'a [Hook],
        object: &Value,
    ) -> Result<(Vec<Invocation<'a>>, Vec<Misfit<'a>>), Error> {
        let (mut invocations, mut misfits) = (Vec::new(), Vec::new());
        for hook in hooks {
            let policy = &hook.policy;
            let mut misfit = |binding, why: &str| {
                let why = why.to_owned();
                misfits.push(Misfit {
                    policy,
                    binding,
                    why,
                });
            };
            let hit = match &policy.matcher {
                Ok(matcher) => matcher.find(scene, object)?,
                Err(why) => {
                    misfit(None, why);
                    continue;
                }
            };
            let Some(hit) = hit else { continue };
            if let Some(fault) = &policy.fault {
                misfit(None, fault);
                continue;
            }
            for binding in &hook.bindings {
                match binding.matcher.as_ref().map(|m| m.find(scene, object)) {
                    Ok(Ok(Some(_))) => {}
                    Ok(Ok(None)) => continue,
                    Ok(Err(error)) => return Err(error),
                    Err(why) => {
                        misfit(Some(binding), why);
                        continue;
                    }
                }
                match params::collect(&self.parts, scene.request, policy, binding).await {
                    Err(why) => misfit(Some(binding), &why),
                    Ok(params) => invocations.extend(params.into_iter().map(|param| Invocation {
                        policy,
                        binding,
                        hit: hit.clone(),
                        param,
                    })),
                }
            }
        }
        Ok((invocations, misfits))
    }

    /// What an invocation's expressions speak of.
    fn case(&self, scene: &Scene<'_>, hit: &Hit, object: &Value) -> Result<Case, Error> {
        let request = scene.request;
        let name = request.namespace;
        let mut namespace = Value::Null;
        if !name.is_empty() && !request.is("", "namespaces") {
            namespace = scene.namespace(name)?.clone();
            for hidden in ["managedFields", "ownerReferences"] {
                if let Some(metadata) = namespace["metadata"].as_object_mut() {
                    metadata.remove(hidden);
                }
            }
        }
        Ok(Case {
            facts: facts::facts(request, hit, object),
            namespace,
        })
    }

    /// The values for an invocation's expressions.
    async fn scope(
        &self,
        scene: &Scene<'_>,
        invocation: &Invocation<'_>,
        case: &Case,
        object: &Value,
    ) -> Result<Scope, Error> {
        let old = scene.request.old.unwrap_or(&Value::Null);
        let new_seen = versions::seen(scene, &invocation.hit, object).await?;
        let old_seen = versions::seen(scene, &invocation.hit, old).await?;
        let mut scope = facts::scope(
            Scope::default(),
            scene.request,
            &case.facts,
            new_seen.as_ref().unwrap_or(object),
            old_seen.as_ref().unwrap_or(old),
            &self.parts.authorizer,
        );
        scope.set("namespaceObject", &case.namespace);
        scope.set("params", &invocation.param);
        Ok(scope)
    }
}

impl<'a> Invocation<'a> {
    fn evaluation(&self, scope: Scope) -> Evaluation<'a> {
        Evaluation::new(self.policy, scope)
    }
}

impl Misfit<'_> {
    /// What is wrong with what.
    fn message(&self) -> String {
        let what = if self.binding.is_some() {
            "binding"
        } else {
            "policy"
        };
        format!("failed to configure {what}: {}", self.why)
    }
}

/// The `Status` of a refusal by policies.
fn refusal(
    request: &Request<'_>,
    code: u16,
    reason: &str,
    message: &str,
    causes: &[String],
) -> Error {
    let causes: Vec<Value> = causes.iter().map(|c| json!({ "message": c })).collect();
    let mut details = json!({ "kind": request.resource, "causes": causes });
    if !request.name.is_empty() {
        details["name"] = request.name.into();
    }
    if !request.group.is_empty() {
        details["group"] = request.group.into();
    }
    Error::Status(Box::new(json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": code,
    })))
}

#[async_trait]
impl Plugin for Policies {
    fn name(&self) -> &'static str {
        if self.mutating {
            "MutatingAdmissionPolicy"
        } else {
            "ValidatingAdmissionPolicy"
        }
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        !self.definitions.current(&*self.parts.source).is_empty() && !is_exempt(request)
    }

    async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        match request.round {
            Some(round) if self.mutating => self.change(request, round, object).await,
            _ => Ok(()),
        }
    }

    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        if self.mutating {
            return Ok(());
        }
        self.check(request, object).await
    }
}
