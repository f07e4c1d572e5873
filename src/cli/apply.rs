//! `davit apply`: makes the cluster match manifests, by server-side apply.

mod atomic;

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{Patch, PatchParams, ValidationDirective};
use kube::core::DynamicObject;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::catalog::{Catalog, Kind};
use crate::connect::{Connection, Target};
use crate::fault::Fault;
use crate::manifest::{self, Document};
use crate::output::{Output, complain};

/// The name under which davit's command line owns fields.
pub(super) const MANAGER: &str = "davit";
/// How long a new CustomResourceDefinition may take to be served.
const ESTABLISHED: Duration = Duration::from_secs(30);

/// What `davit apply` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Manifests: files, directories, or - for standard input
    #[arg(short = 'f', long = "filename", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Take over fields that somebody else owns
    #[arg(long)]
    force_conflicts: bool,
    /// All objects in one write at one revision, or none
    #[arg(long)]
    atomic: bool,
    #[command(flatten)]
    target: Target,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Fault> {
        let documents = manifest::read(&self.files)?;
        let connection = self.target.connect().await?;
        let mut output = Output::new();
        if self.atomic {
            let force = self.force_conflicts;
            let lines = atomic::apply(&connection, &documents, force).await?;
            return lines.iter().try_for_each(|line| output.line(line));
        }
        apply_documents(&connection, &documents, self.force_conflicts, |line| {
            output.line(line)
        })
        .await
    }
}

/// Applies documents in order and reports a line for each. A document that fails does not stop the others.
///
/// # Errors
/// The failure, if one document failed; how many, if several did, which were then complained about.
pub(crate) async fn apply_documents(
    connection: &Connection,
    documents: &[Document],
    force: bool,
    mut report: impl FnMut(&str) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut applier = Applier {
        connection,
        catalog: Catalog::fetch(&connection.client).await?,
        force,
    };
    let mut faults = Vec::new();
    for document in documents {
        match applier.apply(document).await {
            Ok(line) => report(&line)?,
            Err(fault) => faults.push(fault),
        }
    }
    if faults.len() > 1 {
        faults.iter().for_each(complain);
        let count = format!("{} of {} objects failed", faults.len(), documents.len());
        return Err(Fault::told("apply", count, "see above"));
    }
    faults.pop().map_or(Ok(()), Err)
}

struct Applier<'a> {
    connection: &'a Connection,
    catalog: Catalog,
    force: bool,
}

impl Applier<'_> {
    /// Applies one document; the line to print.
    async fn apply(&mut self, document: &Document) -> Result<String, Fault> {
        let kind = kind_of(&self.catalog, document)?.clone();
        let what = format!(
            "{} ({}/{})",
            document.source, kind.resource.plural, document.name
        );
        let api = kind.api(self.connection, document.namespace.as_deref());
        let failed = |error| Fault::request(&what, &error);
        let before = api.get_opt(&document.name).await.map_err(failed)?;
        let params = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            force: self.force,
            ..PatchParams::apply(MANAGER)
        };
        let object = without_server_fields(document);
        let after = api
            .patch(&document.name, &params, &Patch::Apply(&object))
            .await
            .map_err(|error| conflict(&what, &error).unwrap_or_else(|| failed(error)))?;
        let outcome = outcome(before.as_ref(), &after, &object);
        if document.kind == "CustomResourceDefinition" {
            self.established(&document.name).await?;
        }
        Ok(format!(
            "{}/{} {outcome}",
            kind.qualified_singular(),
            document.name
        ))
    }

    /// Waits until a new kind is served, so that objects of it can follow.
    async fn established(&mut self, name: &str) -> Result<(), Fault> {
        let crds = Api::<CustomResourceDefinition>::all(self.connection.client.clone());
        let wait = await_condition(crds, name, conditions::is_crd_established());
        let what = || format!("waiting for {name}");
        match tokio::time::timeout(ESTABLISHED, wait).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Fault::new(what(), error, "")),
            Err(_) => {
                let remedy = format!("see `davit describe crd {name}`");
                return Err(Fault::told(what(), "it is not served", remedy));
            }
        }
        self.catalog = Catalog::fetch(&self.connection.client).await?;
        Ok(())
    }
}

/// The kind of a document.
///
/// # Errors
/// The server has no such kind.
pub(super) fn kind_of<'c>(catalog: &'c Catalog, document: &Document) -> Result<&'c Kind, Fault> {
    let Document {
        api_version, kind, ..
    } = document;
    catalog.of_manifest(api_version, kind).ok_or_else(|| {
        Fault::told(
            &document.source,
            format!("the server has no kind {kind} in version {api_version}"),
            "correct it, or apply its CustomResourceDefinition first",
        )
    })
}

impl Kind {
    /// The objects of this kind in `namespace`, or in the connection's namespace.
    pub(super) fn api(
        &self,
        connection: &Connection,
        namespace: Option<&str>,
    ) -> Api<DynamicObject> {
        let client = connection.client.clone();
        if self.namespaced {
            let namespace = namespace.unwrap_or(&connection.namespace);
            Api::namespaced_with(client, namespace, &self.resource)
        } else {
            Api::all_with(client, &self.resource)
        }
    }
}

/// The object without what only the server writes, so that the output of `get -o yaml` can be applied.
pub(super) fn without_server_fields(document: &Document) -> Value {
    let mut object = document.object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(|m| m.as_object_mut()) {
        for field in [
            "managedFields",
            "creationTimestamp",
            "generation",
            "selfLink",
        ] {
            metadata.remove(field);
        }
    }
    object
}

/// What applying `wanted` did, in a word.
fn outcome(before: Option<&DynamicObject>, after: &DynamicObject, wanted: &Value) -> &'static str {
    match before {
        None => "created",
        Some(before) if is_same(before, after, wanted) => "unchanged",
        Some(_) => "configured",
    }
}

/// Whether applying `wanted` left the object as it was. Somebody else may have written it meanwhile, so a
/// new revision alone does not mean that this apply changed something.
fn is_same(before: &DynamicObject, after: &DynamicObject, wanted: &Value) -> bool {
    if before.resource_version() == after.resource_version() {
        return true;
    }
    let is_ours = |entry: &&ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply")
    };
    let owned = |object: &DynamicObject| {
        let entry = object.managed_fields().iter().find(is_ours);
        entry.and_then(|entry| entry.fields_v1.clone())
    };
    owned(before) == owned(after)
        && serde_json::to_value(before).is_ok_and(|before| is_within(wanted, &before))
}

/// Whether `object` says everything that `wanted` says.
fn is_within(wanted: &Value, object: &Value) -> bool {
    match (wanted, object) {
        (Value::Object(wanted), Value::Object(have)) => wanted
            .iter()
            .all(|(key, value)| have.get(key).is_some_and(|have| is_within(value, have))),
        (Value::Array(wanted), Value::Array(have)) => {
            wanted.len() == have.len() && wanted.iter().zip(have).all(|(w, h)| is_within(w, h))
        }
        (wanted, have) => wanted == have,
    }
}

/// Somebody else owns fields: the message lists them.
fn conflict(what: &str, error: &kube::Error) -> Option<Fault> {
    match error {
        kube::Error::Api(status)
            if status.reason == "Conflict" && status.message.contains("Apply failed") =>
        {
            let remedy = "leave these fields out, or take them over with --force-conflicts";
            Some(Fault::told(what, status.message.clone(), remedy))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_write_of_somebody_else_is_no_change_of_ours() {
        let object = |revision: &str, replicas: i64, fields: Value| -> DynamicObject {
            serde_json::from_value(json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {
                    "name": "web", "resourceVersion": revision,
                    "managedFields": [{"manager": "davit", "operation": "Apply", "fieldsV1": fields}],
                },
                "spec": {"replicas": replicas, "paused": false},
            }))
            .unwrap()
        };
        let (one, two) = (json!({"f:spec": {}}), json!({"f:spec": {"f:replicas": {}}}));
        let wanted = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3}});
        let cases = [
            (
                object("1", 3, one.clone()),
                object("1", 3, one.clone()),
                true,
            ),
            (
                object("1", 3, one.clone()),
                object("2", 3, one.clone()),
                true,
            ),
            (
                object("1", 2, one.clone()),
                object("2", 3, one.clone()),
                false,
            ),
            (object("1", 3, one.clone()), object("2", 3, two), false),
        ];
        for (before, after, same) in cases {
            assert_eq!(
                is_same(&before, &after, &wanted),
                same,
                "{before:?} {after:?}"
            );
        }
    }
}
