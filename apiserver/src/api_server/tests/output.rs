//! Tables, partial metadata, compression, discovery, health.

use serde_json::json;

use super::*;

const TABLE: (&str, &str) = (
    "accept",
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
);

#[tokio::test]
async fn people_get_tables() {
    let rig = Rig::new().await;
    rig.make(PODS, pod("p")).await;
    let table = rig.send("GET", PODS, &[TABLE], Body::empty()).await.ok();
    assert_eq!(table["kind"], "Table");
    let columns: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].clone())
        .collect();
    assert_eq!(columns[..5], ["Name", "Ready", "Status", "Restarts", "Age"]);
    let cells = &table["rows"][0]["cells"];
    assert_eq!(
        (&cells[0], &cells[1], &cells[2]),
        (&json!("p"), &json!("0/1"), &json!("Pending"))
    );
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let one = rig
        .send("GET", &format!("{PODS}/p"), &[TABLE], Body::empty())
        .await
        .ok();
    assert_eq!(one["rows"].as_array().unwrap().len(), 1);
    let partial = (
        "accept",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    );
    let list = rig.send("GET", PODS, &[partial], Body::empty()).await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert!(list["items"][0]["spec"].is_null());
    let protobuf = (
        "accept",
        "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
    );
    rig.send("GET", PODS, &[protobuf], Body::empty())
        .await
        .refused(406, "application/json");
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_can() {
    use std::io::Read as _;
    let rig = Rig::new().await;
    for index in 0..20 {
        rig.make(
            CONFIG_MAPS,
            config_map(&format!("c{index}"), &"x".repeat(10_000)),
        )
        .await;
    }
    let plain = rig.get(CONFIG_MAPS).await;
    assert_eq!(
        plain.headers["content-length"].to_str().unwrap(),
        plain.body.to_string().len().to_string()
    );
    let request = Request::get(CONFIG_MAPS)
        .header("accept-encoding", "gzip")
        .extension(InProcessUser(Arc::new(UserInfo::new(
            "t",
            [groups::MASTERS],
        ))))
        .body(Body::empty())
        .unwrap();
    let response = handler::serve(rig.server.clone(), request).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), plain.body);
    assert!(bytes.len() < 20_000);
}

#[tokio::test]
async fn discovery_comes_in_both_forms() {
    let rig = Rig::new().await;
    assert_eq!(rig.get("/api").await.ok()["versions"], json!(["v1"]));
    let groups = rig.get("/apis").await.ok();
    assert!(
        groups["groups"]
            .as_array()
            .unwrap()
            .iter()
            .any(|g| g["name"] == "apps")
    );
    assert_eq!(
        rig.get("/apis/apps").await.ok()["preferredVersion"]["version"],
        "v1"
    );
    let list = rig.get("/api/v1").await.ok();
    let pods = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["name"] == "pods")
        .unwrap();
    assert_eq!(pods["shortNames"], json!(["po"]));
    rig.get("/apis/nothing")
        .await
        .refused(404, "could not find");
    rig.get("/api/v2/pods").await.refused(404, "could not find");
    let media = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let aggregated = ("accept", media);
    let reply = rig.send("GET", "/apis", &[aggregated], Body::empty()).await;
    assert_eq!(reply.headers["content-type"], media);
    assert_eq!(reply.headers["vary"], "Accept");
    let etag = reply.headers["etag"].to_str().unwrap().to_owned();
    let again = rig
        .send(
            "GET",
            "/apis",
            &[aggregated, ("if-none-match", &etag)],
            Body::empty(),
        )
        .await;
    assert_eq!(again.code, 304);
    let beta = media.replace("v=v2", "v=v2beta1");
    let old = rig
        .send("GET", "/api", &[("accept", &beta)], Body::empty())
        .await;
    assert_eq!(old.headers["content-type"], beta.as_str());
    assert_eq!(old.ok()["apiVersion"], "apidiscovery.k8s.io/v2beta1");
    for path in ["/api", "/apis", "/apis/apps", "/apis/apps/v1", "/api/v1"] {
        let protobuf = ("accept", crate::protobuf::MEDIA);
        let reply = rig.send("GET", path, &[protobuf], Body::empty()).await;
        assert_eq!(reply.headers["content-type"], protobuf.1, "{path}");
        let png = rig.send("GET", path, &[("accept", "image/png")], Body::empty());
        assert_eq!(png.await.code, 406, "{path}");
    }
}

#[tokio::test]
async fn the_server_tells_how_it_is() {
    let rig = Rig::new().await;
    let ready = async {
        while rig.get("/readyz").await.code != 200 {
            tokio::task::yield_now().await;
        }
    };
    let patience = std::time::Duration::from_secs(20);
    tokio::time::timeout(patience, ready).await.unwrap();
    assert_eq!(rig.get("/healthz").await.ok(), "ok");
    let verbose = rig.get("/readyz?verbose=1").await.ok();
    let lines: Vec<&str> = verbose.as_str().unwrap().lines().collect();
    for wanted in [
        "[+]ping ok",
        "[+]etcd ok",
        "[+]informer-sync ok",
        "[+]poststarthook/crd-informer-synced ok",
        "[+]autoregister-completion ok",
        "readyz check passed",
    ] {
        assert!(lines.contains(&wanted), "{wanted} in {lines:?}");
    }
    let one = "poststarthook/scheduling/bootstrap-system-priority-classes";
    for path in ["readyz/etcd", "livez/ping", &format!("healthz/{one}")] {
        assert_eq!(rig.get(&format!("/{path}")).await.ok(), "ok", "{path}");
    }
    for path in ["/readyz/none", "/livez/informer-sync", "/readyz/ping/x"] {
        assert_eq!(rig.get(path).await.code, 404, "{path}");
    }
    let paths = rig.get("/").await.ok();
    let paths = paths["paths"].as_array().unwrap();
    assert!(paths.iter().any(|path| path == "/healthz/ping"));
    assert_eq!(rig.get("/version").await.ok()["minor"], "37");
    rig.get(PODS).await.ok();
    let metrics = rig.get("/metrics").await.ok();
    let wanted =
        "apiserver_request_total{code=\"200\",verb=\"LIST\",resource=\"pods\",subresource=\"\"}";
    assert!(metrics.as_str().unwrap().contains(wanted));
    rig.send("POST", "/version", &[], "")
        .await
        .refused(405, "does not allow this method");
}

#[tokio::test]
async fn a_server_that_stops_is_alive_and_not_ready() {
    let rig = Rig::new().await;
    rig.server.shutdown.cancel();
    let reply = rig.get("/readyz?exclude=etcd").await;
    assert_eq!(reply.code, 500);
    let report = reply.body.as_str().unwrap();
    assert!(report.contains("[-]shutdown failed: reason withheld"));
    assert!(report.contains("[+]etcd excluded: ok"));
    let why = rig.get("/readyz/shutdown").await;
    assert_eq!(why.code, 500);
    let why = why.body.as_str().unwrap();
    assert_eq!(why, "internal server error: process is shutting down\n");
}

#[tokio::test]
async fn components_tell_how_they_are_at_this_moment() {
    let rig = Rig::new().await;
    let path = "/api/v1/componentstatuses";
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = broken.clone();
    rig.server.tell_of("scheduler", move || {
        let broken = seen.load(std::sync::atomic::Ordering::Relaxed);
        if broken {
            Err("it has ended".to_owned())
        } else {
            Ok(())
        }
    });
    let reply = rig.get(path).await;
    assert_eq!(
        reply.headers["warning"],
        "299 - \"v1 ComponentStatus is deprecated in v1.19+\""
    );
    let list = reply.ok();
    let names: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["controller-manager", "etcd-0", "scheduler"]);
    let told = |item: &Value| item["conditions"][0]["status"].clone();
    assert_eq!(told(&list["items"][0]), "False");
    assert_eq!(told(&list["items"][1]), "True");
    let one = format!("{path}/scheduler");
    assert_eq!(told(&rig.get(&one).await.ok()), "True");
    broken.store(true, std::sync::atomic::Ordering::Relaxed);
    let ill = rig.get(&one).await.ok();
    assert_eq!(ill["conditions"][0]["error"], "it has ended");
    let accept = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let chosen = format!("{path}?fieldSelector=metadata.name%3Dscheduler");
    let table = rig.send("GET", &chosen, &[accept], Body::empty()).await;
    let rows = &table.ok()["rows"];
    assert_eq!(
        rows[0]["cells"],
        serde_json::json!(["scheduler", "Unhealthy", "it has ended", "it has ended"])
    );
    assert_eq!(rows.as_array().unwrap().len(), 1);
    rig.get(&format!("{path}/none"))
        .await
        .refused(404, "not found");
    rig.delete(&one).await.refused(405, "");
    rig.get(&format!("{path}?watch=1")).await.refused(405, "");
}
