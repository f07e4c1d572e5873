//! Columns of admission and fairness.

use serde_json::Value;

use super::{NONE, count, int, length, path, text, with};
use crate::table::{Column, at};

pub(in crate::resource) const WEBHOOKS: &[Column] = &[
    Column::name(),
    count("Webhooks", |o| length(&o["webhooks"]).into()),
    Column::age(),
];

pub(in crate::resource) const VALIDATING_POLICY: &[Column] = &[
    Column::name(),
    count("Validations", |o| length(at(o, "spec.validations")).into()),
    with("ParamKind", param_kind),
    Column::age(),
];

pub(in crate::resource) const MUTATING_POLICY: &[Column] = &[
    Column::name(),
    count("Mutations", |o| length(at(o, "spec.mutations")).into()),
    with("ParamKind", param_kind),
    Column::age(),
];

pub(in crate::resource) const POLICY_BINDING: &[Column] = &[
    Column::name(),
    path("PolicyName", "spec.policyName"),
    with("ParamRef", |o| {
        let param = at(o, "spec.paramRef");
        match (text(param, "namespace"), text(param, "name")) {
            ("", "") => "<unset>".into(),
            ("", name) => name.into(),
            (namespace, "") => format!("{namespace}/*").into(),
            (namespace, name) => format!("{namespace}/{name}").into(),
        }
    }),
    Column::age(),
];

fn param_kind(policy: &Value) -> Value {
    let kind = at(policy, "spec.paramKind");
    if kind.is_null() {
        return "<unset>".into();
    }
    format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")).into()
}

pub(in crate::resource) const FLOW_SCHEMA: &[Column] = &[
    Column::name(),
    path("PriorityLevel", "spec.priorityLevelConfiguration.name"),
    count("MatchingPrecedence", |o| {
        int(o, "spec.matchingPrecedence").into()
    }),
    with("DistinguisherMethod", |o| {
        match text(o, "spec.distinguisherMethod.type") {
            "" => NONE.into(),
            method => method.into(),
        }
    }),
    Column::age(),
    with("MissingPL", |o| {
        let conditions = at(o, "status.conditions").as_array();
        let dangling = conditions
            .into_iter()
            .flatten()
            .find(|c| text(c, "type") == "Dangling");
        dangling
            .map_or("?", |condition| text(condition, "status"))
            .into()
    }),
];

pub(in crate::resource) const PRIORITY_LEVEL: &[Column] = &[
    Column::name(),
    path("Type", "spec.type"),
    with("NominalConcurrencyShares", |o| {
        let limited = at(o, "spec.limited");
        let exempt = at(o, "spec.exempt");
        let shares = if limited.is_null() { exempt } else { limited };
        number_or_none(&shares["nominalConcurrencyShares"])
    }),
    with("Queues", |o| {
        number_or_none(at(o, "spec.limited.limitResponse.queuing.queues"))
    }),
    with("HandSize", |o| {
        number_or_none(at(o, "spec.limited.limitResponse.queuing.handSize"))
    }),
    with("QueueLengthLimit", |o| {
        number_or_none(at(o, "spec.limited.limitResponse.queuing.queueLengthLimit"))
    }),
    Column::age(),
];

fn number_or_none(value: &Value) -> Value {
    if value.is_null() {
        NONE.into()
    } else {
        value.clone()
    }
}
