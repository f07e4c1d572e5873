//! The current objects that authentication, authorization and admission read.

use async_trait::async_trait;
use bytes::Bytes;

/// A built-in kind, by API group and plural name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural name, such as `pods`.
    pub plural: &'static str,
}

impl Kind {
    /// `v1` `LimitRange`.
    pub const LIMIT_RANGES: Self = Self {
        group: "",
        plural: "limitranges",
    };
    /// `v1` `Namespace`.
    pub const NAMESPACES: Self = Self {
        group: "",
        plural: "namespaces",
    };
    /// `v1` `Node`.
    pub const NODES: Self = Self {
        group: "",
        plural: "nodes",
    };
    /// `v1` `Pod`.
    pub const PODS: Self = Self {
        group: "",
        plural: "pods",
    };
    /// `v1` `PersistentVolume`.
    pub const PERSISTENT_VOLUMES: Self = Self {
        group: "",
        plural: "persistentvolumes",
    };
    /// `v1` `PersistentVolumeClaim`.
    pub const PERSISTENT_VOLUME_CLAIMS: Self = Self {
        group: "",
        plural: "persistentvolumeclaims",
    };
    /// `v1` `ResourceQuota`.
    pub const RESOURCE_QUOTAS: Self = Self {
        group: "",
        plural: "resourcequotas",
    };
    /// `v1` `Secret`.
    pub const SECRETS: Self = Self {
        group: "",
        plural: "secrets",
    };
    /// `v1` `Service`.
    pub const SERVICES: Self = Self {
        group: "",
        plural: "services",
    };
    /// `v1` `ServiceAccount`.
    pub const SERVICE_ACCOUNTS: Self = Self {
        group: "",
        plural: "serviceaccounts",
    };
    /// `discovery.k8s.io` `EndpointSlice`.
    pub const ENDPOINT_SLICES: Self = Self {
        group: "discovery.k8s.io",
        plural: "endpointslices",
    };
    /// `networking.k8s.io` `IngressClass`.
    pub const INGRESS_CLASSES: Self = Self {
        group: "networking.k8s.io",
        plural: "ingressclasses",
    };
    /// `node.k8s.io` `RuntimeClass`.
    pub const RUNTIME_CLASSES: Self = Self {
        group: "node.k8s.io",
        plural: "runtimeclasses",
    };
    /// `scheduling.k8s.io` `PriorityClass`.
    pub const PRIORITY_CLASSES: Self = Self {
        group: "scheduling.k8s.io",
        plural: "priorityclasses",
    };
    /// `storage.k8s.io` `CSIDriver`.
    pub const CSI_DRIVERS: Self = Self {
        group: "storage.k8s.io",
        plural: "csidrivers",
    };
    /// `storage.k8s.io` `VolumeAttachment`.
    pub const VOLUME_ATTACHMENTS: Self = Self {
        group: "storage.k8s.io",
        plural: "volumeattachments",
    };
    /// `resource.k8s.io` `ResourceSlice`.
    pub const RESOURCE_SLICES: Self = Self {
        group: "resource.k8s.io",
        plural: "resourceslices",
    };
    /// `networking.k8s.io` `IPAddress`.
    pub const IP_ADDRESSES: Self = Self {
        group: "networking.k8s.io",
        plural: "ipaddresses",
    };
    /// `networking.k8s.io` `ServiceCIDR`.
    pub const SERVICE_CIDRS: Self = Self {
        group: "networking.k8s.io",
        plural: "servicecidrs",
    };
    /// `davit.dev` `Network`.
    pub const NETWORKS: Self = Self {
        group: davit_api::GROUP,
        plural: "networks",
    };
    /// `davit.dev` `NetworkNode`.
    pub const NETWORK_NODES: Self = Self {
        group: davit_api::GROUP,
        plural: "networknodes",
    };
    /// `storage.k8s.io` `StorageClass`.
    pub const STORAGE_CLASSES: Self = Self {
        group: "storage.k8s.io",
        plural: "storageclasses",
    };
    /// `rbac.authorization.k8s.io` `Role`.
    pub const ROLES: Self = Self {
        group: "rbac.authorization.k8s.io",
        plural: "roles",
    };
    /// `rbac.authorization.k8s.io` `RoleBinding`.
    pub const ROLE_BINDINGS: Self = Self {
        group: "rbac.authorization.k8s.io",
        plural: "rolebindings",
    };
    /// `rbac.authorization.k8s.io` `ClusterRole`.
    pub const CLUSTER_ROLES: Self = Self {
        group: "rbac.authorization.k8s.io",
        plural: "clusterroles",
    };
    /// `rbac.authorization.k8s.io` `ClusterRoleBinding`.
    pub const CLUSTER_ROLE_BINDINGS: Self = Self {
        group: "rbac.authorization.k8s.io",
        plural: "clusterrolebindings",
    };

    /// What the keys of its objects start with.
    pub(crate) fn prefix(self) -> String {
        let group = if self.group.is_empty() {
            "core"
        } else {
            self.group
        };
        format!("/registry/{group}/{}/", self.plural)
    }
}

/// Reads the newest objects, as JSON, from memory.
///
/// # Guarantees an implementation gives
/// - Calls are cheap: no input or output, no copy of objects (the bytes are shared).
/// - A write that was acknowledged before a call is seen by it.
/// - A kind the server does not serve reads as empty.
/// - An object that did not change is returned in the same allocation, so that readers can keep what
///   they parsed from it.
#[async_trait]
pub trait ObjectSource: Send + Sync + 'static {
    /// One object; `namespace` is empty for cluster-scoped kinds.
    fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Bytes>;

    /// All objects of a namespace, or of all namespaces when `namespace` is empty.
    fn list(&self, kind: Kind, namespace: &str) -> Vec<Bytes>;

    /// One object of any kind, by its key in the store.
    fn stored(&self, key: &str) -> Option<Bytes> {
        let _ = key;
        None
    }

    /// All objects under a prefix of the store, which begins with that of their kind.
    fn stored_under(&self, prefix: &str) -> Vec<Bytes> {
        let _ = prefix;
        Vec::new()
    }

    /// A number that grows whenever an object of the kind is created, changed or deleted.
    fn version(&self, kind: Kind) -> u64;

    /// Returns once `version(kind)` is no longer `seen`.
    async fn changed(&self, kind: Kind, seen: u64);
}
