//! The table of resources: one entry a kind, built in or registered by a CRD at run time.
//!
//! Handlers never match on a kind's name. What differs between kinds is data in its entry: verbs,
//! subresources, printer columns, selectable fields, the schema, and a small strategy.

mod access;
pub(crate) mod cells;
mod cluster;
mod core;
mod drivers;
mod entry;
mod field;
mod network;
mod policies;
mod registry;
mod subresource;
mod verbs;
mod workloads;

use std::fmt;
use std::sync::{Arc, OnceLock};

pub(crate) use entry::{Entry, Review};
pub use field::Field;
pub use registry::{Group, Registry, Snapshot, Version};
pub use subresource::{ScalePaths, Subresource};
pub use verbs::{Verb, Verbs};

use serde_json::Value;

use crate::ApiServer;
use crate::convert::Conversion;
use crate::error::StatusError;
use crate::schema::Schema;
use crate::storage::Txn;
use crate::strategy::{self, CustomOptions, Strategy};
use crate::table::PrinterColumn;

/// One servable resource: a kind at a version with its place in the store.
///
/// Shared behind `Arc`; replaced as a whole when a CRD changes.
pub struct Resource {
    /// API group, empty for core.
    pub group: Arc<str>,
    pub version: Arc<str>,
    pub kind: Arc<str>,
    pub list_kind: Arc<str>,
    pub plural: Arc<str>,
    pub singular: Arc<str>,
    pub short_names: Vec<Arc<str>>,
    pub categories: Vec<Arc<str>>,
    pub namespaced: bool,
    pub verbs: Verbs,
    pub subresources: Vec<Subresource>,
    /// Printer columns for `Table` answers.
    pub columns: Vec<PrinterColumn>,
    /// Dotted paths besides `metadata.name` and `metadata.namespace` that field selectors may name.
    pub fields: Arc<[Field]>,
    /// Prefix of its keys in the store, `/registry/<group or core>/<plural>/`.
    pub prefix: Arc<str>,
    /// How stored objects become this version and back; `None` when stored as they are served.
    pub conversion: Option<Arc<dyn Conversion>>,
    /// `group/version` of what is stored; discovery tells its hash.
    pub stored: Arc<str>,
    /// Create-only kinds that are answered at once and never stored.
    pub(crate) review: Option<Review>,
    pub(crate) companion: Option<&'static dyn Companion>,
    /// Whether a deletion is answered with the object as it was, as Kubernetes does for some kinds.
    pub(crate) returns_deleted: bool,
    /// Whether dependents are kept unless a deletion says otherwise: the oldest kinds never cared for them.
    pub(crate) orphans: bool,
    /// What the CRD that defined it says beyond the above; `None` for built-in kinds.
    pub custom: Option<Arc<Custom>>,
    pub(crate) strategy: OnceLock<Arc<dyn Strategy>>,
    pub(crate) schema: OnceLock<Arc<Schema>>,
}

/// What the server itself decides about a kind's objects and writes along with them.
pub(crate) trait Companion: Sync {
    /// Completes `new` (absent: the object goes away) and says what else is compared and written in the
    /// same transaction. Runs after validation; `old` is what is stored.
    fn plan(
        &self,
        server: &ApiServer,
        old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Txn, StatusError>;

    /// Runs after the transaction, before the client is answered.
    fn written(&self, server: &ApiServer) {
        let _ = server;
    }
}

/// The part of a CRD that only custom resources have.
#[derive(Debug)]
pub struct Custom {
    /// Name of the CustomResourceDefinition.
    pub definition: Arc<str>,
    /// Its uid, so that a definition made again under the same name is told apart.
    pub uid: Arc<str>,
    /// Instances may no longer be made: the definition is being deleted.
    pub terminating: bool,
    /// The version's `openAPIV3Schema`, for the OpenAPI documents.
    pub schema: Value,
}

impl Resource {
    /// `pods`, `deployments.apps`: how messages name the resource.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_string()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `v1`, `apps/v1`: the `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `Pod`, `Deployment.apps`: how validation messages name the kind.
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() {
            self.kind.to_string()
        } else {
            format!("{}.{}", self.kind, self.group)
        }
    }

    /// Key of one object in the store.
    pub fn key(&self, namespace: &str, name: &str) -> Arc<str> {
        if self.namespaced {
            format!("{}{namespace}/{name}", self.prefix).into()
        } else {
            format!("{}{name}", self.prefix).into()
        }
    }

    /// Prefix of the keys of one namespace, or of all when `namespace` is empty.
    pub fn prefix_in(&self, namespace: &str) -> Arc<str> {
        if self.namespaced && !namespace.is_empty() {
            format!("{}{namespace}/", self.prefix).into()
        } else {
            self.prefix.clone()
        }
    }

    /// The subresource of that name, if the resource has it.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources
            .iter()
            .find(|subresource| subresource.name() == name)
    }

    /// Whether status is written through `/status` only.
    pub fn has_status(&self) -> bool {
        self.subresources.contains(&Subresource::Status)
    }

    /// Its schema, compiled at first use. A built-in kind that Kubernetes does not know keeps everything.
    pub fn schema(&self) -> &Arc<Schema> {
        self.schema.get_or_init(|| {
            Schema::builtin(&self.group, &self.version, &self.kind)
                .unwrap_or_else(|| Schema::open(&self.group, &self.version, &self.kind))
        })
    }

    /// Defaults, preparation and validation of its objects.
    pub fn strategy(&self) -> &dyn Strategy {
        let strategy = self.strategy.get_or_init(|| {
            strategy::builtin(&self.group, &self.version, &self.kind).unwrap_or_else(|| self.lax())
        });
        &**strategy
    }

    /// The strategy of a kind without a schema: everything is kept, metadata is checked.
    fn lax(&self) -> Arc<dyn Strategy> {
        let options = CustomOptions {
            namespaced: self.namespaced,
            status: self.has_status(),
        };
        strategy::custom(self.schema().clone(), options)
    }

    /// True for the resource of this group and plural, whatever the version.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        &*self.group == group && &*self.plural == plural
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("api_version", &self.api_version())
            .field("plural", &self.plural)
            .finish_non_exhaustive()
    }
}

/// Every built-in kind of Kubernetes 1.37, core first.
pub(crate) fn table() -> impl Iterator<Item = Entry> {
    [
        core::ENTRIES,
        workloads::ENTRIES,
        network::ENTRIES,
        drivers::ENTRIES,
        access::ENTRIES,
        cluster::ENTRIES,
        policies::ENTRIES,
    ]
    .into_iter()
    .flatten()
    .copied()
}
