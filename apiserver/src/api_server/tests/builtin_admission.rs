//! The built-in admission plugins, through whole requests.

use serde_json::{Value, json};

use super::{PODS, Rig, pod};
use crate::auth::UserInfo;

const NAMESPACES: &str = "/api/v1/namespaces";

#[tokio::test]
async fn pods_keep_to_the_standard_of_their_namespace() {
    let rig = Rig::new().await;
    let label = |level: &str| {
        json!({"metadata": {"labels": {
            "pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/warn": "restricted",
        }}})
    };
    let namespace = format!("{NAMESPACES}/default");
    let patched = rig
        .patch(&namespace, "merge-patch+json", label("lax"))
        .await;
    patched.refused(422, "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"lax\": must be one of privileged, baseline, restricted");
    rig.patch(&namespace, "merge-patch+json", label("baseline"))
        .await
        .ok();
    let mut bad = pod("bad");
    bad["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    rig.post(PODS, bad.clone()).await.refused(
        403,
        "pods \"bad\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"c\" must not set securityContext.privileged=true)",
    );
    let warned = rig.post(PODS, pod("good")).await;
    let warning = warned
        .headers
        .get("warning")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    warned.ok();
    assert!(
        warning.starts_with("299 - \"would violate PodSecurity \\\"restricted:latest\\\": allowPrivilegeEscalation != false (container \\\"c\\\" must set"),
        "{warning}"
    );
    let template = json!({"metadata": {"labels": {"app": "w"}}, "spec": bad["spec"]});
    let workload = json!({
        "metadata": {"name": "w"},
        "spec": {"selector": {"matchLabels": {"app": "w"}}, "template": template},
    });
    let made = rig
        .post("/apis/apps/v1/namespaces/default/deployments", workload)
        .await;
    assert!(made.headers.contains_key("warning"));
    made.ok();
    let stricter = rig
        .patch(&namespace, "merge-patch+json", label("restricted"))
        .await;
    let warnings: Vec<_> = stricter
        .headers
        .get_all("warning")
        .iter()
        .cloned()
        .collect();
    stricter.ok();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[tokio::test]
async fn nodes_write_what_is_theirs() {
    let rig = Rig::new().await;
    let node = |labels: Value| json!({"metadata": {"name": "n", "labels": labels}});
    let send = async |method: &str, path: &str, body: Value| {
        let kind = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let user = Some(UserInfo::node("n"));
        rig.send_as(
            user,
            method,
            path,
            &[("content-type", kind)],
            body.to_string(),
        )
        .await
    };
    let role = json!({"node-role.kubernetes.io/control-plane": ""});
    send("POST", "/api/v1/nodes", node(role)).await.refused(
        403,
        "nodes \"n\" is forbidden: node \"n\" is not allowed to set the following labels: node-role.kubernetes.io/control-plane",
    );
    let made = send(
        "POST",
        "/api/v1/nodes",
        node(json!({"topology.kubernetes.io/zone": "z"})),
    )
    .await
    .ok();
    let taints = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
    assert_eq!(made["spec"]["taints"], taints);
    let untaint = json!({"spec": {"taints": null}});
    send("PATCH", "/api/v1/nodes/n", untaint)
        .await
        .refused(403, "is not allowed to modify taints");
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    send("PATCH", "/api/v1/nodes/n/status", ready).await.ok();
    rig.make("/api/v1/nodes", json!({"metadata": {"name": "m"}}))
        .await;
    let other = json!({"metadata": {"labels": {"a": "b"}}});
    send("PATCH", "/api/v1/nodes/m", other)
        .await
        .refused(403, "node \"n\" is not allowed to modify node \"m\"");
    rig.make(PODS, pod("p")).await;
    send(
        "PATCH",
        &format!("{PODS}/p/status"),
        json!({"status": {"phase": "Running"}}),
    )
    .await
    .refused(
        403,
        "can only update pod status for pods with spec.nodeName set to itself",
    );
    send("DELETE", &format!("{PODS}/p"), json!({}))
        .await
        .refused(403, "can only delete pods");
    send("POST", PODS, pod("q"))
        .await
        .refused(403, "can only create mirror pods");
    // Once the pod is bound to the node, both are open to it, and the pod knows the zone.
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    rig.make(&format!("{PODS}/p/binding"), binding).await;
    let bound = send(
        "PATCH",
        &format!("{PODS}/p/status"),
        json!({"status": {"phase": "Running"}}),
    )
    .await
    .ok();
    assert_eq!(
        bound["metadata"]["labels"],
        json!({"app": "web", "topology.kubernetes.io/zone": "z"})
    );
    send(
        "DELETE",
        &format!("{PODS}/p?gracePeriodSeconds=0"),
        json!({}),
    )
    .await
    .ok();
}

#[tokio::test]
async fn storage_is_protected_and_grows_by_its_class() {
    let rig = Rig::new().await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let class =
        json!({"metadata": {"name": "s"}, "provisioner": "x", "allowVolumeExpansion": false});
    rig.make("/apis/storage.k8s.io/v1/storageclasses", class)
        .await;
    let spec = json!({"storageClassName": "s", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let claim = rig
        .make(claims, json!({"metadata": {"name": "c"}, "spec": spec}))
        .await;
    assert_eq!(
        claim["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    let volume = json!({"metadata": {"name": "v"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}});
    let volume = rig.make("/api/v1/persistentvolumes", volume).await;
    assert_eq!(
        volume["metadata"]["finalizers"],
        json!(["kubernetes.io/pv-protection"])
    );
    let bound = json!({"status": {"phase": "Bound"}});
    rig.patch(&format!("{claims}/c/status"), "merge-patch+json", bound)
        .await
        .ok();
    let larger = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let grown = rig
        .patch(&format!("{claims}/c"), "merge-patch+json", larger.clone())
        .await;
    grown.refused(403, "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize");
    let allow = json!({"allowVolumeExpansion": true});
    rig.patch(
        "/apis/storage.k8s.io/v1/storageclasses/s",
        "merge-patch+json",
        allow,
    )
    .await
    .ok();
    rig.patch(&format!("{claims}/c"), "merge-patch+json", larger)
        .await
        .ok();
}

#[tokio::test]
async fn the_first_namespaces_stay() {
    let rig = Rig::new().await;
    for name in ["default", "kube-system"] {
        rig.delete(&format!("{NAMESPACES}/{name}"))
            .await
            .refused(403, "is forbidden: this namespace may not be deleted");
    }
}
