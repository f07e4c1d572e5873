//! What a new cluster has so that ordinary manifests run: a network for pods, and a class for volumes.

use ipnet::IpNet;
use kube::Api;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

use crate::connect::Connection;
use crate::fault::Fault;

/// Driver of the default network.
const NETWORK_DRIVER: &str = "bridge.davit.dev";
/// Driver of the default storage class.
const STORAGE_DRIVER: &str = "local-path.davit.dev";

/// Creates the defaults that are missing. What is there stays as it is: users change them as they like.
pub(crate) async fn create(connection: &Connection, pods: IpNet) -> Result<(), Fault> {
    for (plural, object) in objects(pods) {
        create_one(connection, plural, object).await?;
    }
    Ok(())
}

async fn create_one(connection: &Connection, plural: &str, object: Value) -> Result<(), Fault> {
    let what = format!("making the default of {plural}");
    let failed = |error: serde_json::Error| Fault::new(&what, error, "");
    let object: DynamicObject = serde_json::from_value(object).map_err(failed)?;
    let types = object.types.clone().unwrap_or_default();
    let (group, version) = types
        .api_version
        .split_once('/')
        .unwrap_or(("", &types.api_version));
    let kind = GroupVersionKind::gvk(group, version, &types.kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    let api = Api::<DynamicObject>::all_with(connection.client.clone(), &resource);
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(Fault::request(what, &error)),
    }
}

/// The defaults, with their plural names.
fn objects(pods: IpNet) -> [(&'static str, Value); 2] {
    let network = json!({
        "apiVersion": format!("{}/{}", davit_api::GROUP, davit_api::VERSION),
        "kind": "Network",
        "metadata": {"name": "default"},
        "spec": {"driver": NETWORK_DRIVER, "isDefault": true, "subnets": [pods.trunc().to_string()]},
    });
    let class = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "local-path",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": STORAGE_DRIVER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    });
    [("networks", network), ("storageclasses", class)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_one_of_davits_own_kind() {
        let [(_, network), _] = objects("10.42.7.0/16".parse().unwrap());
        let network: davit_api::Network = serde_json::from_value(network).unwrap();
        assert!(network.spec.is_default);
        assert_eq!(network.spec.subnets, ["10.42.0.0/16"]);
    }
}
