//! Which types have code beside the tables of defaults and checks.

use serde_json::{Map, Value};

use super::access::Fields;
use super::{
    Errors, autoscaling, batch, certificate, cluster, config, crd, devices, labels, networking,
    pod, quota, rbac, resources, service, volumes, webhook, workload,
};
use crate::schema::Path;
use crate::schema::node::Hooks;

type Default = fn(&mut Map<String, Value>);
type Check = fn(&Value, &Path<'_>, &mut Errors);

/// A type by its short name, and its code.
type Entry = (&'static str, Hooks);

const fn default(name: &'static str, default: Default) -> Entry {
    (
        name,
        Hooks {
            default: Some(default),
            check: None,
        },
    )
}

const fn check(name: &'static str, check: Check) -> Entry {
    (
        name,
        Hooks {
            default: None,
            check: Some(check),
        },
    )
}

const fn both(name: &'static str, default: Default, check: Check) -> Entry {
    (
        name,
        Hooks {
            default: Some(default),
            check: Some(check),
        },
    )
}

/// The code of a type by its short name, such as `core.v1.PodSpec`.
pub(crate) fn of(definition: &str) -> Hooks {
    let found = TABLE.iter().find(|(name, _)| *name == definition);
    found.map(|(_, hooks)| *hooks).unwrap_or_default()
}

const TABLE: &[Entry] = &[
    check(
        "admissionregistration.v1.MutatingAdmissionPolicySpec",
        webhook::mutating_policy_spec,
    ),
    check(
        "admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec",
        webhook::binding_spec,
    ),
    check(
        "admissionregistration.v1.ValidatingAdmissionPolicySpec",
        webhook::policy_spec,
    ),
    default("apiextensions.v1.CustomResourceDefinition", crd::defaults),
    default(
        "apiextensions.v1.CustomResourceDefinitionNames",
        crd::name_defaults,
    ),
    check("apps.v1.DaemonSetSpec", workload::daemon_set),
    default(
        "apps.v1.DaemonSetUpdateStrategy",
        workload::rolling_defaults,
    ),
    check("apps.v1.DeploymentSpec", workload::deployment),
    default("apps.v1.DeploymentStrategy", workload::rolling_defaults),
    check("apps.v1.ReplicaSetSpec", workload::replica_set),
    both(
        "apps.v1.StatefulSetSpec",
        workload::claim_types,
        workload::stateful_set,
    ),
    default(
        "apps.v1.StatefulSetUpdateStrategy",
        workload::rolling_defaults,
    ),
    both(
        "autoscaling.v1.HorizontalPodAutoscalerSpec",
        autoscaling::v1_defaults,
        autoscaling::spec,
    ),
    both(
        "autoscaling.v2.HorizontalPodAutoscalerSpec",
        autoscaling::v2_defaults,
        autoscaling::spec,
    ),
    check("batch.v1.CronJobSpec", batch::cron_spec),
    default("batch.v1.Job", batch::defaults),
    both("batch.v1.JobSpec", batch::spec_defaults, batch::spec),
    check(
        "certificates.v1.CertificateSigningRequestSpec",
        certificate::spec,
    ),
    both("core.v1.Container", pod::container::defaults, container),
    check("core.v1.DownwardAPIVolumeFile", pod::volume::downward_file),
    check("core.v1.EnvFromSource", pod::env::source),
    check("core.v1.EnvVar", pod::env::variable),
    both(
        "core.v1.EphemeralContainer",
        pod::container::defaults,
        container,
    ),
    both(
        "core.v1.LimitRangeItem",
        cluster::limit_defaults,
        cluster::limit_item,
    ),
    default("core.v1.Namespace", cluster::namespace_defaults),
    check("core.v1.NodeSelector", pod::scheduling::node_selector),
    check(
        "core.v1.NodeSelectorRequirement",
        pod::scheduling::node_requirement,
    ),
    check("core.v1.NodeSpec", cluster::node_spec),
    default("core.v1.NodeStatus", cluster::node_status_defaults),
    default("core.v1.PersistentVolumeClaim", volumes::claim_defaults),
    both(
        "core.v1.PersistentVolumeClaimSpec",
        volumes::claim_spec_defaults,
        volumes::claim_spec,
    ),
    check("core.v1.PersistentVolumeSpec", volumes::volume_spec),
    both("core.v1.Pod", pod::defaults, |pod, at, out| {
        pod::spec::mounts(pod.at("spec"), &[], &at.field("spec"), out);
    }),
    check("core.v1.PodAffinityTerm", pod::scheduling::pod_term),
    check("core.v1.PodSecurityContext", pod::security::pod),
    both("core.v1.PodSpec", pod::spec_defaults, pod::spec::check),
    check("core.v1.PodTemplate", |template, at, out| {
        workload::mounts(template, &at.field("template"), out);
    }),
    check("core.v1.PodTemplateSpec", pod::check_template),
    default(
        "core.v1.ReplicationController",
        workload::controller_defaults,
    ),
    check(
        "core.v1.ReplicationControllerSpec",
        workload::replication_controller,
    ),
    check("core.v1.ResourceQuotaSpec", quota::spec),
    check("core.v1.ResourceRequirements", resources::requirements),
    default("core.v1.Secret", config::secret_defaults),
    check("core.v1.SecurityContext", pod::security::container),
    default("core.v1.ServicePort", service::port_defaults),
    both("core.v1.ServiceSpec", service::spec_defaults, service::spec),
    check("core.v1.Toleration", pod::scheduling::toleration),
    both("core.v1.Volume", pod::volume::defaults, pod::volume::check),
    both(
        "flowcontrol.v1.PriorityLevelConfigurationSpec",
        devices::level_defaults,
        devices::level,
    ),
    check("meta.v1.LabelSelector", labels::selector),
    both(
        "networking.v1.IngressClassParametersReference",
        networking::class_parameter_defaults,
        networking::class_parameters,
    ),
    check("networking.v1.IngressSpec", networking::ingress_spec),
    both(
        "networking.v1.NetworkPolicySpec",
        networking::policy_defaults,
        networking::policy_spec,
    ),
    check(
        "policy.v1.PodDisruptionBudgetSpec",
        autoscaling::budget_spec,
    ),
    default("rbac.v1.Subject", rbac::subject_defaults),
    check("resource.v1.DeviceRequest", devices::request),
    default("resource.v1.DeviceSubRequest", devices::request_defaults),
    default("resource.v1.ExactDeviceRequest", devices::request_defaults),
    check("storage.v1.CSIDriverSpec", volumes::driver_spec),
    check("storage.v1.VolumeAttachmentSpec", volumes::attachment_spec),
];

fn container(value: &Value, at: &Path<'_>, out: &mut Errors) {
    pod::container::check(value, at, out);
    pod::probe::check(value, at, out);
}

#[cfg(test)]
pub(super) fn types() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}
