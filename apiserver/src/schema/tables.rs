//! The tables of defaults and checks of built-in types, read once.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::checks::Check;
use super::lists::short;
use super::node::{FieldDefault, Zero};

static DEFAULTS: LazyLock<HashMap<String, FieldDefault>> = LazyLock::new(|| {
    let lines = lines(include_str!("defaults.txt"));
    lines
        .flat_map(|line| parse_defaults(line).unwrap_or_default())
        .collect()
});

static ZEROS: LazyLock<HashMap<String, Zero>> = LazyLock::new(|| {
    let lines = lines(include_str!("zeros.txt"));
    lines.flat_map(parse_zeros).collect()
});

static CHECKS: LazyLock<HashMap<&'static str, Vec<Check>>> = LazyLock::new(|| {
    let lines = lines(include_str!("checks.txt"));
    lines.filter_map(parse_checks).collect()
});

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
}

/// Words of a line; a word may hold quoted spaces.
fn words(line: &'static str) -> Vec<&'static str> {
    let mut quoted = false;
    line.split(|c: char| {
        quoted ^= c == '"';
        c == ' ' && !quoted
    })
    .filter(|w| !w.is_empty())
    .collect()
}

fn parse_defaults(line: &'static str) -> Option<Vec<(String, FieldDefault)>> {
    let words = words(line);
    let (owner, rest) = words.split_first()?;
    rest.iter()
        .map(|word| {
            let (field, text) = word.split_once('=')?;
            let (field, zero_too) = field
                .strip_suffix('?')
                .map_or((field, true), |f| (f, false));
            let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
            Some((format!("{owner}.{field}"), FieldDefault { value, zero_too }))
        })
        .collect()
}

fn parse_zeros(line: &'static str) -> Vec<(String, Zero)> {
    let mut words = line.split(' ');
    let owner = words.next().unwrap_or_default();
    let word = |word: &str| {
        let (field, zero) = match word.split_once('=') {
            Some((field, "{}")) => (field, Zero::Shown),
            Some((field, _)) => (field, Zero::Listed),
            None => (word, Zero::Omitted),
        };
        (format!("{owner}.{field}"), zero)
    };
    words.map(word).collect()
}

fn parse_checks(line: &'static str) -> Option<(&'static str, Vec<Check>)> {
    let words = words(line);
    let (subject, rest) = words.split_first()?;
    Some((
        subject,
        rest.iter()
            .map(|word| Check::parse(word))
            .collect::<Option<_>>()?,
    ))
}

fn subject(definition: &str, field: &str) -> String {
    let definition = short(definition);
    let mut subject = String::with_capacity(definition.len() + field.len() + 1);
    subject.push_str(definition);
    subject.push('.');
    subject.push_str(field);
    subject
}

/// The default of a field.
pub(crate) fn default_of(definition: &str, field: &str) -> Option<FieldDefault> {
    DEFAULTS.get(&subject(definition, field)).cloned()
}

/// What becomes of a field that nobody set.
pub(crate) fn zero_of(definition: &str, field: &str) -> Zero {
    let zero = ZEROS.get(&subject(definition, field)).copied();
    zero.unwrap_or_default()
}

/// The checks of a field.
pub(crate) fn checks_of(definition: &str, field: &str) -> &'static [Check] {
    CHECKS
        .get(subject(definition, field).as_str())
        .map_or(&[], Vec::as_slice)
}

#[cfg(test)]
pub(crate) fn subjects() -> impl Iterator<Item = &'static str> {
    DEFAULTS
        .keys()
        .map(String::as_str)
        .chain(CHECKS.keys().copied())
        .chain(ZEROS.keys().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_understood() {
        for line in lines(include_str!("defaults.txt")) {
            assert!(
                parse_defaults(line).is_some_and(|d| !d.is_empty()),
                "{line}"
            );
        }
        for line in lines(include_str!("checks.txt")) {
            assert!(
                parse_checks(line).is_some_and(|(_, c)| !c.is_empty()),
                "{line}"
            );
        }
    }

    #[test]
    fn zero_counts_as_left_out_only_where_the_table_says_so() {
        assert!(
            default_of("io.k8s.api.core.v1.Probe", "periodSeconds")
                .unwrap()
                .zero_too
        );
        assert!(
            !default_of("io.k8s.api.apps.v1.DeploymentSpec", "replicas")
                .unwrap()
                .zero_too
        );
        assert!(default_of("io.k8s.api.core.v1.Probe", "exec").is_none());
    }
}
