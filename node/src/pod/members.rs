//! The containers of a pod with the role each plays, and the small facts of a pod that many parts ask for.
use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to completion before the main containers.
    Init,
    /// An init container with `restartPolicy: Always`: started in order, kept running until the main ones are done.
    Sidecar,
    /// An ordinary container.
    Main,
    /// Added to a pod that runs, to look at it: started once, beside whatever else the pod does.
    Ephemeral,
}

/// A container of the pod in its role.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// Its declaration.
    pub container: Cow<'a, Container>,
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
            container: Cow::Borrowed(container),
            role: if sidecar { Role::Sidecar } else { Role::Init },
        }
    })
}

/// The main containers, in the order they start.
pub fn main_members(pod: &Pod) -> impl DoubleEndedIterator<Item = Member<'_>> {
    spec(pod).containers.iter().map(|container| Member {
        container: Cow::Borrowed(container),
        role: Role::Main,
    })
}

/// The ephemeral containers, in the order they were added.
pub fn ephemeral_members(pod: &Pod) -> impl Iterator<Item = Member<'_>> {
    let added = spec(pod).ephemeral_containers.iter().flatten();
    added.map(|added| Member {
        container: Cow::Owned(as_container(added)),
        role: Role::Ephemeral,
    })
}

/// The container whose processes an ephemeral one is to live among (`targetContainerName`).
pub fn target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let mut added = spec(pod).ephemeral_containers.iter().flatten();
    let target = added
        .find(|added| added.name == name)?
        .target_container_name
        .as_deref();
    target.filter(|target| !target.is_empty())
}

/// What an ephemeral container has of a container, which is all that concerns its process.
fn as_container(added: &EphemeralContainer) -> Container {
    let added = added.clone();
    Container {
        name: added.name,
        image: added.image,
        command: added.command,
        args: added.args,
        working_dir: added.working_dir,
        env: added.env,
        env_from: added.env_from,
        volume_mounts: added.volume_mounts,
        volume_devices: added.volume_devices,
        image_pull_policy: added.image_pull_policy,
        security_context: added.security_context,
        stdin: added.stdin,
        stdin_once: added.stdin_once,
        tty: added.tty,
        termination_message_path: added.termination_message_path,
        termination_message_policy: added.termination_message_policy,
        ..Container::default()
    }
}

/// Every container the pod is made of: init containers and sidecars, then the main ones.
pub fn members(pod: &Pod) -> impl Iterator<Item = Member<'_>> {
    init_members(pod).chain(main_members(pod))
}

/// Every container, those added later too.
pub fn everyone(pod: &Pod) -> impl Iterator<Item = Member<'_>> {
    members(pod).chain(ephemeral_members(pod))
}

/// The container of that name in any role.
pub fn member<'a>(pod: &'a Pod, name: &str) -> Option<Member<'a>> {
    everyone(pod).find(|member| member.name() == name)
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
