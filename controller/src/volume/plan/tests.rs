//! Tables of claims, volumes and classes.

use serde_json::{Value, json};

use super::*;

fn claim(extra: Value) -> PersistentVolumeClaim {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "local",
        "resources": {"requests": {"storage": "1Gi"}}});
    spec.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "metadata": {"name": "data", "namespace": "ns", "uid": "claim-uid"},
        "spec": spec,
    }))
    .unwrap()
}

fn volume(name: &str, size: &str, reference: Option<&str>) -> Arc<PersistentVolume> {
    let reference = reference.map(|uid| json!({"namespace": "ns", "name": "data", "uid": uid}));
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
                "storageClassName": "local", "claimRef": reference},
        }))
        .unwrap(),
    )
}

fn class(mode: &str) -> Arc<StorageClass> {
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": "local"},
            "provisioner": "local-path.davit.dev", "volumeBindingMode": mode}))
        .unwrap(),
    )
}

fn node(name: &str, ready: &str) -> Arc<Node> {
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
        .unwrap(),
    )
}

fn plan_of(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    mode: &str,
) -> Vec<Change> {
    let observed = Observed {
        volumes: volumes.to_vec(),
        classes: vec![class(mode)],
        nodes: vec![node("down", "False"), node("up", "True")],
    };
    plan(claim, &observed)
}

/// The plan in words.
fn words(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| match change {
            Change::BindVolume(volume) => format!("bind volume {}", volume.name_any()),
            Change::BindClaim(volume) => format!("bind claim to {}", volume.name_any()),
            Change::SetStatus(status) => format!("phase {}", status.phase.as_deref().unwrap()),
            Change::AskProvisioner { provisioner, node } => {
                format!("ask {provisioner} on {}", node.as_deref().unwrap_or("?"))
            }
            Change::Tell { reason, .. } => format!("tell {reason}"),
        })
        .collect()
}

#[test]
fn the_smallest_suitable_volume_is_bound() {
    let volumes = [
        volume("big", "9Gi", None),
        volume("fit", "2Gi", None),
        volume("small", "1Mi", None),
    ];
    assert_eq!(
        words(&plan_of(&claim(json!({})), &volumes, "Immediate")),
        ["bind volume fit"]
    );
}

#[test]
fn binding_goes_volume_claim_status() {
    let reserved = [volume("v", "2Gi", Some("claim-uid"))];
    let plain = claim(json!({}));
    assert_eq!(
        words(&plan_of(&plain, &reserved, "Immediate")),
        ["bind claim to v"]
    );
    let mut named = claim(json!({"volumeName": "v"}));
    named.metadata.annotations = Some(
        [(
            "pv.kubernetes.io/bind-completed".to_owned(),
            "yes".to_owned(),
        )]
        .into(),
    );
    assert_eq!(
        words(&plan_of(&named, &reserved, "Immediate")),
        ["phase Bound"]
    );
    let Change::SetStatus(status) = plan_of(&named, &reserved, "Immediate").remove(0) else {
        panic!()
    };
    assert_eq!(status.capacity.as_ref().unwrap()["storage"].0, "2Gi");
    named.status = Some(*status);
    assert!(plan_of(&named, &reserved, "Immediate").is_empty());
    assert!(is_bound(&named));
}

#[test]
fn anothers_volume_is_never_taken() {
    let taken = [volume("v", "2Gi", Some("other-uid"))];
    let asked = words(&plan_of(&claim(json!({})), &taken, "Immediate"));
    assert_eq!(asked, ["phase Pending", "ask local-path.davit.dev on up"]);
    let named = claim(json!({"volumeName": "v"}));
    assert_eq!(
        words(&plan_of(&named, &taken, "Immediate")),
        ["phase Pending"]
    );
}

#[test]
fn a_waiting_class_needs_a_consumer_first() {
    let mut claim = claim(json!({}));
    let wait = words(&plan_of(&claim, &[], "WaitForFirstConsumer"));
    assert_eq!(wait, ["phase Pending", "tell WaitForFirstConsumer"]);
    claim.metadata.annotations = Some([(SELECTED_NODE.to_owned(), "up".to_owned())].into());
    let asked = words(&plan_of(&claim, &[], "WaitForFirstConsumer"));
    assert_eq!(asked, ["phase Pending", "ask local-path.davit.dev on ?"]);
}

#[test]
fn a_vanished_volume_makes_the_claim_lost() {
    let mut claim = claim(json!({"volumeName": "v"}));
    claim.status = Some(PersistentVolumeClaimStatus {
        phase: Some("Bound".into()),
        ..Default::default()
    });
    assert_eq!(words(&plan_of(&claim, &[], "Immediate")), ["phase Lost"]);
}

#[test]
fn phases_of_volumes() {
    let bound = claim(json!({"volumeName": "v"}));
    let unbound = claim(json!({}));
    let of = |volume: &PersistentVolume, claim| volume_phase(volume, claim);
    assert_eq!(of(&volume("v", "1Gi", None), None), Some("Available"));
    assert_eq!(
        of(&volume("v", "1Gi", Some("claim-uid")), Some(&bound)),
        Some("Bound")
    );
    assert_eq!(
        of(&volume("v", "1Gi", Some("claim-uid")), Some(&unbound)),
        Some("Available")
    );
    assert_eq!(
        of(&volume("v", "1Gi", Some("claim-uid")), None),
        Some("Released")
    );
    assert_eq!(
        of(&volume("v", "1Gi", Some("older-uid")), Some(&bound)),
        Some("Released")
    );
}
