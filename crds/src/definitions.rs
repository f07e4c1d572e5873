//! The CustomResourceDefinitions of davit's kinds, and their YAML files beside this crate.

use crate::{Network, NetworkNode, Plugin};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// Every definition that a davit API server installs at start, ordered by name.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![NetworkNode::crd(), Network::crd(), Plugin::crd()]
}

/// One definition as the YAML text kept in `crds/<plural>.yaml`.
///
/// # Errors
/// Only if the YAML writer refuses a value, which no definition of ours contains.
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(crd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Set `UPDATE_CRDS=1` to rewrite the files after a change of the types.
    #[test]
    fn yaml_files_are_up_to_date() {
        for crd in crds() {
            let file = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("{}.yaml", crd.spec.names.plural));
            let yaml = to_yaml(&crd).unwrap();
            if std::env::var_os("UPDATE_CRDS").is_some() {
                std::fs::write(&file, &yaml).unwrap();
            }
            let kept = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(
                kept == yaml,
                "{} is out of date: run `UPDATE_CRDS=1 cargo test -p davit-api`",
                file.display()
            );
            let read: CustomResourceDefinition = serde_saphyr::from_str(&kept).unwrap();
            assert_eq!(read, crd);
        }
    }

    /// Structural schemas need a type everywhere except where Kubernetes' own markers stand.
    #[test]
    fn schemas_are_structural() {
        for crd in crds() {
            let value = serde_json::to_value(&crd).unwrap();
            let schema = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            check(schema, &crd.spec.names.kind);
        }
    }

    fn check(schema: &serde_json::Value, path: &str) {
        let marked = schema.get("x-kubernetes-int-or-string").is_some()
            || schema.get("x-kubernetes-preserve-unknown-fields").is_some();
        assert!(marked || schema.get("type").is_some(), "{path} has no type");
        for forbidden in ["$ref", "definitions", "$defs", "oneOf", "anyOf", "allOf"] {
            assert!(
                schema.get(forbidden).is_none(),
                "{path} has {forbidden}: {schema}"
            );
        }
        if let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) {
            for (name, property) in properties {
                check(property, &format!("{path}.{name}"));
            }
        }
        for inner in ["items", "additionalProperties"] {
            if let Some(inner_schema) = schema.get(inner).filter(|s| s.is_object()) {
                check(inner_schema, &format!("{path}[{inner}]"));
            }
        }
    }
}
