//! Subresources as data: their names, verbs and the kinds they speak.

use std::sync::Arc;

use super::verbs::{Verb, Verbs};

/// Where the numbers of a scalable kind live, as dotted paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: Arc<str>,
    pub status_replicas: Arc<str>,
    /// A string selector (CRDs) or a LabelSelector / map (built-in kinds).
    pub selector: Option<Arc<str>>,
}

/// A path below an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subresource {
    /// The whole object; only `status` (and metadata that controllers own) is written.
    Status,
    /// `autoscaling/v1` Scale as a view of replica counts.
    Scale(ScalePaths),
    /// Pod: bind to a node.
    Binding,
    /// Pod: delete through the disruption budget.
    Eviction,
    /// Pod: add ephemeral containers.
    EphemeralContainers,
    /// Pod: change resources in place.
    Resize,
    /// Pod: its log, from the node.
    Log,
    Exec,
    Attach,
    PortForward,
    /// Pod, Service, Node: plain HTTP through the server.
    Proxy,
    /// ServiceAccount: issue a bound token.
    Token,
    /// Namespace: write `spec.finalizers`.
    Finalize,
    /// CertificateSigningRequest: write the approval conditions.
    Approval,
}

/// Kind, group and version a subresource speaks where they are not its parent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaks {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
}

const fn speaks(group: &'static str, version: &'static str, kind: &'static str) -> Option<Speaks> {
    Some(Speaks {
        group,
        version,
        kind,
    })
}

impl Subresource {
    /// Its path segment.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale(_) => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Resize => "resize",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Proxy => "proxy",
            Self::Token => "token",
            Self::Finalize => "finalize",
            Self::Approval => "approval",
        }
    }

    /// The verbs discovery lists for it.
    pub fn verbs(&self) -> Verbs {
        const GET_PATCH_UPDATE: Verbs = Verbs::of(&[Verb::Get, Verb::Patch, Verb::Update]);
        match self {
            Self::Status
            | Self::Scale(_)
            | Self::EphemeralContainers
            | Self::Resize
            | Self::Approval => GET_PATCH_UPDATE,
            Self::Binding | Self::Eviction | Self::Token => Verbs::CREATE,
            Self::Log => Verbs::of(&[Verb::Get]),
            Self::Exec | Self::Attach | Self::PortForward => Verbs::of(&[Verb::Create, Verb::Get]),
            Self::Proxy => Verbs::of(&[
                Verb::Create,
                Verb::Delete,
                Verb::Get,
                Verb::Patch,
                Verb::Update,
            ]),
            Self::Finalize => Verbs::of(&[Verb::Update]),
        }
    }

    /// The kind it speaks; `None` for its parent's kind.
    pub fn speaks(&self, parent: &str) -> Option<Speaks> {
        match (self, parent) {
            (Self::Scale(_), _) => speaks("autoscaling", "v1", "Scale"),
            (Self::Binding, _) => speaks("", "v1", "Binding"),
            (Self::Eviction, _) => speaks("policy", "v1", "Eviction"),
            (Self::Token, _) => speaks("authentication.k8s.io", "v1", "TokenRequest"),
            (Self::Exec, _) => speaks("", "v1", "PodExecOptions"),
            (Self::Attach, _) => speaks("", "v1", "PodAttachOptions"),
            (Self::PortForward, _) => speaks("", "v1", "PodPortForwardOptions"),
            (Self::Proxy, "Pod") => speaks("", "v1", "PodProxyOptions"),
            (Self::Proxy, "Service") => speaks("", "v1", "ServiceProxyOptions"),
            (Self::Proxy, _) => speaks("", "v1", "NodeProxyOptions"),
            _ => None,
        }
    }
}
