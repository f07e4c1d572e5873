//! `Table` output: objects as rows under printer columns (meta/v1 `Table`).

pub(crate) mod age;
pub(crate) mod jsonpath;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use self::jsonpath::JsonPath;
use crate::resource::Resource;

/// One printer column of a resource.
#[derive(Debug, Clone)]
pub struct PrinterColumn {
    pub name: Cow<'static, str>,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean`, or `date` for CRDs.
    pub kind: Cow<'static, str>,
    pub format: Cow<'static, str>,
    pub description: Cow<'static, str>,
    /// 0 is always shown, above it only with `-o wide`.
    pub priority: i32,
    pub(crate) source: Source,
}

/// Where a cell's value comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Builtin(Cell),
    /// A CRD's `jsonPath`.
    Custom(Arc<JsonPath>),
}

/// A printer column of a built-in kind, as a constant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    priority: i32,
    cell: Cell,
}

/// What a built-in column shows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell {
    /// The value at a dotted path; text of anything that is not a scalar.
    Path(&'static str),
    /// How long ago the time at a dotted path was.
    Age(&'static str),
    /// Computed.
    With(fn(&Value) -> Value),
}

impl Column {
    /// A text column.
    pub(crate) const fn text(name: &'static str, cell: Cell) -> Self {
        Self {
            name,
            kind: "string",
            format: "",
            priority: 0,
            cell,
        }
    }

    /// A column of whole numbers.
    pub(crate) const fn integer(name: &'static str, cell: Cell) -> Self {
        Self {
            kind: "integer",
            ..Self::text(name, cell)
        }
    }

    /// The age column nearly every kind ends with.
    pub(crate) const fn age() -> Self {
        Self::text("Age", Cell::Age("metadata.creationTimestamp"))
    }

    /// The first column; kubectl prints the type before it when several kinds are shown.
    pub(crate) const fn name() -> Self {
        Self {
            format: "name",
            ..Self::text("Name", Cell::Path("metadata.name"))
        }
    }

    /// The same column, shown with `-o wide` only.
    pub(crate) const fn wide(self) -> Self {
        Self {
            priority: 1,
            ..self
        }
    }

    /// The same column, of the values that name things.
    pub(crate) const fn named(self) -> Self {
        Self {
            format: "name",
            ..self
        }
    }
}

impl From<&Column> for PrinterColumn {
    fn from(column: &Column) -> Self {
        Self {
            name: Cow::Borrowed(column.name),
            kind: Cow::Borrowed(column.kind),
            format: Cow::Borrowed(column.format),
            description: Cow::Borrowed(""),
            priority: column.priority,
            source: Source::Builtin(column.cell),
        }
    }
}

impl PrinterColumn {
    fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority,
        })
    }

    fn value(&self, object: &Value) -> Value {
        match &self.source {
            Source::Builtin(Cell::Path(path)) => scalar(at(object, path)),
            Source::Builtin(Cell::Age(path)) => age::since_text(at(object, path).as_str()).into(),
            Source::Builtin(Cell::With(compute)) => compute(object),
            Source::Custom(path) => custom(path, &self.kind, object),
        }
    }
}

/// Name and creation time: the columns of kinds that declare none.
pub(crate) const DEFAULT: &[Column] = &[
    Column::name(),
    Column::text("Created At", Cell::Path("metadata.creationTimestamp")),
];

/// How much of each object a row carries (`includeObject`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

/// Turns objects into rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer<'a> {
    columns: &'a [PrinterColumn],
    include: Include,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(resource: &'a Resource, include: Include) -> Self {
        Self {
            columns: &resource.columns,
            include,
        }
    }

    /// The definitions of the columns.
    pub(crate) fn definitions(&self) -> Value {
        self.columns.iter().map(PrinterColumn::definition).collect()
    }

    /// One row.
    pub(crate) fn row(&self, object: Value) -> Value {
        let cells: Vec<Value> = self
            .columns
            .iter()
            .map(|column| column.value(&object))
            .collect();
        match self.include {
            Include::None => json!({ "cells": cells }),
            Include::Metadata => json!({ "cells": cells, "object": partial(object) }),
            Include::Object => json!({ "cells": cells, "object": object }),
        }
    }

    /// A whole table. `metadata` is the list's.
    pub(crate) fn table(
        &self,
        metadata: Value,
        objects: impl IntoIterator<Item = Value>,
        with_definitions: bool,
    ) -> Value {
        let rows: Vec<Value> = objects.into_iter().map(|object| self.row(object)).collect();
        let definitions = if with_definitions {
            self.definitions()
        } else {
            json!([])
        };
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": definitions, "rows": rows,
        })
    }
}

/// The object reduced to `PartialObjectMetadata`.
pub(crate) fn partial(mut object: Value) -> Value {
    let metadata = object
        .get_mut("metadata")
        .map(Value::take)
        .unwrap_or_default();
    let mut out = Map::new();
    out.insert("kind".into(), "PartialObjectMetadata".into());
    out.insert("apiVersion".into(), "meta.k8s.io/v1".into());
    out.insert("metadata".into(), metadata);
    Value::Object(out)
}

/// A table or metadata in the version that older clients know; anything else stays as it is.
pub(crate) fn as_beta(mut document: Value) -> Value {
    const BETA: &str = "meta.k8s.io/v1beta1";
    if document["apiVersion"] != "meta.k8s.io/v1" {
        return document;
    }
    document["apiVersion"] = BETA.into();
    for row in items_mut(&mut document, "rows") {
        if row["object"]["kind"] == "PartialObjectMetadata" {
            row["object"]["apiVersion"] = BETA.into();
        }
    }
    for item in items_mut(&mut document, "items") {
        item["apiVersion"] = BETA.into();
    }
    document
}

fn items_mut<'v>(document: &'v mut Value, key: &str) -> impl Iterator<Item = &'v mut Value> {
    let list = document.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// [`partial`] from bytes to bytes, without reading what is left out.
///
/// # Errors
/// The bytes are no object in JSON.
pub(crate) fn partial_bytes(object: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Whole<'a> {
        #[serde(borrow)]
        metadata: Option<&'a RawValue>,
    }
    let whole: Whole<'_> = serde_json::from_slice(object)?;
    let metadata = whole.metadata.map_or("null", RawValue::get);
    let head = br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;
    Ok([&head[..], metadata.as_bytes(), b"}"].concat())
}

/// The value at a dotted path, null when absent.
pub(crate) fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(value, |value, step| &value[step])
}

/// A value as one cell: scalars stay, absent is empty, the rest becomes text.
pub(crate) fn scalar(value: &Value) -> Value {
    match value {
        Value::Null => "".into(),
        Value::Array(_) | Value::Object(_) => value.to_string().into(),
        _ => value.clone(),
    }
}

fn custom(path: &JsonPath, kind: &str, object: &Value) -> Value {
    let found = path.find(object);
    let Some(first) = found.first() else {
        return Value::Null;
    };
    match kind {
        "integer" if first.is_i64() || first.is_u64() => (*first).clone(),
        "integer" => first
            .as_f64()
            .map_or(Value::Null, |number| (number as i64).into()),
        "number" if first.is_number() => (*first).clone(),
        "boolean" if first.is_boolean() => (*first).clone(),
        "date" => age::since_text(first.as_str()).into(),
        "string" => {
            let texts: Vec<String> = found.iter().map(|value| jsonpath::print(value)).collect();
            texts.join(" ").into()
        }
        _ => Value::Null,
    }
}
