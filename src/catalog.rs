//! The kinds a server has, found by the names people use.

use kube::core::ApiResource;
use kube::core::discovery::v2::{APIGroupDiscoveryList, APIResourceDiscovery};

use crate::fault::Fault;

/// One kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Group, version, kind and plural.
    pub(crate) resource: ApiResource,
    /// Whether its objects are in namespaces.
    pub(crate) namespaced: bool,
    /// Verbs it knows.
    pub(crate) verbs: Vec<String>,
    singular: String,
    short_names: Vec<String>,
    categories: Vec<String>,
    /// Whether its version is the one its group prefers.
    preferred: bool,
}

/// All kinds, in the server's order of preference.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    kinds: Vec<Kind>,
}

impl Kind {
    /// `deployment.apps`, as messages call an object's kind.
    pub(crate) fn qualified_singular(&self) -> String {
        let group = &self.resource.group;
        let singular = self.resource.kind.to_lowercase();
        if group.is_empty() {
            singular
        } else {
            format!("{singular}.{group}")
        }
    }

    fn is_called(&self, word: &str) -> bool {
        self.resource.plural == word
            || self.singular == word
            || self.resource.kind.to_lowercase() == word
            || self.short_names.iter().any(|name| name == word)
    }
}

impl Catalog {
    /// Asks the server for its kinds: two requests.
    pub(crate) async fn fetch(client: &kube::Client) -> Result<Self, Fault> {
        let failed = |error| Fault::request("asking for the kinds of the server", &error);
        let (core, groups) = futures::try_join!(
            client.list_core_api_versions_aggregated(),
            client.list_api_groups_aggregated()
        )
        .map_err(failed)?;
        Ok(Self::from_lists([core, groups]))
    }

    fn from_lists(lists: impl IntoIterator<Item = APIGroupDiscoveryList>) -> Self {
        let mut kinds = Vec::new();
        for group in lists.into_iter().flat_map(|list| list.items) {
            let name = group
                .metadata
                .and_then(|meta| meta.name)
                .unwrap_or_default();
            for (rank, version) in group.versions.into_iter().enumerate() {
                let number = version.version.unwrap_or_default();
                let found = version.resources.into_iter();
                kinds.extend(found.filter_map(|r| kind_of(&name, &number, r, rank == 0)));
            }
        }
        Self { kinds }
    }

    /// The kind called `word`: plural, singular, short name or kind, and optionally `.group` or
    /// `.version.group`.
    pub(crate) fn find(&self, word: &str) -> Result<&Kind, Fault> {
        let word = word.to_lowercase();
        let (name, qualifier) = word.split_once('.').unwrap_or((&word, ""));
        let mut called = self.kinds.iter().filter(|kind| kind.is_called(name));
        let found = if qualifier.is_empty() {
            called.find(|kind| kind.preferred)
        } else {
            called.find(|kind| {
                let resource = &kind.resource;
                resource.group == qualifier
                    || format!("{}.{}", resource.version, resource.group) == qualifier
            })
        };
        found.ok_or_else(|| {
            Fault::told(
                "",
                format!("the server doesn't have a resource type {word:?}"),
                "see `kubectl api-resources`, or apply its CustomResourceDefinition first",
            )
        })
    }

    /// The kinds `words` means: names separated by commas, or a category such as `all`.
    pub(crate) fn find_many(&self, words: &str) -> Result<Vec<&Kind>, Fault> {
        let mut found = Vec::new();
        for word in words.split(',').filter(|word| !word.is_empty()) {
            let of_category: Vec<_> = self
                .kinds
                .iter()
                .filter(|kind| kind.preferred && kind.categories.iter().any(|name| name == word))
                .collect();
            match of_category.is_empty() {
                true => found.push(self.find(word)?),
                false => found.extend(of_category),
            }
        }
        Ok(found)
    }

    /// The kind a manifest names.
    pub(crate) fn of_manifest(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        self.kinds
            .iter()
            .find(|known| known.resource.api_version == api_version && known.resource.kind == kind)
    }
}

fn kind_of(
    group: &str,
    version: &str,
    found: APIResourceDiscovery,
    preferred: bool,
) -> Option<Kind> {
    let response = found.response_kind?;
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Some(Kind {
        resource: ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: response.kind?,
            plural: found.resource?,
        },
        namespaced: found.scope.as_deref() == Some("Namespaced"),
        verbs: found.verbs,
        singular: found.singular_resource.unwrap_or_default(),
        short_names: found.short_names,
        categories: found.categories,
        preferred,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn catalog() -> Catalog {
        let resource = |plural: &str, kind: &str, short: &str, categories: &[&str]| {
            json!({
                "resource": plural, "singularResource": kind.to_lowercase(),
                "responseKind": {"group": "", "version": "", "kind": kind},
                "scope": "Namespaced", "verbs": ["get"], "shortNames": [short], "categories": categories,
            })
        };
        let core = json!({"items": [{"metadata": {}, "versions": [
            {"version": "v1", "resources": [resource("pods", "Pod", "po", &["all"]), resource("events", "Event", "ev", &[])]},
        ]}]});
        let groups = json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [
                {"version": "v1", "resources": [resource("deployments", "Deployment", "deploy", &["all"])]},
                {"version": "v1beta1", "resources": [resource("deployments", "Deployment", "deploy", &["all"])]},
            ]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [
                {"version": "v1", "resources": [resource("events", "Event", "ev", &[])]},
            ]},
        ]});
        Catalog::from_lists([core, groups].map(|list| serde_json::from_value(list).unwrap()))
    }

    #[test]
    fn kinds_are_found_by_all_their_names() {
        let catalog = catalog();
        let cases = [
            ("pods", "v1"),
            ("po", "v1"),
            ("Pod", "v1"),
            ("deploy", "apps/v1"),
            ("deployments.apps", "apps/v1"),
            ("deployments.v1beta1.apps", "apps/v1beta1"),
            ("events", "v1"),
            ("events.events.k8s.io", "events.k8s.io/v1"),
        ];
        for (word, api_version) in cases {
            assert_eq!(
                catalog.find(word).unwrap().resource.api_version,
                api_version,
                "{word}"
            );
        }
        let fault = catalog.find("gizmos").unwrap_err().to_string();
        assert!(
            fault.contains("doesn't have a resource type \"gizmos\""),
            "{fault}"
        );
        let all = catalog.find_many("all,ev").unwrap();
        let plurals: Vec<_> = all
            .iter()
            .map(|kind| kind.resource.plural.as_str())
            .collect();
        assert_eq!(plurals, ["pods", "deployments", "events"]);
        assert!(catalog.of_manifest("apps/v1", "Deployment").is_some());
        assert!(catalog.of_manifest("apps/v2", "Deployment").is_none());
    }
}
