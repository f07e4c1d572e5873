//! The node as an object, its certificates, and tokens of its pods.

use super::*;

#[tokio::test]
async fn a_node_neither_deletes_itself_nor_has_it_done() {
    let node = json!({"metadata": {"name": "n"}, "spec": {}});
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "u"}]);
    let owned = merged(
        node.clone(),
        &json!({"metadata": {"ownerReferences": owner}}),
    );
    use Operation::{Create, Delete, Update};
    let cases = [
        (Create, "nodes", None, &node, None),
        (
            Create,
            "nodes",
            None,
            &owned,
            Some("to set ownerReferences"),
        ),
        (
            Update,
            "nodes",
            Some(&node),
            &owned,
            Some("to modify ownerReferences"),
        ),
        (
            Update,
            "nodes",
            Some(&owned),
            &node,
            Some("to modify ownerReferences"),
        ),
        (
            Update,
            "nodes:status",
            Some(&node),
            &owned,
            Some("to modify ownerReferences"),
        ),
        (Update, "nodes", Some(&owned), &owned, None),
        (
            Delete,
            "nodes",
            Some(&node),
            &Value::Null,
            Some("to delete itself"),
        ),
    ];
    for (operation, resource, old, object, expected) in cases {
        let got = refusal(operation, resource, "n", old, object).await;
        check(got, expected, &format!("{operation:?} {resource} {object}"));
    }
}

#[tokio::test]
async fn tokens_are_for_those_whom_the_pod_speaks_to() {
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "u"});
    let cases = [
        (json!([]), None),
        (json!(["vault"]), None),
        // Of the driver behind the claim of the pod.
        (json!(["disks"]), None),
        (
            json!(["vault", "disks"]),
            Some("only request 0 or 1 audiences"),
        ),
        (
            json!(["else"]),
            Some("audience \"else\" not found in pod spec volume"),
        ),
    ];
    for (audiences, expected) in cases {
        let asked = json!({"spec": {"boundObjectRef": bound, "audiences": audiences}});
        let got = refusal(
            Operation::Create,
            "serviceaccounts:token",
            "s",
            None,
            &asked,
        )
        .await;
        check(got, expected, &audiences.to_string());
    }
}

#[tokio::test]
async fn certificates_are_for_the_node_itself() {
    let asked = |name: &str, signer: &str| {
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        json!({"spec": {"signerName": signer, "request": STANDARD.encode(pem)}})
    };
    let [serving, client] = NODE_SIGNERS;
    let cases = [
        ("system:node:n", client, None),
        ("system:node:n", serving, None),
        ("system:node:m", client, Some("with CN=system:node:n")),
        ("system:node:m", serving, Some("with CN=system:node:n")),
        ("bob", client, Some("with CN=system:node:n")),
        ("bob", "example.com/people", None),
    ];
    let resource = "certificates.k8s.io/certificatesigningrequests";
    for (name, signer, expected) in cases {
        let got = refusal(Operation::Create, resource, "c", None, &asked(name, signer)).await;
        check(got, expected, &format!("{name} {signer}"));
    }
    let broken = json!({"spec": {"signerName": client, "request": "eA=="}});
    let got = refusal(Operation::Create, resource, "c", None, &broken).await;
    check(got, Some("unable to parse csr"), "broken");
}
