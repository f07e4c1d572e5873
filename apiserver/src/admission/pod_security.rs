//! `PodSecurity`: the Pod Security Standards that the labels of namespaces ask for.
//!
//! Pods are refused, audited or warned about; workloads, whose pods come later, are audited and warned about only.

mod baseline;
mod checks;
mod existing;
mod pod;
mod policy;
mod restricted;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::{Error, Operation, Plugin, Request};
use crate::auth::{Kind, ObjectSource};
use checks::{in_detail, violations};
use pod::{Pod, items, text};
use policy::{Level, Policy};

const ANNOTATION: &str = "pod-security.kubernetes.io/";
/// Subresources of pods that cannot change what the checks look at.
const HARMLESS: [&str; 8] = [
    "exec",
    "attach",
    "binding",
    "eviction",
    "log",
    "portforward",
    "proxy",
    "status",
];
/// Kinds with the template of a pod, and where in them it is.
const WORKLOADS: [(&str, &str, &str); 8] = [
    ("", "podtemplates", "/template"),
    ("", "replicationcontrollers", "/spec/template"),
    ("apps", "daemonsets", "/spec/template"),
    ("apps", "deployments", "/spec/template"),
    ("apps", "replicasets", "/spec/template"),
    ("apps", "statefulsets", "/spec/template"),
    ("batch", "cronjobs", "/spec/jobTemplate/spec/template"),
    ("batch", "jobs", "/spec/template"),
];

pub(super) struct PodSecurity {
    source: Arc<dyn ObjectSource>,
}

#[derive(Deserialize)]
struct Namespace {
    metadata: Meta,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// What a request is about.
#[derive(Clone, Copy)]
enum Subject {
    Namespace,
    Pod,
    /// With the place of the template.
    Workload(&'static str),
}

impl Subject {
    fn of(request: &Request<'_>) -> Option<Self> {
        if request.group.is_empty() && request.resource == "pods" {
            let harmless = HARMLESS.contains(&request.subresource);
            return (!harmless).then_some(Self::Pod);
        }
        if !request.subresource.is_empty() {
            return None;
        }
        if request.is("", "namespaces") {
            return Some(Self::Namespace);
        }
        let found = WORKLOADS
            .iter()
            .find(|(group, plural, _)| request.is(group, plural));
        found.map(|(.., template)| Self::Workload(template))
    }
}

impl PodSecurity {
    pub(super) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self { source }
    }

    fn labels(&self, namespace: &str) -> Result<BTreeMap<String, String>, Error> {
        let stored = self.source.get(Kind::NAMESPACES, "", namespace);
        let read = stored.and_then(|bytes| serde_json::from_slice::<Namespace>(&bytes).ok());
        let read = read.ok_or_else(|| Error::Internal {
            message: format!("failed to lookup namespace {namespace}"),
        })?;
        Ok(read.metadata.labels.unwrap_or_default())
    }

    /// Holds a pod, or the template of one, against the policy of its namespace.
    fn check(&self, request: &Request<'_>, pod: &Pod<'_>, enforced: bool) -> Result<(), Error> {
        let (policy, errors) = Policy::of(&self.labels(request.namespace)?);
        if errors.is_empty() && policy.is_open(enforced) {
            return Ok(());
        }
        let note = |key: &str, value: String| {
            request.notes.annotate(format!("{ANNOTATION}{key}"), value);
        };
        if !errors.is_empty() {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            note(
                "error",
                format!("Failed to parse policy: {}", errors.join(", ")),
            );
        }
        if !policy.audit.level.eq(&Level::Privileged) {
            let found = violations(policy.audit, pod);
            if !found.is_empty() {
                let (audit, detail) = (policy.audit, in_detail(&found));
                note(
                    "audit-violations",
                    format!("would violate PodSecurity \"{audit}\": {detail}"),
                );
            }
        }
        if enforced {
            let enforce = policy.enforce;
            note("enforce-policy", enforce.to_string());
            let found = violations(enforce, pod);
            if !found.is_empty() {
                let detail = in_detail(&found);
                return Err(Error::forbidden(format!(
                    "violates PodSecurity \"{enforce}\": {detail}"
                )));
            }
        }
        let found = violations(policy.warn, pod);
        if !found.is_empty() {
            let (warn, detail) = (policy.warn, in_detail(&found));
            request
                .notes
                .warn(format!("would violate PodSecurity \"{warn}\": {detail}"));
        }
        Ok(())
    }

    /// New labels must be readable; a stricter level tells who is there already that does not keep to it.
    fn check_namespace(&self, request: &Request<'_>, namespace: &Value) -> Result<(), Error> {
        let (new, errors) = Policy::of(&labels_of(namespace));
        let Some(old) = request.old else {
            return refuse(errors);
        };
        let (old, old_errors) = Policy::of(&labels_of(old));
        if errors != old_errors {
            refuse(errors)?;
        }
        let relaxed =
            new.enforce.version == old.enforce.version && new.enforce.level <= old.enforce.level;
        if new.enforce == old.enforce || new.enforce.level == Level::Privileged || relaxed {
            return Ok(());
        }
        let pods = self.source.list(Kind::PODS, request.name);
        for warning in existing::warnings(request.name, new.enforce, &pods) {
            request.notes.warn(warning);
        }
        Ok(())
    }
}

fn labels_of(object: &Value) -> BTreeMap<String, String> {
    Namespace::deserialize(object)
        .ok()
        .and_then(|namespace| namespace.metadata.labels)
        .unwrap_or_default()
}

fn refuse(errors: Vec<crate::schema::FieldError>) -> Result<(), Error> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid { errors })
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update)
            && Subject::of(request).is_some()
    }

    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        match Subject::of(request) {
            Some(Subject::Namespace) => self.check_namespace(request, object),
            Some(Subject::Pod) => match request.old {
                Some(old) if !is_significant(object, old) => Ok(()),
                _ => self.check(request, &Pod::of(object), true),
            },
            Some(Subject::Workload(template)) => match object.pointer(template) {
                Some(template) => self.check(request, &Pod::of(template), false),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}

/// Whether an update of a pod changes anything the checks look at: images, profiles in annotations, containers.
fn is_significant(new: &Value, old: &Value) -> bool {
    let annotation = |pod: &Value, key: &str| pod["metadata"]["annotations"][key].clone();
    let differs = |key: &str| annotation(new, key) != annotation(old, key);
    if differs("seccomp.security.alpha.kubernetes.io/pod") {
        return true;
    }
    let changed = |container: &Value, before: &Value| {
        let name = text(container, "name");
        container["image"] != before["image"]
            || differs(&format!(
                "container.seccomp.security.alpha.kubernetes.io/{name}"
            ))
    };
    let lists = ["containers", "initContainers"];
    let changed_in_place = lists.into_iter().any(|list| {
        let (new, old) = (&new["spec"][list], &old["spec"][list]);
        items(new).count() != items(old).count()
            || items(new)
                .zip(items(old))
                .any(|(container, before)| changed(container, before))
    });
    let added = || {
        let before = &old["spec"]["ephemeralContainers"];
        items(&new["spec"]["ephemeralContainers"]).any(|container| {
            let before = items(before).find(|before| before["name"] == container["name"]);
            before.is_none_or(|before| changed(container, before))
        })
    };
    changed_in_place || added()
}

#[cfg(test)]
mod tests;
