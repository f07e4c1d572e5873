//! The parameters that a binding chooses for a policy.

use davit_api::LabelSelector;
use serde_json::Value;

use super::definition::{Binding, Policy};
use crate::admission::Request;
use crate::admission::matching::has_labels;
use crate::admission::webhook::Parts;
use crate::resource::Resource;

/// The parameters, one evaluation each; a single null when the policy has none. Empty: the policy does not apply.
///
/// # Errors
/// Text for the user.
pub(super) fn collect(
    parts: &Parts,
    request: &Request<'_>,
    policy: &Policy,
    binding: &Binding,
) -> Result<Vec<Value>, String> {
    let (Some((api_version, kind)), Some(reference)) = (&policy.param_kind, &binding.param) else {
        return Ok(vec![Value::Null]);
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = parts.registry.snapshot().find_kind(group, version, kind);
    let resource = resource.ok_or_else(|| {
        format!("paramKind kind `&ParamKind{{APIVersion:{api_version},Kind:{kind},}}` not known")
    })?;
    let wanted = reference.namespace.as_deref().unwrap_or_default();
    let namespace = match (resource.namespaced, wanted, request.namespace) {
        (false, "", _) => "",
        (false, ..) => {
            return Err(
                "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into(),
            );
        }
        (true, "", "") => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches \
                        cluster-scoped resources"
                    .into(),
            );
        }
        (true, "", own) => own,
        (true, wanted, _) => wanted,
    };
    let found = match (&reference.name, &reference.selector) {
        (Some(name), None) => {
            let bytes = parts.source.stored(&resource.key(namespace, name));
            bytes.map(|b| served(&resource, &b)).into_iter().collect()
        }
        (None, Some(selector)) => {
            let selector = LabelSelector::try_from(selector).map_err(|e| e.to_string())?;
            let all = parts.source.stored_under(&resource.prefix_in(namespace));
            let all = all.iter().map(|bytes| served(&resource, bytes));
            all.filter(|param| match param {
                Ok(param) => has_labels(&selector, param),
                Err(_) => true,
            })
            .collect()
        }
        (Some(_), Some(_)) => {
            return Err("paramRef.name and paramRef.selector are mutually exclusive".into());
        }
        (None, None) => return Err("one of name or selector must be provided".into()),
    };
    let found: Result<Vec<Value>, String> = found;
    let found = found?;
    if found.is_empty() && reference.parameter_not_found_action.as_deref() == Some("Deny") {
        return Err(
            "no params found for policy binding with `Deny` parameterNotFoundAction".into(),
        );
    }
    Ok(found)
}

fn served(resource: &Resource, bytes: &[u8]) -> Result<Value, String> {
    let stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match &resource.conversion {
        Some(conversion) => conversion.to_served(stored),
        None => Ok(stored),
    }
}
