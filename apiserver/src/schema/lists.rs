//! The table of list types, map keys and patch strategies of built-in types.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::node::{ListKind, PatchRule};

/// What the table says about a type or a field.
#[derive(Debug, Default, Clone)]
pub(crate) struct Note {
    pub(crate) list: ListKind,
    pub(crate) atomic: Option<bool>,
    pub(crate) patch: PatchRule,
}

static TABLE: LazyLock<HashMap<&'static str, Note>> = LazyLock::new(|| {
    let lines = include_str!("lists.txt").lines().map(str::trim);
    lines
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .filter_map(parse)
        .collect()
});

fn parse(line: &'static str) -> Option<(&'static str, Note)> {
    let mut words = line.split_ascii_whitespace();
    let subject = words.next()?;
    let mut note = Note::default();
    for word in words {
        match word.split_once('=') {
            Some(("map", keys)) => {
                note.list = ListKind::Map(keys.split(',').map(Box::from).collect());
            }
            Some(("merge", key)) => {
                note.patch.merge = true;
                note.patch.key = Some(key.into());
            }
            _ => match word {
                "set" => note.list = ListKind::Set,
                "atomic" => note.atomic = Some(true),
                "granular" => note.atomic = Some(false),
                "merge" => note.patch.merge = true,
                "retainKeys" => note.patch.retain_keys = true,
                "replace" => note.patch.replace = true,
                _ => return None,
            },
        }
    }
    Some((subject, note))
}

/// The prefixes that the table leaves out.
const PREFIXES: [&str; 4] = [
    "io.k8s.api.",
    "io.k8s.apimachinery.pkg.apis.",
    "io.k8s.apiextensions-apiserver.pkg.apis.",
    "io.k8s.kube-aggregator.pkg.apis.",
];

/// The name the table uses for an OpenAPI definition.
pub(crate) fn short(definition: &str) -> &str {
    PREFIXES
        .iter()
        .find_map(|p| definition.strip_prefix(p))
        .unwrap_or(definition)
}

/// The note on a definition.
pub(crate) fn of_type(definition: &str) -> Option<&'static Note> {
    TABLE.get(short(definition))
}

/// The note on a field of a definition.
pub(crate) fn of_field(definition: &str, field: &str) -> Option<&'static Note> {
    let mut subject = String::with_capacity(definition.len() + field.len() + 1);
    subject.push_str(short(definition));
    subject.push('.');
    subject.push_str(field);
    TABLE.get(subject.as_str())
}

#[cfg(test)]
pub(crate) fn subjects() -> impl Iterator<Item = (&'static str, &'static Note)> {
    TABLE.iter().map(|(k, v)| (*k, v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood() {
        let lines = include_str!("lists.txt").lines().map(str::trim);
        for line in lines.filter(|l| !l.is_empty() && !l.starts_with('#')) {
            assert!(parse(line).is_some(), "{line}");
        }
    }

    #[test]
    fn container_ports_have_a_composite_key_but_one_merge_key() {
        let note = of_field("io.k8s.api.core.v1.Container", "ports").unwrap();
        assert_eq!(
            note.list,
            ListKind::Map(vec!["containerPort".into(), "protocol".into()])
        );
        assert_eq!(note.patch.key.as_deref(), Some("containerPort"));
    }
}
