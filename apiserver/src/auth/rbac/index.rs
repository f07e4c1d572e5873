//! All roles and bindings, arranged by who is granted what.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use davit_api::LabelSelector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use parking_lot::Mutex;

use super::rule::{Binding, PolicyRule, Role, RoleRef, Subject};
use crate::auth::snapshot::Snapshot;
use crate::auth::{Attributes, Kind, ObjectSource, Target, UserInfo, users};

/// The authorizer of roles and bindings.
///
/// The index is rebuilt when a role or binding changed; deciding then costs a look-up for the user and
/// each of its groups.
pub(crate) struct Rbac {
    source: Arc<dyn ObjectSource>,
    index: ArcSwap<Index>,
    rebuilding: Mutex<()>,
}

#[derive(Default)]
struct Index {
    cluster_roles: Snapshot<Role>,
    roles: Snapshot<Role>,
    cluster_bindings: Snapshot<Binding>,
    bindings: Snapshot<Binding>,
    /// Rules of ClusterRoles by name, aggregated ones resolved.
    cluster_rules: HashMap<String, Arc<[PolicyRule]>>,
    /// Rules of Roles by namespace and name.
    rules: HashMap<(String, String), Arc<[PolicyRule]>>,
    /// Grants by namespace (empty: cluster-wide) and by grantee.
    grants: HashMap<String, HashMap<Grantee, Vec<Grant>>>,
}

/// A user (service accounts are users) or a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Grantee {
    User(String),
    Group(String),
}

/// One binding's worth of rules for one grantee.
#[derive(Clone)]
struct Grant {
    binding: Arc<Binding>,
    rules: Arc<[PolicyRule]>,
}

impl Rbac {
    pub(crate) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self {
            source,
            index: ArcSwap::default(),
            rebuilding: Mutex::default(),
        }
    }

    /// The reason why the action is allowed; `None` when no binding allows it.
    pub(crate) fn allow(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Option<String> {
        let index = self.current();
        let namespace = match attributes.target {
            Target::Resource(target) => target.namespace,
            Target::Path(_) => "",
        };
        let (grantee, grant) = index
            .grants_of(user, namespace)
            .find(|(_, grant)| grant.rules.iter().any(|rule| rule.allows(attributes)))?;
        Some(grant.reason(&grantee))
    }

    /// Everything `user` is granted in `namespace`, cluster-wide grants included.
    pub(crate) fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<PolicyRule> {
        let index = self.current();
        index
            .grants_of(user, namespace)
            .flat_map(|(_, grant)| grant.rules.to_vec())
            .collect()
    }

    /// The rules of a role as seen from `namespace`; `None` if there is no such role.
    pub(crate) fn role_rules(&self, role: &RoleRef, namespace: &str) -> Option<Arc<[PolicyRule]>> {
        self.current().rules_of(role, namespace)
    }

    fn current(&self) -> Arc<Index> {
        let index = self.index.load_full();
        if index.is_current(&*self.source) {
            return index;
        }
        let _one_at_a_time = self.rebuilding.lock();
        let index = self.index.load_full();
        if index.is_current(&*self.source) {
            return index;
        }
        let fresh = Arc::new(index.rebuild(&*self.source));
        self.index.store(fresh.clone());
        fresh
    }
}

impl Index {
    fn is_current(&self, source: &dyn ObjectSource) -> bool {
        self.cluster_roles.is_current(Kind::CLUSTER_ROLES, source)
            && self.roles.is_current(Kind::ROLES, source)
            && self
                .cluster_bindings
                .is_current(Kind::CLUSTER_ROLE_BINDINGS, source)
            && self.bindings.is_current(Kind::ROLE_BINDINGS, source)
    }

    fn rebuild(&self, source: &dyn ObjectSource) -> Self {
        let mut index = Self {
            cluster_roles: self.cluster_roles.refresh(Kind::CLUSTER_ROLES, source),
            roles: self.roles.refresh(Kind::ROLES, source),
            cluster_bindings: self
                .cluster_bindings
                .refresh(Kind::CLUSTER_ROLE_BINDINGS, source),
            bindings: self.bindings.refresh(Kind::ROLE_BINDINGS, source),
            ..Self::default()
        };
        for role in index.cluster_roles.iter() {
            let rules = aggregated(role, &index.cluster_roles);
            index
                .cluster_rules
                .insert(role.metadata.name.clone(), rules.into());
        }
        for role in index.roles.iter() {
            let key = (role.metadata.namespace.clone(), role.metadata.name.clone());
            index
                .rules
                .insert(key, role.rules.clone().unwrap_or_default().into());
        }
        let mut grants: HashMap<String, HashMap<Grantee, Vec<Grant>>> = HashMap::new();
        for binding in index.cluster_bindings.iter().chain(index.bindings.iter()) {
            let namespace = &binding.metadata.namespace;
            // A binding to a role that does not exist grants nothing until the role is made.
            let Some(rules) = index.rules_of(&binding.role_ref, namespace) else {
                continue;
            };
            let in_namespace = grants.entry(namespace.clone()).or_default();
            for grantee in binding
                .subjects
                .iter()
                .flatten()
                .filter_map(|s| s.grantee(namespace))
            {
                let grant = Grant {
                    binding: binding.clone(),
                    rules: rules.clone(),
                };
                in_namespace.entry(grantee).or_default().push(grant);
            }
        }
        index.grants = grants;
        index
    }

    fn rules_of(&self, role: &RoleRef, namespace: &str) -> Option<Arc<[PolicyRule]>> {
        match &*role.kind {
            "ClusterRole" => self.cluster_rules.get(&role.name).cloned(),
            "Role" => self
                .rules
                .get(&(namespace.to_owned(), role.name.clone()))
                .cloned(),
            _ => None,
        }
    }

    /// What the user is granted cluster-wide and, unless `namespace` is empty, there.
    fn grants_of<'a>(
        &'a self,
        user: &'a UserInfo,
        namespace: &'a str,
    ) -> impl Iterator<Item = (Grantee, &'a Grant)> {
        let scopes = [Some(""), (!namespace.is_empty()).then_some(namespace)];
        scopes
            .into_iter()
            .flatten()
            .filter_map(|scope| self.grants.get(scope))
            .flat_map(move |granted| {
                let groups = user
                    .groups
                    .iter()
                    .map(|group| Grantee::Group(group.clone()));
                std::iter::once(Grantee::User(user.name.clone()))
                    .chain(groups)
                    .flat_map(move |grantee| {
                        let grants = granted.get(&grantee).map(Vec::as_slice).unwrap_or_default();
                        grants.iter().map(move |grant| (grantee.clone(), grant))
                    })
            })
    }
}

impl Grant {
    fn reason(&self, grantee: &Grantee) -> String {
        let meta = &self.binding.metadata;
        let role = &self.binding.role_ref;
        let (kind, binding) = if meta.namespace.is_empty() {
            ("ClusterRoleBinding", meta.name.clone())
        } else {
            ("RoleBinding", format!("{}/{}", meta.name, meta.namespace))
        };
        let subject = match grantee {
            Grantee::Group(group) => format!("Group {group:?}"),
            Grantee::User(user) => match user.strip_prefix(users::SERVICE_ACCOUNT_PREFIX) {
                Some(account) => {
                    let (namespace, name) = account.split_once(':').unwrap_or(("", account));
                    format!("ServiceAccount \"{name}/{namespace}\"")
                }
                None => format!("User {user:?}"),
            },
        };
        let (role_kind, role_name) = (&role.kind, &role.name);
        format!("RBAC: allowed by {kind} {binding:?} of {role_kind} {role_name:?} to {subject}")
    }
}

impl Subject {
    /// Who is meant; `None` for kinds this API does not know. A service account without a namespace is
    /// that of the binding's.
    fn grantee(&self, binding_namespace: &str) -> Option<Grantee> {
        match &*self.kind {
            "User" => Some(Grantee::User(self.name.clone())),
            "Group" => Some(Grantee::Group(self.name.clone())),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() {
                    binding_namespace
                } else {
                    &self.namespace
                };
                let (prefix, name) = (users::SERVICE_ACCOUNT_PREFIX, &self.name);
                (!namespace.is_empty())
                    .then(|| Grantee::User(format!("{prefix}{namespace}:{name}")))
            }
            _ => None,
        }
    }
}

/// The rules of a ClusterRole: its own, or those of all ClusterRoles its aggregation rule selects.
///
/// Aggregated roles can be aggregated again; a role that is reached twice counts once.
fn aggregated(role: &Arc<Role>, all: &Snapshot<Role>) -> Vec<PolicyRule> {
    let mut reached: Vec<Arc<Role>> = vec![role.clone()];
    let mut rules: Vec<PolicyRule> = Vec::new();
    let mut next = 0;
    while let Some(role) = reached.get(next).cloned() {
        next += 1;
        let Some(aggregation) = &role.aggregation_rule else {
            for rule in role
                .rules
                .iter()
                .flatten()
                .filter(|rule| !rule.verbs.is_empty())
            {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
            continue;
        };
        let selectors: Vec<_> = aggregation
            .cluster_role_selectors
            .iter()
            .filter_map(selector_of)
            .collect();
        let none = BTreeMap::new();
        for candidate in all.iter() {
            let labels = candidate.metadata.labels.as_ref().unwrap_or(&none);
            let selected = selectors.iter().any(|selector| selector.matches(labels));
            if selected && !reached.iter().any(|known| Arc::ptr_eq(known, candidate)) {
                reached.push(candidate.clone());
            }
        }
    }
    rules
}

fn selector_of(selector: &serde_json::Value) -> Option<LabelSelector> {
    let selector: meta::LabelSelector = serde_json::from_value(selector.clone()).ok()?;
    LabelSelector::try_from(&selector).ok()
}
