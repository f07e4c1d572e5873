//! Who may do what: rbac, authentication, authorization, certificates.

use super::cells;
use super::entry::{Entry, Sub};
use super::field::text;

const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHN: &str = "authentication.k8s.io";
const AUTHZ: &str = "authorization.k8s.io";

pub(super) const ENTRIES: &[Entry] = &[
    Entry::review(AUTHN, "v1", "SelfSubjectReview", "selfsubjectreviews"),
    Entry::review(AUTHN, "v1", "TokenReview", "tokenreviews"),
    Entry::review(
        AUTHZ,
        "v1",
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
    )
    .local(),
    Entry::review(
        AUTHZ,
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
    ),
    Entry::review(
        AUTHZ,
        "v1",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
    ),
    Entry::review(AUTHZ, "v1", "SubjectAccessReview", "subjectaccessreviews"),
    Entry::cluster(
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
    )
    .short(&["csr"])
    .sub(&[Sub::Approval, Sub::Status])
    .columns(cells::SIGNING_REQUEST)
    .fields(&[text("spec.signerName")]),
    Entry::cluster(
        "certificates.k8s.io",
        "v1",
        "ClusterTrustBundle",
        "clustertrustbundles",
    )
    .columns(cells::TRUST_BUNDLE)
    .fields(&[text("spec.signerName")]),
    Entry::namespaced(
        "certificates.k8s.io",
        "v1",
        "PodCertificateRequest",
        "podcertificaterequests",
    )
    .sub(&[Sub::Status])
    .fields(&[text("spec.signerName"), text("spec.nodeName")]),
    Entry::cluster(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings")
        .columns(cells::ROLE_BINDING),
    Entry::cluster(RBAC, "v1", "ClusterRole", "clusterroles"),
    Entry::namespaced(RBAC, "v1", "RoleBinding", "rolebindings").columns(cells::ROLE_BINDING),
    Entry::namespaced(RBAC, "v1", "Role", "roles"),
];
