//! What a plugin is told about a write.

use serde_json::Value;

use super::{Notes, Round};
use crate::auth::UserInfo;
use crate::request::Options;

/// What a write does. `CONNECT` (exec, attach, proxy) writes nothing but is admitted too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object, or a subresource such as `binding` or `eviction`.
    Create,
    /// A change, by update, patch or apply.
    Update,
    /// A deletion.
    Delete,
    /// A connection to a pod, service or node.
    Connect,
}

impl Operation {
    /// The name the admission API has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// One write on its way through admission.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What is done.
    pub operation: Operation,
    /// Who does it.
    pub user: &'a UserInfo,
    /// API group; empty for the core group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Kind of the object in the body.
    pub kind: &'a str,
    /// Plural name in the path.
    pub resource: &'a str,
    /// Subresource in the path; empty for the object itself.
    pub subresource: &'a str,
    /// Empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Empty when the server is to generate it.
    pub name: &'a str,
    /// The stored object, for updates and deletes.
    pub old: Option<&'a Value>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The parameters of the verb, when the write came as a request of its own.
    pub(crate) options: Option<&'a Options>,
    /// The run of the mutating chain; none while validating.
    pub round: Option<&'a Round>,
    /// Takes warnings and audit annotations.
    pub notes: &'a Notes,
}

impl Request<'_> {
    /// Whether this is about the objects of `group`/`resource` themselves, not a subresource.
    pub(super) fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource && self.subresource.is_empty()
    }
}
