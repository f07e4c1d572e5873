//! PersistentVolumes, claims, storage classes and the CSI kinds.

use serde_json::{Map, Value, json};

use super::access::{Fields, carry, default, ensure, object, same};
use super::{Context, Errors, immutable, names, resources};
use crate::schema::{FieldError, Path};

const MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
/// Fields of a volume's spec that are not its source.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// Volumes and claims start out pending.
pub(super) fn create(_: &Context<'_>, object: &mut Value) {
    if let Some(root) = object.as_object_mut() {
        root.insert("status".to_owned(), json!({"phase": "Pending"}));
    }
}

/// A claim in a template is pending too.
pub(super) fn claim_defaults(claim: &mut Map<String, Value>) {
    default(ensure(claim, "status"), "phase", "Pending");
}

/// A claim's data source is spelled in two ways.
pub(super) fn claim_spec_defaults(spec: &mut Map<String, Value>) {
    let local = |v: &Value| v.text("namespace").is_empty();
    match (
        spec.get("dataSource").cloned(),
        spec.get("dataSourceRef").cloned(),
    ) {
        (Some(source), None) => {
            spec.insert("dataSourceRef".to_owned(), source);
        }
        (None, Some(reference)) if local(&reference) => {
            let core = reference.text("apiGroup").is_empty();
            let group = if core {
                Value::Null
            } else {
                reference.at("apiGroup").clone()
            };
            let mut source = json!({"kind": reference.at("kind"), "name": reference.at("name")});
            if !group.is_null() {
                source["apiGroup"] = group;
            }
            spec.insert("dataSource".to_owned(), source);
        }
        _ => {}
    }
}

fn access_modes(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let at = at.field("accessModes");
    let modes = spec.items("accessModes");
    if modes.is_empty() {
        out.push(FieldError::required(
            at,
            "at least 1 access mode is required",
        ));
    }
    for mode in modes {
        if !MODES.contains(&mode.as_str().unwrap_or_default()) {
            out.push(FieldError::not_supported(at, mode.clone(), &MODES));
        }
    }
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        let detail = "may not use ReadWriteOncePod with other access modes";
        out.push(FieldError::forbidden(at, detail));
    }
}

fn class_name(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let name = spec.text("storageClassName");
    if !name.is_empty()
        && let Some(fault) = names::dns_subdomain(name)
    {
        out.push(FieldError::invalid(
            at.field("storageClassName"),
            name,
            fault,
        ));
    }
}

fn storage(amounts: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_storage = at.key("storage");
    match amounts.get("storage") {
        None => out.push(FieldError::required(at_storage, "")),
        Some(value) => {
            if resources::parse(value).is_some_and(|q| q.is_negative() || q.is_zero()) {
                let detail = "must be greater than zero";
                out.push(FieldError::invalid(at_storage, value.clone(), detail));
            }
        }
    }
}

fn sources(spec: &Value) -> Vec<&str> {
    let fields = spec.as_object().into_iter().flatten();
    let named = fields.filter(|(k, v)| !NO_SOURCE.contains(&k.as_str()) && !v.is_null());
    named.map(|(k, _)| k.as_str()).collect()
}

/// Checks a volume's spec.
pub(super) fn volume_spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    access_modes(spec, at, out);
    if spec.entries("capacity").next().is_none() {
        out.push(FieldError::required(at.field("capacity"), ""));
    } else {
        if spec.entries("capacity").any(|(k, _)| k != "storage") {
            let value = spec.at("capacity").clone();
            out.push(FieldError::not_supported(
                at.field("capacity"),
                value,
                &["storage"],
            ));
        }
        storage(spec.at("capacity"), &at.field("capacity"), out);
    }
    class_name(spec, at, out);
    match sources(spec).as_slice() {
        [] => out.push(FieldError::required(at, "must specify a volume type")),
        [_] => {}
        [_, extra, ..] => {
            let detail = "may not specify more than 1 volume type";
            out.push(FieldError::forbidden(at.field(extra), detail));
        }
    }
    if spec.has("local") && !spec.at("nodeAffinity").has("required") {
        let detail = "Local volume requires node affinity";
        out.push(FieldError::required(at.field("nodeAffinity"), detail));
    }
    let host = spec.at("hostPath").text("path");
    if host == "/" && spec.text("persistentVolumeReclaimPolicy") == "Recycle" {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        out.push(FieldError::forbidden(
            at.field("persistentVolumeReclaimPolicy"),
            detail,
        ));
    }
    if spec.has("csi")
        && let Some(fault) = driver_name(spec.at("csi").text("driver"))
    {
        let at = at.field("csi");
        out.push(FieldError::invalid(
            at.field("driver"),
            spec.at("csi").text("driver"),
            fault,
        ));
    }
}

/// The name of a CSI driver: a subdomain, in any case, of at most 63 bytes.
fn driver_name(name: &str) -> Option<std::borrow::Cow<'static, str>> {
    if name.is_empty() {
        return None;
    }
    if name.len() > 63 {
        return Some("must be no more than 63 bytes".into());
    }
    names::dns_subdomain(&name.to_ascii_lowercase())
}

/// What a volume is made of stays.
pub(super) fn volume_update(context: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if !context.subresource.is_empty() {
        return;
    }
    let at = Path::new("spec");
    let (new, old) = (new.at("spec"), old.at("spec"));
    let source = |spec: &Value| -> Vec<(String, Value)> {
        sources(spec)
            .iter()
            .map(|k| ((*k).to_owned(), without_secrets(spec.at(k))))
            .collect()
    };
    if source(new) != source(old) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        out.push(FieldError::forbidden(
            at.field("persistentvolumesource"),
            detail,
        ));
    }
    immutable(new, old, "volumeMode", &at, out);
    if old.at("nodeAffinity").has("required")
        && !same(new.at("nodeAffinity"), old.at("nodeAffinity"))
    {
        let detail = "field is immutable, except for updating from beta label to GA";
        let value = new.at("nodeAffinity").clone();
        out.push(FieldError::invalid(at.field("nodeAffinity"), value, detail));
    }
}

/// Expansion secrets of a CSI source may be added later.
fn without_secrets(source: &Value) -> Value {
    let mut source = source.clone();
    if let Some(map) = source.as_object_mut() {
        map.remove("controllerExpandSecretRef");
        map.remove("nodeExpandSecretRef");
    }
    source
}

/// Checks a claim's spec.
pub(super) fn claim_spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    access_modes(spec, at, out);
    let at_resources = at.field("resources");
    storage(spec.at("resources").at("requests"), &at_resources, out);
    class_name(spec, at, out);
    let mode = spec.text("volumeMode");
    if !mode.is_empty() && !matches!(mode, "Block" | "Filesystem") {
        let known = ["Block", "Filesystem"];
        out.push(FieldError::not_supported(
            at.field("volumeMode"),
            mode,
            &known,
        ));
    }
    for key in ["dataSource", "dataSourceRef"] {
        let source = spec.at(key);
        if source.is_null() {
            continue;
        }
        let at = at.field(key);
        for name in ["name", "kind"] {
            if source.text(name).is_empty() {
                out.push(FieldError::required(at.field(name), ""));
            }
        }
        let core = source.text("apiGroup").is_empty();
        if core && !matches!(source.text("kind"), "PersistentVolumeClaim" | "") {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            out.push(FieldError::invalid(at, source.text("kind"), detail));
        }
    }
}

/// A claim may only grow, and be bound once.
pub(super) fn claim_update(context: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if !context.subresource.is_empty() {
        return;
    }
    let (new_spec, old_spec) = (new.at("spec"), old.at("spec"));
    let bound = old.at("status").text("phase") == "Bound";
    let mut allowed = old_spec.clone();
    if old_spec.text("volumeName").is_empty() {
        carry(&mut allowed, new_spec, "volumeName");
    }
    if !old_spec.has("storageClassName") {
        carry(&mut allowed, new_spec, "storageClassName");
    }
    if bound {
        carry(&mut allowed, new_spec, "volumeAttributesClassName");
        if let Some(spec) = allowed.as_object_mut() {
            let requests = new_spec.at("resources").at("requests").clone();
            let resources = ensure(spec, "resources");
            resources.insert("requests".to_owned(), requests);
        }
    }
    if !same(&allowed, new_spec) {
        let detail = "spec is immutable after creation except resources.requests and \
                      volumeAttributesClassName for bound claims";
        out.push(FieldError::forbidden("spec", detail));
        return;
    }
    let size = |spec: &Value| resources::parse(spec.at("resources").at("requests").at("storage"));
    if let (Some(now), Some(before)) = (size(new_spec), size(old_spec))
        && now < before
    {
        let capacity = resources::parse(old.at("status").at("capacity").at("storage"));
        if capacity.is_none_or(|capacity| now <= capacity) {
            let detail = "field can not be less than status.capacity";
            out.push(FieldError::forbidden(
                "spec.resources.requests.storage",
                detail,
            ));
        }
    }
}

/// Checks a storage class.
pub(super) fn class(_: &Context<'_>, class: &Value, out: &mut Errors) {
    let parameters: Vec<(&str, &Value)> = class.entries("parameters").collect();
    let at = Path::new("parameters");
    if parameters.len() > 512 {
        out.push(FieldError::too_long(at, 512));
    }
    let size: usize = parameters
        .iter()
        .map(|(k, v)| k.len() + v.as_str().map_or(0, str::len))
        .sum();
    if size > 256 * 1024 {
        out.push(FieldError::too_long(at, 256 * 1024));
    }
    for (key, _) in parameters {
        if key.is_empty() {
            out.push(FieldError::invalid(at, key, "field can not be empty."));
        }
    }
}

/// What provisioned volumes were made by stays.
pub(super) fn class_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    for key in ["parameters", "provisioner", "reclaimPolicy"] {
        if !same(new.at(key), old.at(key)) {
            let detail = format!("updates to {key} are forbidden.");
            out.push(FieldError::forbidden(key, detail));
        }
    }
    immutable(new, old, "volumeBindingMode", &Path::ROOT, out);
}

/// Checks an attachment's spec.
pub(super) fn attachment_spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let source = spec.at("source");
    let at = at.field("source");
    match (
        source.has("inlineVolumeSpec"),
        source.has("persistentVolumeName"),
    ) {
        (false, false) => {
            out.push(FieldError::required(
                at,
                "must specify exactly one of inlineVolumeSpec and \
                                               persistentVolumeName",
            ));
        }
        (true, true) => {
            out.push(FieldError::forbidden(
                at,
                "must specify exactly one of inlineVolumeSpec and \
                                                persistentVolumeName",
            ));
        }
        _ => {}
    }
}

/// An attachment's spec stays.
pub(super) fn spec_immutable(context: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if context.subresource.is_empty() && !same(new.at("spec"), old.at("spec")) {
        let value = new.at("spec").clone();
        out.push(FieldError::invalid("spec", value, "field is immutable"));
    }
}

/// The switches of a CSI driver that volumes depend on stay.
pub(super) fn driver_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    let at = Path::new("spec");
    for key in ["attachRequired", "fsGroupPolicy", "volumeLifecycleModes"] {
        immutable(new.at("spec"), old.at("spec"), key, &at, out);
    }
}

/// Checks a CSI driver's lifecycle modes and policy.
pub(super) fn driver_spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_modes = at.field("volumeLifecycleModes");
    for mode in spec.items("volumeLifecycleModes") {
        if !matches!(mode.as_str(), Some("Ephemeral" | "Persistent")) {
            let known = ["Ephemeral", "Persistent"];
            out.push(FieldError::not_supported(at_modes, mode.clone(), &known));
        }
    }
    let policy = spec.text("fsGroupPolicy");
    let known = ["File", "None", "ReadWriteOnceWithFSType"];
    if !policy.is_empty() && !known.contains(&policy) {
        out.push(FieldError::not_supported(
            at.field("fsGroupPolicy"),
            policy,
            &known,
        ));
    }
}

/// The capacity a node reports is keyed by class and topology, which stay.
pub(super) fn capacity_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    for key in ["nodeTopology", "storageClassName"] {
        immutable(new, old, key, &Path::ROOT, out);
    }
}

/// The driver and the parameters of an attributes class stay.
pub(super) fn attributes_update(_: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    for key in ["driverName", "parameters"] {
        if !same(new.at(key), old.at(key)) {
            let detail = format!("updates to {key} are forbidden.");
            out.push(FieldError::forbidden(key, detail));
        }
    }
}

/// Drops the request for a default where an update cannot have one.
pub(super) fn claim_prepare(context: &Context<'_>, new: &mut Value, old: &Value) {
    if context.subresource.is_empty()
        && let Some(spec) = new.as_object_mut().and_then(|root| object(root, "spec"))
        && !spec.contains_key("volumeMode")
        && let Some(mode) = old.at("spec").get("volumeMode")
    {
        spec.insert("volumeMode".to_owned(), mode.clone());
    }
}
