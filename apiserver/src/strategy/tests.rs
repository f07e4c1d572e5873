//! Defaults, validation and updates of built-in and custom kinds.

use serde_json::json;

use super::access::Fields;
use super::*;

mod kinds;
mod updates;

/// A request in namespace `default`.
fn context(subresource: &str) -> Context<'_> {
    Context {
        subresource,
        namespace: "default",
        now: Timestamp::UNIX_EPOCH,
    }
}

/// The strategy for the apiVersion and kind of an object.
fn strategy_of(object: &Value) -> Arc<dyn Strategy> {
    let version = object.text("apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    builtin(group, version, object.text("kind")).unwrap()
}

/// Runs an object through what happens at creation; returns it and the complaints.
fn create(mut object: Value) -> (Value, Vec<String>) {
    let strategy = strategy_of(&object);
    let version = object.text("apiVersion").to_owned();
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let schema = Schema::builtin(group, version, object.text("kind")).unwrap();
    schema
        .check(&mut object, crate::schema::FieldValidation::Strict)
        .unwrap();
    strategy.default(&mut object);
    let once = object.clone();
    strategy.default(&mut object);
    assert_eq!(object, once, "defaulting twice");
    strategy.prepare_create(&context(""), &mut object);
    let errors = strategy.validate(&context(""), &object);
    (object, errors.iter().map(ToString::to_string).collect())
}

/// Runs a change of an object that passes creation.
fn update(subresource: &str, old: Value, change: impl FnOnce(&mut Value)) -> (Value, Vec<String>) {
    let (old, errors) = create(old);
    assert_eq!(errors, Vec::<String>::new());
    let strategy = strategy_of(&old);
    let mut new = old.clone();
    change(&mut new);
    strategy.default(&mut new);
    strategy.prepare_update(&context(subresource), &mut new, &old);
    let errors = strategy.validate_update(&context(subresource), &new, &old);
    (new, errors.iter().map(ToString::to_string).collect())
}

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default"}, "spec": spec})
}

#[test]
fn every_type_with_code_exists() {
    let kinds: Vec<_> = crate::schema::KINDS.iter().collect();
    let known = crate::schema::definitions_of(&kinds);
    let missing: Vec<&str> = super::hooks::types()
        .filter(|name| !known.iter().any(|k| k == name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn containers(container: Value) -> Value {
    let mut full = json!({"name": "c", "image": "busybox"});
    for (key, value) in container.as_object().unwrap() {
        full[key] = value.clone();
    }
    pod(json!({"containers": [full]}))
}

#[test]
fn a_pod_gets_its_defaults() {
    let (pod, errors) = create(containers(json!({
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
        "ports": [{"containerPort": 80}],
        "livenessProbe": {"httpGet": {"port": "http"}},
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
    })));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        pod,
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "default", "generation": 1},
            "spec": {
                "containers": [{
                    "name": "c", "image": "busybox", "imagePullPolicy": "Always",
                    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "livenessProbe": {"httpGet": {"port": "http", "path": "/", "scheme": "HTTP"},
                        "failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1},
                    "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP", "apiVersion": "v1"}}}],
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
                "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
            },
            "status": {"phase": "Pending", "qosClass": "Guaranteed"}})
    );
}

#[test]
fn pods_are_refused_with_kubernetes_words() {
    let volume =
        |v: Value| pod(json!({"containers": [{"name": "c", "image": "i"}], "volumes": [v]}));
    let with = |key: &str, value: Value| {
        let mut pod = containers(json!({}));
        pod["spec"][key] = value;
        pod
    };
    let table = [
        (pod(json!({})), "spec.containers: Required value"),
        (
            pod(json!({"containers": [{"name": "c"}]})),
            "spec.containers[0].image: Required value",
        ),
        (
            pod(json!({"containers": [{"image": "i"}]})),
            "spec.containers[0].name: Required value",
        ),
        (
            pod(json!({"containers": [{"name": "A", "image": "i"}]})),
            "spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
        (
            pod(json!({"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]})),
            "spec.containers[1].name: Duplicate value: \"c\"",
        ),
        (
            containers(json!({"image": " x"})),
            "spec.containers[0].image: Invalid value: \" x\": must not have leading or trailing whitespace",
        ),
        (
            containers(json!({"imagePullPolicy": "Sometimes"})),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            containers(json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}]})),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            containers(json!({"ports": [{"containerPort": 0}]})),
            "spec.containers[0].ports[0].containerPort: Required value",
        ),
        (
            containers(json!({"ports": [{"containerPort": 70000}]})),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            containers(json!({"ports": [{"containerPort": 1, "name": "A"}]})),
            "spec.containers[0].ports[0].name: Invalid value: \"A\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (
            containers(
                json!({"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]}),
            ),
            "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//5\"",
        ),
        (
            containers(json!({"env": [{"name": "A=B"}]})),
            "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
        ),
        (
            containers(
                json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            ),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ),
        (
            containers(
                json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.hostname"}}}]}),
            ),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.hostname\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
        ),
        (
            containers(json!({"envFrom": [{}]})),
            "spec.containers[0].envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
        ),
        (
            containers(json!({"livenessProbe": {}})),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            containers(
                json!({"livenessProbe": {"exec": {"command": ["a"]}, "successThreshold": 2}}),
            ),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            containers(json!({"readinessProbe": {"tcpSocket": {"port": 0}}})),
            "spec.containers[0].readinessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            containers(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            containers(json!({"resources": {"requests": {"cpu": "-1"}}})),
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            containers(json!({"resources": {"requests": {"x.io/gpu": "1"}}})),
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            containers(json!({"resources": {"requests": {"disk": "1"}}})),
            "spec.containers[0].resources.requests[disk]: Invalid value: \"disk\": must be a standard resource for containers",
        ),
        (
            with("restartPolicy", json!("Maybe")),
            "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"Never\", \"OnFailure\"",
        ),
        (
            with("dnsPolicy", json!("None")),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            with("activeDeadlineSeconds", json!(0)),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            with("tolerations", json!([{"operator": "Exists", "value": "x"}])),
            "spec.tolerations[0].operator: Invalid value: {\"operator\":\"Exists\",\"value\":\"x\"}: value must be empty when `operator` is 'Exists'",
        ),
        (
            with(
                "tolerations",
                json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 1}]),
            ),
            "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
        ),
        (
            with(
                "affinity",
                json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}),
            ),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
        ),
        (
            with("nodeName", json!("A")),
            "spec.nodeName: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        (
            volume(json!({"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}})),
            "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
        ),
        (
            volume(json!({"name": "v", "hostPath": {"path": "/a/../b"}})),
            "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            volume(json!({"name": "v", "configMap": {"name": "x", "defaultMode": 512}})),
            "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
        ),
        (
            volume(
                json!({"name": "v", "configMap": {"name": "x", "items": [{"key": "k", "path": "../x"}]}}),
            ),
            "spec.volumes[0].configMap.items[0].path: Invalid value: \"../x\": must not contain '..'",
        ),
        (
            volume(
                json!({"name": "v", "downwardAPI": {"items": [{"path": "..data", "fieldRef": {"fieldPath": "metadata.name"}}]}}),
            ),
            "spec.volumes[0].downwardAPI.items[0].path: Invalid value: \"..data\": must not start with '..'",
        ),
        (
            volume(json!({"name": "v", "persistentVolumeClaim": {}})),
            "spec.volumes[0].persistentVolumeClaim.claimName: Required value",
        ),
    ];
    for (pod, expected) in table {
        let (_, errors) = create(pod.clone());
        assert_eq!(errors, [expected], "{pod}");
    }
}

#[test]
fn metadata_is_checked_for_every_kind() {
    let map = |meta: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta});
    let table = [
        (
            json!({"namespace": "default"}),
            "metadata.name: Required value: name or generateName is required",
        ),
        (json!({"name": "a"}), "metadata.namespace: Required value"),
        (
            json!({"name": "a", "namespace": "default", "labels": {"-": "x"}}),
            "metadata.labels: Invalid value: \"-\": name part must consist of alphanumeric",
        ),
        (
            json!({"name": "a", "namespace": "default", "labels": {"a": "x y"}}),
            "metadata.labels: Invalid value: \"x y\": a valid label must be an empty string",
        ),
        (
            json!({"name": "a", "namespace": "default", "annotations": {"a": "x".repeat(300_000)}}),
            "metadata.annotations: Too long: may not be more than 262144 bytes",
        ),
        (
            json!({"name": "a", "namespace": "default", "ownerReferences": [{"kind": "X", "name": "x", "uid": "u"}]}),
            "metadata.ownerReferences[0].apiVersion: Invalid value: \"\": version must not be empty",
        ),
        (
            json!({"name": "a", "namespace": "default", "finalizers": ["mine"]}),
            "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
        ),
        (
            json!({"name": "a/b", "namespace": "default"}),
            "metadata.name: Invalid value: \"a/b\": a lowercase RFC 1123 subdomain",
        ),
        (
            json!({"name": "a", "generateName": "_", "namespace": "default"}),
            "metadata.generateName: Invalid value: \"_\"",
        ),
    ];
    for (meta, expected) in table {
        let (_, errors) = create(map(meta.clone()));
        assert_eq!(errors.len(), 1, "{meta}: {errors:?}");
        assert!(errors[0].starts_with(expected), "{errors:?}");
    }
    let node =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "namespace": "x"}});
    assert_eq!(
        create(node).1,
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
}

#[test]
fn quality_of_service_follows_the_resources() {
    let spec = |resources: Value| json!({"containers": [{"resources": resources}]});
    let table = [
        (spec(json!({})), "BestEffort"),
        (spec(json!({"requests": {"cpu": "1"}})), "Burstable"),
        (
            spec(
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}),
            ),
            "Guaranteed",
        ),
        (
            spec(
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}),
            ),
            "Burstable",
        ),
        (
            spec(json!({"limits": {"x.io/a": "1"}, "requests": {"x.io/a": "1"}})),
            "BestEffort",
        ),
    ];
    for (spec, class) in table {
        assert_eq!(super::pod::quality_of_service(&spec), class, "{spec}");
    }
}

#[test]
fn a_bound_pod_has_a_grace_period() {
    let (mut pod, _) = create(containers(json!({})));
    let strategy = strategy_of(&pod);
    assert_eq!(strategy.default_grace(&pod), Some(0));
    pod["spec"]["nodeName"] = json!("n");
    assert_eq!(strategy.default_grace(&pod), Some(30));
    pod["status"]["phase"] = json!("Succeeded");
    assert_eq!(strategy.default_grace(&pod), Some(0));
}

proptest::proptest! {
    #[test]
    fn no_object_breaks_a_strategy(spec in crate::schema::any_json(), other in crate::schema::any_json()) {
        for kind in crate::schema::KINDS {
            let Some(strategy) = builtin(kind.group, kind.version, kind.kind) else { continue };
            let mut object = json!({"metadata": other.clone(), "spec": spec.clone(), "status": other.clone()});
            let old = object.clone();
            strategy.default(&mut object);
            for subresource in ["", "status", "finalize", "ephemeralcontainers", "resize"] {
                let mut new = object.clone();
                strategy.prepare_update(&context(subresource), &mut new, &old);
                let _ = strategy.validate_update(&context(subresource), &new, &old);
                let _ = strategy.warnings(&new, None);
            }
            strategy.prepare_create(&context(""), &mut object);
            let _ = strategy.validate(&context(""), &object);
            let _ = strategy.default_grace(&object);
        }
    }
}
