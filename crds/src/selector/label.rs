//! `LabelSelector`: a conjunction of requirements on labels.

use super::{ParseSelectorError, parser};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Requirements that all must hold; with none of them, everything matches.
///
/// Read from a query (`a=b,c in (d,e),!f`), from the structured form in specs, or from a plain map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label has the value.
    Equals,
    /// The label is absent or has another value.
    NotEquals,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is an integer above the value.
    GreaterThan,
    /// The label is an integer below the value.
    LessThan,
}

impl LabelSelector {
    /// Matches every object.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Every pair must be there, as in `spec.selector` of a Service.
    ///
    /// # Errors
    /// When a key or value is no valid label.
    pub fn from_map(pairs: &BTreeMap<String, String>) -> Result<Self, ParseSelectorError> {
        let requirements = pairs.iter().map(|(key, value)| {
            Requirement::new(key, Operator::Equals, BTreeSet::from([value.clone()]))
        });
        Ok(Self {
            requirements: requirements.collect::<Result<_, _>>()?,
        })
    }

    /// Whether there is no requirement.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements in the order they were written.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether all requirements hold for these labels.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Whether all requirements hold, given a look-up of labels by key.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.holds(label(&requirement.key)))
    }
}

impl Requirement {
    /// Checks key, operator and values as the API does.
    ///
    /// # Errors
    /// Names the key and what is wrong with it, its values or their number.
    pub fn new(
        key: &str,
        operator: Operator,
        values: BTreeSet<String>,
    ) -> Result<Self, ParseSelectorError> {
        let refuse = |text: String| Err(ParseSelectorError::Requirement(text));
        if let Some(wrong) = key_error(key) {
            return refuse(format!("key: Invalid value: {key:?}: {wrong}"));
        }
        match (operator, values.len()) {
            (Operator::In | Operator::NotIn, 0) => {
                return refuse(format!(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set of \
                     {key:?} can't be empty"
                ));
            }
            (Operator::Exists | Operator::DoesNotExist, 1..) => {
                return refuse(format!(
                    "values: Invalid value: {values:?}: values set of {key:?} must be empty for \
                     exists and does not exist"
                ));
            }
            _ => {}
        }
        let numeric = matches!(operator, Operator::GreaterThan | Operator::LessThan);
        for value in &values {
            if numeric && value.parse::<i64>().is_err() {
                return refuse(format!(
                    "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value of \
                     {key:?} must be an integer"
                ));
            }
            if !numeric && !is_label_value(value) {
                return refuse(format!(
                    "values[0][{key}]: Invalid value: {value:?}: a valid label must be an empty \
                     string or consist of alphanumeric characters, '-', '_' or '.', and must start \
                     and end with an alphanumeric character, at most 63 characters"
                ));
            }
        }
        Ok(Self {
            key: key.to_owned(),
            operator,
            values,
        })
    }

    /// The label's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How it compares.
    #[must_use]
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values, sorted.
    #[must_use]
    pub fn values(&self) -> &BTreeSet<String> {
        &self.values
    }

    /// Whether it holds for the label's value, `None` when the label is absent.
    #[must_use]
    pub fn holds(&self, value: Option<&str>) -> bool {
        match self.operator {
            Operator::In | Operator::Equals => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn | Operator::NotEquals => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.integers(value).is_some_and(|(v, bound)| v > bound),
            Operator::LessThan => self.integers(value).is_some_and(|(v, bound)| v < bound),
        }
    }

    fn integers(&self, value: Option<&str>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl FromStr for LabelSelector {
    type Err = ParseSelectorError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self {
            requirements: parser::parse(text)?,
        })
    }
}

impl TryFrom<&meta::LabelSelector> for LabelSelector {
    type Error = ParseSelectorError;
    /// An empty structure matches everything. An absent one matches nothing, which is the caller's
    /// to decide.
    fn try_from(selector: &meta::LabelSelector) -> Result<Self, Self::Error> {
        let mut read = match &selector.match_labels {
            Some(pairs) => Self::from_map(pairs)?,
            None => Self::default(),
        };
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(ParseSelectorError::Requirement(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            let values = expression.values.iter().flatten().cloned().collect();
            read.requirements
                .push(Requirement::new(&expression.key, operator, values)?);
        }
        Ok(read)
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let sign = match self.operator {
            Operator::Exists => return write!(f, "{key}"),
            Operator::DoesNotExist => return write!(f, "!{key}"),
            Operator::In | Operator::NotIn => {
                let word = if self.operator == Operator::In {
                    "in"
                } else {
                    "notin"
                };
                write!(f, "{key} {word} (")?;
                for (index, value) in self.values.iter().enumerate() {
                    write!(f, "{}{value}", if index > 0 { "," } else { "" })?;
                }
                return f.write_str(")");
            }
            Operator::Equals => "=",
            Operator::NotEquals => "!=",
            Operator::GreaterThan => ">",
            Operator::LessThan => "<",
        };
        write!(
            f,
            "{key}{sign}{}",
            self.values.first().map_or("", String::as_str)
        )
    }
}

/// What is wrong with a label key: an optional DNS prefix and a name.
fn key_error(key: &str) -> Option<&'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| !is_dns_subdomain(prefix)) {
        return Some("prefix part must be a lowercase DNS name of at most 253 characters");
    }
    if name.is_empty() {
        return Some("name part must be non-empty");
    }
    if !is_label_value(name) {
        return Some(
            "name part must consist of alphanumeric characters, '-', '_' or '.', must start and \
             end with an alphanumeric character, and be at most 63 characters",
        );
    }
    None
}

fn is_label_value(value: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

fn is_dns_subdomain(name: &str) -> bool {
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            let bytes = label.as_bytes();
            bytes.first().is_some_and(plain)
                && bytes.last().is_some_and(plain)
                && bytes.iter().all(|b| plain(b) || *b == b'-')
        })
}

#[cfg(test)]
#[path = "label_tests.rs"]
mod tests;
