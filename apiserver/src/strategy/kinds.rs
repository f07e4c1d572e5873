//! How each built-in kind behaves when it is written.

use serde_json::Value;

use super::meta::NameRule;
use super::{
    Context, Errors, batch, certificate, cluster, config, crd, devices, names, networking, pod,
    quota, rbac, service, volumes, webhook, workload,
};

/// What a user should know of a new object, beside the old one.
pub(crate) type Warn = fn(&Value, Option<&Value>) -> Vec<String>;

/// Compares the new with the old object.
pub(crate) type CheckUpdate = fn(&Context<'_>, &Value, &Value, &mut Errors);

/// Looks at what an object has and the old one, if there is one, has not.
pub(crate) type CheckAdded = fn(&Context<'_>, &Value, Option<&Value>, &mut Errors);

/// One kind's behaviour. Functions see whole objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behavior {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) name: NameRule,
    /// Has a status that only `/status` changes.
    pub(crate) status: bool,
    /// A status given at creation stays.
    pub(crate) status_on_create: bool,
    /// Counts generations.
    pub(crate) generation: bool,
    pub(crate) create: Option<fn(&Context<'_>, &mut Value)>,
    pub(crate) update: Option<fn(&Context<'_>, &mut Value, &Value)>,
    pub(crate) check: Option<fn(&Context<'_>, &Value, &mut Errors)>,
    pub(crate) check_update: Option<CheckUpdate>,
    /// What is asked of that part only which an old object does not have.
    pub(crate) check_added: Option<CheckAdded>,
    pub(crate) warnings: Option<Warn>,
    pub(crate) create_on_update: bool,
    pub(crate) unconditional_update: bool,
    pub(crate) grace: Option<fn(&Value) -> Option<i64>>,
}

const fn namespaced(group: &'static str, kind: &'static str) -> Behavior {
    Behavior {
        group,
        kind,
        namespaced: true,
        name: names::dns_subdomain,
        status: false,
        status_on_create: false,
        generation: false,
        create: None,
        update: None,
        check: None,
        check_update: None,
        check_added: None,
        warnings: None,
        create_on_update: false,
        unconditional_update: true,
        grace: None,
    }
}

const fn cluster(group: &'static str, kind: &'static str) -> Behavior {
    Behavior {
        namespaced: false,
        ..namespaced(group, kind)
    }
}

/// A reconciled kind that makes pods from a template.
const fn templated(group: &'static str, kind: &'static str) -> Behavior {
    Behavior {
        warnings: Some(super::warnings::workload),
        ..reconciled(group, kind)
    }
}

/// A kind with a status and generations.
const fn reconciled(group: &'static str, kind: &'static str) -> Behavior {
    Behavior {
        status: true,
        generation: true,
        ..namespaced(group, kind)
    }
}

/// What goes through the server without being stored, such as reviews.
pub(crate) static PASSING: Behavior = Behavior {
    name: names::path_segment,
    ..cluster("", "")
};

const ADMISSION: &str = "admissionregistration.k8s.io";
const APPS: &str = "apps";
const CERTIFICATES: &str = "certificates.k8s.io";
const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const RESOURCE: &str = "resource.k8s.io";
const STORAGE: &str = "storage.k8s.io";

/// The behaviour of a kind; kinds without an entry have none of their own.
pub(crate) fn find(group: &str, kind: &str) -> Option<&'static Behavior> {
    let tables = [CORE, WORKLOADS, POLICIES, STORES];
    tables
        .into_iter()
        .flatten()
        .find(|b| b.kind == kind && b.group == group)
}

const CORE: &[Behavior] = &[
    Behavior {
        generation: true,
        create: Some(pod::create),
        update: Some(pod::prepare_update),
        check: Some(pod::check),
        check_update: Some(pod::update::check),
        warnings: Some(super::warnings::pod),
        grace: Some(pod::grace),
        status: true,
        ..namespaced("", "Pod")
    },
    Behavior {
        name: names::dns_label,
        status: true,
        create: Some(cluster::namespace_create),
        update: Some(cluster::namespace_prepare),
        check_update: Some(cluster::namespace_update),
        ..cluster("", "Namespace")
    },
    Behavior {
        status: true,
        status_on_create: true,
        check_update: Some(cluster::node_update),
        ..cluster("", "Node")
    },
    Behavior {
        check: Some(config::config_map),
        check_update: Some(config::update),
        ..namespaced("", "ConfigMap")
    },
    Behavior {
        check: Some(config::secret),
        check_update: Some(config::update),
        ..namespaced("", "Secret")
    },
    Behavior {
        name: names::dns1035_label,
        status: true,
        create: Some(service::create),
        update: Some(service::prepare_update),
        check_update: Some(service::update),
        create_on_update: true,
        ..namespaced("", "Service")
    },
    namespaced("", "ServiceAccount"),
    Behavior {
        check: Some(cluster::event),
        create_on_update: true,
        ..namespaced("", "Event")
    },
    Behavior {
        check: Some(networking::endpoints),
        create_on_update: true,
        ..namespaced("", "Endpoints")
    },
    Behavior {
        create_on_update: true,
        ..namespaced("", "LimitRange")
    },
    Behavior {
        status: true,
        check_update: Some(quota::update),
        ..namespaced("", "ResourceQuota")
    },
    namespaced("", "PodTemplate"),
    Behavior {
        status: true,
        create: Some(volumes::create),
        check_update: Some(volumes::volume_update),
        ..cluster("", "PersistentVolume")
    },
    Behavior {
        status: true,
        create: Some(volumes::create),
        update: Some(volumes::claim_prepare),
        check_update: Some(volumes::claim_update),
        ..namespaced("", "PersistentVolumeClaim")
    },
    templated("", "ReplicationController"),
    Behavior {
        check: Some(cluster::new_event),
        create_on_update: true,
        ..namespaced("events.k8s.io", "Event")
    },
    Behavior {
        check: Some(cluster::lease),
        create_on_update: true,
        unconditional_update: false,
        ..namespaced("coordination.k8s.io", "Lease")
    },
];

const WORKLOADS: &[Behavior] = &[
    Behavior {
        check_update: Some(workload::selector_immutable),
        ..templated(APPS, "Deployment")
    },
    Behavior {
        check_update: Some(workload::selector_immutable),
        ..templated(APPS, "ReplicaSet")
    },
    Behavior {
        check_update: Some(workload::selector_immutable),
        ..templated(APPS, "DaemonSet")
    },
    Behavior {
        check_update: Some(workload::stateful_set_update),
        ..templated(APPS, "StatefulSet")
    },
    Behavior {
        check_update: Some(workload::revision_update),
        ..namespaced(APPS, "ControllerRevision")
    },
    Behavior {
        create: Some(batch::create),
        check: Some(batch::check),
        check_update: Some(batch::update),
        ..templated("batch", "Job")
    },
    Behavior {
        name: cron_job_name,
        warnings: Some(super::warnings::cron_job),
        ..reconciled("batch", "CronJob")
    },
    Behavior {
        status: true,
        ..namespaced("autoscaling", "HorizontalPodAutoscaler")
    },
    reconciled("policy", "PodDisruptionBudget"),
    Behavior {
        check: Some(cluster::priority_class),
        check_update: Some(cluster::priority_update),
        generation: true,
        ..cluster("scheduling.k8s.io", "PriorityClass")
    },
    Behavior {
        check_update: Some(cluster::runtime_class_update),
        ..cluster("node.k8s.io", "RuntimeClass")
    },
];

/// Jobs made by a CronJob have eleven bytes more in their names.
fn cron_job_name(name: &str) -> Option<std::borrow::Cow<'static, str>> {
    match name.len() {
        53.. => Some("must be no more than 52 characters".into()),
        _ => names::dns_subdomain(name),
    }
}

const POLICIES: &[Behavior] = &[
    Behavior {
        name: names::path_segment,
        check: Some(rbac::role),
        ..namespaced(RBAC, "Role")
    },
    Behavior {
        name: names::path_segment,
        check: Some(rbac::role_binding),
        check_update: Some(rbac::binding_update),
        ..namespaced(RBAC, "RoleBinding")
    },
    Behavior {
        name: names::path_segment,
        check: Some(rbac::cluster_role),
        ..cluster(RBAC, "ClusterRole")
    },
    Behavior {
        name: names::path_segment,
        check: Some(rbac::cluster_role_binding),
        check_update: Some(rbac::binding_update),
        ..cluster(RBAC, "ClusterRoleBinding")
    },
    reconciled(NETWORKING, "Ingress"),
    Behavior {
        generation: true,
        check_update: Some(networking::class_update),
        ..cluster(NETWORKING, "IngressClass")
    },
    Behavior {
        generation: true,
        ..namespaced(NETWORKING, "NetworkPolicy")
    },
    Behavior {
        name: networking::address_name,
        check: Some(networking::address),
        ..cluster(NETWORKING, "IPAddress")
    },
    Behavior {
        status: true,
        check: Some(networking::range),
        check_update: Some(networking::range_update),
        ..cluster(NETWORKING, "ServiceCIDR")
    },
    Behavior {
        generation: true,
        check: Some(networking::slice),
        check_update: Some(networking::slice_update),
        create_on_update: false,
        ..namespaced("discovery.k8s.io", "EndpointSlice")
    },
    Behavior {
        generation: true,
        check: Some(webhook::configuration),
        ..cluster(ADMISSION, "MutatingWebhookConfiguration")
    },
    Behavior {
        generation: true,
        check: Some(webhook::configuration),
        ..cluster(ADMISSION, "ValidatingWebhookConfiguration")
    },
    Behavior {
        generation: true,
        status: true,
        ..cluster(ADMISSION, "ValidatingAdmissionPolicy")
    },
    Behavior {
        generation: true,
        ..cluster(ADMISSION, "ValidatingAdmissionPolicyBinding")
    },
    Behavior {
        generation: true,
        ..cluster(ADMISSION, "MutatingAdmissionPolicy")
    },
    Behavior {
        generation: true,
        ..cluster(ADMISSION, "MutatingAdmissionPolicyBinding")
    },
    Behavior {
        status: true,
        generation: true,
        create: Some(crd::create),
        update: Some(crd::prepare_update),
        check: Some(crd::check),
        check_update: Some(crd::update),
        check_added: Some(crd::rules),
        unconditional_update: false,
        ..cluster("apiextensions.k8s.io", "CustomResourceDefinition")
    },
    Behavior {
        status: true,
        name: names::path_segment,
        check: Some(webhook::api_service),
        unconditional_update: false,
        ..cluster("apiregistration.k8s.io", "APIService")
    },
    Behavior {
        status: true,
        name: names::path_segment,
        update: Some(certificate::prepare_update),
        check_update: Some(certificate::check_update),
        ..cluster(CERTIFICATES, "CertificateSigningRequest")
    },
    Behavior {
        name: names::path_segment,
        ..cluster(CERTIFICATES, "ClusterTrustBundle")
    },
    Behavior {
        status: true,
        check_update: Some(webhook::request_update),
        ..namespaced(CERTIFICATES, "PodCertificateRequest")
    },
    Behavior {
        status: true,
        generation: true,
        ..cluster(FLOW, "FlowSchema")
    },
    Behavior {
        status: true,
        generation: true,
        ..cluster(FLOW, "PriorityLevelConfiguration")
    },
];

const STORES: &[Behavior] = &[
    Behavior {
        check: Some(volumes::class),
        check_update: Some(volumes::class_update),
        ..cluster(STORAGE, "StorageClass")
    },
    Behavior {
        status: true,
        check_update: Some(volumes::spec_immutable),
        ..cluster(STORAGE, "VolumeAttachment")
    },
    Behavior {
        generation: true,
        check_update: Some(volumes::driver_update),
        ..cluster(STORAGE, "CSIDriver")
    },
    cluster(STORAGE, "CSINode"),
    Behavior {
        check_update: Some(volumes::capacity_update),
        ..namespaced(STORAGE, "CSIStorageCapacity")
    },
    Behavior {
        check_update: Some(volumes::attributes_update),
        ..cluster(STORAGE, "VolumeAttributesClass")
    },
    Behavior {
        generation: true,
        ..cluster(RESOURCE, "DeviceClass")
    },
    Behavior {
        generation: true,
        status: true,
        ..cluster(RESOURCE, "DeviceTaintRule")
    },
    Behavior {
        generation: true,
        ..cluster(RESOURCE, "ResourceSlice")
    },
    Behavior {
        status: true,
        check_update: Some(devices::claim_update),
        ..namespaced(RESOURCE, "ResourceClaim")
    },
    Behavior {
        check_update: Some(devices::claim_update),
        ..namespaced(RESOURCE, "ResourceClaimTemplate")
    },
    Behavior {
        status: true,
        ..cluster("storagemigration.k8s.io", "StorageVersionMigration")
    },
];
