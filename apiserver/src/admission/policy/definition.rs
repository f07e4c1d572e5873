//! Policies with their bindings, compiled once a change.

use std::sync::Arc;

use arc_swap::ArcSwap;
use k8s_openapi::api::admissionregistration::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::admission::facts::Conditions;
use crate::admission::matching::Matcher;
use crate::auth::{Kind, ObjectSource};
use crate::schema::cel::{Expression, POLICY_NAMES};

/// Where policies and their bindings are.
pub(super) type Kinds = (Kind, Kind);

const fn kind(plural: &'static str) -> Kind {
    Kind {
        group: "admissionregistration.k8s.io",
        plural,
    }
}

pub(super) const VALIDATING: Kinds = (
    kind("validatingadmissionpolicies"),
    kind("validatingadmissionpolicybindings"),
);
pub(super) const MUTATING: Kinds = (
    kind("mutatingadmissionpolicies"),
    kind("mutatingadmissionpolicybindings"),
);

/// The specs of both kinds of policies in one.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    param_kind: Option<api::ParamKind>,
    match_constraints: Option<api::MatchResources>,
    failure_policy: Option<String>,
    match_conditions: Option<Vec<api::MatchCondition>>,
    variables: Vec<api::Variable>,
    validations: Vec<api::Validation>,
    audit_annotations: Vec<api::AuditAnnotation>,
    mutations: Vec<api::Mutation>,
    reinvocation_policy: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BindingSpec {
    policy_name: String,
    param_ref: Option<api::ParamRef>,
    match_resources: Option<api::MatchResources>,
    validation_actions: Vec<String>,
}

#[derive(Deserialize)]
struct Written<S> {
    metadata: meta::ObjectMeta,
    spec: S,
}

/// A policy with the bindings that put it to work.
pub(super) struct Hook {
    pub(super) policy: Policy,
    pub(super) bindings: Vec<Binding>,
}

/// One policy.
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) matcher: Result<Matcher, String>,
    /// Why its expressions cannot be used.
    pub(super) fault: Option<String>,
    /// What goes wrong does not count (`failurePolicy: Ignore`).
    pub(super) ignores: bool,
    /// Kind of its parameters: apiVersion and kind.
    pub(super) param_kind: Option<(String, String)>,
    pub(super) conditions: Conditions,
    pub(super) variables: Vec<(String, Expression)>,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<(String, Expression)>,
    pub(super) mutations: Vec<Mutation>,
    pub(super) reinvoked: bool,
}

/// One thing that must hold.
pub(super) struct Validation {
    pub(super) expression: Expression,
    pub(super) message: Option<String>,
    pub(super) message_expression: Option<Expression>,
    pub(super) reason: Option<String>,
}

/// One change.
pub(super) enum Mutation {
    /// The expression gives what is merged into the object.
    Apply(Expression),
    /// The expression gives a JSON patch.
    Patch(Expression),
}

/// What puts a policy to work.
pub(super) struct Binding {
    pub(super) name: String,
    policy: String,
    pub(super) matcher: Result<Matcher, String>,
    pub(super) param: Option<api::ParamRef>,
    /// `Deny`, `Warn`, `Audit`.
    pub(super) actions: Vec<String>,
}

/// The expressions of a policy.
#[derive(Default)]
struct Compiled {
    conditions: Conditions,
    variables: Vec<(String, Expression)>,
    validations: Vec<Validation>,
    annotations: Vec<(String, Expression)>,
    mutations: Vec<Mutation>,
}

impl Compiled {
    fn of(spec: &Spec) -> Result<Self, String> {
        let compile = |source: &str| Expression::compile(source, POLICY_NAMES);
        let mut compiled = Self {
            conditions: Conditions::compile(spec.match_conditions.as_ref(), POLICY_NAMES)?,
            ..Self::default()
        };
        for variable in &spec.variables {
            let expression = compile(&variable.expression)?;
            compiled.variables.push((variable.name.clone(), expression));
        }
        for validation in &spec.validations {
            let message = validation.message_expression.as_deref();
            compiled.validations.push(Validation {
                expression: compile(&validation.expression)?,
                message: validation.message.clone(),
                message_expression: message.filter(|m| !m.is_empty()).map(compile).transpose()?,
                reason: validation.reason.clone(),
            });
        }
        for annotation in &spec.audit_annotations {
            let expression = compile(&annotation.value_expression)?;
            compiled
                .annotations
                .push((annotation.key.clone(), expression));
        }
        for mutation in &spec.mutations {
            let source = |configured: Option<&String>| {
                compile(configured.map(String::as_str).unwrap_or_default())
            };
            compiled
                .mutations
                .push(if mutation.patch_type == "JSONPatch" {
                    let patch = mutation.json_patch.as_ref();
                    Mutation::Patch(source(patch.and_then(|patch| patch.expression.as_ref()))?)
                } else {
                    let apply = mutation.apply_configuration.as_ref();
                    Mutation::Apply(source(apply.and_then(|apply| apply.expression.as_ref()))?)
                });
        }
        Ok(compiled)
    }
}

impl Policy {
    fn compile(written: Written<Spec>) -> Self {
        let spec = written.spec;
        let (compiled, fault) = match Compiled::of(&spec) {
            Ok(compiled) => (compiled, None),
            Err(why) => (Compiled::default(), Some(why)),
        };
        let param = spec.param_kind;
        Self {
            name: written.metadata.name.unwrap_or_default(),
            matcher: Matcher::of_policy(spec.match_constraints.as_ref()),
            fault,
            ignores: spec.failure_policy.as_deref() == Some("Ignore"),
            param_kind: param.map(|p| {
                (
                    p.api_version.unwrap_or_default(),
                    p.kind.unwrap_or_default(),
                )
            }),
            conditions: compiled.conditions,
            variables: compiled.variables,
            validations: compiled.validations,
            annotations: compiled.annotations,
            mutations: compiled.mutations,
            reinvoked: spec.reinvocation_policy.as_deref() == Some("IfNeeded"),
        }
    }
}

impl From<Written<BindingSpec>> for Binding {
    fn from(written: Written<BindingSpec>) -> Self {
        let spec = written.spec;
        Self {
            name: written.metadata.name.unwrap_or_default(),
            policy: spec.policy_name,
            matcher: Matcher::of_policy(spec.match_resources.as_ref()),
            param: spec.param_ref,
            actions: spec.validation_actions,
        }
    }
}

struct Current {
    versions: Option<(u64, u64)>,
    hooks: Arc<[Hook]>,
}

/// The policies of a kind that have a binding, by name.
pub(super) struct Definitions {
    kinds: Kinds,
    current: ArcSwap<Current>,
}

impl Definitions {
    pub(super) fn new(kinds: Kinds) -> Self {
        let current = ArcSwap::from_pointee(Current {
            versions: None,
            hooks: Arc::new([]),
        });
        Self { kinds, current }
    }

    /// Compiles anew only after a policy or a binding changed.
    pub(super) fn current(&self, source: &dyn ObjectSource) -> Arc<[Hook]> {
        let (policies, bindings) = self.kinds;
        // Read before the lists: a change in between is then seen as a new version later.
        let versions = Some((source.version(policies), source.version(bindings)));
        let current = self.current.load();
        if current.versions == versions {
            return current.hooks.clone();
        }
        let bindings: Vec<Written<BindingSpec>> = read(source, bindings);
        let mut hooks: Vec<Hook> = read(source, policies)
            .into_iter()
            .map(|written| Hook {
                policy: Policy::compile(written),
                bindings: Vec::new(),
            })
            .collect();
        for binding in bindings.into_iter().map(Binding::from) {
            let bound = hooks.iter_mut().find(|h| h.policy.name == binding.policy);
            if let Some(hook) = bound {
                hook.bindings.push(binding);
            }
        }
        hooks.retain(|hook| !hook.bindings.is_empty());
        hooks.sort_by(|a, b| a.policy.name.cmp(&b.policy.name));
        let hooks: Arc<[Hook]> = hooks.into();
        self.current.store(Arc::new(Current {
            versions,
            hooks: hooks.clone(),
        }));
        hooks
    }
}

fn read<T: DeserializeOwned>(source: &dyn ObjectSource, kind: Kind) -> Vec<T> {
    let objects = source.list(kind, "");
    let parsed = objects.iter().filter_map(|bytes| {
        serde_json::from_slice(bytes)
            .inspect_err(
                |error| tracing::error!(kind = kind.plural, %error, "a policy cannot be read"),
            )
            .ok()
    });
    parsed.collect()
}
