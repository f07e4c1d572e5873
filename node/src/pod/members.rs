//! The containers of a pod with the role each plays, and the small facts of a pod that many parts ask for.
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to completion before the main containers.
    Init,
    /// An init container with `restartPolicy: Always`: started in order, kept running until the main ones are done.
    Sidecar,
    /// An ordinary container.
    Main,
}

/// A container of the pod in its role.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Its declaration.
    pub container: &'a Container,
    /// Its part in the pod's life.
    pub role: Role,
}

impl Member<'_> {
    /// The container's name, unique in the pod over all roles.
    pub fn name(&self) -> &str {
        &self.container.name
    }
}

static NO_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

/// The pod's spec; an absent one reads as empty.
pub fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap_or(&NO_SPEC)
}

/// Init containers and sidecars, in the order they start.
pub fn init_members(pod: &Pod) -> impl DoubleEndedIterator<Item = Member<'_>> {
    spec(pod).init_containers.iter().flatten().map(|container| {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        Member {
            container,
            role: if sidecar { Role::Sidecar } else { Role::Init },
        }
    })
}

/// The main containers, in the order they start.
pub fn main_members(pod: &Pod) -> impl DoubleEndedIterator<Item = Member<'_>> {
    spec(pod).containers.iter().map(|container| Member {
        container,
        role: Role::Main,
    })
}

/// Every container: init containers and sidecars, then the main ones.
pub fn members(pod: &Pod) -> impl Iterator<Item = Member<'_>> {
    init_members(pod).chain(main_members(pod))
}

/// The container of that name in any role.
pub fn member<'a>(pod: &'a Pod, name: &str) -> Option<Member<'a>> {
    members(pod).find(|member| member.name() == name)
}

/// The pod's namespace.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// The pod's name.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's UID, the key of everything it owns on the node.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The pod as kubelet prints it in messages: `name_namespace(uid)`.
pub fn display(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// Seconds a pod gets to end by itself, when its deletion names none.
pub fn grace_seconds(pod: &Pod) -> i64 {
    spec(pod).termination_grace_period_seconds.unwrap_or(30)
}
