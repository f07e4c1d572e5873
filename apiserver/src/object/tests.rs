//! The envelope and the hole for the revision.

use serde_json::json;

use super::*;
use crate::resource::Field;

fn field(path: &str, default: &str) -> Field {
    Field {
        label: path.into(),
        path: path.into(),
        default: default.into(),
        or: None,
    }
}

fn stored(object: &Value, revision: u64) -> KeyValue {
    let value = encode(object);
    let slot = value.revision_slot.unwrap() as usize;
    let (before, after) = value.bytes.split_at(slot);
    let bytes = [before, revision.to_string().as_bytes(), after].concat();
    KeyValue {
        key: "/registry/core/pods/a/b".into(),
        value: bytes.into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
    }
}

#[test]
fn the_envelope_is_read_in_one_pass() {
    let paths = Paths::new(Arc::from([
        field("spec.nodeName", ""),
        field("spec.unschedulable", "false"),
        field("status.replicas", "0"),
        field("type", ""),
    ]));
    let pod = json!({
        "kind": "Pod",
        "metadata": {"name": "b", "resourceVersion": "1", "labels": {"app": "we\"b"}},
        "spec": {"nodeName": "n1", "containers": [{"nodeName": "no"}], "unschedulable": true},
        "status": {"replicas": 3},
    });
    let object = Object::new(stored(&pod, 77), &paths);
    assert_eq!(object.meta.label("app"), Some("we\"b"));
    assert_eq!(object.meta.label("other"), None);
    let fields: Vec<&str> = (0..4).map(|index| object.meta.field(index)).collect();
    assert_eq!(fields, ["n1", "true", "3", ""]);
}

#[test]
fn an_absent_field_reads_as_the_other_one_that_is_named() {
    let mut source = field("source.component", "");
    source.or = Some("reporter".into());
    let paths = Paths::new(Arc::from([source, field("reporter", "")]));
    let read = |event: Value| {
        Object::new(stored(&event, 7), &paths)
            .meta
            .field(0)
            .to_owned()
    };
    let meta = json!({"name": "e", "resourceVersion": "1"});
    assert_eq!(read(json!({"metadata": meta, "reporter": "a"})), "a");
    let both = json!({"metadata": meta, "reporter": "a", "source": {"component": "b"}});
    assert_eq!(read(both), "b");
}

#[test]
fn the_revision_is_filled_in_and_replaced() {
    let paths = Paths::new(Arc::from([]));
    let object = Object::new(stored(&json!({"metadata": {"name": "b"}}), 9), &paths);
    assert_eq!(
        parse(&object.bytes).unwrap()["metadata"]["resourceVersion"],
        "9"
    );
    let later = parse(&object.at_revision(1234)).unwrap();
    assert_eq!(
        later,
        json!({"metadata": {"name": "b", "resourceVersion": "1234"}})
    );
}

#[test]
fn managed_fields_can_be_left_out() {
    let paths = Paths::new(Arc::from([]));
    let lean = |metadata: Value| {
        let object = Object::new(stored(&json!({"metadata": metadata}), 9), &paths);
        parse(&object.lean()).unwrap()["metadata"].take()
    };
    let managers = json!([{"manager": "a", "fieldsV1": {"f:x": {",\"managedFields\":": {}}}}]);
    assert_eq!(
        lean(json!({"labels": {"a": "b"}, "managedFields": managers, "name": "c"})),
        json!({"labels": {"a": "b"}, "name": "c", "resourceVersion": "9"})
    );
    let without = json!({"annotations": {"managedFields": "[]"}, "resourceVersion": "9"});
    assert_eq!(lean(without.clone()), without);
    // Nothing stands before them, so they stay.
    assert_eq!(
        lean(json!({"managedFields": []}))["managedFields"],
        json!([])
    );
}

#[test]
fn what_is_not_an_object_has_no_hole() {
    assert_eq!(encode(&json!({"metadata": 1})).revision_slot, None);
}
