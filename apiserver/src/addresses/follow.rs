//! Keeps ranges, addresses and ports true: protects ranges that are in use, lets go of those that are not, and repairs
//! what disagrees with the Services.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::ranges::{self, RANGES, Step};
use super::repair::{Fault, Owner, faults};
use super::{ADDRESSES, PORTS, address_object};
use crate::handler::now;
use crate::storage::{Compare, Op, Txn};
use crate::{ApiServer, bootstrap, object};

const SERVICES: &str = "/registry/core/services/";
const COLLECTION: &str = "/apis/networking.k8s.io/v1";

/// Runs until shutdown. Repairs at the start and whenever an IPAddress was written through the API; ranges are looked at
/// when they change and, while one waits to go, when addresses do.
pub(crate) async fn follow(server: Arc<ApiServer>) {
    let (ranges, addresses) = (server.cache.kind(RANGES), server.cache.kind(ADDRESSES));
    repair(&server).await;
    loop {
        let (ranged, addressed) = (ranges.changed(), addresses.changed());
        tokio::pin!(ranged, addressed);
        ranged.as_mut().enable();
        addressed.as_mut().enable();
        let waiting = settle(&server).await;
        tokio::select! {
            () = server.shutdown.cancelled() => return,
            () = &mut ranged => {}
            () = &mut addressed, if waiting => {}
            () = server.address_written.notified() => repair(&server).await,
        }
    }
}

/// One look at the ranges: whether one of them waits for its addresses to go.
async fn settle(server: &Arc<ApiServer>) -> bool {
    server.cache.catch_up();
    let objects = ranges::objects(server, "servicecidrs", RANGES);
    let steps = ranges::plan(&objects, || ranges::used(server));
    for (range, step) in steps {
        let path = format!("{COLLECTION}/servicecidrs/{}", text(range, "name"));
        let version = &range["metadata"]["resourceVersion"];
        let (path, change) = match step {
            Step::Keep(finalizers) => (path, json!({ "finalizers": finalizers })),
            Step::Refuse(condition) => {
                let status = json!({ "conditions": [condition] });
                let patch = json!({ "metadata": { "resourceVersion": version }, "status": status });
                write(server, &format!("{path}/status"), &patch).await;
                continue;
            }
        };
        let mut metadata = change;
        metadata["resourceVersion"] = version.clone();
        write(server, &path, &json!({ "metadata": metadata })).await;
    }
    if !objects
        .iter()
        .any(|range| text(range, "name") == "kubernetes")
    {
        // The server's own range is there whatever happens to its object.
        let object = bootstrap::service_range(server).object;
        let path = format!("{COLLECTION}/servicecidrs");
        let (code, answer) = server.request(Method::POST, &path, Some(&object)).await;
        if !code.is_success() {
            tracing::debug!(%answer, "the range of Services was not written");
        }
    }
    objects
        .iter()
        .any(|range| !range["metadata"]["deletionTimestamp"].is_null())
}

/// Somebody else's write in between makes this one fail, and the change wakes the loop.
async fn write(server: &Arc<ApiServer>, path: &str, patch: &Value) {
    let (code, answer) = server.request(Method::PATCH, path, Some(patch)).await;
    if !code.is_success() && code != StatusCode::CONFLICT && code != StatusCode::NOT_FOUND {
        tracing::warn!(path, message = %answer["message"], "a range of Services was not written");
    }
}

/// Mends every fault that a second look finds as well: the cache takes over a transaction one kind after the other, so that a
/// single look may see half of one.
async fn repair(server: &Arc<ApiServer>) {
    let first = look(server);
    if first.is_empty() {
        return;
    }
    let second = look(server);
    for fault in first.intersection(&second) {
        tracing::warn!(?fault, "addresses of Services are repaired");
        mend(server, fault).await;
    }
}

fn look(server: &ApiServer) -> BTreeSet<Fault> {
    server.cache.catch_up();
    let parsed = |prefix: &str| -> Vec<Value> {
        let objects = server.cache.kind(prefix).bytes_under(prefix).into_iter();
        objects
            .filter_map(|bytes| object::parse(&bytes).ok())
            .collect()
    };
    let ports = server.cache.kind(PORTS).keys();
    let ports = ports
        .iter()
        .filter_map(|key| key.strip_prefix(PORTS)?.parse().ok());
    faults(&parsed(SERVICES), &parsed(ADDRESSES), &ports.collect())
}

async fn mend(server: &Arc<ApiServer>, fault: &Fault) {
    match fault {
        Fault::NoAddress(address, owner) => {
            let service = json!({ "metadata": { "namespace": owner.0, "name": owner.1 } });
            let path = format!("{COLLECTION}/ipaddresses");
            let object = address_object(address, &service);
            let (code, answer) = server.request(Method::POST, &path, Some(&object)).await;
            if !code.is_success() && code != StatusCode::CONFLICT {
                tracing::warn!(%address, %answer, "an address of a Service was not repaired");
            }
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let note = format!("Cluster IP [{family}]: {address} is not allocated; repairing");
            tell(
                server,
                owner,
                ("ClusterIPNotAllocated", "ClusterIPAllocation"),
                &note,
            )
            .await;
        }
        Fault::NoPort(port, owner) => {
            let value = json!({ "namespace": owner.0, "service": owner.1 });
            let key: Arc<str> = format!("{PORTS}{port}").into();
            let put = Op::Put {
                key: key.clone(),
                value: object::encode(&value),
            };
            commit(server, key, 0, put).await;
            let note = format!("Port {port} is not allocated; repairing");
            tell(server, owner, ("PortNotAllocated", "PortAllocation"), &note).await;
        }
        Fault::StrayAddress(name, revision) => {
            let options = json!({ "preconditions": { "resourceVersion": revision } });
            let path = format!("{COLLECTION}/ipaddresses/{name}");
            server.request(Method::DELETE, &path, Some(&options)).await;
        }
        Fault::StrayPort(port) => {
            let key: Arc<str> = format!("{PORTS}{port}").into();
            if let Some(taken) = server.cache.kind(PORTS).get(&key) {
                let delete = Op::Delete { key: key.clone() };
                commit(server, key, taken.revision, delete).await;
            }
        }
    }
}

/// Writes a key that is at this revision.
async fn commit(server: &ApiServer, key: Arc<str>, mod_revision: u64, op: Op) {
    let txn = Txn {
        compares: vec![Compare { key, mod_revision }],
        deletion: false,
        ops: vec![op],
    };
    if let Err(error) = server.store.txn(txn).await {
        tracing::warn!(%error, "a node port was not repaired");
    }
}

/// An Event about a Service.
async fn tell(server: &Arc<ApiServer>, owner: &Owner, (reason, action): (&str, &str), note: &str) {
    let (namespace, name) = owner;
    let key = format!("{SERVICES}{namespace}/{name}");
    let service = server.cache.kind(SERVICES).get(&key);
    let service = service.and_then(|service| object::parse(&service.bytes).ok());
    let (uid, now) = (
        service.map(|service| service["metadata"]["uid"].clone()),
        now().to_string(),
    );
    // Named as clients name theirs: by the object and the moment.
    let event = format!("{name}.{:x}", jiff::Timestamp::now().as_nanosecond());
    let event = json!({
        "metadata": { "name": event, "namespace": namespace },
        "involvedObject": {
            "kind": "Service", "apiVersion": "v1", "namespace": namespace, "name": name, "uid": uid,
        },
        "reason": reason, "action": action, "message": note, "type": "Warning", "count": 1,
        "firstTimestamp": now, "lastTimestamp": now,
        "source": { "component": "ipallocator-repair-controller" },
    });
    let path = format!("/api/v1/namespaces/{namespace}/events");
    let (code, answer) = server.request(Method::POST, &path, Some(&event)).await;
    if !code.is_success() {
        tracing::debug!(%answer, "an event was not written");
    }
}

fn text<'v>(object: &'v Value, field: &str) -> &'v str {
    object["metadata"][field].as_str().unwrap_or_default()
}
