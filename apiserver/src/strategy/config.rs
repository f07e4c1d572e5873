//! ConfigMaps and Secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::access::{Fields, ensure, same};
use super::{Context, Errors, names};
use crate::schema::{FieldError, Path};

/// All the data of one object may take this many bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// Texts given as they are become data.
pub(super) fn secret_defaults(secret: &mut Map<String, Value>) {
    let Some(Value::Object(texts)) = secret.remove("stringData") else {
        return;
    };
    if texts.is_empty() {
        return;
    }
    let data = ensure(secret, "data");
    for (key, text) in texts {
        let encoded = STANDARD.encode(text.as_str().unwrap_or_default());
        data.insert(key, encoded.into());
    }
}

fn keys(object: &Value, list: &str, out: &mut Errors) {
    let at = Path::new(list);
    for (key, _) in object.entries(list) {
        if let Some(fault) = names::config_key(key) {
            out.push(FieldError::invalid(at.key(key), key, fault));
        }
    }
}

fn decoded_size(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.len() / 4 * 3
        - text
            .bytes()
            .rev()
            .take_while(|b| *b == b'=')
            .count()
            .min(2)
            .min(text.len())
}

/// Checks a ConfigMap.
pub(super) fn config_map(_: &Context<'_>, object: &Value, out: &mut Errors) {
    keys(object, "data", out);
    keys(object, "binaryData", out);
    let data = Path::new("data");
    for (key, _) in object.entries("binaryData") {
        if object.at("data").has(key) {
            let detail = "duplicate of key present in binaryData";
            out.push(FieldError::invalid(data.key(key), key, detail));
        }
    }
    let texts: usize = object
        .entries("data")
        .map(|(_, v)| v.as_str().map_or(0, str::len))
        .sum();
    let bytes: usize = object
        .entries("binaryData")
        .map(|(_, v)| decoded_size(v))
        .sum();
    if texts + bytes > MAX_BYTES {
        out.push(FieldError::too_long("", MAX_BYTES));
    }
}

/// Checks a Secret and the keys its type asks for.
pub(super) fn secret(_: &Context<'_>, secret: &Value, out: &mut Errors) {
    keys(secret, "data", out);
    let size: usize = secret.entries("data").map(|(_, v)| decoded_size(v)).sum();
    let data = Path::new("data");
    if size > MAX_BYTES {
        out.push(FieldError::too_long(data, MAX_BYTES));
    }
    let required = |key: &str, out: &mut Errors| {
        if !secret.at("data").has(key) {
            out.push(FieldError::required(data.key(key), ""));
        }
    };
    match secret.text("type") {
        "kubernetes.io/service-account-token" => {
            let name = "kubernetes.io/service-account.name";
            if secret
                .at("metadata")
                .at("annotations")
                .text(name)
                .is_empty()
            {
                let metadata = Path::new("metadata");
                let at = metadata.field("annotations");
                out.push(FieldError::required(at.key(name), ""));
            }
        }
        "kubernetes.io/dockercfg" => {
            required(".dockercfg", out);
            json_content(secret, ".dockercfg", &data, out);
        }
        "kubernetes.io/dockerconfigjson" => {
            required(".dockerconfigjson", out);
            json_content(secret, ".dockerconfigjson", &data, out);
        }
        "kubernetes.io/basic-auth" => {
            let has = |key: &str| secret.at("data").has(key);
            if !has("username") && !has("password") {
                out.push(FieldError::required(data.key("username"), ""));
                out.push(FieldError::required(data.key("password"), ""));
            }
        }
        "kubernetes.io/ssh-auth" => required("ssh-privatekey", out),
        "kubernetes.io/tls" => {
            required("tls.crt", out);
            required("tls.key", out);
        }
        _ => {}
    }
}

fn json_content(secret: &Value, key: &str, at: &Path<'_>, out: &mut Errors) {
    let Some(encoded) = secret.at("data").get(key).and_then(Value::as_str) else {
        return;
    };
    let parsed = STANDARD
        .decode(encoded)
        .ok()
        .is_some_and(|bytes| serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok());
    if !parsed {
        let detail = "the content is not JSON";
        out.push(FieldError::invalid(
            at.key(key),
            "<secret contents redacted>",
            detail,
        ));
    }
}

/// Checks what may not change: the type, and everything once the object is immutable.
pub(super) fn update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if new.text("type") != old.text("type") {
        out.push(FieldError::invalid(
            "type",
            new.at("type").clone(),
            "field is immutable",
        ));
    }
    if !old.flag("immutable") {
        return;
    }
    if !new.flag("immutable") {
        let detail = "field is immutable when `immutable` is set";
        out.push(FieldError::forbidden("immutable", detail));
    }
    for key in ["data", "binaryData"] {
        if !same(new.at(key), old.at(key)) {
            let detail = "field is immutable when `immutable` is set";
            out.push(FieldError::forbidden(key, detail));
        }
    }
}
