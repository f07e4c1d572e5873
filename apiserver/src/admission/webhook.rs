//! `MutatingAdmissionWebhook` and `ValidatingAdmissionWebhook`: servers that users put into the chain.
//!
//! Mutating webhooks are called one after the other, by the name of their configuration and then by their place
//! in it; validating ones all at once.

mod call;
mod config;
mod review;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use serde_json::{Value, json};

use super::facts::{self, judge};
use super::matching::{Hit, Scene, is_exempt};
use super::round::Turn;
use super::{Error, Plugin, Request, versions};
use crate::auth::{Authorizer, ObjectSource};
use crate::callout::Callouts;
use crate::resource::Registry;
use crate::schema::cel::Scope;
use call::Failure;
use config::{Configurations, Webhook};

/// What plugins that run users' code need of the server.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) source: Arc<dyn ObjectSource>,
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) registry: Arc<Registry>,
    pub(super) callouts: Arc<Callouts>,
}

/// The plugin of one of the two kinds of webhooks.
pub(super) struct Webhooks {
    parts: Parts,
    configurations: Configurations,
    mutating: bool,
}

/// A webhook that is called for this request, with what it is told.
struct Due<'a> {
    hook: &'a Webhook,
    /// Its place among all webhooks of the kind.
    index: usize,
    hit: Hit,
    facts: Value,
    /// The objects, where they differ from those of the request.
    object: Option<Value>,
    old: Option<Value>,
}

impl Webhooks {
    pub(super) fn mutating(parts: Parts) -> Self {
        let configurations = Configurations::new(config::MUTATING);
        Self {
            parts,
            configurations,
            mutating: true,
        }
    }

    pub(super) fn validating(parts: Parts) -> Self {
        let configurations = Configurations::new(config::VALIDATING);
        Self {
            parts,
            configurations,
            mutating: false,
        }
    }

    fn scene<'a>(&'a self, request: &'a Request<'a>) -> Scene<'a> {
        Scene::new(request, &*self.parts.source, &self.parts.registry)
    }

    /// Whether the webhook is to be called, and with what.
    async fn due<'a>(
        &self,
        scene: &Scene<'_>,
        hook: &'a Webhook,
        index: usize,
        object: &Value,
    ) -> Result<Option<Due<'a>>, Error> {
        let request = scene.request;
        let matcher = match &hook.matcher {
            Ok(matcher) => matcher,
            Err(message) => {
                let message = message.clone();
                return Err(Error::Internal { message });
            }
        };
        let Some(hit) = matcher.find(scene, object)? else {
            return Ok(None);
        };
        let old = request.old.unwrap_or(&Value::Null);
        let due = Due {
            hook,
            index,
            facts: facts::facts(request, &hit, object),
            object: versions::seen(scene, &hit, object).await?,
            old: versions::seen(scene, &hit, old).await?,
            hit,
        };
        Ok(self.holds(request, &due, object)?.then_some(due))
    }

    /// Whether the match conditions hold.
    fn holds(&self, request: &Request<'_>, due: &Due<'_>, object: &Value) -> Result<bool, Error> {
        let verdict = match &due.hook.conditions {
            Ok(conditions) if conditions.is_empty() => return Ok(true),
            Ok(conditions) => {
                let object = due.object.as_ref().unwrap_or(object);
                let old = request.old.unwrap_or(&Value::Null);
                let old = due.old.as_ref().unwrap_or(old);
                let authorizer = &self.parts.authorizer;
                let scope = facts::scope(
                    Scope::of_conditions(),
                    request,
                    &due.facts,
                    object,
                    old,
                    authorizer,
                );
                let outcomes = conditions.iter();
                judge(outcomes.map(|(_, e)| (e.source(), e.evaluate(&scope))))
            }
            Err(why) => Err(why.clone()),
        };
        match verdict {
            Ok(holds) => Ok(holds),
            Err(_) if due.hook.ignores => Ok(false),
            Err(why) => Err(Error::forbidden(why)),
        }
    }

    /// One mutating webhook: whether it changed the object.
    async fn change(
        &self,
        scene: &Scene<'_>,
        due: &Due<'_>,
        object: &mut Value,
    ) -> Result<bool, Error> {
        let request = scene.request;
        let answer = self.ask(request, due, object).await;
        let round = u8::from(request.round.is_some_and(super::Round::is_second));
        let place = format!("round_{round}_index_{}", due.index);
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                failure.or_open(request, due.hook, "mutation", &place)?;
                return Ok(false);
            }
        };
        let before = due.object.as_ref().unwrap_or(object);
        let changed = match answer.patch {
            None => None,
            Some(_) if object.is_null() => {
                let name = &due.hook.name;
                let message = format!(
                    "admission webhook {name:?} attempted to modify the object, which is not supported \
                     for this operation"
                );
                return Err(Error::Internal { message });
            }
            Some(patch) => {
                let patched = crate::patch::json(before, &patch, &mut Vec::new());
                let patched = patched.map_err(|error| Error::Internal {
                    message: error.to_string(),
                })?;
                let settled = versions::settled(scene, &due.hit, patched).await?;
                Some(settled).filter(|new| new != object)
            }
        };
        let note = json!({
            "configuration": due.hook.configuration, "webhook": due.hook.name,
            "mutated": changed.is_some(),
        });
        let key = format!("mutation.webhook.admission.k8s.io/{place}");
        request.notes.annotate(key, note.to_string());
        let mutated = changed.is_some();
        if let Some(changed) = changed {
            *object = changed;
        }
        Ok(mutated)
    }

    async fn ask(
        &self,
        request: &Request<'_>,
        due: &Due<'_>,
        object: &Value,
    ) -> Result<review::Answer, Failure> {
        let old = request.old.unwrap_or(&Value::Null);
        let question = call::Question {
            facts: &due.facts,
            object: due.object.as_ref().unwrap_or(object),
            old: due.old.as_ref().unwrap_or(old),
            mutating: self.mutating,
        };
        call::ask(&self.parts.callouts, request, due.hook, &question).await
    }
}

#[async_trait]
impl Plugin for Webhooks {
    fn name(&self) -> &'static str {
        if self.mutating {
            "MutatingAdmissionWebhook"
        } else {
            "ValidatingAdmissionWebhook"
        }
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        !self.configurations.current(&*self.parts.source).is_empty() && !is_exempt(request)
    }

    async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        let hooks = self.configurations.current(&*self.parts.source);
        let Some(round) = request.round.filter(|_| self.mutating) else {
            return Ok(());
        };
        let scene = self.scene(request);
        round.begin(Turn::Webhooks, object);
        for (index, hook) in hooks.iter().enumerate() {
            let Some(due) = self.due(&scene, hook, index, object).await? else {
                continue;
            };
            if !round.calls(Turn::Webhooks, &hook.id) {
                continue;
            }
            let changed = self.change(&scene, &due, object).await?;
            round.called(Turn::Webhooks, &hook.id, changed, hook.reinvoked);
        }
        round.end(Turn::Webhooks, object);
        Ok(())
    }

    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        if self.mutating {
            return Ok(());
        }
        let hooks = self.configurations.current(&*self.parts.source);
        let scene = self.scene(request);
        let mut due = Vec::new();
        for (index, hook) in hooks.iter().enumerate() {
            due.extend(self.due(&scene, hook, index, object).await?);
        }
        let calls = due.iter().map(|due| async move {
            let failure = match self.ask(request, due, object).await {
                Ok(_) => return Ok(()),
                Err(failure) => failure,
            };
            let place = format!("round_0_index_{}", due.index);
            failure.or_open(request, due.hook, "validating", &place)
        });
        // All are called whatever some say; the first that refuses is the one the client hears of.
        join_all(calls).await.into_iter().collect()
    }
}
