//! The standards check by check, and who is told what.

use serde_json::json;

use super::policy::{Standard, Version};
use super::*;
use crate::admission::Notes;
use crate::admission::testing::request;
use crate::auth::UserInfo;
use crate::auth::memory::Memory;

/// A pod that keeps to the restricted standard.
fn hardened() -> Value {
    json!({
        "metadata": {"name": "p"},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "image": "i", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            }}],
        },
    })
}

fn with(changes: &Value) -> Value {
    let mut pod = hardened();
    json_patch::merge(&mut pod, changes);
    pod
}

/// The hardened pod with something in its container's security context.
fn container(security: &Value) -> Value {
    let mut pod = hardened();
    json_patch::merge(
        &mut pod["spec"]["containers"][0]["securityContext"],
        security,
    );
    pod
}

fn found(level: Level, version: Version, pod: &Value) -> String {
    in_detail(&violations(Standard { level, version }, &Pod::of(pod)))
}

#[test]
fn the_baseline_forbids_what_leads_out() {
    let spec = |spec: Value| with(&json!({"spec": spec}));
    let ports = json!([{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 0}]}, {"name": "b", "ports": [{"hostPort": 443}]}]);
    let probes = json!([{"name": "a", "livenessProbe": {"httpGet": {"host": "127.0.0.1"}}}]);
    let apparmor = json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}}});
    let cases = [
        (
            spec(json!({"hostNetwork": true, "hostIPC": true})),
            "host namespaces (hostNetwork=true, hostIPC=true)",
        ),
        (
            container(&json!({"privileged": true})),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            container(&json!({"capabilities": {"add": ["NET_ADMIN", "CHOWN", "BPF"]}})),
            "non-default capabilities (container \"c\" must not include \"BPF\", \"NET_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            spec(
                json!({"volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "hostPath": {"path": "/x"}}]}),
            ),
            "hostPath volumes (volumes \"a\", \"b\")",
        ),
        (
            spec(json!({"containers": ports})),
            "hostPort (containers \"a\", \"b\" use hostPorts 443, 80)",
        ),
        (
            spec(json!({"containers": probes})),
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"127.0.0.1\")",
        ),
        (
            container(&json!({"procMount": "Unmasked"})),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            container(&json!({"seLinuxOptions": {"type": "spc_t", "user": "u", "role": "r"}})),
            "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set; role may not be set)",
        ),
        (
            spec(json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}})),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            spec(
                json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
            ),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            container(&json!({"windowsOptions": {"hostProcess": true}})),
            "hostProcess (container \"c\" must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            with(&apparmor),
            "forbidden AppArmor profile (annotation must not set AppArmor profile type to \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\")",
        ),
        (
            container(&json!({"appArmorProfile": {"type": "Unconfined"}})),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (hardened(), ""),
        (json!({"spec": {"containers": [{"name": "plain"}]}}), ""),
    ];
    for (pod, expected) in cases {
        assert_eq!(found(Level::Baseline, Version::Latest, &pod), expected);
        assert_eq!(found(Level::Privileged, Version::Latest, &pod), "");
    }
}

#[test]
fn the_restricted_standard_wants_hardening() {
    let plain = json!({"spec": {
        "initContainers": [{"name": "i"}], "containers": [{"name": "c"}], "ephemeralContainers": [{"name": "e"}],
    }});
    let all = "containers \"i\", \"c\", \"e\"";
    let everything = format!(
        "allowPrivilegeEscalation != false ({all} must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities ({all} must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or {all} must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or {all} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    let spec = |spec: Value| with(&json!({"spec": spec}));
    let cases = [
        (plain, everything.as_str()),
        (
            container(&json!({"capabilities": {"add": ["CHOWN", "NET_BIND_SERVICE"]}})),
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            spec(
                json!({"volumes": [{"name": "n", "nfs": {}}, {"name": "h", "hostPath": {}}, {"name": "i", "image": {}}]}),
            ),
            "restricted volume types (volumes \"n\", \"h\" use restricted volume types \"hostPath\", \"nfs\")",
        ),
        (
            container(&json!({"runAsNonRoot": false, "runAsUser": 0})),
            "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false), \
             runAsUser=0 (container \"c\" must not set runAsUser=0)",
        ),
        (
            spec(json!({"securityContext": {"runAsUser": 0}})),
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            container(&json!({"procMount": "Unmasked", "privileged": true})),
            "privileged (container \"c\" must not set securityContext.privileged=true), \
             procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (hardened(), ""),
    ];
    for (pod, expected) in cases {
        assert_eq!(found(Level::Restricted, Version::Latest, &pod), expected);
    }
}

#[test]
fn versions_know_what_they_knew() {
    let sysctl =
        |name: &str| with(&json!({"spec": {"securityContext": {"sysctls": [{"name": name}]}}}));
    let users = |security: Value| {
        let mut pod = container(&security);
        pod["spec"]["hostUsers"] = false.into();
        pod
    };
    let windows = json!({"spec": {"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]}});
    let seccomp = json!({
        "metadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}},
        "spec": {"containers": []},
    });
    // The last version that forbids and the first that allows, or the other way round.
    let cases = [
        (
            Level::Baseline,
            sysctl("net.ipv4.ip_local_reserved_ports"),
            26,
            27,
        ),
        (
            Level::Baseline,
            sysctl("net.ipv4.tcp_keepalive_time"),
            28,
            29,
        ),
        (Level::Baseline, sysctl("net.ipv4.tcp_wmem"), 31, 32),
        (
            Level::Baseline,
            sysctl("net.ipv4.tcp_notsent_lowat"),
            36,
            37,
        ),
        (
            Level::Baseline,
            container(&json!({"seLinuxOptions": {"type": "container_engine_t"}})),
            30,
            31,
        ),
        (
            Level::Baseline,
            users(json!({"procMount": "Unmasked"})),
            34,
            35,
        ),
        (Level::Restricted, users(json!({"runAsUser": 0})), 34, 35),
        (
            Level::Restricted,
            users(json!({"runAsNonRoot": false})),
            34,
            35,
        ),
        (Level::Restricted, windows, 24, 25),
        (Level::Baseline, seccomp, 18, 19),
        (
            Level::Baseline,
            with(
                &json!({"spec": {"containers": [{"name": "c", "lifecycle": {"preStop": {"tcpSocket": {"host": "h"}}}}]}}),
            ),
            34,
            33,
        ),
        (
            Level::Restricted,
            container(&json!({"allowPrivilegeEscalation": null})),
            8,
            7,
        ),
        (
            Level::Restricted,
            container(&json!({"capabilities": null})),
            22,
            21,
        ),
        (
            Level::Restricted,
            container(&json!({"runAsUser": 0})),
            23,
            22,
        ),
    ];
    for (level, pod, forbids, allows) in cases {
        assert_ne!(found(level, Version::Minor(forbids), &pod), "", "{pod}");
        assert_eq!(found(level, Version::Minor(allows), &pod), "", "{pod}");
    }
    // The restricted standard keeps proc covered even in a user namespace.
    let unmasked = users(json!({"procMount": "Unmasked"}));
    assert!(found(Level::Restricted, Version::Latest, &unmasked).starts_with("procMount"));
    assert_eq!(
        found(
            Level::Baseline,
            Version::Minor(99),
            &sysctl("net.ipv4.tcp_notsent_lowat")
        ),
        ""
    );
}

fn plugin(labels: &Value, pods: &[Value]) -> PodSecurity {
    let labels = labels.as_object().unwrap().iter();
    let labels: serde_json::Map<String, Value> = labels
        .map(|(key, value)| (format!("{ANNOTATION}{key}"), value.clone()))
        .collect();
    let namespace = json!({"metadata": {"name": "a", "labels": labels}});
    let pods = pods.iter().map(|pod| (Kind::PODS, pod.clone()));
    PodSecurity::new(Memory::with(
        [(Kind::NAMESPACES, namespace)].into_iter().chain(pods),
    ))
}

#[tokio::test]
async fn pods_are_refused_and_workloads_warned_about() {
    let plain = json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "securityContext": {"privileged": true}}]}});
    let template = json!({"metadata": {"name": "x"}, "spec": {"template": plain}});
    let what = "privileged (container \"c\" must not set securityContext.privileged=true)";
    let user = UserInfo::anonymous();
    // Labels, resource, object: the refusal, the warnings, the audit annotation.
    let cases = [
        (json!({}), "pods", &plain, None, None, None),
        (
            json!({"enforce": "baseline"}),
            "pods",
            &plain,
            Some("violates PodSecurity \"baseline:latest\": "),
            None,
            None,
        ),
        (
            json!({"enforce": "baseline"}),
            "apps/deployments",
            &template,
            None,
            None,
            None,
        ),
        (
            json!({"warn": "baseline", "audit": "baseline", "audit-version": "v1.20"}),
            "apps/deployments",
            &template,
            None,
            Some("would violate PodSecurity \"baseline:latest\": "),
            Some("would violate PodSecurity \"baseline:v1.20\": "),
        ),
        (
            json!({"enforce": "baseline", "warn": "baseline"}),
            "pods",
            &plain,
            Some("violates PodSecurity \"baseline:latest\": "),
            None,
            None,
        ),
    ];
    for (labels, resource, object, refusal, warning, audit) in cases {
        let (plugin, notes) = (plugin(&labels, &[]), Notes::default());
        let request = request(&user, &notes, Operation::Create, resource, "a");
        assert!(plugin.handles(&request));
        let got = plugin.validate(&request, object).await;
        let whole = |text: &str| format!("{text}{what}");
        assert_eq!(
            got.map_err(|e| e.to_string()),
            refusal.map_or(Ok(()), |text| Err(whole(text)))
        );
        assert_eq!(
            notes.take_warnings(),
            warning.map(whole).into_iter().collect::<Vec<_>>()
        );
        let noted = notes
            .annotations()
            .remove("pod-security.kubernetes.io/audit-violations");
        assert_eq!(noted, audit.map(whole));
    }
}

#[tokio::test]
async fn only_significant_updates_are_looked_at() {
    let plugin = plugin(&json!({"enforce": "restricted"}), &[]);
    let (user, notes) = (UserInfo::anonymous(), Notes::default());
    let old = json!({"spec": {"containers": [{"name": "c", "image": "a"}]}});
    let image = json!({"spec": {"containers": [{"name": "c", "image": "b"}]}});
    let labels = json!({"metadata": {"labels": {"a": "b"}}, "spec": old["spec"]});
    let debug = json!({"spec": {"containers": old["spec"]["containers"], "ephemeralContainers": [{"name": "d"}]}});
    for (new, refused) in [(&image, true), (&labels, false), (&debug, true)] {
        let request = Request {
            old: Some(&old),
            ..request(&user, &notes, Operation::Update, "pods", "a")
        };
        assert_eq!(
            plugin.validate(&request, new).await.is_err(),
            refused,
            "{new}"
        );
    }
    let request = Request {
        subresource: "status",
        ..request(&user, &notes, Operation::Update, "pods", "a")
    };
    assert!(!plugin.handles(&request));
}

#[tokio::test]
async fn a_stricter_namespace_names_those_that_do_not_fit() {
    let pod = |name: &str, owner: &str, network: bool| {
        json!({
            "metadata": {"namespace": "x", "name": name, "ownerReferences": [{"controller": true, "uid": owner}]},
            "spec": {"hostNetwork": network, "containers": [{"name": "c"}]},
        })
    };
    let pods = [
        pod("b", "1", true),
        pod("a", "1", true),
        pod("c", "2", false),
    ];
    let plugin = plugin(&json!({}), &pods);
    let (user, notes) = (UserInfo::anonymous(), Notes::default());
    let namespace = |level: &str| json!({"metadata": {"name": "x", "labels": {"pod-security.kubernetes.io/enforce": level}}});
    let old = json!({"metadata": {"name": "x"}});
    let update = |old| Request {
        old: Some(old),
        ..request(&user, &notes, Operation::Update, "namespaces", "")
    };
    plugin
        .validate(&update(&old), &namespace("baseline"))
        .await
        .unwrap();
    let expected = [
        "existing pods in namespace \"x\" violate the new PodSecurity enforce level \"baseline:latest\"",
        "a (and 1 other pod): host namespaces",
    ];
    assert_eq!(notes.take_warnings(), expected);
    // Looser, unchanged and off tell nothing.
    let pairs = [
        ("restricted", "baseline"),
        ("baseline", "baseline"),
        ("baseline", "privileged"),
    ];
    let pairs = pairs.map(|(old, new)| (namespace(old), namespace(new)));
    for (old, new) in &pairs {
        plugin.validate(&update(old), new).await.unwrap();
    }
    assert!(notes.take_warnings().is_empty());
    let wrong = namespace("strict");
    let refused = plugin.validate(&update(&old), &wrong).await.unwrap_err();
    assert!(matches!(refused, Error::Invalid { errors } if errors.len() == 1));
    // What was wrong before may stay.
    assert!(plugin.validate(&update(&wrong), &wrong).await.is_ok());
    let create = request(&user, &notes, Operation::Create, "namespaces", "");
    assert!(plugin.validate(&create, &wrong).await.is_err());
}
