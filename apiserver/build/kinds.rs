//! The built-in kinds, taken from the bindings, and the JSON schemas of everything they are made of.

use k8s_openapi::api::{
    admissionregistration, apps, authentication, authorization, autoscaling, batch, certificates,
    coordination, core, discovery, events, flowcontrol, networking, node, policy, rbac, resource,
    scheduling, storage, storagemigration,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration;
use k8s_openapi::schemars::generate::SchemaSettings;
use k8s_openapi::schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};

/// One built-in kind.
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    /// Adds the type and all it refers to, and returns the reference.
    generate: fn(&mut SchemaGenerator) -> Schema,
}

macro_rules! kinds {
    ($( $group:literal $version:literal $module:path { $($kind:ident)* } )*) => {
        &[$($( Kind {
            group: $group,
            version: $version,
            kind: stringify!($kind),
            generate: {
                fn generate(generator: &mut SchemaGenerator) -> Schema {
                    use $module as module;
                    generator.subschema_for::<module::$kind>()
                }
                generate
            },
        }, )*)*]
    };
}

/// Every built-in kind davit knows, stable versions only.
pub(crate) const KINDS: &[Kind] = kinds! {
    "" "v1" core::v1 {
        Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
        PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service
        ServiceAccount
    }
    "" "v1" meta::v1 { Status APIResourceList DeleteOptions }
    "admissionregistration.k8s.io" "v1" admissionregistration::v1 {
        MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration
        ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration
    }
    "apiextensions.k8s.io" "v1" apiextensions::v1 { CustomResourceDefinition }
    "apiregistration.k8s.io" "v1" apiregistration::v1 { APIService }
    "apps" "v1" apps::v1 { ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet }
    "authentication.k8s.io" "v1" authentication::v1 { SelfSubjectReview TokenRequest TokenReview }
    "authorization.k8s.io" "v1" authorization::v1 {
        LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview
    }
    "autoscaling" "v1" autoscaling::v1 { HorizontalPodAutoscaler Scale }
    "autoscaling" "v2" autoscaling::v2 { HorizontalPodAutoscaler }
    "batch" "v1" batch::v1 { CronJob Job }
    "certificates.k8s.io" "v1" certificates::v1 {
        CertificateSigningRequest ClusterTrustBundle PodCertificateRequest
    }
    "coordination.k8s.io" "v1" coordination::v1 { Lease }
    "discovery.k8s.io" "v1" discovery::v1 { EndpointSlice }
    "events.k8s.io" "v1" events::v1 { Event }
    "flowcontrol.apiserver.k8s.io" "v1" flowcontrol::v1 { FlowSchema PriorityLevelConfiguration }
    "networking.k8s.io" "v1" networking::v1 {
        IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR
    }
    "node.k8s.io" "v1" node::v1 { RuntimeClass }
    "policy" "v1" policy::v1 { Eviction PodDisruptionBudget }
    "rbac.authorization.k8s.io" "v1" rbac::v1 {
        ClusterRole ClusterRoleBinding Role RoleBinding
    }
    "resource.k8s.io" "v1" resource::v1 {
        DeviceClass DeviceTaintRule ResourceClaim ResourceClaimTemplate ResourceSlice
    }
    "scheduling.k8s.io" "v1" scheduling::v1 { PriorityClass }
    "storage.k8s.io" "v1" storage::v1 {
        CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass
    }
    "storagemigration.k8s.io" "v1" storagemigration::v1 { StorageVersionMigration }
};

/// The kinds with the names of their definitions, and all definitions by name.
pub(crate) fn generate() -> (Vec<(&'static Kind, String)>, Map<String, Value>) {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            settings.transforms.clear();
        })
        .into_generator();
    let mut named = Vec::new();
    for kind in KINDS {
        let schema = (kind.generate)(&mut generator);
        let reference = schema.get("$ref").and_then(Value::as_str);
        let name = reference.and_then(|path| path.rsplit('/').next());
        named.push((kind, name.expect("a kind is a definition").to_owned()));
    }
    (named, generator.take_definitions(true))
}
