//! The parameters that a binding chooses for a policy.

use bytes::Bytes;
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
pub(super) async fn collect(
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
            let key = resource.key(namespace, name);
            parts.source.stored(&key).into_iter().collect()
        }
        (None, Some(_)) => parts.source.stored_under(&resource.prefix_in(namespace)),
        (Some(_), Some(_)) => {
            return Err("paramRef.name and paramRef.selector are mutually exclusive".into());
        }
        (None, None) => return Err("one of name or selector must be provided".into()),
    };
    let mut found = served(&resource, &found).await?;
    if let Some(selector) = &reference.selector {
        let selector = LabelSelector::try_from(selector).map_err(|e| e.to_string())?;
        found.retain(|param| has_labels(&selector, param));
    }
    if found.is_empty() && reference.parameter_not_found_action.as_deref() == Some("Deny") {
        return Err(
            "no params found for policy binding with `Deny` parameterNotFoundAction".into(),
        );
    }
    Ok(found)
}

async fn served(resource: &Resource, stored: &[Bytes]) -> Result<Vec<Value>, String> {
    let parsed = stored.iter().map(|bytes| serde_json::from_slice(bytes));
    let parsed = parsed.collect::<Result<Vec<Value>, _>>();
    let parsed = parsed.map_err(|error| error.to_string())?;
    match &resource.conversion {
        Some(conversion) => conversion.serve(parsed).await,
        None => Ok(parsed),
    }
}
