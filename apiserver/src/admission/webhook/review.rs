//! `AdmissionReview`: the question as JSON, and the answer taken apart.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::Question;

#[derive(Serialize)]
struct Review<'a> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: String,
    request: Asked<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    uid: &'a str,
    #[serde(flatten)]
    facts: &'a Value,
    object: &'a Value,
    old_object: &'a Value,
}

/// The body a webhook is sent.
pub(super) fn request(
    version: &str,
    uid: &str,
    question: &Question<'_>,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Review {
        kind: "AdmissionReview",
        api_version: format!("admission.k8s.io/{version}"),
        request: Asked {
            uid,
            facts: question.facts,
            object: question.object,
            old_object: question.old,
        },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    response: Option<Response>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Response {
    uid: String,
    allowed: bool,
    status: Option<Value>,
    patch: Option<String>,
    patch_type: Option<String>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

/// What a webhook said.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    /// Why not.
    pub(super) status: Option<Value>,
    /// A JSON patch.
    pub(super) patch: Option<Vec<u8>>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) warnings: Vec<String>,
}

/// Reads an answer to the question with this uid.
///
/// # Errors
/// What about it is not valid, in Kubernetes' words.
pub(super) fn read(
    version: &str,
    uid: &str,
    mutating: bool,
    body: &[u8],
) -> Result<Answer, String> {
    let answered: Answered = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let response = answered.response.ok_or("webhook response was absent")?;
    let strict = version == "v1";
    if strict {
        if response.uid != uid {
            let got = &response.uid;
            return Err(format!("expected response.uid={uid:?}, got {got:?}"));
        }
        let (group, kind) = (&answered.api_version, &answered.kind);
        if group != "admission.k8s.io/v1" || kind != "AdmissionReview" {
            return Err(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got \
                 {group}, Kind={kind}"
            ));
        }
    }
    let patch = response.patch.filter(|patch| !patch.is_empty());
    let patch_type = response.patch_type.as_deref();
    if strict {
        check_patch(mutating, patch.is_some(), patch_type)?;
    }
    let patch = match patch.filter(|_| mutating) {
        Some(_) if strict && patch_type != Some("JSONPatch") => {
            return Err(format!(
                "unsupported patch type {:?}",
                patch_type.unwrap_or_default()
            ));
        }
        Some(patch) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(patch);
            Some(decoded.map_err(|error| format!("the patch is not base64: {error}"))?)
        }
        None => None,
    };
    Ok(Answer {
        allowed: response.allowed,
        status: response.status,
        patch,
        annotations: response.audit_annotations.unwrap_or_default(),
        warnings: response.warnings.unwrap_or_default(),
    })
}

fn check_patch(mutating: bool, patch: bool, patch_type: Option<&str>) -> Result<(), String> {
    match (mutating, patch, patch_type) {
        (false, true, _) => Err("validating webhook may not return response.patch".to_owned()),
        (false, _, Some(_)) => {
            Err("validating webhook may not return response.patchType".to_owned())
        }
        (true, true, None) => {
            Err("webhook returned response.patch but not response.patchType".to_owned())
        }
        (true, false, Some(_)) => {
            Err("webhook returned response.patchType but not response.patch".to_owned())
        }
        (true, _, Some("")) => {
            Err("webhook returned invalid response.patchType of \"\"".to_owned())
        }
        _ => Ok(()),
    }
}

/// The `Status` a client gets when a webhook refuses.
pub(super) fn refusal(name: &str, status: Option<Value>) -> Value {
    let mut status = status.filter(Value::is_object).unwrap_or_else(|| json!({}));
    let code = status["code"].as_u64().unwrap_or_default();
    if !(400..600).contains(&code) {
        status["code"] = 400.into();
    }
    if matches!(status["status"].as_str(), None | Some("" | "Success")) {
        status["status"] = "Failure".into();
    }
    let text = |key: &str| status[key].as_str().filter(|text| !text.is_empty());
    let message = match text("message").or_else(|| text("reason")) {
        Some(why) => format!("admission webhook {name:?} denied the request: {why}"),
        None => format!("admission webhook {name:?} denied the request without explanation"),
    };
    status["message"] = message.into();
    status["kind"] = "Status".into();
    status["apiVersion"] = "v1".into();
    if !status["metadata"].is_object() {
        status["metadata"] = json!({});
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(mutating: bool, response: Value) -> Result<Answer, String> {
        let review = json!({
            "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response,
        });
        read("v1", "u", mutating, review.to_string().as_bytes())
    }

    #[test]
    fn answers_are_checked() {
        let table = [
            (
                true,
                json!({"uid": "x", "allowed": true}),
                "expected response.uid=\"u\", got \"x\"",
            ),
            (
                true,
                json!({"uid": "u", "allowed": true, "patch": "W10="}),
                "webhook returned response.patch but not response.patchType",
            ),
            (
                true,
                json!({"uid": "u", "allowed": true, "patchType": "JSONPatch"}),
                "webhook returned response.patchType but not response.patch",
            ),
            (
                true,
                json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "Merge"}),
                "unsupported patch type \"Merge\"",
            ),
            (
                false,
                json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"}),
                "validating webhook may not return response.patch",
            ),
            (true, Value::Null, "webhook response was absent"),
        ];
        for (mutating, response, message) in table {
            assert_eq!(answer(mutating, response).unwrap_err(), message);
        }
        let good = json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch",
            "warnings": ["w"], "auditAnnotations": {"k": "v"}});
        let good = answer(true, good).unwrap();
        assert_eq!(good.patch.as_deref(), Some(&b"[]"[..]));
        assert_eq!(
            (good.warnings[0].as_str(), good.annotations["k"].as_str()),
            ("w", "v")
        );
        let other = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1",
            "response": {"uid": "u", "allowed": true}});
        let error = read("v1", "u", true, other.to_string().as_bytes()).unwrap_err();
        assert!(error.starts_with("expected webhook response of admission.k8s.io/v1, Kind="));
        assert!(
            read("v1beta1", "u", true, other.to_string().as_bytes())
                .unwrap()
                .allowed
        );
        assert!(read("v1", "u", true, b"<html>").is_err());
    }

    #[test]
    fn a_refusal_says_who_and_why() {
        let table = [
            (
                None,
                400,
                "admission webhook \"w\" denied the request without explanation",
            ),
            (
                Some(json!({"message": "no", "code": 403, "reason": "Forbidden"})),
                403,
                "admission webhook \"w\" denied the request: no",
            ),
            (
                Some(json!({"reason": "Teapot", "code": 200})),
                400,
                "admission webhook \"w\" denied the request: Teapot",
            ),
        ];
        for (status, code, message) in table {
            let status = refusal("w", status);
            assert_eq!(
                (status["code"].as_u64(), status["message"].as_str()),
                (Some(code), Some(message))
            );
            assert_eq!(status["status"], "Failure");
        }
    }
}
