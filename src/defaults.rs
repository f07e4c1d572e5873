//! What a new cluster has so that ordinary manifests run: drivers, a network for pods, and a class for volumes.

use std::net::IpAddr;

use davit_api::{Plugin, PluginSpec};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::connect::Connection;
use crate::fault::Fault;

/// The Service of the name server.
const DNS: &str = "kube-dns";
/// Driver of the default network.
const NETWORK_DRIVER: &str = "bridge.davit.dev";
/// Driver of the default storage class.
const STORAGE_DRIVER: &str = "local-path.davit.dev";
/// Field manager of the `Plugin` objects of bundled drivers.
const MANAGER: &str = "davit";
/// Annotation with the spec that davit last gave such an object, by which changes of others are told.
const MADE_AS: &str = "davit.dev/made-as";

/// Creates the defaults that are missing. What is there stays as it is: users change them as they like.
pub(crate) async fn create(
    connection: &Connection,
    pods: IpNet,
    services: IpNet,
) -> Result<(), Fault> {
    let plugins = Api::<Plugin>::all(connection.client.clone());
    for plugin in davit_plugins::bundled_plugins() {
        let applied = apply_plugin(&plugins, &plugin).await;
        applied.map_err(|error| {
            Fault::request(format!("making plugin {}", plugin.name_any()), &error)
        })?;
    }
    for (plural, object) in objects(pods) {
        create_one(connection, plural, object).await?;
    }
    create_dns(connection, services).await
}

/// The Service under which pods find the name server of their node: the tenth address of the range by custom, another
/// one if that is taken.
async fn create_dns(connection: &Connection, services: IpNet) -> Result<(), Fault> {
    let api = Api::<Service>::namespaced(connection.client.clone(), "kube-system");
    let failed =
        |error: &kube::Error| Fault::request("making the Service of the name server", error);
    if api
        .get_metadata_opt(DNS)
        .await
        .map_err(|error| failed(&error))?
        .is_some()
    {
        return Ok(());
    }
    let mut error = None;
    for address in [tenth(services), None] {
        let service = dns_service(address);
        let service: Service = serde_json::from_value(service)
            .map_err(|error| Fault::new("making the Service of the name server", error, ""))?;
        match api.create(&PostParams::default(), &service).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => return Ok(()),
            Err(refused) => error = Some(refused),
        }
    }
    error.map_or(Ok(()), |error| Err(failed(&error)))
}

/// The tenth address of a range.
fn tenth(range: IpNet) -> Option<IpAddr> {
    let address = match range.network() {
        IpAddr::V4(base) => IpAddr::V4(u32::from(base).checked_add(10)?.into()),
        IpAddr::V6(base) => IpAddr::V6(u128::from(base).checked_add(10)?.into()),
    };
    range.contains(&address).then_some(address)
}

/// It selects no pods: every node answers by itself. A name server of somebody's own takes over with a selector.
fn dns_service(address: Option<IpAddr>) -> Value {
    let port = |name: &str, protocol: &str| json!({"name": name, "port": 53, "targetPort": 53, "protocol": protocol});
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": DNS, "namespace": "kube-system", "labels": {
            "k8s-app": DNS, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
        }},
        "spec": {"ports": [port("dns", "UDP"), port("dns-tcp", "TCP")]},
    });
    if let Some(address) = address {
        service["spec"]["clusterIP"] = address.to_string().into();
    }
    service
}

/// A newer davit may grant its drivers other things; an object that anybody has changed is theirs.
async fn apply_plugin(plugins: &Api<Plugin>, plugin: &Plugin) -> Result<(), kube::Error> {
    let name = plugin.name_any();
    let there = plugins.get_opt(&name).await?;
    if there.is_some_and(|there| !is_untouched(&there)) {
        return Ok(());
    }
    let noted = noted(plugin).map_err(kube::Error::SerdeError)?;
    let params = PatchParams::apply(MANAGER);
    match plugins.patch(&name, &params, &Patch::Apply(&noted)).await {
        // Somebody else manages what a newer davit would have changed.
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
        applied => applied.map(drop),
    }
}

/// The object with a note of what it was made as.
fn noted(plugin: &Plugin) -> Result<Plugin, serde_json::Error> {
    let mut plugin = plugin.clone();
    let spec = serde_json::to_string(&plugin.spec)?;
    plugin.annotations_mut().insert(MADE_AS.to_owned(), spec);
    Ok(plugin)
}

/// Whether the object is still what davit made it.
fn is_untouched(plugin: &Plugin) -> bool {
    let made_as = plugin.annotations().get(MADE_AS);
    made_as
        .and_then(|text| serde_json::from_str(text).ok())
        .is_some_and(|spec: PluginSpec| spec == plugin.spec)
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
    fn what_others_changed_is_theirs() {
        for plugin in davit_plugins::bundled_plugins() {
            assert!(!is_untouched(&plugin), "made by a user");
            let mut plugin = noted(&plugin).unwrap();
            let served = serde_json::to_value(&plugin).unwrap();
            plugin = serde_json::from_value(served).unwrap();
            assert!(is_untouched(&plugin));
            plugin.spec.grants.links.kinds.clear();
            plugin.spec.grants.host_paths.clear();
            assert!(!is_untouched(&plugin), "a right was taken away");
        }
    }

    #[test]
    fn the_name_server_has_the_tenth_address() {
        let cases = [
            ("10.96.0.0/16", Some("10.96.0.10")),
            ("10.96.7.3/24", Some("10.96.7.10")),
            ("fd00::/112", Some("fd00::a")),
            ("10.96.0.0/29", None),
        ];
        for (range, address) in cases {
            let address = address.map(|address| address.parse().unwrap());
            assert_eq!(tenth(range.parse().unwrap()), address, "{range}");
        }
        assert_eq!(dns_service(None)["spec"].get("clusterIP"), None);
    }

    #[test]
    fn the_network_is_one_of_davits_own_kind() {
        let [(_, network), _] = objects("10.42.7.0/16".parse().unwrap());
        let network: davit_api::Network = serde_json::from_value(network).unwrap();
        assert!(network.spec.is_default);
        assert_eq!(network.spec.subnets, ["10.42.0.0/16"]);
    }
}
