//! Every way to write, and the rights it takes: with all of them it works, without any one of them nothing happens.

mod ways;

use serde_json::json;

use self::ways::{APPLY, Right, Way, settings};
use super::*;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Gives a user exactly these rights.
async fn grant(rig: &Rig, user: &str, rights: &[Right]) {
    let rules = rights.iter().map(|(verb, group, resource)| {
        json!({"verbs": [verb], "apiGroups": [group], "resources": [resource]})
    });
    let rules: Vec<Value> = rules.collect();
    let role = json!({"metadata": {"name": user}, "rules": rules});
    rig.make(&format!("{RBAC}/clusterroles"), role).await;
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
    });
    rig.make(&format!("{RBAC}/clusterrolebindings"), binding)
        .await;
}

/// Carries out a request with some of its rights: the code, the body, and whether anything was written.
async fn attempt(rig: &Rig, name: &str, way: &Way, rights: &[Right]) -> (Reply, bool) {
    let own = |text: String| text.replace('@', name);
    for (path, object) in &way.before {
        let object: Value = serde_json::from_str(&own(object.to_string())).unwrap();
        rig.make(&own(path.clone()), object).await;
    }
    grant(rig, name, rights).await;
    let before = rig.server.store.revision();
    let body = match &way.body {
        Value::Null => String::new(),
        body => own(body.to_string()),
    };
    let user = UserInfo::new(name, Vec::<String>::new());
    let headers = [("content-type", way.media)];
    let path = own(way.path.clone());
    let reply = rig
        .send_as(Some(user), way.method, &path, &headers, body)
        .await;
    (reply, rig.server.store.revision() != before)
}

#[tokio::test]
async fn every_way_to_write_takes_every_right() {
    let rig = Rig::new().await;
    let ways = [
        ways::whole_objects(),
        ways::subresources(),
        ways::special(),
        ways::transactions(),
    ];
    let mut faults = Vec::new();
    for (number, way) in ways.iter().flatten().enumerate() {
        let what = format!("{} {} {}", way.method, way.path, way.body);
        let (reply, _) = attempt(&rig, &format!("all-{number}"), way, &way.rights).await;
        if reply.code != way.code {
            faults.push(format!("{what}: {} {}", reply.code, reply.body));
        }
        for missing in 0..way.rights.len() {
            let mut rights = way.rights.clone();
            let (verb, _, resource) = rights.remove(missing);
            let name = format!("but-{number}-{missing}");
            let (reply, wrote) = attempt(&rig, &name, way, &rights).await;
            if reply.code != 403 || wrote {
                let (code, body) = (reply.code, reply.body);
                faults.push(format!(
                    "{what} without {verb} {resource}: {code}, wrote: {wrote}, {body}"
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A right to change one object by its name is none to make it.
#[tokio::test]
async fn names_in_rules_count_for_what_is_made_too() {
    let rig = Rig::new().await;
    let rule = |verbs: Value| json!([{"verbs": verbs, "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"]}]);
    let group = "rbac.authorization.k8s.io";
    for (user, verbs, code) in [
        ("patcher", json!(["patch"]), 403),
        ("maker", json!(["patch", "create"]), 201),
    ] {
        let role = json!({"metadata": {"name": user}, "rules": rule(verbs)});
        rig.make(&format!("{RBAC}/clusterroles"), role).await;
        let binding = json!({
            "metadata": {"name": user},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
            "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
        });
        rig.make(&format!("{RBAC}/clusterrolebindings"), binding)
            .await;
        let mut object = settings("1");
        object["metadata"]["name"] = "one".into();
        let reply = rig
            .send_as(
                Some(UserInfo::new(user, Vec::<String>::new())),
                "PATCH",
                &format!("{CONFIG_MAPS}/one?fieldManager=t"),
                &[("content-type", APPLY)],
                object.to_string(),
            )
            .await;
        assert_eq!(reply.code, code, "{user}: {}", reply.body);
    }
}

/// A node says itself where it is called: it could name this server.
#[tokio::test]
async fn what_this_server_shows_to_nodes_opens_nothing_here() {
    let rig = Rig::new().await;
    let path = "pki/apiserver-node-client.pem";
    let text = std::fs::read(rig.server.config.data_dir.join(path)).unwrap();
    let pems = x509_parser::pem::Pem::iter_from_buffer(&text).map(Result::unwrap);
    let certificate = pems.into_iter().find(|pem| pem.label == "CERTIFICATE");
    let certificate = certificate.unwrap();
    let certificate = certificate.parse_x509().unwrap();
    let subject = certificate.subject();
    let text =
        |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().unwrap().to_owned();
    let name = subject.iter_common_name().map(text).next().unwrap();
    let user = UserInfo::new(name, subject.iter_organization().map(text));
    for path in ["/api/v1/secrets", "/api/v1/nodes", "/metrics"] {
        let reply = rig
            .send_as(Some(user.clone()), "GET", path, &[], Body::empty())
            .await;
        reply.refused(403, "davit:apiserver");
    }
}
