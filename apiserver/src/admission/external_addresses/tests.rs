//! Which addresses a Service of namespace `a` may take.

use serde_json::json;

use super::*;
use crate::admission::Notes;
use crate::admission::testing::request;
use crate::auth::UserInfo;
use crate::auth::memory::Memory;

fn plugin() -> ExternalAddresses {
    let meta = |namespace: &str, name: &str| json!({"namespace": namespace, "name": name});
    let source = Memory::with([
        (
            Kind::SERVICE_CIDRS,
            json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/16", "fd00:1::/112"]}}),
        ),
        (
            Kind::NETWORKS,
            json!({"metadata": {"name": "pods"}, "spec": {"subnets": ["10.42.0.0/16"]}}),
        ),
        (
            Kind::IP_ADDRESSES,
            json!({"metadata": {"name": "192.0.2.40"}}),
        ),
        (
            Kind::NODES,
            json!({"metadata": {"name": "n"}, "status": {"addresses": [
                {"type": "InternalIP", "address": "192.0.2.10"}, {"type": "InternalIP", "address": "2001:DB8::10"},
            ]}}),
        ),
        (
            Kind::PODS,
            json!({"metadata": meta("a", "mine"), "status": {"podIP": "192.0.2.20", "podIPs": [{"ip": "192.0.2.20"}]}}),
        ),
        (
            Kind::PODS,
            json!({"metadata": meta("b", "secret-name"), "status": {"podIPs": [{"ip": "192.0.2.21"}]}}),
        ),
        (
            Kind::SERVICES,
            json!({"metadata": meta("a", "other"), "spec": {"clusterIPs": ["192.0.2.33"], "externalIPs": ["192.0.2.30"]}}),
        ),
        (
            Kind::SERVICES,
            json!({
                "metadata": meta("b", "s"), "spec": {"externalIPs": ["192.0.2.31"]},
                "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.32"}]}},
            }),
        ),
    ]);
    let known = Known {
        open: vec![
            "192.0.2.0/24".parse().unwrap(),
            "2001:db8::/64".parse().unwrap(),
        ],
        services: Some("10.96.0.0/16".parse().unwrap()),
        own: vec!["192.0.2.50".parse().unwrap()],
    };
    ExternalAddresses::new(source, known)
}

async fn refusal(subresource: &str, old: Option<&Value>, service: &Value) -> Option<String> {
    let (user, notes) = (UserInfo::anonymous(), Notes::default());
    let operation = if old.is_some() {
        Operation::Update
    } else {
        Operation::Create
    };
    let request = Request {
        subresource,
        old,
        ..request(&user, &notes, operation, "services", "a")
    };
    assert!(plugin().handles(&request));
    let got = plugin().validate(&request, service).await;
    got.err().map(|error| error.to_string())
}

/// Addresses with what they are refused with as an external address, and as one of a load balancer.
const ADDRESSES: &[(&str, Option<&str>, Option<&str>)] = &[
    ("192.0.2.7", None, None),
    ("2001:db8::7", None, None),
    (
        "198.51.100.7",
        Some("in no range that Services may take"),
        None,
    ),
    (
        "10.96.0.1",
        Some("in the range of Services"),
        Some("in the range of Services"),
    ),
    (
        "10.97.3.4",
        Some("in the range of Services"),
        Some("in the range of Services"),
    ),
    (
        "fd00:1::5",
        Some("in the range of Services"),
        Some("in the range of Services"),
    ),
    (
        "::ffff:10.96.0.1",
        Some("in the range of Services"),
        Some("in the range of Services"),
    ),
    (
        "10.42.1.1",
        Some("the network \"pods\""),
        Some("the network \"pods\""),
    ),
    (
        "192.0.2.40",
        Some("the address of a Service"),
        Some("the address of a Service"),
    ),
    (
        "192.0.2.33",
        Some("the address of a Service"),
        Some("the address of a Service"),
    ),
    (
        "192.0.2.50",
        Some("of the API server"),
        Some("of the API server"),
    ),
    (
        "192.0.2.10",
        Some("of the node \"n\""),
        Some("of the node \"n\""),
    ),
    (
        "2001:db8::10",
        Some("of the node \"n\""),
        Some("of the node \"n\""),
    ),
    (
        "192.0.2.20",
        Some("the pod \"mine\""),
        Some("the pod \"mine\""),
    ),
    (
        "192.0.2.21",
        Some("a pod of another namespace"),
        Some("a pod of another namespace"),
    ),
    // Shared with another Service of the namespace, for other ports.
    ("192.0.2.30", None, None),
    (
        "192.0.2.31",
        Some("a Service of another namespace"),
        Some("a Service of another namespace"),
    ),
    (
        "192.0.2.32",
        Some("a Service of another namespace"),
        Some("a Service of another namespace"),
    ),
    ("127.0.0.1", Some("loopback"), Some("loopback")),
    ("169.254.169.254", Some("link-local"), Some("link-local")),
    ("0.0.0.0", Some("unspecified"), Some("unspecified")),
];

fn check(got: Option<String>, expected: Option<&str>, what: &str) {
    match (&got, expected) {
        (None, None) => {}
        (Some(got), Some(expected)) if got.contains(expected) => {}
        _ => panic!("{what}: {got:?}, not {expected:?}"),
    }
}

#[tokio::test]
async fn addresses_in_use_are_not_taken_and_others_only_from_open_ranges() {
    for (address, external, balancer) in ADDRESSES {
        let service = json!({"spec": {"externalIPs": ["192.0.2.7", address]}});
        check(refusal("", None, &service).await, *external, address);
        let old = json!({"spec": {"externalIPs": []}});
        check(refusal("", Some(&old), &service).await, *external, address);
        let kept = refusal("", Some(&service), &service).await;
        check(kept, None, address);
        let old = json!({"spec": {}});
        let reported = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
        let got = refusal("status", Some(&old), &reported).await;
        check(got, *balancer, &format!("balancer {address}"));
        let proxied =
            json!({"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "Proxy"}]}}});
        check(refusal("status", Some(&old), &proxied).await, None, address);
    }
    let message = refusal("", None, &json!({"spec": {"externalIPs": ["192.0.2.21"]}})).await;
    assert!(!message.unwrap().contains("secret-name"));
}
