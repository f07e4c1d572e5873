//! The identity a request acts with.

use std::collections::BTreeMap;
use std::sync::Arc;

/// An authenticated identity, as in `authentication.k8s.io/v1` `UserInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The name that uniquely identifies this user among all active users.
    pub name: String,
    /// Distinguishes users of the same name over time; empty when the source has none.
    pub uid: String,
    /// The groups the user is in, each once.
    pub groups: Vec<String>,
    /// More facts the authenticator knows, such as the pod a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Request extension that names the user of a request made inside the process.
///
/// Extensions cannot come from the wire, so whoever can set this one is part of the server.
#[derive(Clone, Debug)]
pub struct InProcessUser(pub Arc<UserInfo>);

/// Well-known user names.
pub mod users {
    /// A request without credentials on a path that is open to everybody.
    pub const ANONYMOUS: &str = "system:anonymous";
    /// The user of the admin kubeconfig.
    pub const ADMIN: &str = "kubernetes-admin";
    /// The API server when it calls a node.
    pub const API_SERVER: &str = "davit:apiserver";
    /// The API server when it hands a request to an extension API server.
    pub const FRONT_PROXY: &str = "front-proxy-client";
    /// The controllers.
    pub const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
    /// The scheduler.
    pub const SCHEDULER: &str = "system:kube-scheduler";
    /// Prefix of a node's user name; the node's name follows.
    pub const NODE_PREFIX: &str = "system:node:";
    /// Prefix of a service account's user name; `<namespace>:<name>` follows.
    pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
}

/// Well-known group names.
pub mod groups {
    /// Every authenticated user is in it.
    pub const AUTHENTICATED: &str = "system:authenticated";
    /// The only group of an anonymous request.
    pub const UNAUTHENTICATED: &str = "system:unauthenticated";
    /// Members may do everything; authorization is not asked.
    pub const MASTERS: &str = "system:masters";
    /// Nodes; the node authorizer applies to its members.
    pub const NODES: &str = "system:nodes";
    /// All service accounts; with `:<namespace>` appended those of one namespace.
    pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
    /// Clients of the nodes' own API: this server. No role is bound to it.
    pub const NODE_CLIENTS: &str = "davit:node-clients";
    /// Users of bootstrap tokens.
    pub const BOOTSTRAPPERS: &str = "system:bootstrappers";
}

impl UserInfo {
    /// An authenticated user: `system:authenticated` is added to `groups`.
    pub fn new<G: Into<String>>(
        name: impl Into<String>,
        groups: impl IntoIterator<Item = G>,
    ) -> Self {
        let mut user = Self {
            name: name.into(),
            groups: groups.into_iter().map(Into::into).collect(),
            ..Self::default()
        };
        user.add_group(self::groups::AUTHENTICATED);
        user
    }

    /// The user of requests without credentials.
    pub fn anonymous() -> Self {
        Self {
            name: users::ANONYMOUS.to_owned(),
            groups: vec![groups::UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// The identity of the node called `name`.
    pub fn node(name: &str) -> Self {
        Self::new(format!("{}{name}", users::NODE_PREFIX), [groups::NODES])
    }

    /// The identity of a service account, without the facts its token adds.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::new(
            format!("{}{namespace}:{name}", users::SERVICE_ACCOUNT_PREFIX),
            [
                groups::SERVICE_ACCOUNTS.to_owned(),
                format!("{}:{namespace}", groups::SERVICE_ACCOUNTS),
            ],
        )
    }

    /// Whether the user is in `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|have| have == group)
    }

    /// The namespace and name when this is a service account.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        self.name
            .strip_prefix(users::SERVICE_ACCOUNT_PREFIX)?
            .split_once(':')
    }

    /// The node's name when this is a node's identity: the user name and the group must both say so.
    pub fn as_node(&self) -> Option<&str> {
        let name = self.name.strip_prefix(users::NODE_PREFIX)?;
        (self.in_group(groups::NODES) && !name.is_empty()).then_some(name)
    }

    /// Adds `group` unless the user is in it.
    pub(crate) fn add_group(&mut self, group: &str) {
        if !self.in_group(group) {
            self.groups.push(group.to_owned());
        }
    }
}
