//! Which types have code beside the tables of defaults and checks.

use super::{
    autoscaling, batch, cluster, config, crd, devices, labels, networking, pod, rbac, resources,
    service, volumes, webhook, workload,
};
use crate::schema::node::Hooks;

type Default = fn(&mut serde_json::Map<String, serde_json::Value>);
type Check = fn(&serde_json::Value, &crate::schema::Path<'_>, &mut super::Errors);

/// The code of a type by its short name, such as `core.v1.PodSpec`.
pub(crate) fn of(definition: &str) -> Hooks {
    let (default, check): (Option<Default>, Option<Check>) = match definition {
        "meta.v1.LabelSelector" => (None, Some(labels::selector)),

        "core.v1.Container" | "core.v1.EphemeralContainer" => {
            (Some(pod::container::defaults), Some(container))
        }
        "core.v1.EnvFromSource" => (None, Some(pod::env::source)),
        "core.v1.EnvVar" => (None, Some(pod::env::variable)),
        "core.v1.DownwardAPIVolumeFile" => (None, Some(pod::volume::downward_file)),
        "core.v1.NodeSelector" => (None, Some(pod::scheduling::node_selector)),
        "core.v1.NodeSelectorRequirement" => (None, Some(pod::scheduling::node_requirement)),
        "core.v1.Pod" => (Some(pod::defaults), None),
        "core.v1.PodAffinityTerm" => (None, Some(pod::scheduling::pod_term)),
        "core.v1.PodSecurityContext" => (None, Some(pod::security::pod)),
        "core.v1.PodSpec" => (Some(pod::spec_defaults), Some(pod::spec::check)),
        "core.v1.PodTemplateSpec" => (None, Some(pod::check_template)),
        "core.v1.ResourceRequirements" => (None, Some(resources::requirements)),
        "core.v1.SecurityContext" => (None, Some(pod::security::container)),
        "core.v1.Toleration" => (None, Some(pod::scheduling::toleration)),
        "core.v1.Volume" => (Some(pod::volume::defaults), Some(pod::volume::check)),

        "core.v1.LimitRangeItem" => (Some(cluster::limit_defaults), Some(cluster::limit_item)),
        "core.v1.Namespace" => (Some(cluster::namespace_defaults), None),
        "core.v1.NodeSpec" => (None, Some(cluster::node_spec)),
        "core.v1.NodeStatus" => (Some(cluster::node_status_defaults), None),
        "core.v1.PersistentVolumeClaim" => (Some(volumes::claim_defaults), None),
        "core.v1.PersistentVolumeClaimSpec" => (
            Some(volumes::claim_spec_defaults),
            Some(volumes::claim_spec),
        ),
        "core.v1.PersistentVolumeSpec" => (None, Some(volumes::volume_spec)),
        "core.v1.ReplicationController" => (Some(workload::controller_defaults), None),
        "core.v1.ReplicationControllerSpec" => (None, Some(workload::replication_controller)),
        "core.v1.ResourceQuotaSpec" => (None, Some(cluster::quota_spec)),
        "core.v1.Secret" => (Some(config::secret_defaults), None),
        "core.v1.ServicePort" => (Some(service::port_defaults), None),
        "core.v1.ServiceSpec" => (Some(service::spec_defaults), Some(service::spec)),

        "apps.v1.DaemonSetSpec" => (None, Some(workload::daemon_set)),
        "apps.v1.DaemonSetUpdateStrategy"
        | "apps.v1.DeploymentStrategy"
        | "apps.v1.StatefulSetUpdateStrategy" => (Some(workload::rolling_defaults), None),
        "apps.v1.DeploymentSpec" => (None, Some(workload::deployment)),
        "apps.v1.ReplicaSetSpec" => (None, Some(workload::replica_set)),
        "apps.v1.StatefulSetSpec" => (None, Some(workload::stateful_set)),

        "batch.v1.CronJobSpec" => (None, Some(batch::cron_spec)),
        "batch.v1.Job" => (Some(batch::defaults), None),
        "batch.v1.JobSpec" => (Some(batch::spec_defaults), Some(batch::spec)),

        "autoscaling.v1.HorizontalPodAutoscalerSpec" => {
            (Some(autoscaling::v1_defaults), Some(autoscaling::spec))
        }
        "autoscaling.v2.HorizontalPodAutoscalerSpec" => {
            (Some(autoscaling::v2_defaults), Some(autoscaling::spec))
        }
        "policy.v1.PodDisruptionBudgetSpec" => (None, Some(autoscaling::budget_spec)),

        "networking.v1.IngressClassParametersReference" => (
            Some(networking::class_parameter_defaults),
            Some(networking::class_parameters),
        ),
        "networking.v1.IngressSpec" => (None, Some(networking::ingress_spec)),
        "networking.v1.NetworkPolicySpec" => (
            Some(networking::policy_defaults),
            Some(networking::policy_spec),
        ),

        "rbac.v1.Subject" => (Some(rbac::subject_defaults), None),
        "storage.v1.CSIDriverSpec" => (None, Some(volumes::driver_spec)),
        "storage.v1.VolumeAttachmentSpec" => (None, Some(volumes::attachment_spec)),
        "certificates.v1.CertificateSigningRequestSpec" => (None, Some(webhook::request_spec)),
        "admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec" => {
            (None, Some(webhook::binding_spec))
        }
        "admissionregistration.v1.ValidatingAdmissionPolicySpec" => {
            (None, Some(webhook::policy_spec))
        }
        "apiextensions.v1.CustomResourceDefinition" => (Some(crd::defaults), None),
        "apiextensions.v1.CustomResourceDefinitionNames" => (Some(crd::name_defaults), None),
        "flowcontrol.v1.PriorityLevelConfigurationSpec" => {
            (Some(devices::level_defaults), Some(devices::level))
        }
        "resource.v1.DeviceRequest" => (None, Some(devices::request)),
        "resource.v1.DeviceSubRequest" | "resource.v1.ExactDeviceRequest" => {
            (Some(devices::request_defaults), None)
        }
        _ => (None, None),
    };
    Hooks { default, check }
}

fn container(value: &serde_json::Value, at: &crate::schema::Path<'_>, out: &mut super::Errors) {
    pod::container::check(value, at, out);
    pod::probe::check(value, at, out);
}
