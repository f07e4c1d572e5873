//! The roles and bindings of a new cluster. Names, subjects and reach are those of Kubernetes, because
//! manifests in the wild refer to them.

use serde_json::{Value, json};

use super::{RBAC_GROUP, kept};

const READ: &[&str] = &["get", "list", "watch"];
const EDIT: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL_OWN: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// A rule on resources.
pub(super) fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": groups, "resources": resources})
}

pub(super) fn named(verbs: &[&str], group: &str, resource: &str, names: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": [resource], "resourceNames": names})
}

/// A rule on paths, which can only be read.
fn paths(paths: &[&str]) -> Value {
    json!({"verbs": ["get"], "nonResourceURLs": paths})
}

fn events() -> Value {
    rule(
        &["create", "patch", "update"],
        &["", "events.k8s.io"],
        &["events"],
    )
}

pub(super) fn cluster_role(name: &str, rules: Vec<Value>) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": kept(name),
        "rules": rules,
    })
}

/// A role that collects the rules of all roles labelled `rbac.authorization.k8s.io/aggregate-to-<name>`.
fn collecting(name: &str, lends_to: Option<&str>) -> Value {
    let mut role = labelled(cluster_role(name, Vec::new()), lends_to);
    role["aggregationRule"] =
        json!({"clusterRoleSelectors": [{"matchLabels": {aggregate_label(name): "true"}}]});
    role
}

fn labelled(mut role: Value, lends_to: Option<&str>) -> Value {
    if let Some(target) = lends_to {
        role["metadata"]["labels"][aggregate_label(target)] = "true".into();
    }
    role
}

fn aggregate_label(name: &str) -> String {
    format!("{RBAC_GROUP}/aggregate-to-{name}")
}

/// All ClusterRoles.
pub(super) fn cluster_roles() -> Vec<Value> {
    let mut roles = discovery_roles();
    roles.extend(user_roles());
    roles.extend(component_roles());
    roles
}

fn discovery_roles() -> Vec<Value> {
    let reviews = rule(
        &["create"],
        &["authorization.k8s.io"],
        &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
    );
    let health = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let discovery = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/davit/history",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ];
    let keys = [
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1/jwks/",
    ];
    vec![
        cluster_role("system:discovery", vec![paths(&discovery)]),
        cluster_role("system:public-info-viewer", vec![paths(&health)]),
        cluster_role(
            "system:service-account-issuer-discovery",
            vec![paths(&keys)],
        ),
        cluster_role(
            "system:monitoring",
            vec![paths(&[
                "/healthz",
                "/healthz/*",
                "/livez",
                "/livez/*",
                "/metrics",
                "/metrics/slis",
                "/readyz",
                "/readyz/*",
            ])],
        ),
        cluster_role(
            "system:basic-user",
            vec![
                reviews,
                rule(
                    &["create"],
                    &["authentication.k8s.io"],
                    &["selfsubjectreviews"],
                ),
            ],
        ),
    ]
}

/// Workload kinds of the groups that people use every day, by group.
const WORKLOADS: &[(&str, &[&str])] = &[
    (
        "apps",
        &[
            "daemonsets",
            "deployments",
            "deployments/scale",
            "replicasets",
            "replicasets/scale",
            "statefulsets",
            "statefulsets/scale",
        ],
    ),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs", "jobs"]),
    ("networking.k8s.io", &["ingresses", "networkpolicies"]),
    ("policy", &["poddisruptionbudgets"]),
];

/// Their status, which `view` shows and `edit` cannot change.
const WORKLOAD_STATUS: &[(&str, &[&str])] = &[
    (
        "apps",
        &[
            "controllerrevisions",
            "daemonsets/status",
            "deployments/status",
            "replicasets/status",
            "statefulsets/status",
        ],
    ),
    ("autoscaling", &["horizontalpodautoscalers/status"]),
    ("batch", &["cronjobs/status", "jobs/status"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("networking.k8s.io", &["ingresses/status"]),
    ("policy", &["poddisruptionbudgets/status"]),
    (
        "resource.k8s.io",
        &[
            "resourceclaims",
            "resourceclaims/status",
            "resourceclaimtemplates",
        ],
    ),
];

fn user_roles() -> Vec<Value> {
    let everything = vec![
        rule(&["*"], &["*"], &["*"]),
        json!({"verbs": ["*"], "nonResourceURLs": ["*"]}),
    ];
    let admin = vec![
        rule(
            &["create"],
            &["authorization.k8s.io"],
            &["localsubjectaccessreviews"],
        ),
        rule(ALL_OWN, &[RBAC_GROUP], &["rolebindings", "roles"]),
    ];
    vec![
        cluster_role("cluster-admin", everything),
        collecting("admin", None),
        collecting("edit", Some("admin")),
        collecting("view", Some("edit")),
        labelled(
            cluster_role("system:aggregate-to-admin", admin),
            Some("admin"),
        ),
        labelled(
            cluster_role("system:aggregate-to-edit", edit_rules()),
            Some("edit"),
        ),
        labelled(
            cluster_role("system:aggregate-to-view", view_rules()),
            Some("view"),
        ),
    ]
}

fn edit_rules() -> Vec<Value> {
    let mut rules = vec![
        rule(
            READ,
            &[""],
            &[
                "pods/attach",
                "pods/exec",
                "pods/portforward",
                "pods/proxy",
                "secrets",
                "services/proxy",
            ],
        ),
        rule(&["impersonate"], &[""], &["serviceaccounts"]),
        rule(
            EDIT,
            &[""],
            &[
                "pods",
                "pods/attach",
                "pods/exec",
                "pods/portforward",
                "pods/proxy",
            ],
        ),
        rule(
            &["create"],
            &[""],
            &["pods/eviction", "serviceaccounts/token"],
        ),
        rule(
            EDIT,
            &[""],
            &[
                "configmaps",
                "events",
                "persistentvolumeclaims",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "secrets",
                "serviceaccounts",
                "services",
                "services/proxy",
            ],
        ),
        rule(ALL_OWN, &["coordination.k8s.io"], &["leases"]),
    ];
    rules.extend(
        WORKLOADS
            .iter()
            .map(|(group, kinds)| rule(EDIT, &[group], kinds)),
    );
    rules
}

fn view_rules() -> Vec<Value> {
    let core = [
        "bindings",
        "configmaps",
        "endpoints",
        "events",
        "limitranges",
        "namespaces",
        "namespaces/status",
        "persistentvolumeclaims",
        "persistentvolumeclaims/status",
        "pods",
        "pods/log",
        "pods/status",
        "replicationcontrollers",
        "replicationcontrollers/scale",
        "replicationcontrollers/status",
        "resourcequotas",
        "resourcequotas/status",
        "serviceaccounts",
        "services",
        "services/status",
    ];
    let mut rules = vec![rule(READ, &[""], &core)];
    let all = WORKLOADS.iter().chain(WORKLOAD_STATUS);
    rules.extend(all.map(|(group, kinds)| rule(READ, &[group], kinds)));
    rules
}

fn component_roles() -> Vec<Value> {
    vec![
        cluster_role("system:kube-scheduler", scheduler_rules()),
        cluster_role(
            "system:volume-scheduler",
            vec![
                rule(
                    &["get", "list", "patch", "update", "watch"],
                    &[""],
                    &["persistentvolumes", "persistentvolumeclaims"],
                ),
                rule(READ, &["storage.k8s.io"], &["storageclasses"]),
            ],
        ),
        cluster_role("system:kube-controller-manager", controller_rules()),
        // Bound to nobody: the node authorizer grants it, object by object.
        cluster_role(
            "system:node",
            vec![rule(READ, &[""], &["nodes", "pods", "services"])],
        ),
        cluster_role(
            "system:node-bootstrapper",
            vec![rule(
                &["create", "get", "list", "watch"],
                &["certificates.k8s.io"],
                &["certificatesigningrequests"],
            )],
        ),
        cluster_role(
            "system:node-proxier",
            vec![
                rule(&["list", "watch"], &[""], &["endpoints", "services"]),
                rule(READ, &[""], &["nodes"]),
                rule(
                    &["list", "watch"],
                    &["discovery.k8s.io"],
                    &["endpointslices"],
                ),
                events(),
            ],
        ),
        cluster_role(
            "system:auth-delegator",
            vec![
                rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
                rule(
                    &["create"],
                    &["authorization.k8s.io"],
                    &["subjectaccessreviews"],
                ),
            ],
        ),
        cluster_role(
            "system:kubelet-api-admin",
            vec![
                rule(READ, &[""], &["nodes"]),
                rule(&["proxy"], &[""], &["nodes"]),
                rule(
                    &["*"],
                    &[""],
                    &["nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats"],
                ),
            ],
        ),
        cluster_role(
            "system:kube-dns",
            vec![rule(&["list", "watch"], &[""], &["endpoints", "services"])],
        ),
        cluster_role(
            "system:persistent-volume-provisioner",
            vec![
                rule(
                    &["create", "delete", "get", "list", "watch"],
                    &[""],
                    &["persistentvolumes"],
                ),
                rule(
                    &["get", "list", "update", "watch"],
                    &[""],
                    &["persistentvolumeclaims"],
                ),
                rule(READ, &["storage.k8s.io"], &["storageclasses"]),
                rule(&["watch"], &[""], &["events"]),
                events(),
            ],
        ),
    ]
}

fn scheduler_rules() -> Vec<Value> {
    vec![
        events(),
        rule(
            &["create", "list", "watch"],
            &["coordination.k8s.io"],
            &["leases"],
        ),
        named(
            &["get", "update"],
            "coordination.k8s.io",
            "leases",
            &["kube-scheduler"],
        ),
        rule(READ, &[""], &["nodes", "namespaces"]),
        rule(&["delete", "get", "list", "watch"], &[""], &["pods"]),
        rule(&["create"], &[""], &["bindings", "pods/binding"]),
        rule(&["patch", "update"], &[""], &["pods/status"]),
        rule(
            READ,
            &["", "apps"],
            &[
                "replicasets",
                "replicationcontrollers",
                "services",
                "statefulsets",
            ],
        ),
        rule(READ, &["policy"], &["poddisruptionbudgets"]),
        rule(
            READ,
            &["storage.k8s.io"],
            &[
                "csidrivers",
                "csinodes",
                "csistoragecapacities",
                "volumeattachments",
            ],
        ),
        rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
        rule(
            &["create"],
            &["authorization.k8s.io"],
            &["subjectaccessreviews"],
        ),
    ]
}

fn controller_rules() -> Vec<Value> {
    vec![
        events(),
        rule(
            &["create", "list", "watch"],
            &["coordination.k8s.io"],
            &["leases"],
        ),
        named(
            &["get", "update"],
            "coordination.k8s.io",
            "leases",
            &["kube-controller-manager"],
        ),
        rule(
            &["create", "get", "update"],
            &[""],
            &["secrets", "serviceaccounts"],
        ),
        rule(&["delete"], &[""], &["secrets"]),
        rule(&["get"], &[""], &["configmaps", "namespaces"]),
        rule(&["create"], &[""], &["serviceaccounts/token"]),
        rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
        rule(
            &["create"],
            &["authorization.k8s.io"],
            &["subjectaccessreviews"],
        ),
        rule(&["list", "watch"], &["*"], &["*"]),
    ]
}

/// All ClusterRoleBindings: role, then the users (`User`) and groups (`Group`) it is granted to.
const BINDINGS: &[(&str, &[(&str, &str)])] = &[
    ("cluster-admin", &[("Group", "system:masters")]),
    ("system:discovery", &[("Group", "system:authenticated")]),
    ("system:basic-user", &[("Group", "system:authenticated")]),
    (
        "system:public-info-viewer",
        &[
            ("Group", "system:authenticated"),
            ("Group", "system:unauthenticated"),
        ],
    ),
    (
        "system:service-account-issuer-discovery",
        &[("Group", "system:serviceaccounts")],
    ),
    ("system:monitoring", &[("Group", "system:monitoring")]),
    (
        "system:kube-scheduler",
        &[("User", "system:kube-scheduler")],
    ),
    (
        "system:volume-scheduler",
        &[("User", "system:kube-scheduler")],
    ),
    (
        "system:kube-controller-manager",
        &[("User", "system:kube-controller-manager")],
    ),
    ("system:node-proxier", &[("User", "system:kube-proxy")]),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[("Group", "system:nodes")],
    ),
];

/// All ClusterRoleBindings. Each has the name of its role.
pub(super) fn bindings() -> Vec<Value> {
    let subject =
        |(kind, name): &(&str, &str)| json!({"kind": kind, "apiGroup": RBAC_GROUP, "name": name});
    BINDINGS
        .iter()
        .map(|(role, subjects)| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": kept(role),
                "roleRef": {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": role},
                "subjects": subjects.iter().map(subject).collect::<Vec<_>>(),
            })
        })
        .collect()
}

/// All Roles, with the RoleBinding that grants them, if they are granted to somebody from the start.
pub(super) fn namespaced() -> Vec<(Value, Option<Value>)> {
    let leader = |component: &str| {
        let name = format!("system::leader-locking-{component}");
        let user = format!("system:{component}");
        let rules = vec![
            rule(&["watch"], &[""], &["configmaps"]),
            named(&["get", "update"], "", "configmaps", &[component]),
        ];
        (
            role("kube-system", &name, rules),
            Some(role_binding("kube-system", &name, &user)),
        )
    };
    let reader = "extension-apiserver-authentication-reader";
    let read = named(
        READ,
        "",
        "configmaps",
        &["extension-apiserver-authentication"],
    );
    vec![
        (
            role("kube-system", reader, vec![read]),
            Some(role_binding("kube-system", reader, "system:kube-scheduler")),
        ),
        leader("kube-controller-manager"),
        leader("kube-scheduler"),
    ]
}

fn role(namespace: &str, name: &str, rules: Vec<Value>) -> Value {
    let mut metadata = kept(name);
    metadata["namespace"] = namespace.into();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata,
        "rules": rules,
    })
}

fn role_binding(namespace: &str, role: &str, user: &str) -> Value {
    let mut metadata = kept(role);
    metadata["namespace"] = namespace.into();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": "Role", "name": role},
        "subjects": [{"kind": "User", "apiGroup": RBAC_GROUP, "name": user}],
    })
}
