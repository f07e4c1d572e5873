//! What discovery says there is: each path with each verb is used, by the walk of `lifecycle.rs` or by a row of
//! `surface.txt`; and none of it answers strangers.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, request};
use crate::lifecycle;

/// A resource or subresource of discovery.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) group_version: String,
    /// `pods`, or `pods/status`.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

impl Served {
    /// Its path in a namespace, with a name where one belongs.
    pub(crate) fn path(&self, namespace: Option<&str>, name: &str) -> String {
        let root = if self.group_version.contains('/') {
            "/apis"
        } else {
            "/api"
        };
        let place = namespace.filter(|_| self.namespaced);
        let place = place.map_or_else(String::new, |namespace| format!("namespaces/{namespace}/"));
        let (plural, sub) = self.name.split_once('/').unwrap_or((&self.name, ""));
        let mut path = format!("{root}/{}/{place}{plural}", self.group_version);
        for part in [name, sub].iter().filter(|part| !part.is_empty()) {
            path = format!("{path}/{part}");
        }
        path
    }

    /// Method and path of one of its verbs; the path of verbs on collections has no name.
    pub(crate) fn call(&self, verb: &str, namespace: &str) -> (&'static str, String) {
        let method = match verb {
            "create" => "POST",
            "update" => "PUT",
            "patch" => "PATCH",
            "delete" | "deletecollection" => "DELETE",
            _ => "GET",
        };
        let whole = matches!(verb, "list" | "watch" | "deletecollection")
            || verb == "create" && !self.name.contains('/');
        let name = if whole { "" } else { "sample" };
        let query = if verb == "watch" {
            "?watch=true&timeoutSeconds=1"
        } else {
            ""
        };
        (
            method,
            format!("{}{query}", self.path(Some(namespace), name)),
        )
    }

    /// How lists of use name a verb: `apps/v1 deployments/scale patch`.
    pub(crate) fn entry(&self, verb: &str) -> String {
        format!("{} {} {verb}", self.group_version, self.name)
    }
}

/// Everything that discovery lists.
pub(crate) async fn served(cluster: &Cluster) -> Vec<Served> {
    let mut versions = vec!["/api/v1".to_owned()];
    let groups = cluster.get("/apis").await.ok();
    for group in groups["groups"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            versions.push(format!(
                "/apis/{}",
                version["groupVersion"].as_str().unwrap()
            ));
        }
    }
    let mut all = Vec::new();
    for version in versions {
        let list = cluster.get(&version).await.ok();
        for resource in list["resources"].as_array().unwrap() {
            let text = |field: &str| resource[field].as_str().unwrap().to_owned();
            all.push(Served {
                group_version: list["groupVersion"].as_str().unwrap().to_owned(),
                name: text("name"),
                kind: text("kind"),
                namespaced: resource["namespaced"].as_bool().unwrap(),
                verbs: serde_json::from_value(resource["verbs"].clone()).unwrap(),
            });
        }
    }
    all
}

/// Rows of `surface.txt`: what is used here, with its answer, and what is not, with the reason.
struct Rows {
    /// Entry, code, body.
    used: Vec<(String, u16, Value)>,
    excused: BTreeSet<String>,
}

fn rows(namespace: &str) -> Rows {
    let mut rows = Rows {
        used: Vec::new(),
        excused: BTreeSet::new(),
    };
    let lines = include_str!("surface.txt").lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fields: Vec<&str> = line.splitn(3, " | ").map(str::trim).collect();
        match fields.as_slice() {
            [entry, "not used", _reason] => {
                rows.excused.insert((*entry).to_owned());
            }
            [entry, code, body] => {
                let body = body.replace("NAMESPACE", namespace);
                let body = serde_saphyr::from_str(&body).unwrap();
                rows.used
                    .push(((*entry).to_owned(), code.parse().unwrap(), body));
            }
            _ => panic!("{line}"),
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_and_verb_is_used() {
    let cluster = Cluster::start().await;
    let namespace = "surface";
    cluster.namespace(namespace).await;
    let all = served(&cluster).await;
    let mut used = lifecycle::walk(&cluster, &all, namespace).await;
    let pod = json!({"metadata": {"name": "sample"}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}});
    let account = json!({"metadata": {"name": "sample"}});
    for (kind, object) in [("pods", pod), ("serviceaccounts", account)] {
        let path = format!("/api/v1/namespaces/{namespace}/{kind}");
        cluster.post(&path, &object).await.ok();
    }
    let rows = rows(namespace);
    let mut faults = Vec::new();
    for (entry, code, body) in &rows.used {
        let found = all
            .iter()
            .flat_map(|served| served.verbs.iter().map(move |verb| (served, verb)))
            .find(|(served, verb)| served.entry(verb) == *entry);
        let Some((served, verb)) = found else {
            faults.push(format!("{entry}: not in discovery"));
            continue;
        };
        let (method, path) = served.call(verb, namespace);
        let reply = cluster.send(method, &path, body).await;
        if reply.code != *code {
            faults.push(format!("{entry}: {} {}", reply.code, reply.body));
        }
        used.insert(entry.clone());
    }
    for served in &all {
        for verb in &served.verbs {
            let entry = served.entry(verb);
            let custom = served.group_version.starts_with("davit.dev/");
            if !used.contains(&entry) && !rows.excused.contains(&entry) && !custom {
                faults.push(format!("{entry}: used by no test"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// No path answers those who show nothing or a token nobody gave out, nor one who may do nothing.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_nothing() {
    let cluster = Cluster::start().await;
    let nobody = cluster.stranger(None).await;
    let liar = cluster.stranger(Some("no-such-token")).await;
    let mut calls: Vec<(&'static str, String)> = [
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/apis",
        "/api",
        "/",
        "/logs",
        "/openid/v1/jwks",
    ]
    .map(|path| ("GET", path.to_owned()))
    .to_vec();
    for served in served(&cluster).await {
        calls.extend(served.verbs.iter().map(|verb| served.call(verb, "default")));
        calls.push(("GET", served.path(Some("default"), "sample")));
    }
    // Everyone who is known may look around and ask about himself.
    let open = ["selfsubject", "/api", "/apis", "/openapi/"];
    let mut faults = Vec::new();
    for (method, path) in &calls {
        for (who, client, headers, code) in [
            ("nobody", &nobody, vec![], 401),
            ("liar", &liar, vec![], 401),
            (
                "unprivileged",
                &cluster.client,
                vec![("impersonate-user", "nobody")],
                403,
            ),
        ] {
            let allowed = code == 403
                && (path.contains(open[0])
                    || open[1..3].contains(&path.as_str())
                    || path.starts_with(open[3])
                    || path == "/openid/v1/jwks");
            if allowed {
                continue;
            }
            let sent = request(client, method, path, &headers, &Value::Null);
            let reply = tokio::time::timeout(Duration::from_secs(10), sent)
                .await
                .unwrap();
            if reply.code != code || reply.body["status"] != "Failure" {
                faults.push(format!(
                    "{who} {method} {path}: {} {}",
                    reply.code, reply.body
                ));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults\n{}",
        faults.len(),
        faults[..faults.len().min(40)].join("\n")
    );
}
