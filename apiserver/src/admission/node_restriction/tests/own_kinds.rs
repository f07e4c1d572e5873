//! Volumes, networks and plugins.

use super::*;

/// What is there: a class, a claim for this node and one for another, a driver, a network with its nodes.
pub(super) fn objects() -> Vec<(Kind, Value)> {
    let claim = |name: &str, node: &str, volume: &str| {
        json!({
            "metadata": {
                "namespace": "a", "name": name, "uid": format!("{name}-uid"),
                "annotations": {"volume.kubernetes.io/selected-node": node},
            },
            "spec": {"storageClassName": "fast", "volumeName": volume},
        })
    };
    let part = |node: &str, slice: &str| {
        json!({
            "metadata": {"name": format!("net.{node}")},
            "spec": {"network": "net", "node": node, "slices": [slice]},
        })
    };
    vec![
        (
            Kind::STORAGE_CLASSES,
            json!({"metadata": {"name": "fast"}, "provisioner": "disks.example"}),
        ),
        (
            Kind::CSI_DRIVERS,
            json!({"metadata": {"name": "disks.example"}, "spec": {"tokenRequests": [{"audience": "disks"}]}}),
        ),
        (Kind::PERSISTENT_VOLUME_CLAIMS, claim("c", "n", "bound")),
        (Kind::PERSISTENT_VOLUME_CLAIMS, claim("open", "n", "")),
        (Kind::PERSISTENT_VOLUME_CLAIMS, claim("other", "m", "")),
        (
            Kind::PERSISTENT_VOLUMES,
            json!({"metadata": {"name": "bound"}, "spec": {"csi": {"driver": "disks.example"}}}),
        ),
        (
            Kind::NETWORKS,
            json!({"metadata": {"name": "net"}, "spec": {"subnets": ["10.42.0.0/16"]}}),
        ),
        (Kind::NETWORK_NODES, part("m", "10.42.1.0/24")),
    ]
}

fn volume(changes: &Value) -> Value {
    let volume = json!({
        "metadata": {
            "name": "pvc-open-uid", "annotations": {"pv.kubernetes.io/provisioned-by": "disks.example"},
            "finalizers": ["external-provisioner.volume.kubernetes.io/finalizer"],
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": "fast",
            "claimRef": {"namespace": "a", "name": "open", "uid": "open-uid"},
            "csi": {"driver": "disks.example", "volumeHandle": "h"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]},
            ]}]}},
        },
    });
    merged(volume, changes)
}

#[tokio::test]
async fn volumes_are_for_claims_that_were_given_to_the_node() {
    let affinity = |terms: Value| json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}});
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]});
    let cases = [
        (json!({}), None),
        (
            json!({"spec": {"csi": null, "hostPath": {"path": "/"}}}),
            Some("of a CSI driver, without spec.hostPath"),
        ),
        (
            json!({"spec": {"hostPath": {"path": "/"}}}),
            Some("without spec.hostPath"),
        ),
        (
            json!({"spec": {"local": {"path": "/"}}}),
            Some("without spec.local"),
        ),
        (json!({"spec": {"nfs": {}}}), Some("without spec.nfs")),
        (
            json!({"spec": {"csi": {"nodePublishSecretRef": {"name": "s", "namespace": "b"}}}}),
            Some("with spec.csi.nodePublishSecretRef"),
        ),
        (
            json!({"spec": {"nodeAffinity": null}}),
            Some("requires exactly itself"),
        ),
        (affinity(json!([])), Some("requires exactly itself")),
        (
            affinity(json!([{"matchExpressions": [here]}, {"matchExpressions": []}])),
            Some("requires exactly itself"),
        ),
        (
            affinity(json!([{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n", "m"]},
            ]}])),
            Some("requires exactly itself"),
        ),
        (
            json!({"spec": {"csi": {"driver": "secrets.example"}}}),
            Some("requires exactly itself"),
        ),
        (
            json!({
                "metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "secrets.example"}},
                "spec": {"csi": {"driver": "secrets.example"}},
            }),
            Some("with the driver that the class names"),
        ),
        (
            json!({"spec": {"storageClassName": "slow"}}),
            Some("of the class of their persistentvolumeclaim"),
        ),
        (
            json!({"spec": {"claimRef": {"name": "other", "uid": "other-uid"}}}),
            Some("set to itself"),
        ),
        (
            json!({"spec": {"claimRef": {"name": "open", "uid": "old"}}}),
            Some("persistentvolumeclaim that exists"),
        ),
        (
            json!({"spec": {"claimRef": {"uid": null}}}),
            Some("persistentvolumeclaim that exists"),
        ),
        (
            json!({"spec": {"claimRef": {"name": "c", "uid": "c-uid"}}}),
            Some("that have one"),
        ),
        (
            json!({"metadata": {"ownerReferences": [{"kind": "Node"}]}}),
            Some("with ownerReferences"),
        ),
        (
            json!({"metadata": {"finalizers": ["example.com/keep"]}}),
            Some("no other finalizer"),
        ),
    ];
    for (changes, expected) in cases {
        let object = volume(&changes);
        let got = refusal(
            Operation::Create,
            "persistentvolumes",
            "pvc-open-uid",
            None,
            &object,
        )
        .await;
        check(got, expected, &changes.to_string());
    }
}

#[tokio::test]
async fn a_node_gives_up_its_own_volumes_only() {
    let own = volume(&json!({}));
    let foreign = volume(&json!({"spec": {"nodeAffinity": null}}));
    let released = volume(&json!({"metadata": {"finalizers": []}}));
    let bent = volume(&json!({"spec": {"claimRef": {"name": "c", "uid": "c-uid"}}}));
    let relabelled = volume(&json!({"metadata": {"labels": {"a": "b"}}}));
    use Operation::{Delete, Update};
    let only = Some("can only take the finalizer");
    let made = Some("that it made for itself");
    let cases = [
        (Update, "persistentvolumes", &own, &released, None),
        (Update, "persistentvolumes", &own, &bent, only),
        (Update, "persistentvolumes", &own, &relabelled, only),
        (Update, "persistentvolumes", &released, &own, only),
        (Update, "persistentvolumes", &foreign, &foreign, made),
        (
            Update,
            "persistentvolumes:status",
            &own,
            &own,
            Some("can not write the status"),
        ),
        (Delete, "persistentvolumes", &own, &Value::Null, None),
        (Delete, "persistentvolumes", &foreign, &Value::Null, made),
    ];
    for (operation, resource, old, object, expected) in cases {
        let got = refusal(operation, resource, "v", Some(old), object).await;
        check(got, expected, &format!("{operation:?} {resource} {object}"));
    }
}

#[tokio::test]
async fn of_claims_a_node_reports_the_size() {
    let claim = json!({"metadata": {"name": "c", "resourceVersion": "1"}, "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}});
    let with = |changes: Value| merged(claim.clone(), &changes);
    let status = "persistentvolumeclaims:status";
    let cases = [
        (
            status,
            with(
                json!({"metadata": {"resourceVersion": "2"}, "status": {"capacity": {"storage": "2Gi"}, "conditions": [{}]}}),
            ),
            None,
        ),
        (
            status,
            with(json!({"status": {"phase": "Lost"}})),
            Some("other than status.quantity"),
        ),
        (
            status,
            with(json!({"metadata": {"labels": {"a": "b"}}})),
            Some("other than status.quantity"),
        ),
        (
            status,
            with(json!({"spec": {"volumeName": "w"}})),
            Some("other than status.quantity"),
        ),
        (
            "persistentvolumeclaims",
            claim.clone(),
            Some("may only update PVC status"),
        ),
    ];
    for (resource, object, expected) in cases {
        let got = refusal(Operation::Update, resource, "c", Some(&claim), &object).await;
        check(got, expected, &format!("{resource} {object}"));
    }
}

#[tokio::test]
async fn networks_are_shared_out_without_taking_from_others() {
    let part = |changes: Value| {
        let part = json!({
            "metadata": {"name": "net.n"},
            "spec": {"network": "net", "node": "n", "slices": ["10.42.0.0/24"]},
        });
        merged(part, &changes)
    };
    let (own, theirs) = (
        part(json!({})),
        part(json!({"metadata": {"name": "net.m"}, "spec": {"node": "m"}})),
    );
    let owner = |kind: &str, name: &str| json!({"metadata": {"ownerReferences": [{"kind": kind, "name": name}]}});
    let slices = |slices: Value| part(json!({"spec": {"slices": slices}}));
    let published = part(json!({"status": {"published": {"mac": "x"}}}));
    use Operation::{Create, Delete, Update};
    let cases = [
        (Create, "", None, own.clone(), None),
        (Create, "", None, slices(json!([])), None),
        (Create, "", None, part(owner("Network", "net")), None),
        (Create, "", None, part(owner("Node", "n")), None),
        (
            Create,
            "",
            None,
            part(owner("Node", "m")),
            Some("owned by their network or itself"),
        ),
        (
            Create,
            "",
            None,
            theirs.clone(),
            Some("with spec.node set to itself"),
        ),
        (
            Create,
            "",
            None,
            part(json!({"metadata": {"name": "net.m"}})),
            Some("can only create the networknode \"net.n\""),
        ),
        (
            Create,
            "",
            None,
            part(json!({"metadata": {"name": "x.n"}, "spec": {"network": "x"}})),
            Some("which does not exist"),
        ),
        (
            Create,
            "",
            None,
            slices(json!(["10.96.0.0/24"])),
            Some("outside of the network"),
        ),
        (
            Create,
            "",
            None,
            slices(json!(["10.0.0.0/8"])),
            Some("outside of the network"),
        ),
        (
            Create,
            "",
            None,
            slices(json!(["10.42.1.128/25"])),
            Some("that the networknode \"net.m\" has"),
        ),
        (
            Create,
            "",
            None,
            slices(json!(["10.42.0.0/16"])),
            Some("that the networknode \"net.m\" has"),
        ),
        (
            Create,
            "",
            None,
            slices(json!(["all"])),
            Some("that are none"),
        ),
        (Update, ":status", Some(&own), published, None),
        (
            Update,
            ":status",
            Some(&theirs),
            theirs.clone(),
            Some("with spec.node set to itself"),
        ),
        (
            Update,
            ":status",
            Some(&own),
            part(json!({"metadata": {"finalizers": ["a/b"]}})),
            Some("through their status"),
        ),
        (
            Update,
            "",
            Some(&own),
            slices(json!(["10.42.2.0/24"])),
            Some("can not change spec"),
        ),
        (
            Update,
            "",
            Some(&theirs),
            own.clone(),
            Some("with spec.node set to itself"),
        ),
        (Delete, "", Some(&own), Value::Null, None),
        (
            Delete,
            "",
            Some(&theirs),
            Value::Null,
            Some("with spec.node set to itself"),
        ),
    ];
    for (operation, subresource, old, object, expected) in cases {
        let resource = format!("davit.dev/networknodes{subresource}");
        let got = refusal(operation, &resource, "net.n", old, &object).await;
        check(got, expected, &format!("{operation:?} {resource} {object}"));
    }
    let network = json!({"metadata": {"name": "net"}});
    let got = refusal(
        Update,
        "davit.dev/networks:status",
        "net",
        Some(&network),
        &network,
    )
    .await;
    check(got, Some("may not write networks"), "network");
}

#[tokio::test]
async fn a_node_speaks_for_itself_in_plugins() {
    let plugin = |nodes: Value, more: Value| {
        merged(
            json!({"metadata": {"name": "p"}, "spec": {}, "status": {"nodes": nodes}}),
            &more,
        )
    };
    let entry = |name: &str, ready: bool| json!({"name": name, "ready": ready});
    let old = plugin(json!([entry("m", false), entry("n", false)]), json!({}));
    let status = "davit.dev/plugins:status";
    let cases = [
        (
            status,
            plugin(
                json!([entry("n", true), entry("m", false)]),
                json!({"status": {"version": "2"}}),
            ),
            None,
        ),
        (status, plugin(json!([entry("m", false)]), json!({})), None),
        (
            status,
            plugin(json!([entry("m", true), entry("n", true)]), json!({})),
            Some("its own entry"),
        ),
        (
            status,
            plugin(json!([entry("n", true)]), json!({})),
            Some("its own entry"),
        ),
        (
            status,
            plugin(json!([entry("l", true), entry("m", false)]), json!({})),
            Some("its own entry"),
        ),
        (
            status,
            merged(old.clone(), &json!({"metadata": {"labels": {"a": "b"}}})),
            Some("the metadata of plugins"),
        ),
        (
            "davit.dev/plugins",
            old.clone(),
            Some("can only update the status"),
        ),
    ];
    for (resource, object, expected) in cases {
        let got = refusal(Operation::Update, resource, "p", Some(&old), &object).await;
        check(got, expected, &format!("{resource} {object}"));
    }
}
