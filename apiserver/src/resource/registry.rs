//! The set of resources served now, replaced as a whole when a CRD comes or goes.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{Entry, Field, Resource};
use crate::discovery::Documents;

type ByName<T> = HashMap<Arc<str>, T>;

/// `/registry/<group or core>/<plural>/`.
pub(super) fn prefix(group: &str, plural: &str) -> Arc<str> {
    let group = if group.is_empty() { "core" } else { group };
    format!("/registry/{group}/{plural}/").into()
}

/// One API group with its versions, most preferred first.
#[derive(Debug)]
pub struct Group {
    pub name: Arc<str>,
    pub versions: Vec<Version>,
}

/// One version of a group with its resources in the order of registration.
#[derive(Debug)]
pub struct Version {
    pub name: Arc<str>,
    pub resources: Vec<Arc<Resource>>,
}

/// All resources at one moment. Immutable.
#[derive(Debug)]
pub struct Snapshot {
    /// Groups in discovery order, core first.
    pub groups: Vec<Group>,
    paths: ByName<ByName<ByName<Arc<Resource>>>>,
    /// Selectable fields of the objects under a store prefix.
    fields: ByName<Arc<[Field]>>,
    /// Grows with every change.
    pub generation: u64,
    pub(crate) documents: OnceLock<Documents>,
}

impl Snapshot {
    fn new(resources: impl IntoIterator<Item = Arc<Resource>>, generation: u64) -> Self {
        let mut snapshot = Self {
            groups: Vec::new(),
            paths: HashMap::new(),
            fields: HashMap::new(),
            generation,
            documents: OnceLock::new(),
        };
        for resource in resources {
            snapshot.insert(resource);
        }
        for group in &mut snapshot.groups {
            group
                .versions
                .sort_by_key(|version| std::cmp::Reverse(version_order(&version.name)));
        }
        snapshot
    }

    fn insert(&mut self, resource: Arc<Resource>) {
        self.paths
            .entry(resource.group.clone())
            .or_default()
            .entry(resource.version.clone())
            .or_default()
            .insert(resource.plural.clone(), resource.clone());
        if resource.review.is_none() {
            let fields = self.fields.entry(resource.prefix.clone()).or_default();
            *fields = union(fields, &resource.fields);
        }
        let group = match self
            .groups
            .iter_mut()
            .position(|group| group.name == resource.group)
        {
            Some(at) => &mut self.groups[at],
            None => {
                self.groups.push(Group {
                    name: resource.group.clone(),
                    versions: Vec::new(),
                });
                let last = self.groups.len() - 1;
                &mut self.groups[last]
            }
        };
        match group
            .versions
            .iter_mut()
            .find(|version| version.name == resource.version)
        {
            Some(version) => version.resources.push(resource),
            None => group.versions.push(Version {
                name: resource.version.clone(),
                resources: vec![resource],
            }),
        }
    }

    /// The resource at a path's group (empty for core), version and plural.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.paths.get(group)?.get(version)?.get(plural).cloned()
    }

    /// The resource of a kind.
    pub fn find_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Resource>> {
        let resources = self.paths.get(group)?.get(version)?;
        resources
            .values()
            .find(|resource| &*resource.kind == kind)
            .cloned()
    }

    /// The resource in the group's most preferred version that has the plural.
    pub fn find_preferred(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        let group = self.group(group)?;
        group.versions.iter().find_map(|version| {
            version
                .resources
                .iter()
                .find(|resource| &*resource.plural == plural)
                .cloned()
        })
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| &*group.name == name)
    }

    /// Every resource of every version.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.groups
            .iter()
            .flat_map(|group| &group.versions)
            .flat_map(|version| &version.resources)
    }

    /// Selectable fields of the objects under a store prefix.
    pub fn fields(&self, prefix: &str) -> Arc<[Field]> {
        self.fields.get(prefix).cloned().unwrap_or_default()
    }
}

fn union(a: &Arc<[Field]>, b: &Arc<[Field]>) -> Arc<[Field]> {
    if a.is_empty() {
        return b.clone();
    }
    let more = b
        .iter()
        .filter(|field| !a.iter().any(|have| have.path == field.path));
    a.iter().chain(more).cloned().collect()
}

/// GA before beta before alpha, higher before lower, anything else last (Kubernetes' version priority).
pub(crate) fn version_order(version: &str) -> (u8, u32, u32) {
    fn number(text: &str) -> Option<(u32, &str)> {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        Some((text.get(..end)?.parse().ok()?, text.get(end..)?))
    }
    let parsed = version
        .strip_prefix('v')
        .and_then(number)
        .and_then(|(major, rest)| {
            let stage = match rest {
                "" => return Some((3, major, 0)),
                _ if rest.starts_with("beta") => (2, &rest[4..]),
                _ if rest.starts_with("alpha") => (1, &rest[5..]),
                _ => return None,
            };
            stage.1.parse().ok().map(|minor| (stage.0, major, minor))
        });
    parsed.unwrap_or((0, 0, 0))
}

/// The resources served, readable without a lock.
#[derive(Debug)]
pub struct Registry {
    builtin: Vec<Arc<Resource>>,
    custom: Mutex<HashMap<Arc<str>, Vec<Arc<Resource>>>>,
    current: ArcSwap<Snapshot>,
}

impl Registry {
    /// The built-in kinds of Kubernetes 1.37.
    pub fn builtin() -> Self {
        Self::with(super::table())
    }

    pub(crate) fn with(entries: impl IntoIterator<Item = Entry>) -> Self {
        let builtin: Vec<_> = entries
            .into_iter()
            .map(|entry| Arc::new(entry.resource()))
            .collect();
        let current = ArcSwap::from_pointee(Snapshot::new(builtin.iter().cloned(), 1));
        Self {
            builtin,
            custom: Mutex::default(),
            current,
        }
    }

    /// What is served now. Hold it for one request.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Serves the versions of a CustomResourceDefinition from now on, in place of those it had.
    /// An empty list withdraws it.
    pub(crate) fn replace_custom(&self, definition: &str, resources: Vec<Arc<Resource>>) {
        let mut custom = self.custom.lock();
        if resources.is_empty() {
            if custom.remove(definition).is_none() {
                return;
            }
        } else {
            custom.insert(definition.into(), resources);
        }
        let mut definitions: Vec<_> = custom.iter().collect();
        definitions.sort_by(|a, b| a.0.cmp(b.0));
        let all = self
            .builtin
            .iter()
            .chain(definitions.into_iter().flat_map(|(_, resources)| resources))
            .cloned();
        let generation = self.current.load().generation + 1;
        self.current.store(Arc::new(Snapshot::new(all, generation)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_stability_then_number() {
        let mut versions = [
            "v1alpha1", "foo", "v1", "v2beta1", "v2", "v1beta2", "v11", "v1beta10",
        ];
        versions.sort_by_key(|version| std::cmp::Reverse(version_order(version)));
        let expected = [
            "v11", "v2", "v1", "v2beta1", "v1beta10", "v1beta2", "v1alpha1", "foo",
        ];
        assert_eq!(versions, expected);
    }

    #[test]
    fn a_multibyte_version_is_no_version() {
        assert_eq!(version_order("v1betä"), (0, 0, 0));
        assert_eq!(version_order("v1é"), (0, 0, 0));
    }

    #[test]
    fn every_entry_is_found_by_path_and_by_kind() {
        let snapshot = Registry::builtin().snapshot();
        for resource in snapshot.iter() {
            let found = snapshot.find(&resource.group, &resource.version, &resource.plural);
            assert!(Arc::ptr_eq(&found.unwrap(), resource));
            let kind = snapshot.find_kind(&resource.group, &resource.version, &resource.kind);
            assert_eq!(kind.unwrap().plural, resource.plural);
        }
    }
}
