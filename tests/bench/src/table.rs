//! The table of results.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

#[derive(Debug)]
struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    bar: String,
}

/// Rows of what was measured, each beside its bar.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn add(&mut self, what: &str, value: f64, unit: &'static str, bar: &str) {
        eprintln!("  {what}: {value:.1} {unit} (bar {bar})");
        self.0.push(Row {
            what: what.into(),
            value,
            unit,
            bar: bar.into(),
        });
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let rows: Vec<_> = self
            .0
            .iter()
            .map(|row| json!({"what": row.what, "value": row.value, "unit": row.unit, "bar": row.bar}))
            .collect();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(path, serde_json::to_vec_pretty(&rows)?)?)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .0
            .iter()
            .map(|row| row.what.chars().count())
            .max()
            .unwrap_or(0);
        writeln!(f, "{:width$} {:>12} {:5} bar", "what", "measured", "")?;
        for Row {
            what,
            value,
            unit,
            bar,
        } in &self.0
        {
            writeln!(f, "{what:width$} {value:>12.1} {unit:5} {bar}")?;
        }
        Ok(())
    }
}

/// The value that `share` of the samples do not exceed, in milliseconds.
pub(crate) fn percentile(samples: &mut [Duration], share: f64) -> f64 {
    samples.sort_unstable();
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into a short list"
    )]
    let index = ((samples.len() as f64 * share) as usize).min(samples.len().saturating_sub(1));
    samples
        .get(index)
        .map_or(f64::NAN, |sample| sample.as_secs_f64() * 1e3)
}
