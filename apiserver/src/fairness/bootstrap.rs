//! The flow schemas and priority levels every cluster has, as Kubernetes suggests them.

use serde_json::{Value, json};

use super::{FLOW_SCHEMAS, GROUP, PRIORITY_LEVELS};
use crate::auth::bootstrap::BootstrapObject;
use crate::auth::{groups, users};

const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// All of them.
pub(crate) fn objects() -> Vec<BootstrapObject> {
    let levels = levels().into_iter();
    let levels = levels.map(|(name, spec)| object("PriorityLevelConfiguration", name, &spec));
    let schemas = schemas().into_iter();
    let schemas = schemas.map(|(name, spec)| object("FlowSchema", name, &spec));
    levels.chain(schemas).collect()
}

/// What to write so that `wanted` exists: specs that are marked to be kept are brought up to date, others
/// belong to whoever changed them.
pub(crate) fn plan(wanted: &Value, present: Option<&Value>) -> Option<Value> {
    let Some(present) = present else {
        return Some(wanted.clone());
    };
    let kept = present["metadata"]["annotations"][AUTO_UPDATE] == "true";
    if !kept || present["spec"] == wanted["spec"] {
        return None;
    }
    let mut result = present.clone();
    result["spec"] = wanted["spec"].clone();
    Some(result)
}

fn object(kind: &'static str, name: &str, spec: &Value) -> BootstrapObject {
    let of_schemas = kind == "FlowSchema";
    BootstrapObject {
        group: GROUP,
        version: "v1",
        plural: if of_schemas {
            FLOW_SCHEMAS.plural
        } else {
            PRIORITY_LEVELS.plural
        },
        object: json!({
            "kind": kind, "apiVersion": format!("{GROUP}/v1"),
            "metadata": { "name": name, "annotations": { AUTO_UPDATE: "true" } },
            "spec": spec,
        }),
    }
}

fn levels() -> Vec<(&'static str, Value)> {
    let queued = |shares: u32, lendable: u32, queues: u32, hand: u32| {
        let queuing = json!({ "queues": queues, "handSize": hand, "queueLengthLimit": 50 });
        json!({ "type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": { "type": "Queue", "queuing": queuing },
        }})
    };
    let exempt = json!({ "nominalConcurrencyShares": 0, "lendablePercent": 0 });
    let catch_all = json!({
        "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": { "type": "Reject" },
    });
    vec![
        ("exempt", json!({ "type": "Exempt", "exempt": exempt })),
        (
            "catch-all",
            json!({ "type": "Limited", "limited": catch_all }),
        ),
        ("system", queued(30, 33, 64, 6)),
        ("node-high", queued(40, 25, 64, 6)),
        ("leader-election", queued(10, 0, 16, 4)),
        ("workload-high", queued(40, 50, 128, 6)),
        ("workload-low", queued(100, 90, 128, 6)),
        ("global-default", queued(20, 50, 128, 6)),
    ]
}

fn schemas() -> Vec<(&'static str, Value)> {
    [elections_and_nodes(), everyone_else()].concat()
}

fn elections_and_nodes() -> Vec<(&'static str, Value)> {
    let lead = ["get", "create", "update"];
    let leases = |verbs: &[&str], namespace: &str| {
        let group = "coordination.k8s.io";
        resources(verbs, group, &["leases"], &[namespace], false)
    };
    let (manager, scheduler) = (user(users::CONTROLLER_MANAGER), user(users::SCHEDULER));
    let leaders = [manager.clone(), scheduler, account("*")];
    let leading = of(&leaders, &[leases(&lead, "kube-system")]);
    let endpoints = of(
        &[
            manager,
            account("endpoint-controller"),
            account("endpointslicemirroring-controller"),
        ],
        &[resources(&lead, "", &["endpoints"], &["*"], false)],
    );
    let following = of(&[account("*")], &[leases(&lead, "*")]);
    let nodes = of(
        &[group(groups::NODES)],
        &[
            resources(&["*"], "", &["nodes", "nodes/status"], &["*"], true),
            leases(&["*"], "*"),
        ],
    );
    let by_user = |precedence, level, rules: &Value| schema(precedence, level, "ByUser", rules);
    vec![
        (
            "system-leader-election",
            by_user(100, "leader-election", &leading),
        ),
        (
            "endpoint-controller",
            by_user(150, "workload-high", &endpoints),
        ),
        (
            "workload-leader-election",
            by_user(200, "leader-election", &following),
        ),
        ("system-node-high", by_user(400, "node-high", &nodes)),
        (
            "system-nodes",
            by_user(500, "system", &all(&[group(groups::NODES)])),
        ),
    ]
}

fn everyone_else() -> Vec<(&'static str, Value)> {
    let everyone = || vec![group(groups::UNAUTHENTICATED), group(groups::AUTHENTICATED)];
    let health =
        json!([{ "verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"] }]);
    let probes = json!([{ "subjects": everyone(), "nonResourceRules": health }]);
    let high =
        |precedence, subject| schema(precedence, "workload-high", "ByNamespace", &all(&[subject]));
    let by_user =
        |precedence, level, subjects: &[Value]| schema(precedence, level, "ByUser", &all(subjects));
    let accounts = [group(groups::SERVICE_ACCOUNTS)];
    vec![
        (
            "exempt",
            schema(1, "exempt", "", &all(&[group(groups::MASTERS)])),
        ),
        ("probes", schema(2, "exempt", "", &probes)),
        (
            "kube-controller-manager",
            high(800, user(users::CONTROLLER_MANAGER)),
        ),
        ("kube-scheduler", high(800, user(users::SCHEDULER))),
        ("kube-system-service-accounts", high(900, account("*"))),
        ("service-accounts", by_user(9000, "workload-low", &accounts)),
        (
            "global-default",
            by_user(9900, "global-default", &everyone()),
        ),
        ("catch-all", by_user(10_000, "catch-all", &everyone())),
    ]
}

fn schema(precedence: u32, level: &str, distinguisher: &str, rules: &Value) -> Value {
    let mut spec = json!({
        "priorityLevelConfiguration": { "name": level },
        "matchingPrecedence": precedence,
        "rules": rules,
    });
    if !distinguisher.is_empty() {
        spec["distinguisherMethod"] = json!({ "type": distinguisher });
    }
    spec
}

fn user(name: &str) -> Value {
    json!({ "kind": "User", "user": { "name": name } })
}

fn group(name: &str) -> Value {
    json!({ "kind": "Group", "group": { "name": name } })
}

/// A service account of kube-system.
fn account(name: &str) -> Value {
    let account = json!({ "name": name, "namespace": "kube-system" });
    json!({ "kind": "ServiceAccount", "serviceAccount": account })
}

fn resources(
    verbs: &[&str],
    group: &str,
    resources: &[&str],
    namespaces: &[&str],
    cluster: bool,
) -> Value {
    let mut rule = json!({
        "verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": namespaces,
    });
    if cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}

fn of(subjects: &[Value], resource_rules: &[Value]) -> Value {
    json!([{ "subjects": subjects, "resourceRules": resource_rules }])
}

/// Everything these subjects do.
fn all(subjects: &[Value]) -> Value {
    let resource = resources(&["*"], "*", &["*"], &["*"], true);
    let path = json!({ "verbs": ["*"], "nonResourceURLs": ["*"] });
    json!([{ "subjects": subjects, "resourceRules": [resource], "nonResourceRules": [path] }])
}
