//! A request in the words of the admission API, for webhooks and for expressions.

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::admissionregistration::v1 as api;
use serde_json::{Map, Value, json};

use super::matching::Hit;
use super::{Operation, Request};
use crate::auth::{Attributes, Authorizer, ResourceAttributes, UserInfo};
use crate::request::Options;
use crate::resource::Resource;
use crate::schema::cel::{Access, Expression, Question, Scope, Verdict};

/// Group, version and kind of an object; the request's own when it does not say.
pub(super) fn kind_of(request: &Request<'_>, object: &Value) -> (String, String, String) {
    let own = if object.is_null() {
        request.old.unwrap_or(object)
    } else {
        object
    };
    match (own["apiVersion"].as_str(), own["kind"].as_str()) {
        (Some(api_version), Some(kind)) => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            (group.to_owned(), version.to_owned(), kind.to_owned())
        }
        _ => (
            request.group.to_owned(),
            request.version.to_owned(),
            request.kind.to_owned(),
        ),
    }
}

fn kind_value((group, version, kind): &(String, String, String)) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}

/// The AdmissionRequest without its uid and its objects. `object` is as the request has it.
pub(super) fn facts(request: &Request<'_>, hit: &Hit, object: &Value) -> Value {
    let own = kind_of(request, object);
    let (kind, group, version, resource) = match hit {
        Hit::Own => (
            own.clone(),
            request.group,
            request.version,
            request.resource,
        ),
        Hit::As(other) => {
            let is_whole = own.2 == request.kind;
            let kind = if is_whole {
                as_kind(other)
            } else {
                own.clone()
            };
            (kind, &*other.group, &*other.version, &*other.plural)
        }
    };
    let resource_value = |group: &str, version: &str, resource: &str| json!({ "group": group, "version": version, "resource": resource });
    let mut facts = json!({
        "kind": kind_value(&kind),
        "resource": resource_value(group, version, resource),
        "requestKind": kind_value(&own),
        "requestResource": resource_value(request.group, request.version, request.resource),
        "operation": request.operation.as_str(),
        "userInfo": user_value(request.user),
        "dryRun": request.dry_run,
        "options": options(request),
    });
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            facts[key] = value.into();
        }
    };
    add("subResource", request.subresource);
    add("requestSubResource", request.subresource);
    add("name", request.name);
    add("namespace", namespace_of(request));
    facts
}

/// A namespace is in itself.
pub(super) fn namespace_of<'a>(request: &Request<'a>) -> &'a str {
    if request.is("", "namespaces") {
        request.name
    } else {
        request.namespace
    }
}

fn as_kind(resource: &Resource) -> (String, String, String) {
    let owned = |text: &Arc<str>| text.to_string();
    (
        owned(&resource.group),
        owned(&resource.version),
        owned(&resource.kind),
    )
}

fn user_value(user: &UserInfo) -> Value {
    let mut value = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        value["uid"] = user.uid.clone().into();
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

/// The options of the verb as an object of their own.
fn options(request: &Request<'_>) -> Value {
    let kind = match request.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut out = Map::new();
    out.insert("kind".to_owned(), kind.into());
    out.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
    if request.dry_run {
        out.insert("dryRun".to_owned(), json!(["All"]));
    }
    let Some(options) = request.options else {
        return out.into();
    };
    if request.operation == Operation::Delete {
        deletion(options, &mut out);
    } else if let Some(manager) = &options.field_manager {
        out.insert("fieldManager".to_owned(), manager.clone().into());
    }
    out.into()
}

fn deletion(options: &Options, out: &mut Map<String, Value>) {
    if let Some(grace) = options.grace_seconds {
        out.insert("gracePeriodSeconds".to_owned(), grace.into());
    }
    if let Some(policy) = options.propagation {
        out.insert("propagationPolicy".to_owned(), policy.name().into());
    }
}

/// The rights of a request's user, as expressions ask for them.
pub(super) struct Rights {
    authorizer: Arc<Authorizer>,
    user: UserInfo,
}

impl Access for Rights {
    fn decide(&self, question: &Question) -> Verdict {
        let account = question.service_account.as_ref();
        let account = account.map(|(namespace, name)| UserInfo::service_account(namespace, name));
        let user = account.as_ref().unwrap_or(&self.user);
        let attributes = match &question.path {
            Some(path) => Attributes::path(&question.verb, path),
            None => Attributes::resource(
                &question.verb,
                ResourceAttributes {
                    group: &question.group,
                    version: "*",
                    resource: &question.resource,
                    subresource: &question.subresource,
                    namespace: &question.namespace,
                    name: &question.name,
                    ..ResourceAttributes::default()
                },
            ),
        };
        // Expressions cannot wait; an authorizer that would is one that does not know.
        match self.authorizer.authorize(user, &attributes).now_or_never() {
            Some(decision) if decision.is_allowed() => {
                Verdict::Allowed(decision.reason().to_owned())
            }
            Some(decision) => Verdict::NotAllowed(decision.reason().to_owned()),
            None => Verdict::NotAllowed(String::new()),
        }
    }
}

/// Binds what every expression of admission may speak of.
pub(super) fn scope(
    base: Scope,
    request: &Request<'_>,
    facts: &Value,
    object: &Value,
    old: &Value,
    authorizer: &Arc<Authorizer>,
) -> Scope {
    let mut scope = base;
    scope.set("object", object);
    scope.set("oldObject", old);
    scope.set("request", facts);
    let rights = Rights {
        authorizer: authorizer.clone(),
        user: request.user.clone(),
    };
    let own = Question {
        group: request.group.to_owned(),
        resource: request.resource.to_owned(),
        subresource: request.subresource.to_owned(),
        namespace: request.namespace.to_owned(),
        name: request.name.to_owned(),
        ..Question::default()
    };
    scope.set_authorizer(Arc::new(rights), own);
    scope
}

/// `matchConditions`: all must hold.
#[derive(Debug, Default)]
pub(super) struct Conditions(Vec<(String, Expression)>);

impl Conditions {
    /// Compiles them over the values called `names`.
    pub(super) fn compile(
        conditions: Option<&Vec<api::MatchCondition>>,
        names: &[&str],
    ) -> Result<Self, String> {
        let compiled = conditions.into_iter().flatten().map(|condition| {
            let expression = Expression::compile(&condition.expression, names)?;
            Ok((condition.name.clone(), expression))
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is nothing to ask.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The expressions with their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(String, Expression)> {
        self.0.iter()
    }
}

/// The verdict of all conditions: one that does not hold outweighs those that fail.
pub(super) fn judge<'a>(
    outcomes: impl Iterator<Item = (&'a str, Result<cel::Value, String>)>,
) -> Result<bool, String> {
    let mut failures = Vec::new();
    for (source, outcome) in outcomes {
        match outcome {
            Ok(cel::Value::Bool(true)) => {}
            Ok(cel::Value::Bool(false)) => return Ok(false),
            Ok(other) => failures.push(format!(
                "expression '{source}' resulted in error: cel expression evaluates to {}",
                other.type_of()
            )),
            Err(why) => failures.push(format!("expression '{source}' resulted in error: {why}")),
        }
    }
    match failures.as_slice() {
        [] => Ok(true),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}
