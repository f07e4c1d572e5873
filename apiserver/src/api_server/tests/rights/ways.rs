//! The ways to write, as data.

use serde_json::json;

use super::*;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const TRANSACTIONS: &str = "/apis/davit.dev/v1alpha1/transactions?fieldManager=t";

const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(super) const APPLY: &str = "application/apply-patch+yaml";

/// A right: verb, group, resource.
pub(super) type Right = (&'static str, &'static str, &'static str);

/// One request. `@` stands for a name that no other request has.
pub(super) struct Way {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) media: &'static str,
    pub(super) body: Value,
    /// What is there before, by the paths to create it at.
    pub(super) before: Vec<(String, Value)>,
    pub(super) code: u16,
    pub(super) rights: Vec<Right>,
}

fn way(
    method: &'static str,
    path: impl Into<String>,
    body: Value,
    code: u16,
    rights: &[Right],
) -> Way {
    Way {
        method,
        path: path.into(),
        media: JSON,
        body,
        before: Vec::new(),
        code,
        rights: rights.to_vec(),
    }
}

impl Way {
    fn media(self, media: &'static str) -> Self {
        Self { media, ..self }
    }

    fn after(mut self, path: &str, object: Value) -> Self {
        self.before.push((path.to_owned(), object));
        self
    }
}

fn named(api_version: &str, kind: &str, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": api_version, "kind": kind, "metadata": {"name": "@", "namespace": "default"},
    });
    json_patch::merge(&mut object, &more);
    object
}

pub(super) fn settings(value: &str) -> Value {
    named("v1", "ConfigMap", json!({"data": {"key": value}}))
}

fn lease() -> Value {
    named(
        "coordination.k8s.io/v1",
        "Lease",
        json!({"spec": {"holderIdentity": "x"}}),
    )
}

fn running(more: Value) -> Value {
    let mut pod = named(
        "v1",
        "Pod",
        json!({"spec": {"containers": [{
            "name": "c", "image": "busybox", "resources": {"requests": {"cpu": "1"}},
        }]}}),
    );
    json_patch::merge(&mut pod, &more);
    pod
}

fn deployment() -> Value {
    let labels = json!({"app": "x"});
    named(
        "apps/v1",
        "Deployment",
        json!({"spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        }}),
    )
}

/// The objects themselves.
pub(super) fn whole_objects() -> Vec<Way> {
    let one = format!("{CONFIG_MAPS}/@");
    let applied = format!("{CONFIG_MAPS}/@?fieldManager=t");
    let (create, update, patch) = (
        ("create", "", "configmaps"),
        ("update", "", "configmaps"),
        ("patch", "", "configmaps"),
    );
    let there = |way: Way| way.after(CONFIG_MAPS, settings("1"));
    let (make_lease, put_lease) = (
        ("create", "coordination.k8s.io", "leases"),
        ("update", "coordination.k8s.io", "leases"),
    );
    let privileged = json!({"spec": {"containers": [{
        "name": "c", "image": "i", "securityContext": {"privileged": true},
    }]}});
    vec![
        way("POST", CONFIG_MAPS, settings("1"), 201, &[create]),
        there(way("PUT", &one, settings("2"), 200, &[update])),
        way(
            "PUT",
            format!("{LEASES}/@"),
            lease(),
            201,
            &[put_lease, make_lease],
        ),
        way(
            "PUT",
            format!("{LEASES}/@?dryRun=All"),
            lease(),
            201,
            &[put_lease, make_lease],
        ),
        there(way("PATCH", &one, json!({"data": {"key": "2"}}), 200, &[patch]).media(MERGE)),
        there(way("PATCH", &one, json!({"data": {"key": "2"}}), 200, &[patch]).media(STRATEGIC)),
        there(
            way(
                "PATCH",
                &one,
                json!([{"op": "replace", "path": "/data/key", "value": "2"}]),
                200,
                &[patch],
            )
            .media(JSON_PATCH),
        ),
        way("PATCH", &applied, settings("1"), 201, &[patch, create]).media(APPLY),
        way(
            "PATCH",
            format!("{applied}&force=true"),
            settings("1"),
            201,
            &[patch, create],
        )
        .media(APPLY),
        way(
            "PATCH",
            format!("{applied}&dryRun=All"),
            settings("1"),
            201,
            &[patch, create],
        )
        .media(APPLY),
        there(
            way(
                "PATCH",
                format!("{applied}&force=true"),
                settings("2"),
                200,
                &[patch],
            )
            .media(APPLY),
        ),
        way(
            "PATCH",
            format!("{PODS}/@?fieldManager=t"),
            running(privileged),
            201,
            &[("patch", "", "pods"), ("create", "", "pods")],
        )
        .media(APPLY),
        there(way(
            "DELETE",
            &one,
            Value::Null,
            200,
            &[("delete", "", "configmaps")],
        )),
        there(way(
            "DELETE",
            format!("{CONFIG_MAPS}?fieldSelector=metadata.name=@"),
            Value::Null,
            200,
            &[("deletecollection", "", "configmaps")],
        )),
    ]
}

/// Parts and views of objects.
pub(super) fn subresources() -> Vec<Way> {
    let pod = |way: Way| way.after(PODS, running(json!({})));
    let deployed = |way: Way| way.after(DEPLOYMENTS, deployment());
    let sub = |name: &str| format!("{PODS}/@/{name}");
    let status = json!({"status": {"observedGeneration": 1}});
    let mut with_status = deployment();
    json_patch::merge(&mut with_status, &status);
    let status_at = format!("{DEPLOYMENTS}/@/status");
    let scale = named("autoscaling/v1", "Scale", json!({"spec": {"replicas": 2}}));
    let scale_at = format!("{DEPLOYMENTS}/@/scale");
    let binding = named(
        "v1",
        "Binding",
        json!({"target": {"kind": "Node", "name": "n"}}),
    );
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "i"}]}});
    let larger =
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}});
    let right = |verb, resource| [(verb, "", resource)];
    let of_apps = |verb, resource| [(verb, "apps", resource)];
    let space = named("v1", "Namespace", json!({"metadata": {"namespace": null}}));
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    vec![
        deployed(way(
            "PUT",
            &status_at,
            with_status.clone(),
            200,
            &of_apps("update", "deployments/status"),
        )),
        deployed(
            way(
                "PATCH",
                &status_at,
                status,
                200,
                &of_apps("patch", "deployments/status"),
            )
            .media(MERGE),
        ),
        // Nothing is made through a part of it, whatever else may be done.
        way(
            "PATCH",
            format!("{status_at}?fieldManager=t"),
            with_status,
            404,
            &of_apps("patch", "deployments/status"),
        )
        .media(APPLY),
        deployed(way(
            "PUT",
            &scale_at,
            scale.clone(),
            200,
            &of_apps("update", "deployments/scale"),
        )),
        deployed(
            way(
                "PATCH",
                &scale_at,
                json!({"spec": {"replicas": 2}}),
                200,
                &of_apps("patch", "deployments/scale"),
            )
            .media(MERGE),
        ),
        deployed(
            way(
                "PATCH",
                format!("{scale_at}?fieldManager=t&force=true"),
                scale,
                200,
                &of_apps("patch", "deployments/scale"),
            )
            .media(APPLY),
        ),
        pod(way(
            "POST",
            sub("binding"),
            binding.clone(),
            201,
            &right("create", "pods/binding"),
        )),
        pod(way(
            "POST",
            "/api/v1/namespaces/default/bindings",
            binding,
            201,
            &right("create", "bindings"),
        )),
        pod(way(
            "POST",
            sub("eviction"),
            named("policy/v1", "Eviction", json!({})),
            201,
            &right("create", "pods/eviction"),
        )),
        pod(way(
            "PATCH",
            sub("ephemeralcontainers"),
            debug,
            200,
            &right("patch", "pods/ephemeralcontainers"),
        )
        .media(STRATEGIC)),
        pod(way(
            "PATCH",
            sub("resize"),
            larger,
            200,
            &right("patch", "pods/resize"),
        )
        .media(STRATEGIC)),
        way(
            "PUT",
            "/api/v1/namespaces/@/finalize",
            space.clone(),
            200,
            &right("update", "namespaces/finalize"),
        )
        .after("/api/v1/namespaces", space),
        way(
            "POST",
            "/api/v1/namespaces/default/serviceaccounts/default/token",
            token,
            201,
            &right("create", "serviceaccounts/token"),
        ),
        // There is no node to answer it, but whoever only reads is not even told that.
        pod(way(
            "GET",
            sub("exec") + "?command=ls",
            Value::Null,
            400,
            &[("get", "", "pods/exec"), ("create", "", "pods/exec")],
        )),
    ]
}

/// Writes that take a right to what they are about.
pub(super) fn special() -> Vec<Way> {
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "bob");
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let pem = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    let request = named(
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        json!({"metadata": {"namespace": null}, "spec": {
            "request": pem, "signerName": "example.com/people", "usages": ["client auth"],
        }}),
    );
    let condition = json!({"status": {"conditions": [
        {"type": "Approved", "status": "True", "reason": "r", "message": "m"},
    ]}});
    let approval = (
        "patch",
        "certificates.k8s.io",
        "certificatesigningrequests/approval",
    );
    let approve = ("approve", "certificates.k8s.io", "signers");
    let role = |rules: Value| {
        named(
            "rbac.authorization.k8s.io/v1",
            "Role",
            json!({ "rules": rules }),
        )
    };
    let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let binding = named(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"}],
        }),
    );
    let of = |verb, resource| (verb, "rbac.authorization.k8s.io", resource);
    let escalate = of("escalate", "roles");
    let bind = of("bind", "clusterroles");
    vec![
        way(
            "PATCH",
            format!("{REQUESTS}/@/approval"),
            condition,
            200,
            &[approval, approve],
        )
        .media(MERGE)
        .after(REQUESTS, request),
        way(
            "POST",
            &roles,
            role(all.clone()),
            201,
            &[of("create", "roles"), escalate],
        ),
        way(
            "PATCH",
            format!("{roles}/@"),
            json!({"rules": all}),
            200,
            &[of("patch", "roles"), escalate],
        )
        .media(MERGE)
        .after(&roles, role(json!([]))),
        way(
            "PATCH",
            format!("{roles}/@?fieldManager=t"),
            role(all.clone()),
            201,
            &[of("patch", "roles"), of("create", "roles"), escalate],
        )
        .media(APPLY),
        way(
            "POST",
            &bindings,
            binding.clone(),
            201,
            &[of("create", "rolebindings"), bind],
        ),
        way(
            "PATCH",
            format!("{bindings}/@?fieldManager=t"),
            binding,
            201,
            &[
                of("patch", "rolebindings"),
                of("create", "rolebindings"),
                bind,
            ],
        )
        .media(APPLY),
    ]
}

/// Items of transactions, each with the rights of the request it stands for.
pub(super) fn transactions() -> Vec<Way> {
    let outer = ("create", "davit.dev", "transactions");
    let one = |action: &str, object: Value| json!({"apiVersion": "davit.dev/v1alpha1", "kind": "Transaction", "items": [{"action": action, "object": object}]});
    let of = |verb| (verb, "", "configmaps");
    let leases = |verb| (verb, "coordination.k8s.io", "leases");
    let there = |way: Way| way.after(CONFIG_MAPS, settings("1"));
    let forced = format!("{TRANSACTIONS}&force=true");
    let mixed = json!({"items": [
        {"action": "Apply", "object": settings("1")},
        {"action": "Delete", "object": lease()},
    ]});
    vec![
        way(
            "POST",
            TRANSACTIONS,
            one("Create", settings("1")),
            200,
            &[outer, of("create")],
        ),
        there(way(
            "POST",
            TRANSACTIONS,
            one("Update", settings("2")),
            200,
            &[outer, of("update")],
        )),
        way(
            "POST",
            TRANSACTIONS,
            one("Update", lease()),
            200,
            &[outer, leases("update"), leases("create")],
        ),
        there(way(
            "POST",
            &forced,
            one("Apply", settings("2")),
            200,
            &[outer, of("patch")],
        )),
        way(
            "POST",
            TRANSACTIONS,
            one("Apply", settings("1")),
            200,
            &[outer, of("patch"), of("create")],
        ),
        there(way(
            "POST",
            TRANSACTIONS,
            one("Delete", settings("1")),
            200,
            &[outer, of("delete")],
        )),
        way(
            "POST",
            TRANSACTIONS,
            mixed,
            200,
            &[outer, of("patch"), of("create"), leases("delete")],
        )
        .after(LEASES, lease()),
    ]
}
