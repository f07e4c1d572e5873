//! What a request wants to do, in the words authorization uses.

use std::borrow::Cow;

/// One action to be authorized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// API verb (`get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`,
    /// or a special one such as `bind`); for a non-resource path the HTTP method in lower case.
    pub verb: &'a str,
    /// What the verb acts on.
    pub target: Target<'a>,
}

/// What an action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// An API resource.
    Resource(ResourceAttributes<'a>),
    /// Any other path of the server, such as `/healthz`.
    Path(&'a str),
}

/// The resource an action is about. Empty strings mean "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceAttributes<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Version of the request's path.
    pub version: &'a str,
    /// Plural name, such as `pods`.
    pub resource: &'a str,
    /// Such as `status`; empty for the object itself.
    pub subresource: &'a str,
    /// Empty for cluster-scoped objects and for requests over all namespaces.
    pub namespace: &'a str,
    /// Empty for create and for collections.
    pub name: &'a str,
    /// The field selector of a request for a collection, as it was sent; empty otherwise.
    pub field_selector: &'a str,
}

impl<'a> Attributes<'a> {
    /// An action on an API resource.
    pub fn resource(verb: &'a str, resource: ResourceAttributes<'a>) -> Self {
        Self {
            verb,
            target: Target::Resource(resource),
        }
    }

    /// A request for a path outside the API groups; `verb` is the lower-case HTTP method.
    pub fn path(verb: &'a str, path: &'a str) -> Self {
        Self {
            verb,
            target: Target::Path(path),
        }
    }

    /// The same action on those objects of a collection that a field selector chooses. Verbs for single objects choose
    /// nothing by it, so it is not told of them.
    #[must_use]
    pub fn selected_by(mut self, field_selector: &'a str) -> Self {
        let chooses = matches!(self.verb, "list" | "watch" | "deletecollection");
        if let (Target::Resource(target), true) = (&mut self.target, chooses) {
            target.field_selector = field_selector;
        }
        self
    }

    /// Whether the action only reads.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch")
    }
}

impl<'a> ResourceAttributes<'a> {
    /// `resource` or `resource/subresource`, as rules spell it.
    pub fn qualified(&self) -> Cow<'a, str> {
        if self.subresource.is_empty() {
            Cow::Borrowed(self.resource)
        } else {
            Cow::Owned(format!("{}/{}", self.resource, self.subresource))
        }
    }
}

/// The answer of an authorizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The action is allowed; `reason` names what allowed it.
    Allow {
        /// Such as `RBAC: allowed by ClusterRoleBinding "x" of ClusterRole "y" to User "z"`.
        reason: String,
    },
    /// Nothing allows the action.
    NoOpinion {
        /// Why, when there is something to say.
        reason: String,
    },
    /// The action is refused whatever other authorizers say.
    Deny {
        /// Why.
        reason: String,
    },
}

impl Decision {
    /// Whether the action may go on.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }

    /// What the authorizer had to say; may be empty.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow { reason } | Self::NoOpinion { reason } | Self::Deny { reason } => reason,
        }
    }
}
