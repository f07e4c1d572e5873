//! The part of every object's metadata that the server writes.

use rand::RngExt as _;
use serde_json::{Map, Value};

use super::Call;
use super::call::now;
use crate::error::StatusError;
use crate::schema::FieldError;

/// Letters and digits that make no words.
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
const MAX_GENERATED: usize = 63;

pub(super) fn of(object: &Value) -> &Map<String, Value> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    object
        .get("metadata")
        .and_then(Value::as_object)
        .unwrap_or(&EMPTY)
}

/// The metadata to write to; made when it is missing.
pub(super) fn of_mut(object: &mut Value) -> Result<&mut Map<String, Value>, StatusError> {
    let map = object.as_object_mut();
    let map = map.ok_or_else(|| StatusError::bad_request("the body is not an object"))?;
    let metadata = map.entry("metadata").or_insert_with(|| Map::new().into());
    metadata
        .as_object_mut()
        .ok_or_else(|| StatusError::bad_request("metadata is not an object"))
}

pub(super) fn text<'o>(object: &'o Value, field: &str) -> &'o str {
    of(object)
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

pub(super) fn is_deleting(object: &Value) -> bool {
    of(object)
        .get("deletionTimestamp")
        .is_some_and(|time| !time.is_null())
}

/// Finalizers of the metadata, and of the spec for kinds that have them there (namespaces).
pub(super) fn has_finalizers(call: &Call, object: &Value) -> bool {
    let some = |value: Option<&Value>| {
        value
            .and_then(Value::as_array)
            .is_some_and(|finalizers| !finalizers.is_empty())
    };
    let in_spec = call.resource.subresource("finalize").is_some();
    some(of(object).get("finalizers")) || in_spec && some(object.pointer("/spec/finalizers"))
}

/// The body must speak of the namespace and name of the path; both may be left out. Objects of the cluster have no namespace,
/// whatever they say: many manifests give them one.
pub(super) fn check_place(call: &Call, object: &mut Value) -> Result<(), StatusError> {
    let namespace = call.namespace().to_owned();
    let wanted = call.path.name.clone();
    let metadata = of_mut(object)?;
    match metadata
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        _ if namespace.is_empty() => {
            metadata.remove("namespace");
        }
        "" => {
            metadata.insert("namespace".into(), namespace.into());
        }
        found if found == namespace => {}
        found => {
            return Err(StatusError::bad_request(format!(
                "the namespace of the provided object does not match the namespace sent on the \
                 request ({found} is not {namespace:?})"
            )));
        }
    }
    match metadata
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        _ if wanted.is_empty() => Ok(()),
        "" => {
            metadata.insert("name".into(), wanted.into());
            Ok(())
        }
        found if found == wanted => Ok(()),
        found => Err(StatusError::bad_request(format!(
            "the name of the object ({found}) does not match the name on the URL ({wanted})"
        ))),
    }
}

/// Gives a new object its identity. Returns whether the name was generated.
pub(super) fn begin(call: &Call, object: &mut Value) -> Result<bool, StatusError> {
    let metadata = of_mut(object)?;
    let set = |metadata: &Map<String, Value>, field: &str| {
        metadata
            .get(field)
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty())
    };
    if set(metadata, "resourceVersion") {
        return Err(StatusError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    for field in [
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        metadata.remove(field);
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), now().to_string().into());
    if set(metadata, "name") {
        return Ok(false);
    }
    let base = metadata
        .get("generateName")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if base.is_empty() {
        let detail = "name or generateName is required";
        let error = FieldError::required("metadata.name", detail);
        return Err(StatusError::invalid(&call.resource, "", &[error]));
    }
    let name = generate(base);
    metadata.insert("name".into(), name.into());
    Ok(true)
}

fn generate(base: &str) -> String {
    let end = base.floor_char_boundary(MAX_GENERATED - SUFFIX_LENGTH);
    let mut name = base.get(..end).unwrap_or_default().to_owned();
    let mut random = rand::rng();
    for _ in 0..SUFFIX_LENGTH {
        let letter = SUFFIX.get(random.random_range(0..SUFFIX.len())).copied();
        name.push(char::from(letter.unwrap_or(b'x')));
    }
    name
}

/// Keeps what an update cannot change and refuses one that is about another object.
pub(super) fn carry_over(call: &Call, old: &Value, new: &mut Value) -> Result<(), StatusError> {
    let name = text(old, "name").to_owned();
    let uid = text(new, "uid");
    if !uid.is_empty() && uid != text(old, "uid") {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            text(old, "uid")
        );
        return Err(StatusError::conflict(&call.resource, &name, &why));
    }
    for field in ["name", "namespace"] {
        let changed = text(new, field);
        if !changed.is_empty() && changed != text(old, field) {
            let path = format!("metadata.{field}");
            let error = FieldError::invalid(path, changed, "field is immutable");
            return Err(StatusError::invalid(&call.resource, &name, &[error]));
        }
    }
    let kept = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ];
    let metadata = of_mut(new)?;
    metadata.remove("selfLink");
    for field in kept {
        match of(old).get(field) {
            Some(value) => drop(metadata.insert(field.to_owned(), value.clone())),
            None => drop(metadata.remove(field)),
        }
    }
    Ok(())
}

/// Whether a write would store what is stored already. The times in `managedFields` do not count.
pub(super) fn is_unchanged(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return false;
    };
    let same = |a: &Map<String, Value>, b: &Map<String, Value>, special: &str| {
        a.len() == b.len()
            && a.iter()
                .all(|(key, value)| key == special || b.get(key) == Some(value))
    };
    if !same(old, new, "metadata") {
        return false;
    }
    match (old.get("metadata"), new.get("metadata")) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            same(old, new, "managedFields")
                && same_managers(old.get("managedFields"), new.get("managedFields"))
        }
        (old, new) => old == new,
    }
}

fn same_managers(old: Option<&Value>, new: Option<&Value>) -> bool {
    let (Some(old), Some(new)) = (old.and_then(Value::as_array), new.and_then(Value::as_array))
    else {
        return old == new;
    };
    old.len() == new.len()
        && old
            .iter()
            .zip(new)
            .all(|(old, new)| match (old.as_object(), new.as_object()) {
                (Some(old), Some(new)) => {
                    old.len() == new.len()
                        && old
                            .iter()
                            .all(|(key, value)| key == "time" || new.get(key) == Some(value))
                }
                _ => old == new,
            })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn generated_names_fit_and_keep_their_base() {
        let name = generate("web-");
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert_eq!(generate(&"x".repeat(100)).len(), 63);
        assert!(generate(&"é".repeat(40)).len() <= 63);
    }

    #[test]
    fn only_the_times_of_managers_do_not_count() {
        let object = |time: &str, manager: &str, label: &str| {
            json!({"metadata": {"labels": {"a": label},
                "managedFields": [{"manager": manager, "time": time}]}, "spec": {}})
        };
        let old = object("1", "m", "x");
        assert!(is_unchanged(&old, &object("2", "m", "x")));
        assert!(!is_unchanged(&old, &object("1", "n", "x")));
        assert!(!is_unchanged(&old, &object("1", "m", "y")));
        assert!(!is_unchanged(
            &old,
            &json!({"metadata": {"labels": {"a": "x"}}, "spec": {}})
        ));
    }
}
