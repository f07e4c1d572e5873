//! Environments by table, against what kubelet makes of the same specs.
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Owns what [`PodInputs`] borrows.
struct World {
    pod: Pod,
    config_maps: BTreeMap<String, Arc<ConfigMap>>,
    secrets: BTreeMap<String, Arc<Secret>>,
    service_env: BTreeMap<String, String>,
}

impl World {
    fn new(container: Value) -> Self {
        let pod = json!({
            "metadata": { "name": "web", "namespace": "shop", "labels": { "app": "web" } },
            "spec": { "containers": [container] },
        });
        let config_map = json!({ "data": { "key": "from-cm", "bad=key": "x", "has space": "ok" } });
        let secret = json!({ "data": { "user": "YWRtaW4=", "raw": "/w==" } });
        Self {
            pod: serde_json::from_value(pod).unwrap(),
            config_maps: BTreeMap::from([(
                "cm".to_owned(),
                Arc::new(serde_json::from_value(config_map).unwrap()),
            )]),
            secrets: BTreeMap::from([(
                "sec".to_owned(),
                Arc::new(serde_json::from_value(secret).unwrap()),
            )]),
            service_env: BTreeMap::from([("DB_SERVICE_HOST".to_owned(), "10.0.0.9".to_owned())]),
        }
    }

    fn env(&self) -> Result<ContainerEnv, EnvError> {
        let (allocatable, ips) = (BTreeMap::new(), ["10.1.2.3".parse().unwrap()]);
        let inputs = PodInputs {
            pod: &self.pod,
            node_name: "node-1",
            host_ips: &[],
            pod_ips: &ips,
            allocatable: &allocatable,
            config_maps: &self.config_maps,
            secrets: &self.secrets,
            service_env: &self.service_env,
        };
        container_env(&inputs, &self.pod.spec.as_ref().unwrap().containers[0])
    }
}

fn env(container: Value) -> Result<Vec<(String, String)>, EnvError> {
    World::new(container).env().map(|env| env.vars)
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn values_expand_what_was_set_before_and_services() {
    let vars = env(json!({ "name": "c", "env": [
        { "name": "A", "value": "1" },
        { "name": "B", "value": "$(A)-$(C)-$$(A)-$(DB_SERVICE_HOST)" },
        { "name": "C", "value": "late" },
        { "name": "A", "value": "$(A)2" },
        { "name": "EMPTY" },
    ] }));
    let expected = pairs(&[
        ("A", "12"),
        ("B", "1-$(C)-$(A)-10.0.0.9"),
        ("C", "late"),
        ("EMPTY", ""),
        ("DB_SERVICE_HOST", "10.0.0.9"),
    ]);
    assert_eq!(vars.unwrap(), expected);
}

#[test]
fn all_sources_of_values() {
    let vars = env(json!({ "name": "c", "env": [
        { "name": "CM", "valueFrom": { "configMapKeyRef": { "name": "cm", "key": "key" } } },
        { "name": "SECRET", "valueFrom": { "secretKeyRef": { "name": "sec", "key": "user" } } },
        { "name": "NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['app']" } } },
        { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
        { "name": "NONE", "valueFrom": { "configMapKeyRef": { "name": "no", "key": "k", "optional": true } } },
        { "name": "NOKEY", "valueFrom": { "secretKeyRef": { "name": "sec", "key": "k", "optional": true } } },
        { "name": "DB_SERVICE_HOST", "value": "mine" },
    ] }));
    let expected = pairs(&[
        ("CM", "from-cm"),
        ("SECRET", "admin"),
        ("NAME", "web"),
        ("IP", "10.1.2.3"),
        ("DB_SERVICE_HOST", "mine"),
    ]);
    assert_eq!(vars.unwrap(), expected);
}

#[test]
fn whole_objects_are_imported_and_bad_names_told() {
    let world = World::new(json!({ "name": "c",
        "envFrom": [
            { "prefix": "P_", "configMapRef": { "name": "cm" } },
            { "secretRef": { "name": "sec" } },
            { "secretRef": { "name": "missing", "optional": true } },
        ],
        "env": [{ "name": "P_key", "value": "override" }, { "name": "USE", "value": "$(user)" }],
    }));
    let env = world.env().unwrap();
    let expected = pairs(&[
        ("P_has space", "ok"),
        ("P_key", "override"),
        ("user", "admin"),
        ("USE", "admin"),
        ("DB_SERVICE_HOST", "10.0.0.9"),
    ]);
    assert_eq!(env.vars, expected);
    let told: Vec<_> = env.skipped.iter().map(ToString::to_string).collect();
    let tail = "were skipped since they are considered invalid environment variable names.";
    assert_eq!(
        told,
        [
            format!("Keys [P_bad=key] from the EnvFrom configMap shop/cm {tail}"),
            format!("Keys [raw] from the EnvFrom secret shop/sec {tail}"),
        ]
    );
}

#[test]
fn what_is_missing_is_named_as_kubelet_names_it() {
    let from =
        |source: Value| json!({ "name": "c", "env": [{ "name": "X", "valueFrom": source }] });
    let table = [
        (
            json!({ "name": "c", "envFrom": [{ "configMapRef": { "name": "no" } }] }),
            "configmap \"no\" not found",
        ),
        (
            json!({ "name": "c", "envFrom": [{ "secretRef": { "name": "no" } }] }),
            "secret \"no\" not found",
        ),
        (
            from(json!({ "configMapKeyRef": { "name": "no", "key": "k" } })),
            "configmap \"no\" not found",
        ),
        (
            from(json!({ "configMapKeyRef": { "name": "cm", "key": "k" } })),
            "couldn't find key k in ConfigMap shop/cm",
        ),
        (
            from(json!({ "secretKeyRef": { "name": "sec", "key": "k" } })),
            "couldn't find key k in Secret shop/sec",
        ),
        (
            from(json!({ "secretKeyRef": { "name": "sec", "key": "raw" } })),
            "key raw in Secret shop/sec is not text; mount it as a volume instead",
        ),
        (
            from(json!({ "fieldRef": { "fieldPath": "spec.x" } })),
            "environment variable X",
        ),
        (
            from(json!({})),
            "environment variable X: an empty valueFrom is not supported",
        ),
        (
            json!({ "name": "c", "env": [{ "name": "X", "value": "a\u{0}b" }] }),
            "the value of environment variable X contains a NUL character",
        ),
    ];
    for (container, message) in table {
        assert_eq!(env(container).unwrap_err().to_string(), message);
    }
}

#[test]
fn the_image_and_the_node_fill_what_the_container_leaves_open() {
    let image = [
        "PATH=/image".to_owned(),
        "A=image".to_owned(),
        "FLAG".to_owned(),
    ];
    let vars = process_env(&image, &pairs(&[("A", "pod")]), "web-0", Some("/home/app"));
    let expected = pairs(&[
        ("PATH", "/image"),
        ("HOSTNAME", "web-0"),
        ("A", "pod"),
        ("FLAG", ""),
        ("HOME", "/home/app"),
    ]);
    assert_eq!(vars, expected);
    let vars = process_env(&[], &pairs(&[("HOME", "/x")]), "h", Some("/root"));
    assert_eq!(
        vars,
        pairs(&[("PATH", DEFAULT_PATH), ("HOSTNAME", "h"), ("HOME", "/x")])
    );
}

#[test]
fn services_are_told_as_docker_links() {
    let service = |namespace: &str, name: &str, spec: Value| -> Service {
        let meta = json!({ "name": name, "namespace": namespace });
        serde_json::from_value(json!({ "metadata": meta, "spec": spec })).unwrap()
    };
    let services = [
        service(
            "shop",
            "my-db",
            json!({ "clusterIP": "10.0.0.1", "ports": [
            { "name": "sql-x", "port": 5432 }, { "port": 53, "protocol": "UDP" },
        ] }),
        ),
        service(
            "shop",
            "headless",
            json!({ "clusterIP": "None", "ports": [{ "port": 1 }] }),
        ),
        service(
            "other",
            "there",
            json!({ "clusterIP": "10.0.0.2", "ports": [{ "port": 1 }] }),
        ),
        service(
            "default",
            "kubernetes",
            json!({ "clusterIP": "fd00::1", "ports": [{ "name": "https", "port": 443 }] }),
        ),
    ];
    let vars = service_env(&services, "shop", true);
    let expected = [
        ("KUBERNETES_PORT", "tcp://[fd00::1]:443"),
        ("KUBERNETES_PORT_443_TCP", "tcp://[fd00::1]:443"),
        ("KUBERNETES_PORT_443_TCP_ADDR", "fd00::1"),
        ("KUBERNETES_PORT_443_TCP_PORT", "443"),
        ("KUBERNETES_PORT_443_TCP_PROTO", "tcp"),
        ("KUBERNETES_SERVICE_HOST", "fd00::1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
        ("MY_DB_PORT", "tcp://10.0.0.1:5432"),
        ("MY_DB_PORT_53_UDP", "udp://10.0.0.1:53"),
        ("MY_DB_PORT_53_UDP_ADDR", "10.0.0.1"),
        ("MY_DB_PORT_53_UDP_PORT", "53"),
        ("MY_DB_PORT_53_UDP_PROTO", "udp"),
        ("MY_DB_PORT_5432_TCP", "tcp://10.0.0.1:5432"),
        ("MY_DB_PORT_5432_TCP_ADDR", "10.0.0.1"),
        ("MY_DB_PORT_5432_TCP_PORT", "5432"),
        ("MY_DB_PORT_5432_TCP_PROTO", "tcp"),
        ("MY_DB_SERVICE_HOST", "10.0.0.1"),
        ("MY_DB_SERVICE_PORT", "5432"),
        ("MY_DB_SERVICE_PORT_SQL_X", "5432"),
    ];
    let told: Vec<_> = vars
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(told, expected);
    assert_eq!(service_env(&services, "shop", false).len(), 8);
}

#[test]
fn expansion_follows_kubernetes() {
    let lookup = |name: &str| match name {
        "A" => Some("a"),
        "DOLLAR" => Some("$(A)"),
        "" => Some("nothing"),
        _ => None,
    };
    let table = [
        ("$(A)", "a"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$a"),
        ("$$$$(A)", "$$(A)"),
        ("$(B)", "$(B)"),
        ("$(A", "$(A"),
        ("$A", "$A"),
        ("$", "$"),
        ("a$", "a$"),
        ("$(DOLLAR)", "$(A)"),
        ("$()", "nothing"),
        ("x$(A)$(A)y", "xaay"),
        ("$(A$(A))", "$(A$(A))"),
        ("$((A))", "$((A))"),
        ("é$(A)é", "éaé"),
    ];
    for (text, expected) in table {
        assert_eq!(expand(text, lookup), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn text_without_dollars_stays(text in "[^$]{0,40}") {
        prop_assert_eq!(expand(&text, |_| Some("x")), text);
    }

    #[test]
    fn doubled_dollars_escape_anything(text in "[$()A-C]{0,20}") {
        let escaped = text.replace('$', "$$");
        prop_assert_eq!(expand(&escaped, |_| Some("x")), text);
    }
}
