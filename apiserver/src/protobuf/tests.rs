//! Messages as client-go writes them, built by hand.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

fn varint(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn enveloped(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
    let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), bytes(1, &meta), bytes(2, object)].concat()
}

#[test]
fn an_object_reads_as_its_json() {
    let metadata = [
        bytes(1, b"web"),
        bytes(2, b""),
        bytes(8, &[]),
        bytes(11, &[bytes(1, b"app"), bytes(2, b"x")].concat()),
    ]
    .concat();
    let port = [
        bytes(1, b"http"),
        varint(3, 80),
        bytes(4, &[varint(1, 1), bytes(3, b"web")].concat()),
        varint(5, 0),
    ]
    .concat();
    let spec = [bytes(1, &port), bytes(4, b"ClusterIP")].concat();
    let service = [bytes(1, &metadata), bytes(2, &spec), bytes(3, &[])].concat();
    let value = decode(&enveloped("v1", "Service", &service)).unwrap();
    assert_eq!(
        value,
        json!({
            "kind": "Service", "apiVersion": "v1",
            "metadata": {"name": "web", "labels": {"app": "x"}},
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": "web"}], "type": "ClusterIP"},
            "status": {},
        })
    );
}

#[test]
fn embedded_parts_belong_to_their_parent() {
    let empty_dir = bytes(2, &[]);
    let volume = [bytes(1, b"v"), bytes(2, &empty_dir)].concat();
    let limits = bytes(1, &[bytes(1, b"cpu"), bytes(2, &bytes(1, b"2"))].concat());
    let container = [bytes(1, b"c"), bytes(8, &limits)].concat();
    let spec = [bytes(1, &volume), bytes(2, &container)].concat();
    let value = decode(&enveloped("v1", "Pod", &bytes(2, &spec))).unwrap();
    assert_eq!(
        value["spec"]["volumes"],
        json!([{"name": "v", "emptyDir": {}}])
    );
    assert_eq!(
        value["spec"]["containers"][0]["resources"]["limits"],
        json!({"cpu": "2"})
    );
}

#[test]
fn nonsense_is_refused() {
    assert_eq!(decode(b"{}"), Err(Error::NoMagic));
    let unknown = decode(&enveloped("example.com/v1", "Widget", &[]));
    assert!(matches!(unknown, Err(Error::UnknownKind { .. })));
    assert!(decode(&enveloped("v1", "Pod", &[0x0a, 0x7f])).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(content in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&content);
        let _ = decode(&enveloped("v1", "Pod", &content));
        let _ = decode(&enveloped("apiextensions.k8s.io/v1", "CustomResourceDefinition", &content));
    }
}
