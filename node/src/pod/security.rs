//! Who a container runs as and how it is confined, from the pod's and its own security context.
use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};

use super::members;
use crate::runtime::identity::{self, Named};
use crate::runtime::{Seccomp, Security, User};

/// Why a container must not run as it asks. The messages are those users know from kubelet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `runAsNonRoot` with `runAsUser: 0`.
    #[error(
        "container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})"
    )]
    RootAsked {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
    /// `runAsNonRoot`, and the image runs as root.
    #[error(
        "container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})"
    )]
    RootImage {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
    /// `runAsNonRoot`, and the image names its user by name; give `runAsUser` a number.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root \
         (pod: \"{pod}\", container: {container})"
    )]
    NamedUser {
        /// The image's user.
        user: String,
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
    /// A number no user or group can have.
    #[error(
        "{field} of container {container} is {value}; a user or group is a number from 0 to 4294967294"
    )]
    Id {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i64,
        /// The container.
        container: String,
    },
    /// An unknown seccomp profile type, or one without its file.
    #[error("seccomp profile of container {container}: {problem}")]
    Seccomp {
        /// What is wrong and what would be right.
        problem: String,
        /// The container.
        container: String,
    },
}

/// Which profile a container's system calls are filtered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeccompChoice {
    /// davit's default.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A file beneath the node's seccomp directory.
    File(String),
}

/// The user of a container whose image names `image_user` (empty: root).
///
/// # Errors
/// `runAsNonRoot` is not kept, or an id is out of range.
pub fn user(pod: &Pod, container: &Container, image_user: &str) -> Result<User, Refusal> {
    let pod_context = members::spec(pod).security_context.as_ref();
    let own = container.security_context.as_ref();
    let uid = own
        .and_then(|own| own.run_as_user)
        .or_else(|| pod_context.and_then(|pod| pod.run_as_user));
    let gid = own
        .and_then(|own| own.run_as_group)
        .or_else(|| pod_context.and_then(|pod| pod.run_as_group));
    let non_root = own
        .and_then(|own| own.run_as_non_root)
        .or_else(|| pod_context.and_then(|pod| pod.run_as_non_root))
        .unwrap_or(false);
    if non_root {
        verify_non_root(pod, container, uid, image_user)?;
    }
    let id = |field: &'static str, value: i64| {
        let container = container.name.clone();
        u32::try_from(value)
            .ok()
            .filter(|id| *id != u32::MAX)
            .ok_or(Refusal::Id {
                field,
                value,
                container,
            })
    };
    let groups = pod_context.into_iter().flat_map(|pod| {
        pod.supplemental_groups
            .iter()
            .flatten()
            .chain(&pod.fs_group)
    });
    Ok(User {
        name: (uid.is_none() && !image_user.is_empty()).then(|| image_user.to_owned()),
        uid: uid.map(|uid| id("runAsUser", uid)).transpose()?,
        gid: gid.map(|gid| id("runAsGroup", gid)).transpose()?,
        additional_gids: groups
            .map(|gid| id("supplementalGroups", *gid))
            .collect::<Result<_, _>>()?,
        strict_groups: pod_context.and_then(|pod| pod.supplemental_groups_policy.as_deref())
            == Some("Strict"),
        not_root: non_root,
    })
}

fn verify_non_root(
    pod: &Pod,
    container: &Container,
    uid: Option<i64>,
    image_user: &str,
) -> Result<(), Refusal> {
    let (pod, container) = (members::display(pod), container.name.clone());
    let (image_user, _) = identity::halves(image_user);
    match (uid, identity::named(image_user)) {
        (Some(0), _) => Err(Refusal::RootAsked { pod, container }),
        (Some(_), _) => Ok(()),
        (None, Ok(Named::Nothing | Named::Number(0))) => Err(Refusal::RootImage { pod, container }),
        (None, Ok(Named::Number(_))) => Ok(()),
        (None, Ok(Named::Name(_)) | Err(_)) => Err(Refusal::NamedUser {
            user: image_user.to_owned(),
            pod,
            container,
        }),
    }
}

/// Which system call filter a container asks for; davit's default when neither it nor its pod says.
///
/// # Errors
/// The type is unknown, or `Localhost` without a file.
pub fn seccomp(pod: &Pod, container: &Container) -> Result<SeccompChoice, Refusal> {
    let own = container.security_context.as_ref();
    if own.and_then(|own| own.privileged).unwrap_or(false) {
        return Ok(SeccompChoice::Unconfined);
    }
    let pod_profile = members::spec(pod)
        .security_context
        .as_ref()
        .and_then(|pod| pod.seccomp_profile.as_ref());
    let Some(profile) = own
        .and_then(|own| own.seccomp_profile.as_ref())
        .or(pod_profile)
    else {
        return Ok(SeccompChoice::RuntimeDefault);
    };
    choice(profile).map_err(|problem| Refusal::Seccomp {
        problem,
        container: container.name.clone(),
    })
}

fn choice(profile: &SeccompProfile) -> Result<SeccompChoice, String> {
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("RuntimeDefault", _) => Ok(SeccompChoice::RuntimeDefault),
        ("Unconfined", _) => Ok(SeccompChoice::Unconfined),
        ("Localhost", Some(file)) if !file.is_empty() => Ok(SeccompChoice::File(file.to_owned())),
        ("Localhost", _) => Err("localhostProfile must be set if the type is Localhost".to_owned()),
        (other, _) => Err(format!(
            "unknown type \"{other}\"; use RuntimeDefault, Unconfined or Localhost"
        )),
    }
}

/// The confinement of a container with the filter that was chosen for it.
pub fn security(container: &Container, seccomp: Seccomp) -> Security {
    let Some(own) = container.security_context.as_ref() else {
        return Security {
            seccomp,
            ..Security::default()
        };
    };
    let capabilities = own.capabilities.clone().unwrap_or_default();
    Security {
        privileged: own.privileged.unwrap_or(false),
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        seccomp,
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(pod_context: Value, context: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "ns", "uid": "u" },
            "spec": {
                "securityContext": pod_context,
                "containers": [{ "name": "a", "securityContext": context }],
            },
        }))
        .unwrap()
    }

    fn first(pod: &Pod) -> &Container {
        &pod.spec.as_ref().unwrap().containers[0]
    }

    #[test]
    fn users_come_from_the_container_then_the_pod_then_the_image() {
        let cases = [
            (json!({}), json!({}), "", (None, None, None)),
            (
                json!({}),
                json!({}),
                "www:www",
                (Some("www:www"), None, None),
            ),
            (
                json!({ "runAsUser": 5, "runAsGroup": 6 }),
                json!({}),
                "www",
                (None, Some(5), Some(6)),
            ),
            (
                json!({ "runAsUser": 5 }),
                json!({ "runAsUser": 7 }),
                "www",
                (None, Some(7), None),
            ),
            (
                json!({}),
                json!({ "runAsGroup": 8 }),
                "www",
                (Some("www"), None, Some(8)),
            ),
        ];
        for (pod_context, context, image, (name, uid, gid)) in cases {
            let pod = pod(pod_context, context);
            let user = user(&pod, first(&pod), image).unwrap();
            assert_eq!((user.name.as_deref(), user.uid, user.gid), (name, uid, gid));
            assert!(!user.not_root && !user.strict_groups);
        }
        let pod = pod(
            json!({ "supplementalGroups": [1, 2], "fsGroup": 3 }),
            json!({}),
        );
        assert_eq!(
            user(&pod, first(&pod), "").unwrap().additional_gids,
            [1, 2, 3]
        );
        let strict = json!({ "supplementalGroupsPolicy": "Strict", "runAsNonRoot": true });
        let pod = self::pod(strict, json!({}));
        let user = user(&pod, first(&pod), "5").unwrap();
        assert!(user.strict_groups && user.not_root);
    }

    #[test]
    fn run_as_non_root_is_kept() {
        let cases = [
            (json!({}), "", Some("image will run as root")),
            (json!({}), "0:5", Some("image will run as root")),
            (json!({}), "nobody", Some("non-numeric user (nobody)")),
            (json!({}), "65534", None),
            (json!({}), "1000:0", None),
            (json!({}), "+0", Some("image will run as root")),
            (json!({}), "-0", Some("image will run as root")),
            (json!({}), ":5", Some("image will run as root")),
            (json!({}), "00", Some("image will run as root")),
            (json!({}), "99999999999", Some("non-numeric user")),
            (
                json!({ "runAsUser": 0 }),
                "65534",
                Some("breaks non-root policy"),
            ),
            (json!({ "runAsUser": 1 }), "", None),
            (json!({ "runAsNonRoot": false }), "", None),
        ];
        for (context, image, expected) in cases {
            let pod = pod(json!({ "runAsNonRoot": true }), context.clone());
            let said = user(&pod, first(&pod), image)
                .err()
                .map(|error| error.to_string());
            match (expected, said) {
                (None, None) => {}
                (Some(expected), Some(said)) => assert!(said.contains(expected), "{said}"),
                (expected, said) => panic!("{context} {image}: {expected:?} {said:?}"),
            }
        }
    }

    #[test]
    fn ids_out_of_range_are_refused() {
        for value in [-1i64, 4_294_967_295, 4_294_967_296] {
            let pod = pod(json!({}), json!({ "runAsUser": value }));
            assert!(
                matches!(user(&pod, first(&pod), ""), Err(Refusal::Id { .. })),
                "{value}"
            );
        }
    }

    #[test]
    fn filters_default_to_confined() {
        let profile = |type_: &str| json!({ "seccompProfile": { "type": type_ } });
        let file =
            json!({ "seccompProfile": { "type": "Localhost", "localhostProfile": "p.json" } });
        let cases = [
            (json!({}), json!({}), Some(SeccompChoice::RuntimeDefault)),
            (
                profile("Unconfined"),
                json!({}),
                Some(SeccompChoice::Unconfined),
            ),
            (
                profile("Unconfined"),
                profile("RuntimeDefault"),
                Some(SeccompChoice::RuntimeDefault),
            ),
            (json!({}), file, Some(SeccompChoice::File("p.json".into()))),
            (
                json!({}),
                json!({ "privileged": true }),
                Some(SeccompChoice::Unconfined),
            ),
            (json!({}), profile("Localhost"), None),
            (json!({}), profile(""), None),
        ];
        for (pod_context, context, expected) in cases {
            let pod = pod(pod_context, context);
            assert_eq!(seccomp(&pod, first(&pod)).ok(), expected);
        }
    }

    #[test]
    fn capabilities_and_privileges_are_passed_on() {
        let pod = pod(
            json!({}),
            json!({ "allowPrivilegeEscalation": false, "capabilities": { "add": ["NET_ADMIN"], "drop": ["ALL"] } }),
        );
        let security = security(first(&pod), Seccomp::RuntimeDefault);
        assert!(security.no_new_privileges && !security.privileged);
        assert_eq!(
            (
                &security.add_capabilities[..],
                &security.drop_capabilities[..]
            ),
            (&["NET_ADMIN".to_owned()][..], &["ALL".to_owned()][..])
        );
    }
}
