//! `FieldSelector`: equalities on the few fields that lists can be filtered by.

use super::ParseSelectorError;
use std::fmt;
use std::str::FromStr;

/// Terms such as `metadata.name=web,status.phase!=Running`, all of which must hold.
///
/// Which fields exist is the caller's to know: see [`FieldSelector::requirements`]. In values, `\\`,
/// `\,` and `\=` stand for the characters themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// Dotted path of the field.
    pub field: String,
    /// The value, unescaped.
    pub value: String,
    /// True for `=` and `==`, false for `!=`.
    pub equal: bool,
}

impl FieldSelector {
    /// Whether there is no term, so that everything matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The terms in the order they were written.
    #[must_use]
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// The value the field must have, if a term says so. Lets a list by name become a read.
    #[must_use]
    pub fn exact(&self, field: &str) -> Option<&str> {
        let mut terms = self.requirements.iter();
        terms
            .find(|term| term.equal && term.field == field)
            .map(|term| term.value.as_str())
    }

    /// Whether all terms hold; an absent field counts as the empty value.
    pub fn matches_with<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|term| (field(&term.field).unwrap_or_default() == term.value) == term.equal)
    }
}

impl FromStr for FieldSelector {
    type Err = ParseSelectorError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let terms = split_terms(text);
        let requirements = terms
            .into_iter()
            .filter(|term| !term.is_empty())
            .map(requirement);
        Ok(Self {
            requirements: requirements.collect::<Result<_, _>>()?,
        })
    }
}

/// Splits at commas that no backslash precedes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, byte) in text.bytes().enumerate() {
        if byte == b',' && !escaped {
            terms.push(text.get(start..index).unwrap_or_default());
            start = index + 1;
        }
        escaped = byte == b'\\' && !escaped;
    }
    terms.push(text.get(start..).unwrap_or_default());
    terms
}

fn requirement(term: &str) -> Result<FieldRequirement, ParseSelectorError> {
    let invalid = |reason| ParseSelectorError::Field {
        text: term.to_owned(),
        reason,
    };
    for (index, _) in term.char_indices() {
        let (field, rest) = term.split_at(index);
        for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(sign) {
                let value = unescape(value).map_err(invalid)?;
                return Ok(FieldRequirement {
                    field: field.to_owned(),
                    value,
                    equal,
                });
            }
        }
    }
    Err(invalid(
        "can't understand it: write field=value or field!=value",
    ))
}

fn unescape(value: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                _ => return Err(r"invalid escape: only \\, \, and \= are known"),
            },
            ',' | '=' => return Err("unescaped character in its value"),
            _ => out.push(c),
        }
    }
    Ok(out)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let sign = if term.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{sign}", term.field)?;
            for c in term.value.chars() {
                if matches!(c, '\\' | ',' | '=') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn phase(field: &str) -> Option<&'static str> {
        match field {
            "status.phase" => Some("Running"),
            "metadata.name" => Some("a,b=c"),
            _ => None,
        }
    }

    #[test]
    fn text_matches() {
        for (text, expected) in [
            ("", true),
            ("status.phase=Running", true),
            ("status.phase==Running", true),
            ("status.phase!=Running", false),
            ("status.phase=Running,spec.nodeName=", true),
            ("spec.nodeName!=", false),
            (r"metadata.name=a\,b\=c", true),
            ("status.phase=Running,", true),
        ] {
            let selector: FieldSelector = text.parse().unwrap();
            assert_eq!(selector.matches_with(phase), expected, "{text}");
        }
        let selector: FieldSelector = "metadata.name!=a,metadata.name=b".parse().unwrap();
        assert_eq!(selector.exact("metadata.name"), Some("b"));
        assert_eq!(selector.exact("status.phase"), None);
    }

    #[test]
    fn refused_text() {
        for text in ["a", "a=b=c", r"a=\x", r"a=b\", "a in (b)", "a,b=c"] {
            assert!(text.parse::<FieldSelector>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z=!,\\\\.]{0,24}|\\PC{0,16}") {
            if let Ok(selector) = text.parse::<FieldSelector>() {
                let again: FieldSelector = selector.to_string().parse().unwrap();
                prop_assert_eq!(again, selector);
            }
        }

        #[test]
        fn values_survive(value in "\\PC{0,16}") {
            let selector = FieldSelector {
                requirements: vec![FieldRequirement { field: "f".into(), value, equal: true }],
            };
            prop_assert_eq!(selector.to_string().parse::<FieldSelector>().unwrap(), selector);
        }
    }
}
