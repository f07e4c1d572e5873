//! Semantic versions: `semver("1.2.3").isLessThan(semver("2.0.0"))`.

use std::cmp::Ordering;
use std::sync::Arc;

use cel::Value;
use cel::objects::Opaque;
use semver::Version;

use super::{Native, opaque, text};

/// A version. Build metadata says nothing about its order, nor whether two are the same.
#[derive(Debug)]
pub(super) struct Semver(Version);

impl PartialEq for Semver {
    fn eq(&self, other: &Self) -> bool {
        self.0.cmp_precedence(&other.0) == Ordering::Equal
    }
}

impl Eq for Semver {}

impl Opaque for Semver {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.Semver"
    }
}

pub(super) const FUNCTIONS: &[(&str, Native)] = &[
    ("isSemver", |v| Ok(Value::Bool(read(v)?.is_ok()))),
    ("major", |v| number(version(v)?.major)),
    ("minor", |v| number(version(v)?.minor)),
    ("patch", |v| number(version(v)?.patch)),
    ("semver", |v| {
        let version = read(v)??;
        Ok(Value::Opaque(Arc::new(Semver(version)) as Arc<dyn Opaque>))
    }),
];

/// How the first version stands to the second; nothing if the first value is none.
pub(super) fn compare(values: &[Value]) -> Option<Result<Ordering, String>> {
    let first = opaque::<Semver>(values, 0)?;
    let second = opaque::<Semver>(values, 1).ok_or_else(|| "no such overload".to_owned());
    Some(second.map(|second| first.0.cmp_precedence(&second.0)))
}

fn version(values: &[Value]) -> Result<&Version, String> {
    let found = opaque::<Semver>(values, 0).map(|version| &version.0);
    found.ok_or_else(|| "no such overload".to_owned())
}

fn number(number: u64) -> Result<Value, String> {
    i64::try_from(number)
        .map(Value::Int)
        .map_err(|_| "integer overflow".to_owned())
}

/// The version in a text; with a second argument that is true, written loosely.
fn read(values: &[Value]) -> Result<Result<Version, String>, String> {
    let loose = match values.get(1) {
        None => false,
        Some(Value::Bool(loose)) => *loose,
        Some(other) => return Err(format!("expected bool, got {}", other.type_of())),
    };
    let source = text(values, 0)?;
    let strict = if loose {
        normalized(source)
    } else {
        source.to_owned()
    };
    Ok(Version::parse(&strict)
        .map_err(|error| format!("{source:?} is no semantic version: {error}")))
}

/// `v1.02` becomes `1.2.0`.
fn normalized(source: &str) -> String {
    let source = source.strip_prefix('v').unwrap_or(source);
    let end = source.find(['-', '+']).unwrap_or(source.len());
    let (numbers, rest) = source.split_at(end);
    let mut parts: Vec<String> = numbers
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0".to_owned(),
            trimmed => trimmed.to_owned(),
        })
        .collect();
    while parts.len() < 3 {
        parts.push("0".to_owned());
    }
    format!("{}{rest}", parts.join("."))
}
