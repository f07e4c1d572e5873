//! The table of messages, read once.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::schema::{Zero, tables};

/// One message type.
#[derive(Debug)]
pub(super) struct Message {
    fields: Vec<Field>,
    pub(super) shape: Shape,
}

/// One field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// Its name in JSON; `~` when its fields belong to the parent.
    pub(super) name: &'static str,
    pub(super) repeat: Repeat,
    pub(super) kind: Type,
    /// What it is when nobody set it.
    pub(super) zero: Zero,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    Once,
    List,
    Map,
}

#[derive(Debug)]
pub(super) enum Type {
    Scalar(Scalar),
    Message(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Scalar {
    Text,
    Boolean,
    Integer,
    Double,
    Bytes,
}

/// What a message is in JSON.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Object,
    /// Text.
    Quantity,
    /// A number or text.
    IntOrString,
    /// Text; with microseconds or without a fraction.
    Time {
        micros: bool,
    },
    /// Any JSON value, embedded as bytes.
    Raw,
    /// The list of its items.
    Items,
    /// A schema, or else what this field holds.
    Either(&'static str),
}

impl Message {
    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}

/// The message of a kind.
pub(super) fn of(api_version: &str, kind: &str) -> Option<&'static Message> {
    let everywhere = "DeleteOptions Status APIVersions APIGroup APIGroupList APIResourceList";
    if everywhere.split(' ').any(|name| name == kind) {
        return by_name(&format!("meta.v1.{kind}"));
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let group = group.split('.').next().unwrap_or_default();
    by_name(&format!("{group}.{version}.{kind}"))
}

pub(super) fn by_name(name: &str) -> Option<&'static Message> {
    static TABLE: LazyLock<HashMap<&'static str, Message>> = LazyLock::new(|| {
        include_str!("messages.txt")
            .lines()
            .filter_map(message)
            .collect()
    });
    TABLE.get(name)
}

fn message(line: &'static str) -> Option<(&'static str, Message)> {
    let mut parts = line.split('|');
    let name = parts.next()?;
    let fields = parts.filter_map(|text| field(name, text)).collect();
    Some((
        name,
        Message {
            fields,
            shape: shape(name),
        },
    ))
}

fn field(owner: &str, text: &'static str) -> Option<Field> {
    let mut parts = text.split(' ');
    let (number, name, kind) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    let (repeat, kind) = match kind.split_at_checked(1)? {
        ("[", rest) => (Repeat::List, rest),
        ("{", rest) => (Repeat::Map, rest),
        _ => (Repeat::Once, kind),
    };
    let kind = match kind {
        "s" => Type::Scalar(Scalar::Text),
        "b" => Type::Scalar(Scalar::Boolean),
        "i" => Type::Scalar(Scalar::Integer),
        "d" => Type::Scalar(Scalar::Double),
        "y" => Type::Scalar(Scalar::Bytes),
        message => Type::Message(message.strip_prefix('>')?),
    };
    Some(Field {
        number,
        name,
        repeat,
        kind,
        zero: tables::zero_of(owner, name),
    })
}

fn shape(name: &str) -> Shape {
    match name.rsplit('.').next().unwrap_or_default() {
        "Quantity" => Shape::Quantity,
        "IntOrString" => Shape::IntOrString,
        "Time" => Shape::Time { micros: false },
        "MicroTime" => Shape::Time { micros: true },
        "RawExtension" | "FieldsV1" | "JSON" => Shape::Raw,
        "ExtraValue" | "Verbs" | "AttestationValue" => Shape::Items,
        "JSONSchemaPropsOrBool" => Shape::Either("allows"),
        "JSONSchemaPropsOrArray" => Shape::Either("jsonSchemas"),
        "JSONSchemaPropsOrStringArray" => Shape::Either("property"),
        _ => Shape::Object,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_read_and_refers_to_others() {
        for line in include_str!("messages.txt").lines() {
            let (name, message) = message(line).unwrap();
            assert_eq!(message.fields.len(), line.matches('|').count(), "{name}");
            for field in &message.fields {
                if let Type::Message(other) = field.kind {
                    assert!(
                        by_name(other).is_some(),
                        "{name}.{} is a {other}",
                        field.name
                    );
                }
            }
        }
    }

    #[test]
    fn kinds_are_found_by_group_and_version() {
        for (api_version, kind) in [
            ("v1", "Pod"),
            ("apps/v1", "Deployment"),
            ("networking.k8s.io/v1", "Ingress"),
            ("rbac.authorization.k8s.io/v1", "ClusterRole"),
            ("storage.k8s.io/v1", "CSIDriver"),
            ("authentication.k8s.io/v1", "SelfSubjectReview"),
            ("policy/v1", "Eviction"),
            ("apps/v1", "DeleteOptions"),
        ] {
            assert!(of(api_version, kind).is_some(), "{api_version} {kind}");
        }
    }
}
