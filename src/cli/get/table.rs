//! Tables as servers draw them (`meta.k8s.io/v1` `Table`), printed as kubectl prints them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::output::columns;

/// A table of objects.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Table {
    column_definitions: Vec<Column>,
    pub(super) rows: Vec<Row>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Column {
    name: String,
    priority: i32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    cells: Vec<Value>,
    object: Object,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    namespace: String,
    labels: Option<BTreeMap<String, String>>,
}

/// Which columns to print.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Also the less important ones.
    pub(super) wide: bool,
    /// The namespace first.
    pub(super) namespaces: bool,
    /// The labels last.
    pub(super) labels: bool,
    /// What to put before names.
    pub(super) prefix: Option<String>,
}

impl Table {
    /// Adds the rows of another table of the same kind.
    pub(super) fn append(&mut self, other: Self) {
        if self.column_definitions.is_empty() {
            self.column_definitions = other.column_definitions;
        }
        self.rows.extend(other.rows);
    }

    /// The lines to print.
    pub(super) fn lines(&self, layout: &Layout, headings: bool) -> Vec<String> {
        let mut rows = Vec::new();
        if headings {
            rows.push(self.heading(layout));
        }
        rows.extend(self.rows.iter().map(|row| self.cells(row, layout)));
        columns(&rows)
    }

    fn heading(&self, layout: &Layout) -> Vec<String> {
        let shown = self
            .column_definitions
            .iter()
            .filter(|column| column.is_shown(layout));
        let mut cells: Vec<_> = shown.map(|column| column.name.to_uppercase()).collect();
        if layout.namespaces {
            cells.insert(0, "NAMESPACE".into());
        }
        if layout.labels {
            cells.push("LABELS".into());
        }
        cells
    }

    fn cells(&self, row: &Row, layout: &Layout) -> Vec<String> {
        let shown = self.column_definitions.iter().zip(&row.cells);
        let shown = shown.filter(|(column, _)| column.is_shown(layout));
        let mut cells: Vec<_> = shown.map(|(_, cell)| text(cell)).collect();
        if let (Some(prefix), Some(name)) = (&layout.prefix, cells.first_mut()) {
            name.insert_str(0, prefix);
        }
        let metadata = &row.object.metadata;
        if layout.namespaces {
            cells.insert(0, metadata.namespace.clone());
        }
        if layout.labels {
            cells.push(labels(metadata.labels.as_ref()));
        }
        cells
    }
}

impl Column {
    fn is_shown(&self, layout: &Layout) -> bool {
        layout.wide || self.priority == 0
    }
}

fn text(cell: &Value) -> String {
    match cell {
        // One that could begin a line or move a column would look like another object.
        Value::String(text) => text.replace(['\n', '\t'], " "),
        Value::Null => "<none>".into(),
        other => other.to_string(),
    }
}

fn labels(labels: Option<&BTreeMap<String, String>>) -> String {
    let pairs: Vec<_> = labels
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    if pairs.is_empty() {
        "<none>".into()
    } else {
        pairs.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_is_printed_as_asked() {
        let table: Table = serde_json::from_value(json!({
            "columnDefinitions": [
                {"name": "Name", "priority": 0}, {"name": "Ready", "priority": 0}, {"name": "IP", "priority": 1},
            ],
            "rows": [
                {"cells": ["web-1", "1/1", "10.0.0.1"], "object": {"metadata": {"namespace": "a", "labels": {"app": "web"}}}},
                {"cells": ["db", 3, null], "object": {"metadata": {"namespace": "bb"}}},
            ],
        }))
        .unwrap();
        let plain = table.lines(&Layout::default(), true);
        assert_eq!(plain, ["NAME    READY", "web-1   1/1", "db      3"]);
        let all = Layout {
            wide: true,
            namespaces: true,
            labels: true,
            prefix: Some("pod/".into()),
        };
        assert_eq!(
            table.lines(&all, false),
            [
                "a    pod/web-1   1/1   10.0.0.1   app=web",
                "bb   pod/db      3     <none>     <none>"
            ]
        );
    }
}
