//! The resources a definition adds to the registry.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::condition;
use crate::callout::Callouts;
use crate::convert::{self, Conversion};
use crate::resource::{Custom, Field, Resource, ScalePaths, Subresource, Verbs};
use crate::schema::{Path, Schema};
use crate::strategy::{self, CustomOptions};
use crate::table::jsonpath::JsonPath;
use crate::table::{Column, PrinterColumn, Source};

/// One resource for each served version. A version whose schema cannot be compiled is left out and logged;
/// validation does not let such a definition in.
pub(super) fn build(definition: &Value, callouts: &Arc<Callouts>) -> Vec<Resource> {
    let versions = definition["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten();
    let served = versions.filter(|version| version["served"] == true);
    served
        .filter_map(|version| resource(definition, version, callouts))
        .collect()
}

fn resource(definition: &Value, version: &Value, callouts: &Arc<Callouts>) -> Option<Resource> {
    let text = |value: &Value| Arc::<str>::from(value.as_str().unwrap_or_default());
    let texts = |value: &Value| -> Vec<Arc<str>> {
        value.as_array().into_iter().flatten().map(text).collect()
    };
    let spec = &definition["spec"];
    let names = &definition["status"]["acceptedNames"];
    let (group, kind, plural) = (
        text(&spec["group"]),
        text(&names["kind"]),
        text(&names["plural"]),
    );
    let name = text(&version["name"]);
    let api_schema = &version["schema"]["openAPIV3Schema"];
    let at = Path::new("schema.openAPIV3Schema");
    let schema = match Schema::from_crd(&group, &name, &kind, api_schema, &at) {
        Ok(schema) => schema,
        Err(errors) => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let errors = errors.join(", ");
            tracing::error!(
                plural = &*plural,
                version = &*name,
                errors,
                "a schema is not usable"
            );
            return None;
        }
    };
    let namespaced = spec["scope"] == "Namespaced";
    let options = CustomOptions {
        namespaced,
        status: version["subresources"]["status"].is_object(),
    };
    Some(Resource {
        list_kind: text(&names["listKind"]),
        singular: text(&names["singular"]),
        short_names: texts(&names["shortNames"]),
        categories: texts(&names["categories"]),
        namespaced,
        verbs: Verbs::ALL,
        subresources: subresources(&version["subresources"]),
        columns: columns(&version["additionalPrinterColumns"]),
        fields: fields(&version["selectableFields"]),
        prefix: format!("/registry/{group}/{plural}/").into(),
        conversion: completed(
            conversion(definition, &group, &name, callouts),
            api_schema,
            &schema,
        ),
        stored: format!("{group}/{}", stored_version(definition)).into(),
        review: None,
        companion: None,
        returns_deleted: false,
        orphans: false,
        custom: Some(Arc::new(Custom {
            definition: text(&definition["metadata"]["name"]),
            uid: text(&definition["metadata"]["uid"]),
            terminating: condition(definition, "Terminating") == Some("True"),
            schema: api_schema.clone(),
        })),
        strategy: OnceLock::from(strategy::custom(schema.clone(), options)),
        schema: OnceLock::from(schema),
        group,
        version: name,
        kind,
        plural,
    })
}

/// The version whose objects are stored.
fn stored_version(definition: &Value) -> &str {
    let versions = definition["spec"]["versions"].as_array();
    let stored = versions
        .into_iter()
        .flatten()
        .find(|version| version["storage"] == true);
    stored.map_or("", |version| version["name"].as_str().unwrap_or_default())
}

fn subresources(declared: &Value) -> Vec<Subresource> {
    let mut subresources = Vec::new();
    if declared["status"].is_object() {
        subresources.push(Subresource::Status);
    }
    if declared["scale"].is_object() {
        let path = |field: &str| {
            let path = declared["scale"][field].as_str()?;
            Some(Arc::<str>::from(path.trim_start_matches('.')))
        };
        subresources.push(Subresource::Scale(ScalePaths {
            spec_replicas: path("specReplicasPath").unwrap_or_else(|| "spec.replicas".into()),
            status_replicas: path("statusReplicasPath").unwrap_or_else(|| "status.replicas".into()),
            selector: path("labelSelectorPath"),
        }));
    }
    subresources
}

fn columns(declared: &Value) -> Vec<PrinterColumn> {
    let mut columns = vec![PrinterColumn::from(&Column::name())];
    let Some(declared) = declared.as_array().filter(|list| !list.is_empty()) else {
        columns.push(PrinterColumn::from(&Column::age()));
        return columns;
    };
    for column in declared {
        let text = |field: &str| Cow::Owned(column[field].as_str().unwrap_or_default().to_owned());
        let Ok(path) = JsonPath::parse(&text("jsonPath")) else {
            continue;
        };
        columns.push(PrinterColumn {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description: text("description"),
            priority: column["priority"]
                .as_i64()
                .and_then(|p| i32::try_from(p).ok())
                .unwrap_or(0),
            source: Source::Custom(Arc::new(path)),
        });
    }
    columns
}

fn fields(declared: &Value) -> Arc<[Field]> {
    let paths = declared.as_array().into_iter().flatten();
    paths
        .filter_map(|field| field["jsonPath"].as_str())
        .map(|path| path.trim_start_matches('.'))
        .map(|path| Field {
            label: path.into(),
            path: path.into(),
            default: "".into(),
            or: None,
        })
        .collect()
}

/// Defaults that the schema has now count for what was stored before it had them, so objects of a kind with
/// defaults are completed when they are read.
fn completed(
    conversion: Option<Arc<dyn Conversion>>,
    declared: &Value,
    schema: &Arc<Schema>,
) -> Option<Arc<dyn Conversion>> {
    if !has_defaults(declared) {
        return conversion;
    }
    let schema = schema.clone();
    Some(Arc::new(convert::Completed { conversion, schema }))
}

fn has_defaults(declared: &Value) -> bool {
    match declared {
        Value::Object(fields) => {
            let mut fields = fields.iter();
            fields.any(|(key, value)| key == "default" || has_defaults(value))
        }
        Value::Array(items) => items.iter().any(has_defaults),
        _ => false,
    }
}

/// Objects are stored in the storage version of their last write, so a version needs no conversion only
/// while it is the only one that was ever stored.
fn conversion(
    definition: &Value,
    group: &str,
    version: &str,
    callouts: &Arc<Callouts>,
) -> Option<Arc<dyn Conversion>> {
    let stored = definition["status"]["storedVersions"].as_array();
    if stored.is_some_and(|stored| matches!(stored.as_slice(), [only] if only == version)) {
        return None;
    }
    let storage = stored_version(definition);
    let configured = &definition["spec"]["conversion"];
    if configured["strategy"] == "Webhook" {
        let hook = convert::Hook::new(
            callouts.clone(),
            &configured["webhook"],
            group,
            storage,
            version,
        );
        return Some(Arc::new(hook));
    }
    Some(convert::shared(convert::Rename {
        stored: format!("{group}/{storage}"),
        served: format!("{group}/{version}"),
    }))
}
