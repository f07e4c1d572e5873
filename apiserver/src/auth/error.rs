//! Why a request was turned away before it reached a handler.

use super::{Attributes, Target, UserInfo};

/// A refusal. The HTTP conversion of the server turns it into a `Status` object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 401: there were no credentials, or none that is valid. Retrying with the same ones is useless.
    #[error("Unauthorized")]
    Unauthorized {
        /// For the log; clients are not told which check failed.
        reason: String,
    },
    /// 403: the user is known and may not do this.
    #[error("{message}")]
    Forbidden {
        /// API group of the resource, empty for the core group and for paths.
        group: String,
        /// Plural name of the resource, empty for paths.
        resource: String,
        /// Name of the object, if the request has one.
        name: String,
        /// The whole message, as Kubernetes words it.
        message: String,
    },
    /// 400: headers or a review object that make no sense.
    #[error("{message}")]
    BadRequest {
        /// What is wrong.
        message: String,
    },
    /// 404: an object the request needs is missing.
    #[error("{resource} \"{name}\" not found")]
    NotFound {
        /// API group of the resource.
        group: String,
        /// Plural name of the resource.
        resource: String,
        /// Name of the missing object.
        name: String,
    },
    /// 409: an object the request names is no longer the one meant.
    #[error("{message}")]
    Conflict {
        /// API group of the resource.
        group: String,
        /// Plural name of the resource.
        resource: String,
        /// Name of the object.
        name: String,
        /// The whole message.
        message: String,
    },
    /// 422: a field of a review or token request has a wrong value.
    #[error("{kind} \"{name}\" is invalid: {field}: {detail}")]
    Invalid {
        /// Kind of the object in the request's body.
        kind: &'static str,
        /// Its name, may be empty.
        name: String,
        /// Path of the field.
        field: String,
        /// What is wrong with it, beginning with Kubernetes' error type (`Invalid value: …`).
        detail: String,
    },
    /// 500: the server could not do its part.
    #[error("{message}")]
    Internal {
        /// What failed.
        message: String,
    },
}

impl Error {
    /// The 403 of an action that no authorizer allowed, worded as the Kubernetes API server does.
    pub fn forbidden(user: &UserInfo, attributes: &Attributes<'_>, reason: &str) -> Self {
        let why = refusal(user, attributes);
        let colon = if reason.is_empty() { "" } else { ": " };
        match attributes.target {
            Target::Path(_) => Self::Forbidden {
                group: String::new(),
                resource: String::new(),
                name: String::new(),
                message: format!("forbidden: {why}{colon}{reason}"),
            },
            Target::Resource(target) => {
                let qualified = if target.group.is_empty() {
                    target.resource.to_owned()
                } else {
                    format!("{}.{}", target.resource, target.group)
                };
                let object = if target.name.is_empty() {
                    qualified
                } else {
                    format!("{qualified} \"{}\"", target.name)
                };
                Self::Forbidden {
                    group: target.group.to_owned(),
                    resource: target.resource.to_owned(),
                    name: target.name.to_owned(),
                    message: format!("{object} is forbidden: {why}{colon}{reason}"),
                }
            }
        }
    }

    /// A 401 whose cause is only logged.
    pub(crate) fn unauthorized(reason: impl Into<String>) -> Self {
        Self::Unauthorized {
            reason: reason.into(),
        }
    }
}

/// `User "x" cannot list resource "pods" in API group "" in the namespace "y"`.
fn refusal(user: &UserInfo, attributes: &Attributes<'_>) -> String {
    let who = format!("User {:?} cannot {}", user.name, attributes.verb);
    match attributes.target {
        Target::Path(path) => format!("{who} path {path:?}"),
        Target::Resource(target) => {
            let scope = if target.namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {:?}", target.namespace)
            };
            format!(
                "{who} resource {:?} in API group {:?} {scope}",
                target.qualified(),
                target.group
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ResourceAttributes;

    #[test]
    fn messages_are_those_of_kubernetes() {
        let user = UserInfo::new("bob", Vec::<String>::new());
        let list = ResourceAttributes {
            version: "v1",
            resource: "pods",
            namespace: "default",
            ..Default::default()
        };
        let get_log = ResourceAttributes {
            subresource: "log",
            name: "web",
            ..list
        };
        let nodes = ResourceAttributes {
            group: "apps",
            resource: "x",
            ..Default::default()
        };
        let cases = [
            (
                Attributes::resource("list", list),
                r#"pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "default""#,
            ),
            (
                Attributes::resource("get", get_log),
                r#"pods "web" is forbidden: User "bob" cannot get resource "pods/log" in API group "" in the namespace "default""#,
            ),
            (
                Attributes::resource("watch", nodes),
                r#"x.apps is forbidden: User "bob" cannot watch resource "x" in API group "apps" at the cluster scope"#,
            ),
            (
                Attributes::path("get", "/metrics"),
                r#"forbidden: User "bob" cannot get path "/metrics""#,
            ),
        ];
        for (attributes, expected) in cases {
            assert_eq!(
                Error::forbidden(&user, &attributes, "").to_string(),
                expected
            );
        }
    }
}
