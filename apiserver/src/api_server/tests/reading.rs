//! Lists, pages, selectors, revisions and watches.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;

use super::*;

async fn names(rig: &Rig, query: &str) -> Vec<String> {
    let list = rig.get(&format!("{CONFIG_MAPS}?{query}")).await.ok();
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn five(rig: &Rig) {
    for name in ["a", "b", "c", "d", "e"] {
        let mut object = config_map(name, "1");
        object["metadata"]["labels"] =
            json!({"odd": if "ace".contains(name) { "yes" } else { "no" }});
        rig.make(CONFIG_MAPS, object).await;
    }
}

#[tokio::test]
async fn selectors_narrow_lists() {
    let rig = Rig::new().await;
    five(&rig).await;
    assert_eq!(
        names(&rig, "labelSelector=odd%3Dyes").await,
        ["a", "c", "e"]
    );
    assert_eq!(
        names(&rig, "labelSelector=odd!%3Dyes,odd").await,
        ["b", "d"]
    );
    assert_eq!(names(&rig, "fieldSelector=metadata.name%3Db").await, ["b"]);
    assert!(
        names(&rig, "fieldSelector=metadata.namespace%3Dother")
            .await
            .is_empty()
    );
    rig.get(&format!("{CONFIG_MAPS}?fieldSelector=data.key%3D1"))
        .await
        .refused(400, "field label not supported: data.key");
    rig.get(&format!("{CONFIG_MAPS}?labelSelector=a%3D%3D%3D"))
        .await
        .refused(400, "");
}

#[tokio::test]
async fn pages_are_one_snapshot() {
    let rig = Rig::new().await;
    five(&rig).await;
    let first = rig.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    rig.delete(&format!("{CONFIG_MAPS}/c")).await.ok();
    rig.make(CONFIG_MAPS, config_map("bb", "1")).await;
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    let second = rig
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"))
        .await
        .ok();
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let shown: Vec<_> = second["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["metadata"]["name"].clone())
        .collect();
    assert_eq!(shown, ["c", "d"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    assert_eq!(
        names(&rig, &format!("limit=2&continue={token}")).await,
        ["e"]
    );
    let selected = rig
        .get(&format!("{CONFIG_MAPS}?limit=1&labelSelector=odd%3Dyes"))
        .await
        .ok();
    assert!(selected["metadata"]["remainingItemCount"].is_null());
    assert!(selected["metadata"]["continue"].is_string());
    rig.get(&format!("{CONFIG_MAPS}?continue=nonsense"))
        .await
        .refused(400, "continue key is not valid");
}

#[tokio::test]
async fn a_token_that_is_too_old_says_how_to_go_on() {
    let rig = Rig::new().await;
    five(&rig).await;
    let first = rig.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    rig.make(CONFIG_MAPS, config_map("f", "1")).await;
    rig.server
        .store
        .compact(rig.server.store.revision())
        .await
        .unwrap();
    let gone = rig
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"))
        .await;
    let status = gone.refused(410, "The provided continue parameter is too old");
    assert_eq!(status["reason"], "Expired");
    let fresh = status["metadata"]["continue"].as_str().unwrap();
    assert_eq!(
        names(&rig, &format!("continue={fresh}")).await,
        ["c", "d", "e", "f"]
    );
}

#[tokio::test]
async fn revisions_bound_reads() {
    let rig = Rig::new().await;
    let made = rig.make(CONFIG_MAPS, config_map("a", "1")).await;
    let before = made["metadata"]["resourceVersion"].as_str().unwrap();
    rig.make(CONFIG_MAPS, config_map("b", "1")).await;
    let exact = format!("resourceVersion={before}&resourceVersionMatch=Exact");
    assert_eq!(names(&rig, &exact).await, ["a"]);
    assert_eq!(
        names(&rig, &format!("resourceVersion={before}")).await,
        ["a", "b"]
    );
    assert_eq!(names(&rig, "resourceVersion=0").await, ["a", "b"]);
    rig.get(&format!("{CONFIG_MAPS}?resourceVersion=x"))
        .await
        .refused(400, "not a number");
    rig.get(&format!("{CONFIG_MAPS}?resourceVersion=-1"))
        .await
        .refused(400, "not a number");
    rig.get(&format!("{CONFIG_MAPS}?resourceVersionMatch=Exact"))
        .await
        .refused(422, "forbidden");
    rig.get(&format!("{CONFIG_MAPS}?watch=1&resourceVersionMatch=Some"))
        .await
        .refused(422, "forbidden for watch unless sendInitialEvents");
}

#[tokio::test]
async fn a_revision_of_the_future_is_waited_for_and_refused() {
    let rig = Rig::new().await;
    let reply = rig
        .get(&format!("{CONFIG_MAPS}?resourceVersion=999999"))
        .await;
    let status = reply.refused(504, "Too large resource version: 999999");
    assert_eq!(
        status["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
}

fn api(rig: &Rig) -> Api<ConfigMap> {
    Api::default_namespaced(
        rig.server
            .client(UserInfo::new("tester", [groups::MASTERS])),
    )
}

#[tokio::test]
async fn clients_inside_the_process_read_lists_and_watches_without_managed_fields() {
    let rig = Rig::new().await;
    let api = api(&rig);
    let before = rig.server.store.revision().to_string();
    rig.make(CONFIG_MAPS, config_map("a", "1")).await;
    let whole = api.get("a").await.unwrap();
    assert!(whole.metadata.managed_fields.is_some());
    let mut lean = whole.clone();
    lean.metadata.managed_fields = None;
    let list = api.list(&ListParams::default()).await.unwrap();
    assert!(list.items.contains(&lean));
    let watch = api.watch(&WatchParams::default(), &before).await.unwrap();
    tokio::pin!(watch);
    match watch.next().await.unwrap().unwrap() {
        WatchEvent::Added(object) => assert_eq!(object, lean),
        other => panic!("{other:?}"),
    }
    // Writing such an object back leaves the owners of its fields as they are.
    lean.metadata.labels = Some([("l".to_owned(), "1".to_owned())].into());
    let written = api
        .replace("a", &PostParams::default(), &lean)
        .await
        .unwrap();
    let names = |object: &ConfigMap| {
        let entries = object.metadata.managed_fields.clone().unwrap_or_default();
        entries
            .into_iter()
            .filter_map(|entry| entry.manager)
            .collect::<Vec<_>>()
    };
    assert!(names(&written).contains(&names(&whole)[0]), "{written:?}");
}

#[tokio::test]
async fn a_watch_tells_every_change_in_order() {
    let rig = Rig::new().await;
    rig.make(CONFIG_MAPS, config_map("old", "1")).await;
    let revision = rig.server.store.revision().to_string();
    let watch = api(&rig)
        .watch(&WatchParams::default(), &revision)
        .await
        .unwrap();
    tokio::pin!(watch);
    rig.make(CONFIG_MAPS, config_map("a", "1")).await;
    rig.patch(
        &format!("{CONFIG_MAPS}/a"),
        "merge-patch+json",
        json!({"data": {"key": "2"}}),
    )
    .await
    .ok();
    rig.delete(&format!("{CONFIG_MAPS}/a")).await.ok();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(match watch.next().await.unwrap().unwrap() {
            WatchEvent::Added(object) => ("added", object),
            WatchEvent::Modified(object) => ("modified", object),
            WatchEvent::Deleted(object) => ("deleted", object),
            other => panic!("{other:?}"),
        });
    }
    let kinds: Vec<&str> = seen.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["added", "modified", "deleted"]);
    let revisions: Vec<u64> = seen
        .iter()
        .map(|(_, object)| {
            object
                .metadata
                .resource_version
                .as_ref()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    // The server writes objects of its own in between.
    assert!(revisions[2] <= rig.server.store.revision());
}

#[tokio::test]
async fn a_streaming_list_ends_with_its_bookmark() {
    let rig = Rig::new().await;
    five(&rig).await;
    let stream = watcher(api(&rig), watcher::Config::default().streaming_lists()).default_backoff();
    tokio::pin!(stream);
    let mut initial = 0;
    loop {
        match stream.try_next().await.unwrap().unwrap() {
            watcher::Event::InitDone => break,
            watcher::Event::InitApply(_) => initial += 1,
            watcher::Event::Init => {}
            other => panic!("{other:?}"),
        }
    }
    // The root CA of every namespace may be among them.
    assert!(initial >= 5);
    rig.make(CONFIG_MAPS, config_map("z", "1")).await;
    assert!(matches!(
        stream.try_next().await.unwrap(),
        Some(watcher::Event::Apply(_))
    ));
}

#[tokio::test]
async fn a_watch_ends_in_time_with_a_bookmark() {
    let rig = Rig::new().await;
    let query = "watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion=";
    let revision = rig.server.store.revision();
    let reply = rig.get(&format!("{CONFIG_MAPS}?{query}{revision}")).await;
    let (kind, of) = (&reply.body["type"], &reply.body["object"]["kind"]);
    assert_eq!((kind, of), (&json!("BOOKMARK"), &json!("ConfigMap")));
}

#[tokio::test]
async fn a_watch_from_a_forgotten_revision_is_gone() {
    let rig = Rig::new().await;
    let first = rig.server.store.revision();
    for round in 0..5 {
        rig.make(CONFIG_MAPS, config_map(&format!("c{round}"), "1"))
            .await;
    }
    rig.server
        .store
        .compact(rig.server.store.revision())
        .await
        .unwrap();
    let fresh = crate::cache::Cache::load(rig.server.store.clone(), rig.server.registry.clone());
    drop(fresh.await.unwrap());
    let path = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1&resourceVersion=1");
    let event = rig.get(&path).await.ok();
    assert_eq!(event["type"], "ERROR");
    assert_eq!(event["object"]["code"], 410);
    let message = event["object"]["message"].as_str().unwrap();
    assert!(message.starts_with("too old resource version: 1 ("));
    assert!(first > 1);
}

#[tokio::test]
async fn an_object_and_a_list_are_read_as_they_were() {
    let rig = Rig::new().await;
    let old = rig.make(CONFIG_MAPS, config_map("a", "1")).await;
    let revision = old["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{CONFIG_MAPS}/a");
    let change = json!({"data": {"key": "2"}});
    rig.patch(&path, "merge-patch+json", change).await.ok();
    rig.delete(&path).await.ok();
    rig.get(&path).await.refused(404, "not found");
    let exact = format!("resourceVersion={revision}&resourceVersionMatch=Exact");
    assert_eq!(rig.get(&format!("{path}?{exact}")).await.ok(), old);
    let list = rig.get(&format!("{CONFIG_MAPS}?{exact}")).await.ok();
    assert_eq!(list["items"][0]["data"]["key"], "1");
    assert_eq!(list["metadata"]["resourceVersion"], revision);
    // The revision before it was made, and one that is forgotten.
    let before = revision.parse::<u64>().unwrap() - 1;
    let at =
        |revision: u64| format!("{path}?resourceVersion={revision}&resourceVersionMatch=Exact");
    rig.get(&at(before)).await.refused(404, "not found");
    rig.server.store.compact(before + 1).await.unwrap();
    let gone = rig
        .get(&at(before))
        .await
        .refused(410, "too old resource version");
    assert_eq!(gone["reason"], "Expired");
}

#[tokio::test]
async fn the_history_says_what_can_be_read() {
    let rig = Rig::new().await;
    let first = rig.make(CONFIG_MAPS, config_map("a", "1")).await;
    let revision = first["metadata"]["resourceVersion"].as_str().unwrap();
    let then = jiff::Timestamp::now().to_string();
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    rig.make(CONFIG_MAPS, config_map("b", "1")).await;
    let history = rig.get("/davit/history").await.ok();
    let newest = rig.server.store.revision();
    assert_eq!(
        history["newest"]["resourceVersion"],
        (newest).to_string().as_str()
    );
    assert_eq!(history["retention"]["seconds"], 3600);
    assert!(history["oldest"]["time"].is_string(), "{history}");
    let at = rig.get(&format!("/davit/history?at={then}")).await.ok();
    assert_eq!(at["at"]["resourceVersion"], revision);
    rig.server.store.compact(newest).await.unwrap();
    rig.get(&format!("/davit/history?at={then}"))
        .await
        .refused(410, "is forgotten; the oldest that is kept is revision");
    rig.get("/davit/history?at=soon")
        .await
        .refused(400, "neither a revision nor a time");
}
