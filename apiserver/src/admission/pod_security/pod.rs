//! How the checks look at a pod, and how they word what they find.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// The metadata and the spec of a pod, or of the template of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pod<'p> {
    pub(super) metadata: &'p Value,
    pub(super) spec: &'p Value,
}

impl<'p> Pod<'p> {
    /// Those of an object that has both.
    pub(super) fn of(object: &'p Value) -> Self {
        let part = |name: &str| object.get(name).unwrap_or(&NULL);
        Self {
            metadata: part("metadata"),
            spec: part("spec"),
        }
    }

    /// All containers, in the order of Kubernetes: those that initialize, those that stay, those that were added.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'p Value> + use<'p> {
        let spec = self.spec;
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        lists.into_iter().flat_map(move |list| items(&spec[list]))
    }

    pub(super) fn annotations(&self) -> impl Iterator<Item = (&'p str, &'p str)> + use<'p> {
        let annotations = self.metadata["annotations"].as_object();
        let annotations = annotations.into_iter().flat_map(Map::iter);
        annotations.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// The pod keeps to user ids of its own.
    pub(super) fn has_user_namespace(&self) -> bool {
        self.spec["hostUsers"] == false
    }

    pub(super) fn is_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }

    /// A field of the pod's own security context.
    pub(super) fn security(&self, field: &str) -> &'p Value {
        security(self.spec, field)
    }
}

/// A field of a security context.
pub(super) fn security<'p>(owner: &'p Value, field: &str) -> &'p Value {
    owner["securityContext"].get(field).unwrap_or(&NULL)
}

pub(super) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

pub(super) fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// Who did something: the pod itself, and containers.
#[derive(Debug, Default)]
pub(super) struct Who {
    pod: bool,
    containers: Vec<String>,
    more: Vec<&'static str>,
}

impl Who {
    /// The pod and the containers for which it holds.
    pub(super) fn of(pod: &Pod<'_>, mut holds: impl FnMut(&Value) -> bool) -> Self {
        let itself = holds(pod.spec);
        Self {
            pod: itself,
            ..Self::containers_of(pod, holds)
        }
    }

    /// The containers for which it holds.
    pub(super) fn containers_of(pod: &Pod<'_>, mut holds: impl FnMut(&Value) -> bool) -> Self {
        let found = pod.containers().filter(|container| holds(container));
        Self {
            containers: found.map(|c| text(c, "name").to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Something else of the pod.
    pub(super) fn also(&mut self, what: &'static str) {
        self.more.push(what);
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.pod && self.containers.is_empty() && self.more.is_empty()
    }

    /// `containers "a", "b"`.
    pub(super) fn containers(&self) -> String {
        let word = plural(self.containers.len(), "container", "containers");
        format!("{word} {}", quoted(&self.containers))
    }

    /// `pod and container "a"`.
    pub(super) fn all(&self) -> String {
        let pod = self.pod.then(|| "pod".to_owned());
        let containers = (!self.containers.is_empty()).then(|| self.containers());
        let more = self.more.iter().map(|what| (*what).to_owned());
        let parts: Vec<String> = pod.into_iter().chain(containers).chain(more).collect();
        parts.join(" and ")
    }

    /// `uses` or `use`.
    pub(super) fn uses(&self) -> &'static str {
        plural(self.containers.len(), "uses", "use")
    }
}

pub(super) fn plural<'w>(count: usize, one: &'w str, many: &'w str) -> &'w str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`.
pub(super) fn quoted<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let words = words.into_iter();
    let quoted: Vec<String> = words.map(|word| format!("\"{}\"", word.as_ref())).collect();
    quoted.join(", ")
}

/// Words in order, each once.
pub(super) type Words = BTreeSet<String>;
