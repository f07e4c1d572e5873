//! Creation of kinds other than pods.

use serde_json::{Value, json};

use super::create;
use crate::strategy::access::Fields;

fn object(api_version: &str, kind: &str, fields: Value) -> Value {
    let cluster = [
        "Namespace",
        "PersistentVolume",
        "StorageClass",
        "CustomResourceDefinition",
        "ClusterRole",
        "PriorityClass",
        "ValidatingWebhookConfiguration",
        "IngressClass",
    ];
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}});
    if !cluster.contains(&kind) {
        object["metadata"]["namespace"] = json!("default");
    }
    for (key, value) in fields.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

fn template(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn workload(kind: &str, spec: Value) -> Value {
    let mut full =
        json!({"selector": {"matchLabels": {"a": "b"}}, "template": template(json!({"a": "b"}))});
    for (key, value) in spec.as_object().unwrap() {
        full[key] = value.clone();
    }
    object("apps/v1", kind, json!({"spec": full}))
}

fn service(spec: Value) -> Value {
    object("v1", "Service", json!({"spec": spec}))
}

#[test]
fn workloads_get_their_defaults() {
    let (deployment, errors) = create(workload("Deployment", json!({})));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        deployment["spec"]["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["metadata"]["generation"], 1);
    let template = &deployment["spec"]["template"]["spec"];
    assert_eq!(template["containers"][0]["imagePullPolicy"], "IfNotPresent");
    assert!(template.get("enableServiceLinks").is_none());
    let (set, errors) = create(workload("DaemonSet", json!({})));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
    );
    let (set, errors) = create(workload("StatefulSet", json!({"serviceName": "s"})));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(set["spec"]["podManagementPolicy"], "OrderedReady");
    assert_eq!(
        set["spec"]["updateStrategy"]["rollingUpdate"]["partition"],
        0
    );
    let (set, _) = create(workload("ReplicaSet", json!({"replicas": 0})));
    assert_eq!(set["spec"]["replicas"], 0);
}

#[test]
fn jobs_get_a_selector_of_their_own() {
    let mut job = object(
        "batch/v1",
        "Job",
        json!({"spec": {"template": template(json!({}))}}),
    );
    job["metadata"]["uid"] = json!("u-1");
    job["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    let (job, errors) = create(job);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        job["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}})
    );
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"]["job-name"],
        "x"
    );
    assert_eq!(job["spec"]["backoffLimit"], 6);
    assert_eq!(job["spec"]["completions"], 1);
    let (_, errors) = create(object(
        "batch/v1",
        "Job",
        json!({"spec": {"template": template(json!({}))}}),
    ));
    assert_eq!(
        errors,
        [
            "spec.template.spec.restartPolicy: Unsupported value: \"Always\": supported values: \"OnFailure\", \"Never\""
        ]
    );
}

#[test]
fn services_get_their_defaults() {
    let (service_, errors) = create(service(
        json!({"ports": [{"port": 80}], "selector": {"a": "b"}}),
    ));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        service_["spec"],
        json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "selector": {"a": "b"},
            "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster"})
    );
    assert_eq!(service_["status"], json!({"loadBalancer": {}}));
    let (balancer, errors) = create(service(
        json!({"type": "LoadBalancer", "ports": [{"port": 80, "targetPort": "http"}], "sessionAffinity": "ClientIP"}),
    ));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(balancer["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(balancer["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_eq!(
        balancer["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"],
        10_800
    );
    let (headless, _) = create(service(
        json!({"clusterIP": "None", "ports": [{"port": 80}]}),
    ));
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
}

#[test]
fn objects_are_refused_with_kubernetes_words() {
    let table = [
        (
            workload(
                "Deployment",
                json!({"selector": {"matchLabels": {"a": "c"}}}),
            ),
            "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
        ),
        (
            workload("Deployment", json!({"selector": {}})),
            "spec.selector: Required value",
        ),
        (
            workload("Deployment", json!({"replicas": -1})),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            workload(
                "Deployment",
                json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}),
            ),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            workload(
                "Deployment",
                json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
            ),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            workload(
                "Deployment",
                json!({"progressDeadlineSeconds": 5, "minReadySeconds": 5}),
            ),
            "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
        ),
        (
            workload("StatefulSet", json!({"podManagementPolicy": "Chaos"})),
            "spec.podManagementPolicy: Unsupported value: \"Chaos\": supported values: \"OrderedReady\", \"Parallel\"",
        ),
        (service(json!({})), "spec.ports: Required value"),
        (
            service(json!({"ports": [{"port": 1}, {"port": 2}]})),
            "spec.ports[0].name: Required value",
        ),
        (
            service(json!({"type": "X", "ports": [{"port": 1}]})),
            "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        (
            service(json!({"type": "ExternalName"})),
            "spec.externalName: Required value",
        ),
        (
            service(json!({"ports": [{"port": 1, "nodePort": 30000}]})),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            service(json!({"ports": [{"port": 1}], "externalIPs": ["127.0.0.1"]})),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            service(json!({"type": "NodePort", "clusterIP": "None", "ports": [{"port": 1}]})),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ),
        (
            object("v1", "ConfigMap", json!({"data": {"a/b": ""}})),
            "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ),
        (
            object(
                "v1",
                "ConfigMap",
                json!({"data": {"a": "x".repeat(1_100_000)}}),
            ),
            "<nil>: Too long: may not be more than 1048576 bytes",
        ),
        (
            object(
                "v1",
                "Secret",
                json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}),
            ),
            "data[tls.key]: Required value",
        ),
        (
            object(
                "v1",
                "PersistentVolumeClaim",
                json!({"spec": {"accessModes": ["ReadWriteOnce"]}}),
            ),
            "spec.resources[storage]: Required value",
        ),
        (
            object(
                "v1",
                "PersistentVolumeClaim",
                json!({"spec": {"resources": {"requests": {"storage": "1Gi"}}}}),
            ),
            "spec.accessModes: Required value: at least 1 access mode is required",
        ),
        (
            object(
                "v1",
                "PersistentVolume",
                json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}),
            ),
            "spec: Required value: must specify a volume type",
        ),
        (
            object("storage.k8s.io/v1", "StorageClass", json!({})),
            "provisioner: Required value",
        ),
        (
            object(
                "rbac.authorization.k8s.io/v1",
                "ClusterRole",
                json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}]}),
            ),
            "rules[0].verbs: Required value: verbs must contain at least one value",
        ),
        (
            object(
                "batch/v1",
                "CronJob",
                json!({"spec": {"schedule": "x", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}}),
            ),
            "spec.schedule: Invalid value: \"x\": expected exactly 5 fields, found 1: [x]",
        ),
        (
            object("networking.k8s.io/v1", "Ingress", json!({"spec": {}})),
            "spec: Invalid value: []: either `defaultBackend` or `rules` must be specified",
        ),
        (
            object(
                "networking.k8s.io/v1",
                "NetworkPolicy",
                json!({"spec": {"podSelector": {}, "ingress": [{"from": [{}]}]}}),
            ),
            "spec.ingress[0].from[0]: Required value: must specify a peer",
        ),
        (
            object(
                "autoscaling/v2",
                "HorizontalPodAutoscaler",
                json!({"spec": {"maxReplicas": 1, "minReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
            ),
            "spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`",
        ),
        (
            object(
                "policy/v1",
                "PodDisruptionBudget",
                json!({"spec": {"minAvailable": 1, "maxUnavailable": 1}}),
            ),
            "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set",
        ),
        (
            object(
                "scheduling.k8s.io/v1",
                "PriorityClass",
                json!({"value": 2_000_000_000}),
            ),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (
            object(
                "v1",
                "Event",
                json!({"involvedObject": {"namespace": "other"}}),
            ),
            "involvedObject.namespace: Invalid value: \"other\": does not match event.namespace",
        ),
        (
            object(
                "v1",
                "LimitRange",
                json!({"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}}),
            ),
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
        ),
    ];
    for (object, expected) in table {
        let (_, errors) = create(object.clone());
        assert!(
            errors.contains(&expected.to_owned()),
            "{object:.300}\n{errors:#?}"
        );
    }
}

/// A StatefulSet's claims are volumes of its pods, for files and for devices.
#[test]
fn claims_of_a_stateful_set_can_be_mounted() {
    let containers = |mount: &str| {
        json!([{"name": "c", "image": "i:1", "volumeMounts": [{"name": mount, "mountPath": "/data"}],
            "volumeDevices": [{"name": "raw", "devicePath": "/dev/raw"}]}])
    };
    let claim = |name: &str, mode: &str| {
        json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": mode,
            "resources": {"requests": {"storage": "20Mi"}}}})
    };
    let set = |mount: &str| {
        let mut template = template(json!({"a": "b"}));
        template["spec"]["containers"] = containers(mount);
        template["spec"]["initContainers"] = json!([{"name": "i", "image": "i:1",
            "volumeMounts": [{"name": mount, "mountPath": "/data"}]}]);
        let claims = json!([claim("data", "Filesystem"), claim("raw", "Block")]);
        json!({"serviceName": "s", "template": template, "volumeClaimTemplates": claims})
    };
    let (_, errors) = create(workload("StatefulSet", set("data")));
    assert_eq!(errors, Vec::<String>::new());
    let (_, errors) = create(workload("StatefulSet", set("other")));
    let places = ["initContainers", "containers"];
    let expected = places.map(|list| {
        format!("spec.template.spec.{list}[0].volumeMounts[0].name: Not found: \"other\"")
    });
    assert_eq!(errors, expected);
    // Other workloads have no claims; all their templates are looked at.
    for kind in ["Deployment", "ReplicaSet", "DaemonSet"] {
        let mut spec = set("data");
        for key in ["serviceName", "volumeClaimTemplates"] {
            spec.as_object_mut().unwrap().remove(key);
        }
        let (_, errors) = create(workload(kind, spec));
        assert_eq!(errors.len(), 3, "{kind} {errors:?}");
    }
    let mut pods = template(json!({"a": "b"}));
    pods["spec"]["containers"] = containers("data");
    let whole = |kind: &str, fields: Value| create(object("v1", kind, fields)).1.len();
    assert_eq!(whole("PodTemplate", json!({"template": pods})), 2);
    let controller = json!({"spec": {"selector": {"a": "b"}, "template": pods}});
    assert_eq!(whole("ReplicationController", controller), 2);
    pods["spec"]["restartPolicy"] = json!("Never");
    let (_, errors) = create(object(
        "batch/v1",
        "Job",
        json!({"spec": {"template": pods}}),
    ));
    assert_eq!(errors.len(), 2, "{errors:?}");
}

#[test]
fn secrets_take_texts_as_data() {
    let (secret, errors) = create(object(
        "v1",
        "Secret",
        json!({"stringData": {"a": "hello"}, "data": {"b": "eA=="}}),
    ));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(secret["data"], json!({"a": "aGVsbG8=", "b": "eA=="}));
    assert_eq!(secret["type"], "Opaque");
    assert!(secret.get("stringData").is_none());
}

#[test]
fn namespaces_start_active_and_finalized() {
    let (namespace, errors) = create(object(
        "v1",
        "Namespace",
        json!({"status": {"phase": "Terminating"}}),
    ));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(namespace["spec"], json!({"finalizers": ["kubernetes"]}));
    assert_eq!(namespace["status"], json!({"phase": "Active"}));
    assert_eq!(
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"],
        "x"
    );
}

#[test]
fn definitions_are_checked_as_a_whole() {
    let crd = |change: &dyn Fn(&mut Value)| {
        let mut crd = object(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            json!({"spec": {
            "group": "x.io", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}}]}}),
        );
        crd["metadata"]["name"] = json!("foos.x.io");
        change(&mut crd);
        create(crd)
    };
    let (good, errors) = crd(&|_| {});
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        good["spec"]["names"],
        json!({"plural": "foos", "kind": "Foo", "singular": "foo", "listKind": "FooList"})
    );
    assert_eq!(good["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(good["status"]["storedVersions"], json!(["v1"]));
    let table: [(&dyn Fn(&mut Value), &str); 5] = [
        (
            &|c| c["metadata"]["name"] = json!("x"),
            "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group",
        ),
        (
            &|c| c["spec"]["versions"][0]["storage"] = json!(false),
            "spec.versions: Invalid value: [\"v1\"]: must have exactly one version marked as storage version",
        ),
        (
            &|c| {
                c["spec"]["versions"][0]
                    .as_object_mut()
                    .unwrap()
                    .remove("schema");
            },
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ),
        (
            &|c| {
                c["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
                    json!({})
            },
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields",
        ),
        (
            &|c| c["spec"]["scope"] = json!("Galaxy"),
            "spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\"",
        ),
    ];
    for (change, expected) in table {
        assert_eq!(crd(change).1, [expected]);
    }
}

#[test]
fn autoscalers_and_policies_get_their_defaults() {
    let (scaler, errors) = create(object(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        json!({"spec": {
        "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}}),
    ));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(scaler["spec"]["metrics"][0]["resource"]["name"], "cpu");
    let (policy, errors) = create(object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}}),
    ));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
    assert!(policy.at("status").is_null());
}
