//! Admission and fairness: admissionregistration, flowcontrol.

use super::cells;
use super::entry::{Entry, Sub};
use crate::admission::TypeChecked;

const ADMISSION: &str = "admissionregistration.k8s.io";
const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const EXTENSIONS: &[&str] = &["api-extensions"];

const fn admission(kind: &'static str, plural: &'static str) -> Entry {
    Entry::cluster(ADMISSION, "v1", kind, plural).categories(EXTENSIONS)
}

pub(super) const ENTRIES: &[Entry] = &[
    admission("MutatingAdmissionPolicy", "mutatingadmissionpolicies")
        .columns(cells::MUTATING_POLICY),
    admission(
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
    )
    .columns(cells::POLICY_BINDING),
    admission(
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
    )
    .columns(cells::WEBHOOKS),
    admission("ValidatingAdmissionPolicy", "validatingadmissionpolicies")
        .sub(&[Sub::Status])
        .columns(cells::VALIDATING_POLICY)
        .companion(&TypeChecked),
    admission(
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
    )
    .columns(cells::POLICY_BINDING),
    admission(
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
    )
    .columns(cells::WEBHOOKS),
    Entry::cluster(FLOW, "v1", "FlowSchema", "flowschemas")
        .sub(&[Sub::Status])
        .columns(cells::FLOW_SCHEMA),
    Entry::cluster(
        FLOW,
        "v1",
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
    )
    .sub(&[Sub::Status])
    .columns(cells::PRIORITY_LEVEL),
];
