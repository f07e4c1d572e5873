//! The objects a server makes sure of when it starts: namespaces, roles, davit's own kinds, and the Service
//! under which pods reach the API server.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use futures::StreamExt;
use http::{Method, StatusCode};
use serde_json::json;

use crate::auth::bootstrap::{self, BootstrapObject};
use crate::auth::users;
use crate::health::Part;
use crate::{ApiServer, Error, addresses, crd, fairness};

/// Objects written at once; they share the store's group commits.
const PARALLEL: usize = 32;

/// Makes or extends everything that has to exist.
///
/// # Errors
/// The first object that the server itself refuses.
pub(crate) async fn run(server: &Arc<ApiServer>) -> Result<(), Error> {
    let (first, rest): (Vec<_>, Vec<_>) = bootstrap::objects()
        .into_iter()
        .partition(|object| object.plural == "namespaces");
    apply(server, first).await?;
    let mut rest = rest;
    rest.extend(own_definitions()?);
    rest.extend(service(server));
    rest.extend(fairness::objects());
    apply(server, rest).await
}

/// Whether a definition is one of davit's own kinds.
pub(crate) fn is_own(name: &str) -> bool {
    OWN.iter().any(|own| own == name)
}

/// Brings back davit's own kinds that somebody deleted. Their objects are where they were.
///
/// # Errors
/// The first that the server itself refuses.
pub(crate) async fn definitions(server: &Arc<ApiServer>) -> Result<(), Error> {
    let kind = server.cache.kind(crd::PREFIX);
    let missing = |name: &String| kind.get(&format!("{}{name}", crd::PREFIX)).is_none();
    // Until the start has made them, none is missing.
    if !server.health.is_up(Part::Objects) || !OWN.iter().any(missing) {
        return Ok(());
    }
    apply(server, own_definitions()?).await
}

/// The names of the definitions of davit's own kinds.
static OWN: LazyLock<Vec<String>> = LazyLock::new(|| {
    let names = davit_api::crds().into_iter();
    names.filter_map(|one| one.metadata.name).collect()
});

fn own_definitions() -> Result<Vec<BootstrapObject>, Error> {
    let definitions = davit_api::crds().into_iter();
    let objects = definitions.map(|definition| {
        let object = serde_json::to_value(definition).map_err(|error| Error::Bootstrap {
            object: "a definition of davit's own kinds".to_owned(),
            cause: error.to_string(),
        })?;
        Ok(BootstrapObject {
            group: "apiextensions.k8s.io",
            version: "v1",
            plural: "customresourcedefinitions",
            object,
        })
    });
    objects.collect()
}

async fn apply(server: &Arc<ApiServer>, objects: Vec<BootstrapObject>) -> Result<(), Error> {
    let writes = objects.into_iter().map(|object| one(server, object));
    let mut writes = futures::stream::iter(writes).buffer_unordered(PARALLEL);
    while let Some(result) = writes.next().await {
        result?;
    }
    Ok(())
}

async fn one(server: &Arc<ApiServer>, wanted: BootstrapObject) -> Result<(), Error> {
    let metadata = &wanted.object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let root = match wanted.group {
        "" => format!("/api/{}", wanted.version),
        group => format!("/apis/{group}/{}", wanted.version),
    };
    let collection = match metadata["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{}", wanted.plural),
        None => format!("{root}/{}", wanted.plural),
    };
    let path = format!(
        "{collection}/{}",
        percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC,)
    );
    let (code, present) = server.request(Method::GET, &path, None).await;
    let present = code.is_success().then_some(present);
    let definition = wanted.plural == "customresourcedefinitions";
    let planned = match &present {
        // davit's own kinds follow the version of davit.
        Some(present) if definition && present["spec"] != wanted.object["spec"] => {
            let mut object = present.clone();
            object["spec"] = wanted.object["spec"].clone();
            Some(object)
        }
        Some(_) if definition => None,
        present if wanted.group == fairness::FLOW_SCHEMAS.group => {
            fairness::plan(&wanted.object, present.as_ref())
        }
        present => bootstrap::plan(&wanted.object, present.as_ref()),
    };
    let Some(object) = planned else { return Ok(()) };
    let (method, target) = match present {
        Some(_) => (Method::PUT, &path),
        None => (Method::POST, &collection),
    };
    let (code, answer) = server.request(method, target, Some(&object)).await;
    // Another server of the cluster may be doing the same.
    if code.is_success() || code == StatusCode::CONFLICT {
        return Ok(());
    }
    let cause = answer["message"].as_str().unwrap_or_default().to_owned();
    Err(Error::Bootstrap {
        object: path,
        cause,
    })
}

/// The Service `kubernetes` with the addresses behind it, and the range it takes its own from.
fn service(server: &ApiServer) -> Vec<BootstrapObject> {
    let range = server.config.service_cidr;
    let address = addresses::nth(range, 1).map(|address| address.to_string());
    let port = server.config.listen.port();
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    let service = BootstrapObject {
        group: "",
        version: "v1",
        plural: "services",
        object: json!({
            "kind": "Service", "apiVersion": "v1",
            "metadata": { "name": "kubernetes", "namespace": "default", "labels": labels },
            "spec": {
                "type": "ClusterIP", "clusterIP": address, "sessionAffinity": "None",
                "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": port }],
            },
        }),
    };
    let mut objects = vec![service_range(server), service, extensions(server)];
    if let Some(address) = server.config.advertise {
        objects.push(endpoint_slice(address, port));
        objects.push(endpoints(address, port));
    }
    objects
}

/// The range Services take addresses from.
pub(crate) fn service_range(server: &ApiServer) -> BootstrapObject {
    let range = server.config.service_cidr.trunc().to_string();
    BootstrapObject {
        group: "networking.k8s.io",
        version: "v1",
        plural: "servicecidrs",
        object: json!({
            "kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1",
            "metadata": { "name": "kubernetes" }, "spec": { "cidrs": [range] },
        }),
    }
}

/// What extension API servers read to know whom to trust: users by certificate, and this server as a proxy.
fn extensions(server: &ApiServer) -> BootstrapObject {
    let ca = server.authority.ca_pem();
    BootstrapObject {
        group: "",
        version: "v1",
        plural: "configmaps",
        object: json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {
                "name": "extension-apiserver-authentication", "namespace": "kube-system",
            },
            "data": {
                "client-ca-file": ca, "requestheader-client-ca-file": ca,
                "requestheader-allowed-names": json!([users::FRONT_PROXY]).to_string(),
                "requestheader-username-headers": r#"["X-Remote-User"]"#,
                "requestheader-uid-headers": r#"["X-Remote-Uid"]"#,
                "requestheader-group-headers": r#"["X-Remote-Group"]"#,
                "requestheader-extra-headers-prefix": r#"["X-Remote-Extra-"]"#,
            },
        }),
    }
}

/// What clients from before EndpointSlices read.
fn endpoints(address: IpAddr, port: u16) -> BootstrapObject {
    BootstrapObject {
        group: "",
        version: "v1",
        plural: "endpoints",
        object: json!({
            "kind": "Endpoints", "apiVersion": "v1",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
            },
            "subsets": [{
                "addresses": [{ "ip": address.to_string() }],
                "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
            }],
        }),
    }
}

fn endpoint_slice(address: IpAddr, port: u16) -> BootstrapObject {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    BootstrapObject {
        group: "discovery.k8s.io",
        version: "v1",
        plural: "endpointslices",
        object: json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": family,
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": { "kubernetes.io/service-name": "kubernetes" },
            },
            "endpoints": [{ "addresses": [address.to_string()], "conditions": { "ready": true } }],
            "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        }),
    }
}
