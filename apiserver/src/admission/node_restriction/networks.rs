//! davit's own kinds: a node writes its share of each network and its entry in each plugin, and none of others.

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{lasting_metadata, read};
use crate::admission::{Error, Operation, Request};
use crate::auth::{Kind, ObjectSource};

/// A NetworkNode is that of the node, and lasting once it is made: peers send packets by it.
pub(super) fn check(
    source: &dyn ObjectSource,
    node: &str,
    request: &Request<'_>,
    object: &Value,
) -> Result<(), Error> {
    let refuse = |what: &str| Err(Error::forbidden(format!("node {node:?} {what}")));
    let old = request.old.unwrap_or(&Value::Null);
    if request.operation == Operation::Create {
        return match new_flaw(source, node, object) {
            Some(flaw) => refuse(&flaw),
            None => Ok(()),
        };
    }
    if old["spec"]["node"] != node {
        return refuse("can only write networknodes with spec.node set to itself");
    }
    match (request.operation, request.subresource) {
        (Operation::Update, "status") if lasting_metadata(old) != lasting_metadata(object) => {
            refuse("can not change the metadata of networknodes through their status")
        }
        (Operation::Update, "") if old["spec"] != object["spec"] => refuse(
            "can not change spec of its networknodes; delete and make it again for other ranges",
        ),
        _ => Ok(()),
    }
}

fn new_flaw(source: &dyn ObjectSource, node: &str, object: &Value) -> Option<String> {
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    let network = spec["network"].as_str().unwrap_or_default();
    if spec["node"] != node {
        return Some("can only create networknodes with spec.node set to itself".to_owned());
    }
    if metadata["name"] != format!("{network}.{node}") {
        return Some(format!(
            "can only create the networknode \"{network}.{node}\" for the network {network:?}"
        ));
    }
    let foreign = items(&metadata["ownerReferences"]).any(|owner| {
        let of_network = owner["kind"] == "Network" && owner["name"] == network;
        let of_node = owner["kind"] == "Node" && owner["name"] == node;
        !(of_network || of_node) || owner["blockOwnerDeletion"] == true
    });
    if foreign {
        return Some(
            "can only create networknodes that are owned by their network or itself, and block no deletion".to_owned(),
        );
    }
    let Ok(of) = read(source, Kind::NETWORKS, "", network) else {
        return Some(format!(
            "can not take ranges of the network {network:?}, which does not exist"
        ));
    };
    let subnets = nets(&of["spec"]["subnets"]);
    let wanted = nets(&spec["slices"]);
    if wanted.len() != items(&spec["slices"]).count() {
        return Some("names ranges in spec.slices that are none".to_owned());
    }
    let outside = wanted
        .iter()
        .find(|slice| !subnets.iter().any(|subnet| subnet.contains(*slice)));
    if let Some(outside) = outside {
        return Some(format!(
            "can not take {outside}, which is outside of the network {network:?}"
        ));
    }
    let others = source.list(Kind::NETWORK_NODES, "");
    let mut others = others
        .iter()
        .filter_map(|bytes| serde_json::from_slice::<Value>(bytes).ok())
        // Whether two networks may have the same addresses is for whoever made them to say.
        .filter(|other| other["spec"]["network"] == network)
        .filter(|other| other["metadata"]["name"] != metadata["name"]);
    let holder = others.find(|other| {
        let theirs = nets(&other["spec"]["slices"]);
        let meets = |slice: &IpNet| {
            theirs
                .iter()
                .any(|t| t.contains(slice) || slice.contains(t))
        };
        wanted.iter().any(meets)
    });
    holder.map(|other| {
        let name = other["metadata"]["name"].as_str().unwrap_or_default();
        format!("can not take ranges that the networknode {name:?} has")
    })
}

/// The status of a plugin has an entry for every node; the rest follows from all of them.
pub(super) fn check_plugin(node: &str, request: &Request<'_>, object: &Value) -> Result<(), Error> {
    let refuse = |what: &str| Err(Error::forbidden(format!("node {node:?} {what}")));
    let (Operation::Update, "status", Some(old)) =
        (request.operation, request.subresource, request.old)
    else {
        return refuse("can only update the status of plugins");
    };
    if lasting_metadata(old) != lasting_metadata(object) {
        return refuse("can not change the metadata of plugins through their status");
    }
    let others = |plugin: &Value| {
        let mut others: Vec<Value> = items(&plugin["status"]["nodes"])
            .filter(|entry| entry["name"] != node)
            .cloned()
            .collect();
        others.sort_by_key(|entry| entry["name"].to_string());
        json!(others)
    };
    if others(old) != others(object) {
        return refuse("can only change its own entry in status.nodes of plugins");
    }
    Ok(())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Those that are ranges.
fn nets(list: &Value) -> Vec<IpNet> {
    let texts = items(list).filter_map(Value::as_str);
    texts.filter_map(|text| text.parse().ok()).collect()
}
