//! Every built-in kind with each of its fields left out, null, empty, zero and filled in turn: no answer is the server's fault,
//! and none of the objects that were taken keeps others from making pods beside them.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Rig, pod};
use crate::resource::Resource;
use crate::schema::Node;
use crate::schema::checks::{Check, Form};
use crate::schema::node::{Field, Shape, Text};

#[path = "../../../tests/clients/samples.rs"]
#[allow(dead_code, reason = "the client tests use the rest")]
mod samples;

const NAMESPACE: &str = "optional";
/// Types deeper than this are left empty: some hold themselves.
const DEEPEST: usize = 7;

#[derive(Clone, Debug)]
enum Step {
    Key(String),
    First,
}

/// One change of one object.
struct Change {
    at: Vec<Step>,
    with: Option<Value>,
}

/// A value for a field, as good as its type says.
fn filled(node: &Node, field: Option<&Field>, deep: usize) -> Value {
    match &node.shape {
        Shape::Object(object) if deep < DEEPEST => {
            let fields = object.fields.iter();
            let mut map: Map<String, Value> = fields
                .map(|f| (f.name.to_string(), filled(&f.node, Some(f), deep + 1)))
                .collect();
            if let Some(values) = &object.values {
                map.insert("a".to_owned(), filled(values, None, deep + 1));
            }
            map.into()
        }
        Shape::List(list) if deep < DEEPEST => {
            let each = field.and_then(|f| f.checks.iter().find(|c| matches!(c, Check::Each(_))));
            match each {
                Some(Check::Each(form)) => json!([text(*form)]),
                _ => json!([filled(&list.items, None, deep + 1)]),
            }
        }
        Shape::Object(_) | Shape::List(_) => node.zero(),
        Shape::Any => json!({"a": 1}),
        Shape::Boolean => true.into(),
        Shape::Integer { .. } | Shape::Number | Shape::IntOrString => {
            let least = field
                .into_iter()
                .flat_map(|f| f.checks)
                .find_map(|c| match c {
                    Check::AtLeast(least) | Check::Between(least, _) => Some(*least),
                    _ => None,
                });
            least.unwrap_or(1).max(1).into()
        }
        Shape::Quantity => "1".into(),
        Shape::String(Text::DateTime) => "2024-01-01T00:00:00Z".into(),
        Shape::String(Text::Base64) => "YQ==".into(),
        Shape::String(Text::Plain) => {
            let given = field
                .into_iter()
                .flat_map(|f| f.checks)
                .find_map(|c| match c {
                    Check::OneOf(values) => values.first().copied(),
                    Check::Form(form) => Some(text(*form)),
                    _ => None,
                });
            given.unwrap_or("a").into()
        }
    }
}

fn text(form: Form) -> &'static str {
    match form {
        Form::Ip => "192.0.2.1",
        Form::Cidr => "192.0.2.0/24",
        Form::AbsolutePath => "/a",
        Form::Environment => "A",
        _ => "a",
    }
}

/// The object with everything that it lacks.
fn completed(node: &Node, have: &mut Value, deep: usize) {
    match (&node.shape, have) {
        (Shape::Object(object), Value::Object(map)) => {
            for field in &object.fields {
                match map.get_mut(&*field.name) {
                    Some(have) => completed(&field.node, have, deep + 1),
                    None => {
                        let value = filled(&field.node, Some(field), deep + 1);
                        map.insert(field.name.to_string(), value);
                    }
                }
            }
        }
        (Shape::List(list), Value::Array(items)) => {
            if let Some(first) = items.first_mut() {
                completed(&list.items, first, deep + 1);
            }
        }
        _ => {}
    }
}

/// Which fields of which types were changed already, or nothing when all are.
type Seen = Option<HashSet<(*const Node, Box<str>)>>;

fn change(out: &mut Vec<Change>, at: &[Step], with: Option<Value>) {
    let at = at.to_vec();
    out.push(Change { at, with });
}

/// All changes of what a value has; with `absent` also of what it does not have.
fn changes(
    node: &Node,
    value: &Value,
    at: &mut Vec<Step>,
    absent: bool,
    seen: &mut Seen,
    out: &mut Vec<Change>,
) {
    match (&node.shape, value) {
        (Shape::Object(object), Value::Object(map)) => {
            for field in &object.fields {
                let identity = (std::ptr::from_ref(node), field.name.clone());
                if is_identity(at, &field.name)
                    || seen.as_mut().is_some_and(|seen| !seen.insert(identity))
                {
                    continue;
                }
                let have = map.get(&*field.name);
                if have.is_none() && !absent {
                    continue;
                }
                at.push(Step::Key(field.name.to_string()));
                change(out, at, Some(Value::Null));
                change(out, at, Some(field.node.zero()));
                match have {
                    Some(_) => change(out, at, None),
                    None => change(out, at, Some(filled(&field.node, Some(field), at.len()))),
                }
                at.pop();
            }
            for field in &object.fields {
                if let Some(have) = map.get(&*field.name)
                    && !is_identity(at, &field.name)
                {
                    at.push(Step::Key(field.name.to_string()));
                    changes(&field.node, have, at, absent, seen, out);
                    at.pop();
                }
            }
            if let (Some(values), Some((key, have))) = (&object.values, map.iter().next()) {
                at.push(Step::Key(key.clone()));
                change(out, at, Some(Value::Null));
                change(out, at, Some(values.zero()));
                changes(values, have, at, absent, seen, out);
                at.pop();
            }
        }
        (Shape::List(list), Value::Array(items)) => {
            if let Some(first) = items.first() {
                at.push(Step::First);
                change(out, at, Some(Value::Null));
                change(out, at, Some(list.items.zero()));
                changes(&list.items, first, at, absent, seen, out);
                at.pop();
            }
        }
        _ => {}
    }
}

/// What names an object and its kind, and what would keep it from being deleted.
fn is_identity(at: &[Step], field: &str) -> bool {
    match at {
        [] => matches!(field, "apiVersion" | "kind"),
        [Step::Key(key)] if key == "metadata" => matches!(
            field,
            "name" | "namespace" | "finalizers" | "managedFields" | "ownerReferences"
        ),
        _ => false,
    }
}

fn changed(object: &Value, change: &Change) -> Option<Value> {
    let mut object = object.clone();
    let mut place = &mut object;
    let (last, way) = change.at.split_last()?;
    for step in way {
        place = match step {
            Step::Key(key) => place.get_mut(key)?,
            Step::First => place.get_mut(0)?,
        };
    }
    match (last, &change.with) {
        (Step::Key(key), Some(value)) => {
            place.as_object_mut()?.insert(key.clone(), value.clone());
        }
        (Step::Key(key), None) => {
            place.as_object_mut()?.remove(key);
        }
        (Step::First, value) => *place.get_mut(0)? = value.clone()?,
    }
    Some(object)
}

/// Whether the object does not have what a change is about.
fn lacks(object: &Value, change: &Change) -> bool {
    let place = change.at.iter().try_fold(object, |place, step| match step {
        Step::Key(key) => place.get(key),
        Step::First => place.get(0),
    });
    place.is_none()
}

fn path(change: &Change) -> String {
    let steps = change.at.iter().map(|step| match step {
        Step::Key(key) => format!(".{key}"),
        Step::First => "[0]".to_owned(),
    });
    let with = change.with.as_ref().map(Value::to_string);
    let with = with.unwrap_or_else(|| "nothing".to_owned());
    format!("{} = {with:.80}", steps.collect::<String>())
}

/// The object under a name of its own: some kinds outlive their deletion.
fn renamed(object: &Value, kind: &str, number: usize) -> Value {
    match kind {
        // These are named after what they say.
        "CustomResourceDefinition" => {
            let text = object
                .to_string()
                .replace("samples", &format!("samples{number}"));
            let text = text.replace("\"Sample\"", &format!("\"Sample{number}\""));
            serde_json::from_str(&text).unwrap()
        }
        "APIService" => {
            let own = format!("sample{number}.example.com");
            serde_json::from_str(&object.to_string().replace("sample.example.com", &own)).unwrap()
        }
        "IPAddress" => object.clone(),
        _ => {
            let mut object = object.clone();
            if let Some(name) = object["metadata"]["name"].as_str() {
                object["metadata"]["name"] = format!("{name}-{number}").into();
            }
            object
        }
    }
}

/// Makes the object; what was wrong with that or with a pod beside it.
async fn attempt(rig: &Rig, resource: &Resource, object: &Value) -> (u16, Option<String>) {
    let kind = &resource.kind;
    let base = match &*resource.group {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    let plural = &resource.plural;
    let list = match resource.namespaced {
        true => format!("{base}/namespaces/{NAMESPACE}/{plural}"),
        false => format!("{base}/{plural}"),
    };
    let reply = rig.post(&list, object.clone()).await;
    if reply.code >= 500 {
        return (
            reply.code,
            Some(format!("{} {}", reply.code, reply.body["message"])),
        );
    }
    if reply.code != 201 {
        return (reply.code, None);
    }
    let name = reply.body["metadata"]["name"].as_str().unwrap().to_owned();
    let mut fault = None;
    if &**kind != "Pod" {
        let mut beside = pod("beside");
        let reference = match &**kind {
            "PriorityClass" => "priorityClassName",
            "RuntimeClass" => "runtimeClassName",
            "ServiceAccount" => "serviceAccountName",
            _ => "hostname",
        };
        beside["spec"][reference] = name.clone().into();
        if reference == "hostname" {
            beside["spec"].as_object_mut().unwrap().remove(reference);
        }
        let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let made = rig.post(&pods, beside).await;
        if made.code >= 500 {
            let why = &made.body["message"];
            fault = Some(format!("a pod beside it: {} {why}", made.code));
        }
        rig.delete(&format!("{pods}/beside?gracePeriodSeconds=0"))
            .await;
    }
    let gone = format!("{list}/{name}?gracePeriodSeconds=0");
    let deleted = rig.delete(&gone).await;
    if deleted.code >= 500 {
        let why = &deleted.body["message"];
        fault = fault.or(Some(format!("its deletion: {} {why}", deleted.code)));
    }
    let freed = json!({"metadata": {"finalizers": null}, "spec": {"finalizers": null}});
    let _ = rig
        .patch(&format!("{list}/{name}"), "merge-patch+json", freed)
        .await;
    (201, fault)
}

/// Policies that apply to pods, so that a pod beside them meets them.
fn extra() -> Vec<Value> {
    let constraints = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
        "operations": ["CREATE"], "resources": ["pods"]}], "namespaceSelector": {}, "objectSelector": {}});
    let params = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    let condition = json!([{"name": "a", "expression": "true"}]);
    let variables = json!([{"name": "a", "expression": "1"}]);
    let policy = |kind: &str, more: Value| {
        let mut spec = json!({"matchConstraints": constraints, "paramKind": params, "failurePolicy": "Fail",
            "matchConditions": condition, "variables": variables});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "bound"}, "spec": spec})
    };
    let binding = |kind: &str, more: Value| {
        let mut spec = json!({"policyName": "kept", "matchResources": constraints,
            "paramRef": {"name": "none", "namespace": NAMESPACE, "parameterNotFoundAction": "Allow"}});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "kept"}, "spec": spec})
    };
    let mutations = json!([{"patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {'a': 'b'}}}"}}]);
    vec![
        policy(
            "ValidatingAdmissionPolicy",
            json!({"validations": [{"expression": "true", "message": "m", "messageExpression": "'m'", "reason": "Invalid"}],
                "auditAnnotations": [{"key": "a", "valueExpression": "'a'"}]}),
        ),
        policy(
            "MutatingAdmissionPolicy",
            json!({"reinvocationPolicy": "IfNeeded", "mutations": mutations}),
        ),
        binding(
            "ValidatingAdmissionPolicyBinding",
            json!({"validationActions": ["Deny", "Audit"]}),
        ),
        binding("MutatingAdmissionPolicyBinding", json!({})),
        json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "all"}, "spec": {"limits": [
            {"type": "Container", "max": {"cpu": "9"}, "min": {"cpu": "1m"}, "default": {"cpu": "1"},
                "defaultRequest": {"cpu": "1m"}, "maxLimitRequestRatio": {"cpu": "1000"}}]}}),
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"}, "spec": {
            "hard": {"pods": "9", "requests.cpu": "9"}, "scopes": ["NotTerminating"], "scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "In", "values": ["a"]}]}}}),
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "all"}, "handler": "h",
            "overhead": {"podFixed": {"cpu": "1m"}},
            "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "a", "operator": "Exists"}]}}),
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "all"}, "value": 7,
            "globalDefault": true, "description": "d", "preemptionPolicy": "Never"}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "all"}, "automountServiceAccountToken": false,
            "secrets": [{"name": "s"}], "imagePullSecrets": [{"name": "s"}]}),
    ]
}

#[tokio::test]
async fn no_field_that_is_left_out_empty_or_null_is_the_servers_fault() {
    let rig = Rig::new().await;
    let named = |name: &str| json!({"metadata": {"name": name}});
    rig.make("/api/v1/namespaces", named(NAMESPACE)).await;
    let accounts = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
    rig.make(&accounts, named("default")).await;
    // A pod waits for an account that is not there; filled texts are `a`.
    rig.make(&accounts, named("a")).await;
    let (mut tried, mut taken, mut faults) = (0, 0, Vec::new());
    let samples = samples::all(NAMESPACE)
        .into_iter()
        .map(|sample| sample.object);
    let mut seen = Some(HashSet::new());
    for object in samples.chain(extra()) {
        let api_version = object["apiVersion"].as_str().unwrap();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = object["kind"].as_str().unwrap();
        let snapshot = rig.server.registry.snapshot();
        let resource = snapshot.find_kind(group, version, kind).unwrap();
        let root = resource.schema().root();
        let mut whole = object.clone();
        completed(root, &mut whole, 0);
        whole["metadata"] = object["metadata"].clone();
        let mut all = Vec::new();
        changes(root, &object, &mut Vec::new(), true, &mut None, &mut all);
        let of_whole = all.len();
        changes(root, &whole, &mut Vec::new(), false, &mut seen, &mut all);
        for (index, change) in all.iter().enumerate() {
            let of_sample = index < of_whole;
            let base = if of_sample { &object } else { &whole };
            let Some(changed) = changed(base, change) else {
                continue;
            };
            tried += 1;
            let changed = renamed(&changed, kind, tried);
            let answer = attempt(&rig, &resource, &changed);
            let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
            let (code, mut fault) = answer.unwrap_or((0, Some("no answer".to_owned())));
            taken += usize::from(code == 201);
            // Null is the same as nothing, and the samples are good without what they do not have.
            let is_null = change.with == Some(Value::Null);
            if of_sample && is_null && lacks(&object, change) && code != 201 {
                fault = fault.or(Some(format!("{code}, though null is nothing")));
            }
            if let Some(fault) = fault {
                faults.push(format!("{api_version} {kind}{}: {fault}", path(change)));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert!(
        tried > 5_000 && taken > 1_000,
        "{tried} tried, {taken} taken"
    );
}
