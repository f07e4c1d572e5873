//! The life of an object of every kind, as Kubernetes' conformance tests lead it: made, read in all shapes,
//! watched, patched, replaced, its status written, deleted alone and as a collection.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

use futures::{FutureExt as _, StreamExt as _, stream};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::samples::{self, Sample};
use crate::surface::Served;

const TABLE: (&str, &str) = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
const PARTIAL: (&str, &str) = (
    "accept",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
);

/// Leads every sample through its life, several at once. What was used, as [`Served::entry`] names it.
pub(crate) async fn walk(cluster: &Cluster, all: &[Served], namespace: &str) -> BTreeSet<String> {
    let samples = samples::all(namespace);
    let lives = samples.iter().map(|sample| async move {
        let mut used = BTreeSet::new();
        let life = live(cluster, all, namespace, sample, &mut used);
        // One kind's fault does not hide another's.
        match AssertUnwindSafe(life).catch_unwind().await {
            Ok(()) => Ok(used),
            Err(_) => Err(sample.label()),
        }
    });
    let (mut used, mut failed) = (BTreeSet::new(), Vec::new());
    for outcome in stream::iter(lives)
        .buffer_unordered(8)
        .collect::<Vec<_>>()
        .await
    {
        match outcome {
            Ok(entries) => used.extend(entries),
            Err(kind) => failed.push(kind),
        }
    }
    assert!(failed.is_empty(), "these live otherwise: {failed:?}");
    used
}

async fn live(
    cluster: &Cluster,
    all: &[Served],
    namespace: &str,
    sample: &Sample,
    used: &mut BTreeSet<String>,
) {
    let find = |sub: &str| {
        all.iter().find(|served| {
            served.group_version == sample.text("apiVersion")
                && match served.name.split_once('/') {
                    None => sub.is_empty() && served.kind == sample.text("kind"),
                    Some((plural, name)) => name == sub && find_plural(all, sample) == Some(plural),
                }
        })
    };
    let served = find("").unwrap_or_else(|| panic!("not served: {}", sample.object));
    let mut life = Life {
        cluster,
        namespace,
        served,
        sample,
        used,
    };
    life.lead().await;
    if let Some(status) = find("status") {
        life.status(status).await;
    }
    if let Some(scale) = find("scale") {
        life.scale(scale).await;
    }
    for same in ["approval", "finalize"].into_iter().filter_map(find) {
        life.plain(same).await;
    }
    life.end().await;
}

fn find_plural<'s>(all: &'s [Served], sample: &Sample) -> Option<&'s str> {
    let same = |served: &&Served| {
        served.kind == sample.text("kind")
            && served.group_version == sample.text("apiVersion")
            && !served.name.contains('/')
    };
    all.iter().find(same).map(|served| &*served.name)
}

struct Life<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    served: &'a Served,
    sample: &'a Sample,
    used: &'a mut BTreeSet<String>,
}

impl Life<'_> {
    fn mark(&mut self, served: &Served, verbs: &[&str]) {
        self.used
            .extend(verbs.iter().map(|verb| served.entry(verb)));
    }

    fn collection(&self) -> String {
        self.served.path(Some(self.namespace), "")
    }

    fn object(&self) -> String {
        self.served.path(Some(self.namespace), self.sample.name())
    }

    /// Replaces the object with itself and an annotation more; once again when a controller was first.
    async fn annotate(&self, path: &str, key: &str) -> Value {
        for _ in 0..5 {
            let mut object = self.cluster.get(path).await.ok();
            object["metadata"]["annotations"][key] = "true".into();
            let reply = self.cluster.put(path, &object).await;
            if reply.code != 409 {
                return reply.ok();
            }
        }
        panic!("{path} never stays as it is read");
    }

    async fn make(&self) -> Value {
        let mut object = self.sample.object.clone();
        object["metadata"]["labels"]["e2e"] = self.sample.label().into();
        let path = format!("{}?fieldValidation=Strict", self.collection());
        self.cluster.post(&path, &object).await.ok()
    }

    async fn lead(&mut self) {
        let (cluster, path, kind) = (self.cluster, self.object(), self.sample.text("kind"));
        let selected = format!(
            "{}?labelSelector=e2e%3D{}",
            self.collection(),
            self.sample.label()
        );
        let before = cluster.get(&selected).await.ok();
        assert_eq!(before["items"], json!([]), "{kind}");
        assert_eq!(before["kind"], format!("{kind}List"));
        let made = self.make().await;
        assert_eq!(
            (made["kind"].as_str(), made["apiVersion"].as_str()),
            (Some(kind), Some(self.sample.text("apiVersion")))
        );
        let read = cluster.get(&path).await.ok();
        assert_eq!(read["metadata"]["uid"], made["metadata"]["uid"]);
        let again = cluster.post(&self.collection(), &self.sample.object).await;
        again.refused(409, &format!("\"{}\" already exists", self.sample.name()));

        self.read_in_all_shapes(&selected).await;
        let mut change = self.sample.change.clone();
        change["metadata"]["labels"]["patched"] = "yes".into();
        let patched = cluster.patch(&path, &change).await.ok();
        assert_eq!(patched["metadata"]["labels"]["patched"], "yes", "{kind}");
        for (key, wanted) in self.sample.change.as_object().into_iter().flatten() {
            assert!(
                contains(&patched, &json!({ key: wanted })),
                "{kind}: {patched}"
            );
        }
        let put = self.annotate(&path, "updated").await;
        assert_eq!(put["metadata"]["annotations"]["updated"], "true", "{kind}");
        assert_eq!(
            put["metadata"]["generation"], patched["metadata"]["generation"],
            "{kind}"
        );
        let stale = cluster.put(&path, &made).await;
        stale.refused(409, "the object has been modified; please apply your changes to the latest version and try again");
        self.watched(&before).await;
        let verbs = ["create", "get", "list", "watch", "patch", "update"];
        self.mark(self.served, &verbs);
    }

    /// In its namespace and in all, as objects, table and metadata.
    async fn read_in_all_shapes(&self, selected: &str) {
        let kind = self.sample.text("kind");
        let everywhere = format!(
            "{}?labelSelector=e2e%3D{}",
            self.served.path(None, ""),
            self.sample.label()
        );
        for list in [selected, &everywhere] {
            let list = self.cluster.get(list).await.ok();
            assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
        }
        let shaped = |header| {
            self.cluster
                .send_with("GET", selected, header, &Value::Null)
        };
        let table = shaped(&[TABLE]).await;
        assert_eq!(table.headers["content-type"], "application/json");
        let table = table.ok();
        assert_eq!(table["kind"], "Table");
        let first = if kind == "Event" { "Last Seen" } else { "Name" };
        assert_eq!(table["columnDefinitions"][0]["name"], first, "{table}");
        let cells = table["rows"][0]["cells"].as_array().unwrap().len();
        assert_eq!(table["columnDefinitions"].as_array().unwrap().len(), cells);
        let partial = shaped(&[PARTIAL]).await.ok();
        assert_eq!(partial["kind"], "PartialObjectMetadataList");
        assert_eq!(partial["items"][0]["metadata"]["name"], self.sample.name());
    }

    /// A watch from before tells of the making and the changes.
    async fn watched(&self, before: &Value) {
        let version = before["metadata"]["resourceVersion"].as_str().unwrap();
        let path = format!(
            "{}?watch=true&timeoutSeconds=1&resourceVersion={version}&fieldSelector=metadata.name%3D{}",
            self.collection(),
            self.sample.name()
        );
        let kinds = self.events(&path).await;
        assert_eq!(kinds[..2], ["ADDED", "MODIFIED"], "{}", self.sample.object);
    }

    async fn events(&self, path: &str) -> Vec<String> {
        let text = self.cluster.get(path).await;
        let one = [text.body.clone()];
        let many: Vec<Value> = match &text.body {
            Value::String(text) => text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
            _ => one.to_vec(),
        };
        many.iter()
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn status(&mut self, status: &Served) {
        let (cluster, kind) = (self.cluster, self.sample.text("kind"));
        let path = status.path(Some(self.namespace), self.sample.name());
        let have = cluster.get(&path).await.ok();
        let wanted = &self.sample.status;
        let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": wanted, "spec": {"ignored": 1}});
        let patched = cluster.patch(&path, &patch).await.ok();
        assert!(contains(&patched["status"], wanted), "{kind}: {patched}");
        assert_eq!(
            patched["metadata"]["annotations"]["patchedstatus"], "true",
            "{kind}"
        );
        assert_eq!(patched["spec"], have["spec"], "{kind}");
        let put = self.annotate(&path, "putstatus").await;
        assert_eq!(
            put["metadata"]["annotations"]["putstatus"], "true",
            "{kind}"
        );
        // The main path leaves it alone.
        let cleared = cluster
            .patch(&self.object(), &json!({"status": null}))
            .await
            .ok();
        // The server itself writes the conditions of FlowSchemas.
        let kept = contains(&cleared["status"], wanted) || kind == "FlowSchema";
        assert!(kept, "{kind}: {cleared}");
        self.mark(status, &["get", "patch", "update"]);
    }

    async fn scale(&mut self, scale: &Served) {
        let path = scale.path(Some(self.namespace), self.sample.name());
        let mut have = self.cluster.get(&path).await.ok();
        assert_eq!(
            (&have["kind"], &have["apiVersion"]),
            (&json!("Scale"), &json!("autoscaling/v1"))
        );
        have["spec"]["replicas"] = 7.into();
        let put = self.cluster.put(&path, &have).await.ok();
        assert_eq!(put["spec"]["replicas"], 7);
        let patched = self
            .cluster
            .patch(&path, &json!({"spec": {"replicas": 8}}))
            .await
            .ok();
        assert_eq!(patched["spec"]["replicas"], 8);
        let object = self.cluster.get(&self.object()).await.ok();
        assert_eq!(object["spec"]["replicas"], 8);
        self.mark(scale, &["get", "patch", "update"]);
    }

    /// Subresources that take and give the object itself.
    async fn plain(&mut self, sub: &Served) {
        let path = sub.path(Some(self.namespace), self.sample.name());
        let verbs: Vec<&str> = sub.verbs.iter().map(String::as_str).collect();
        let object = self.cluster.get(&self.object()).await.ok();
        for verb in &verbs {
            match *verb {
                "get" => {
                    self.cluster.get(&path).await.ok();
                }
                "patch" => {
                    let patch = json!({"metadata": {"annotations": {"through": sub.name}}});
                    self.cluster.patch(&path, &patch).await.ok();
                }
                _ => {
                    let mut put = object.clone();
                    put["metadata"]["resourceVersion"] = Value::Null;
                    self.cluster.put(&path, &put).await.ok();
                }
            }
        }
        self.mark(sub, &verbs);
    }

    async fn end(&mut self) {
        let (cluster, path) = (self.cluster, self.object());
        let before = cluster.get(&path).await.ok();
        let version = before["metadata"]["resourceVersion"].as_str().unwrap();
        cluster.delete(&path).await.ok();
        self.release().await;
        let gone = cluster.get(&path).await;
        gone.refused(404, &format!("\"{}\" not found", self.sample.name()));
        let watch = format!(
            "{}?watch=true&timeoutSeconds=1&resourceVersion={version}&fieldSelector=metadata.name%3D{}",
            self.collection(),
            self.sample.name()
        );
        assert_eq!(
            self.events(&watch).await.last().unwrap(),
            "DELETED",
            "{}",
            self.sample.object
        );
        self.mark(self.served, &["delete"]);
        if !self
            .served
            .verbs
            .iter()
            .any(|verb| verb == "deletecollection")
        {
            return;
        }
        self.make().await;
        let selected = format!(
            "{}?labelSelector=e2e%3D{}",
            self.collection(),
            self.sample.label()
        );
        cluster.delete(&selected).await.ok();
        self.release().await;
        assert_eq!(
            cluster.get(&selected).await.ok()["items"],
            json!([]),
            "{}",
            self.sample.object
        );
        self.mark(self.served, &["deletecollection"]);
    }

    /// What controllers do before a deleted object may go.
    async fn release(&self) {
        let left = self.cluster.get(&self.object()).await;
        if left.code != 200 {
            return;
        }
        assert!(
            left.body["metadata"]["deletionTimestamp"].is_string(),
            "{}",
            left.body
        );
        if self.served.name == "namespaces" {
            let mut finalized = left.body;
            finalized["spec"]["finalizers"] = json!([]);
            let path = format!("{}/finalize", self.object());
            self.cluster.put(&path, &finalized).await.ok();
        } else {
            let patch = json!({"metadata": {"finalizers": null}});
            let reply = self.cluster.patch(&self.object(), &patch).await;
            assert!(matches!(reply.code, 200 | 404), "{}", reply.body);
        }
        // A definition goes when its own controller has seen to its objects.
        for _ in 0..100 {
            if self.cluster.get(&self.object()).await.code == 404 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// Whether a value has all that another says.
fn contains(have: &Value, wanted: &Value) -> bool {
    match (have, wanted) {
        (Value::Object(have), Value::Object(wanted)) => wanted
            .iter()
            // An empty list is left out, as by Kubernetes' types.
            .all(|(key, wanted)| match have.get(key) {
                Some(have) => contains(have, wanted),
                None => wanted == &json!([]),
            }),
        (Value::Array(have), Value::Array(wanted)) => wanted
            .iter()
            .all(|wanted| have.iter().any(|have| contains(have, wanted))),
        // A status without contents is still there.
        (have, Value::Null) => have.is_null() || have == &json!({}),
        _ => have == wanted,
    }
}
