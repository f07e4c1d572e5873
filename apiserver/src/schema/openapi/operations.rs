//! What can be done at which path: the operations of a group version, before they are rendered.

use std::collections::BTreeMap;

use super::components;
use super::{ResourceInfo, SubresourceInfo};

/// A query or path parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// `string`, `integer` or `boolean`
    pub(super) kind: &'static str,
    pub(super) description: &'static str,
}

const fn text(name: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name,
        kind: "string",
        description,
    }
}

const fn flag(name: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name,
        kind: "boolean",
        description,
    }
}

const fn number(name: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name,
        kind: "integer",
        description,
    }
}

pub(super) const PRETTY: Parameter = text(
    "pretty",
    "If 'true', the output is indented for people to read.",
);
const DRY_RUN: Parameter = text(
    "dryRun",
    "With the value 'All', everything is done but storing the outcome.",
);
const MANAGER: Parameter = text(
    "fieldManager",
    "The name under which the fields this request sets are owned. At most 128 characters.",
);
const VALIDATION: Parameter = text(
    "fieldValidation",
    "What happens to unknown and duplicate fields: 'Ignore' drops them, 'Warn' drops them with a \
     warning, 'Strict' refuses the request.",
);
const FORCE: Parameter = flag(
    "force",
    "Take over fields that others own. Must be unset for patches that are not apply patches.",
);
const LIST: [Parameter; 10] = [
    flag(
        "allowWatchBookmarks",
        "Ask for watch events that only tell the resource version.",
    ),
    text("continue", "The token of the next part of a list."),
    text("fieldSelector", "Restrict to objects whose fields match."),
    text("labelSelector", "Restrict to objects whose labels match."),
    number("limit", "The greatest number of items in an answer."),
    text(
        "resourceVersion",
        "The version the answer must at least, or exactly, be of.",
    ),
    text(
        "resourceVersionMatch",
        "How resourceVersion is meant: 'Exact' or 'NotOlderThan'.",
    ),
    flag(
        "sendInitialEvents",
        "Begin a watch with an event for every object there is.",
    ),
    number("timeoutSeconds", "How long the request may last."),
    flag("watch", "Stream changes instead of answering with a list."),
];
const DELETE: [Parameter; 5] = [
    DRY_RUN,
    number(
        "gracePeriodSeconds",
        "How long the object may take to stop; 0 means at once.",
    ),
    flag(
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "Delete an object that can no longer be read.",
    ),
    flag("orphanDependents", "Deprecated: use propagationPolicy."),
    text(
        "propagationPolicy",
        "What becomes of dependents: 'Orphan', 'Background' or 'Foreground'.",
    ),
];

/// The content types of patches.
pub(super) const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// One operation.
#[derive(Debug)]
pub(super) struct Operation {
    /// `get`, `put`, …
    pub(super) method: &'static str,
    pub(super) id: String,
    pub(super) tag: String,
    pub(super) description: String,
    /// `x-kubernetes-action`
    pub(super) action: &'static str,
    /// Group, version and kind.
    pub(super) kind: (String, String, String),
    /// The definition of the body.
    pub(super) body: Option<String>,
    /// The definition of the answer; `None` is text.
    pub(super) answer: Option<String>,
    pub(super) parameters: Vec<Parameter>,
    /// Strategic merge patches are not taken.
    pub(super) custom: bool,
}

/// A path with its operations.
#[derive(Debug, Default)]
pub(super) struct Item {
    pub(super) operations: Vec<Operation>,
    /// Names of the parameters in the path.
    pub(super) in_path: Vec<&'static str>,
}

/// A group version's names in identifiers.
struct Naming {
    prefix: String,
    tag: String,
    camel: String,
}

impl Naming {
    fn new(group: &str, version: &str, custom: bool) -> Self {
        let short = group
            .strip_suffix(".k8s.io")
            .filter(|_| !custom)
            .unwrap_or(group);
        let short = if short.is_empty() { "core" } else { short };
        let camel: String = short.split(['.', '-']).map(capital).collect();
        let mut tag = camel.clone();
        if let Some(first) = tag.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        let prefix = match group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        Self {
            prefix,
            tag: format!("{tag}_{version}"),
            camel: camel + &capital(version),
        }
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map(|c| c.to_ascii_uppercase())
        .into_iter()
        .chain(chars)
        .collect()
}

/// Every path of a group version.
pub(super) fn paths(
    group: &str,
    version: &str,
    resources: &[ResourceInfo],
) -> BTreeMap<String, Item> {
    let custom = resources.iter().any(|r| r.custom_schema.is_some());
    let naming = Naming::new(group, version, custom);
    let mut out: BTreeMap<String, Item> = BTreeMap::new();
    for resource in resources {
        Paths {
            naming: &naming,
            resource,
            out: &mut out,
        }
        .add();
    }
    let list = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";
    out.entry(format!("{}/", naming.prefix))
        .or_default()
        .operations
        .push(Operation {
            method: "get",
            id: format!("get{}APIResources", naming.camel),
            tag: naming.tag.clone(),
            description: "get available resources".to_owned(),
            action: "",
            kind: Default::default(),
            body: None,
            answer: Some(list.to_owned()),
            parameters: Vec::new(),
            custom: true,
        });
    out
}

struct Paths<'a> {
    naming: &'a Naming,
    resource: &'a ResourceInfo,
    out: &'a mut BTreeMap<String, Item>,
}

impl Paths<'_> {
    fn add(mut self) {
        let ResourceInfo {
            plural, namespaced, ..
        } = self.resource;
        let all = format!("{}/{plural}", self.naming.prefix);
        let (collection, scope) = if *namespaced {
            let path = format!("{}/namespaces/{{namespace}}/{plural}", self.naming.prefix);
            self.put(&all, "get", "list", "", "ForAllNamespaces", None);
            (path, "Namespaced")
        } else {
            (all, "")
        };
        for (method, verb) in [
            ("get", "list"),
            ("post", "create"),
            ("delete", "deletecollection"),
        ] {
            self.put(&collection, method, verb, scope, "", None);
        }
        let object = format!("{collection}/{{name}}");
        for (method, verb) in [
            ("get", "get"),
            ("put", "update"),
            ("patch", "patch"),
            ("delete", "delete"),
        ] {
            self.put(&object, method, verb, scope, "", None);
        }
        for sub in &self.resource.subresources {
            let path = format!("{object}/{}", sub.name);
            for (method, verb) in [
                ("get", "get"),
                ("post", "create"),
                ("put", "update"),
                ("patch", "patch"),
            ] {
                self.put(&path, method, verb, scope, &capital(&sub.name), Some(sub));
            }
        }
    }

    fn put(
        &mut self,
        path: &str,
        method: &'static str,
        verb: &'static str,
        scope: &str,
        suffix: &str,
        sub: Option<&SubresourceInfo>,
    ) {
        let verbs = sub.map_or(&self.resource.verbs, |s| &s.verbs);
        if !verbs.iter().any(|v| v == verb) {
            return;
        }
        let operation = self.operation(method, verb, scope, suffix, sub);
        let item = self.out.entry(path.to_owned()).or_default();
        if item.in_path.is_empty() {
            let known = ["name", "namespace"];
            item.in_path = known
                .into_iter()
                .filter(|p| path.contains(&format!("{{{p}}}")))
                .collect();
        }
        item.operations.push(operation);
    }

    fn operation(
        &self,
        method: &'static str,
        verb: &'static str,
        scope: &str,
        suffix: &str,
        sub: Option<&SubresourceInfo>,
    ) -> Operation {
        let resource = self.resource;
        let kind = match sub {
            Some(sub) => (sub.group.clone(), sub.version.clone(), sub.kind.clone()),
            None => (
                resource.group.clone(),
                resource.version.clone(),
                resource.kind.clone(),
            ),
        };
        let definition = components::name(&kind.0, &kind.1, &kind.2);
        let meta = |name: &str| Some(format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"));
        let (word, action) = match verb {
            "update" => ("replace", "put"),
            "create" => ("create", "post"),
            "get" => ("read", "get"),
            "deletecollection" => ("delete", "deletecollection"),
            other => (other, other),
        };
        let middle = if verb == "deletecollection" {
            "Collection"
        } else {
            ""
        };
        let described = match (verb, sub) {
            ("list", _) => format!("list or watch objects of kind {}", resource.kind),
            ("deletecollection", _) => format!("delete collection of {}", resource.kind),
            (_, Some(sub)) => format!("{word} {} of the specified {}", sub.name, resource.kind),
            ("patch", None) => format!("partially update the specified {}", resource.kind),
            ("create" | "delete", None) => format!("{word} a {}", resource.kind),
            (_, None) => format!("{word} the specified {}", resource.kind),
        };
        let stream = sub.is_some_and(|s| {
            matches!(
                s.name.as_str(),
                "log" | "exec" | "attach" | "portforward" | "proxy"
            )
        });
        Operation {
            method,
            id: format!(
                "{word}{}{middle}{scope}{}{suffix}",
                self.naming.camel, resource.kind
            ),
            tag: self.naming.tag.clone(),
            description: described,
            action,
            body: match verb {
                "create" | "update" if !stream => Some(definition.clone()),
                "patch" => meta("Patch"),
                "delete" | "deletecollection" => meta("DeleteOptions"),
                _ => None,
            },
            answer: match verb {
                _ if stream => None,
                "list" => Some(format!("{definition}List")),
                "delete" if resource.returns_deleted => Some(definition),
                "delete" | "deletecollection" => meta("Status"),
                _ => Some(definition),
            },
            parameters: parameters(verb),
            kind,
            custom: resource.custom_schema.is_some(),
        }
    }
}

fn parameters(verb: &str) -> Vec<Parameter> {
    match verb {
        "list" => LIST.to_vec(),
        "create" | "update" => vec![DRY_RUN, MANAGER, VALIDATION],
        "patch" => vec![DRY_RUN, MANAGER, VALIDATION, FORCE],
        "delete" => DELETE.to_vec(),
        "deletecollection" => {
            let of_list = LIST
                .into_iter()
                .filter(|p| p.name != "watch" && p.name != "allowWatchBookmarks");
            DELETE.into_iter().chain(of_list).collect()
        }
        _ => Vec::new(),
    }
}
