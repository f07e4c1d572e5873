//! The levels and versions that the labels of a namespace ask for.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::schema::FieldError;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// The release of Kubernetes whose standard is meant: its minor version, or the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Minor(u32),
    Latest,
}

/// A level as it was in a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) version: Version,
}

/// What a namespace asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// What pods must keep to.
    pub(super) enforce: Standard,
    /// What the audit log tells violations of.
    pub(super) audit: Standard,
    /// What clients are warned about violations of.
    pub(super) warn: Standard,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level),
            Version::Latest => write!(f, "{}:latest", self.level),
        }
    }
}

impl Standard {
    const OPEN: Self = Self {
        level: Level::Privileged,
        version: Version::Latest,
    };
}

impl Policy {
    /// What labels ask for. There is always an answer: a level to enforce that cannot be read counts as restricted, one to
    /// audit or warn about as privileged, and a version that cannot be read as the latest.
    pub(super) fn of(labels: &BTreeMap<String, String>) -> (Self, Vec<FieldError>) {
        let mut errors = Vec::new();
        let mut read = |mode: &str, otherwise: Level| {
            let mut standard = Standard::OPEN;
            let label = format!("{PREFIX}{mode}");
            if let Some(text) = labels.get(&label) {
                standard.level = level(text).unwrap_or_else(|| {
                    let detail = "must be one of privileged, baseline, restricted";
                    errors.push(invalid(&label, text, detail));
                    otherwise
                });
            }
            let label = format!("{label}-version");
            if let Some(text) = labels.get(&label) {
                standard.version = version(text).unwrap_or_else(|| {
                    errors.push(invalid(&label, text, "must be \"latest\" or \"v1.x\""));
                    Version::Latest
                });
            }
            standard
        };
        let policy = Self {
            enforce: read("enforce", Level::Restricted),
            audit: read("audit", Level::Privileged),
            warn: read("warn", Level::Privileged),
        };
        (policy, errors)
    }

    /// Whether a violation of it would be told to anybody.
    pub(super) fn is_open(&self, enforced: bool) -> bool {
        let open = |standard: &Standard| standard.level == Level::Privileged;
        (!enforced || open(&self.enforce)) && open(&self.audit) && open(&self.warn)
    }
}

fn level(text: &str) -> Option<Level> {
    let all = [Level::Privileged, Level::Baseline, Level::Restricted];
    all.into_iter().find(|level| level.to_string() == text)
}

fn version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(Version::Latest);
    }
    let minor = text.strip_prefix("v1.")?;
    let canonical = minor == "0" || !minor.starts_with('0');
    let digits = !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit());
    let minor = minor.parse().ok().filter(|_| canonical && digits);
    minor.map(Version::Minor)
}

fn invalid(label: &str, text: &str, detail: &str) -> FieldError {
    FieldError::invalid(
        format!("metadata.labels[{label}]"),
        Value::from(text),
        detail,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_a_policy() {
        let cases: [(&[(&str, &str)], [&str; 3], &[&str]); 5] = [
            (&[], ["privileged:latest"; 3], &[]),
            (
                &[
                    ("enforce", "baseline"),
                    ("enforce-version", "v1.30"),
                    ("warn", "restricted"),
                ],
                ["baseline:v1.30", "privileged:latest", "restricted:latest"],
                &[],
            ),
            (
                &[
                    ("enforce", "strict"),
                    ("audit", "strict"),
                    ("warn", "Restricted"),
                ],
                [
                    "restricted:latest",
                    "privileged:latest",
                    "privileged:latest",
                ],
                &["enforce", "audit", "warn"],
            ),
            (
                &[("audit", "baseline"), ("audit-version", "1.30")],
                ["privileged:latest", "baseline:latest", "privileged:latest"],
                &["audit-version"],
            ),
            (
                &[("warn", "baseline"), ("warn-version", "v1.030")],
                ["privileged:latest", "privileged:latest", "baseline:latest"],
                &["warn-version"],
            ),
        ];
        for (labels, expected, wrong) in cases {
            let labels = labels.iter();
            let labels =
                labels.map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()));
            let (policy, errors) = Policy::of(&labels.collect());
            let got =
                [policy.enforce, policy.audit, policy.warn].map(|standard| standard.to_string());
            assert_eq!(got, expected);
            let paths: Vec<String> = errors.iter().map(|error| error.path.clone()).collect();
            let wrong: Vec<String> = wrong
                .iter()
                .map(|label| format!("metadata.labels[{PREFIX}{label}]"))
                .collect();
            assert_eq!(paths, wrong);
        }
    }
}
