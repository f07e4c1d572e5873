//! Value constraints of custom schemas, compiled: what a node's value must satisfy besides its type.

use std::sync::OnceLock;

use serde_json::{Number, Value};

use super::pattern;

/// The constraints of one schema node.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// The declared `type`; `None` when the schema leaves it open.
    pub(crate) declared: Option<Declared>,
    pub(crate) allowed: Vec<Value>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) format: Option<Box<str>>,
    pub(crate) minimum: Option<Bound>,
    pub(crate) maximum: Option<Bound>,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_length: Option<usize>,
    pub(crate) max_length: Option<usize>,
    pub(crate) min_items: Option<usize>,
    pub(crate) max_items: Option<usize>,
    pub(crate) unique_items: bool,
    pub(crate) min_properties: Option<usize>,
    pub(crate) max_properties: Option<usize>,
    pub(crate) required: Vec<Box<str>>,
    pub(crate) all_of: Vec<Logic>,
    pub(crate) any_of: Vec<Logic>,
    pub(crate) one_of: Vec<Logic>,
    pub(crate) not: Option<Box<Logic>>,
    /// Constraints on the implicit fields of a resource (apiVersion, kind, metadata).
    pub(crate) beside: Vec<Logic>,
    /// `x-kubernetes-validations`
    pub(crate) expressions: Vec<super::cel::Rule>,
}

/// The `type` keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declared {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    /// `x-kubernetes-int-or-string`
    IntOrString,
}

impl Declared {
    /// The word in a schema.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::IntOrString => "integer,string",
        }
    }

    /// Whether `value` is of the type.
    pub(crate) fn admits(self, value: &Value) -> bool {
        match self {
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::String => value.is_string(),
            Self::Integer => is_integer(value),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::IntOrString => value.is_string() || is_integer(value),
        }
    }
}

fn is_integer(value: &Value) -> bool {
    match value {
        Value::Number(n) => {
            n.is_i64() || n.is_u64() || n.as_f64().is_some_and(|f| f.fract() == 0.0)
        }
        _ => false,
    }
}

/// `minimum` or `maximum`.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) number: Number,
    pub(crate) exclusive: bool,
}

/// Compares two JSON numbers, exactly where both are integers.
pub(crate) fn compare(a: &Number, b: &Number) -> Option<std::cmp::Ordering> {
    let whole = |n: &Number| {
        n.as_i64()
            .map(i128::from)
            .or_else(|| n.as_u64().map(i128::from))
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

/// A branch of `allOf`, `anyOf`, `oneOf` or `not`: constraints that follow the structure but
/// declare none.
#[derive(Debug, Default)]
pub(crate) struct Logic {
    pub(crate) rules: Rules,
    pub(crate) fields: Vec<(Box<str>, Logic)>,
    pub(crate) items: Option<Box<Logic>>,
    pub(crate) values: Option<Box<Logic>>,
}

/// A regular expression that matches in linear time, compiled at its first use.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) source: Box<str>,
    compiled: OnceLock<Option<regex::Regex>>,
}

impl Pattern {
    /// Checks that `source` compiles within the limits; the program is built again when needed.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        pattern::compile(source)?;
        Ok(Self {
            source: source.into(),
            compiled: OnceLock::new(),
        })
    }

    /// Whether the pattern occurs in `text`.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        let compile = || pattern::compile(&self.source).ok().map(|p| p.regex);
        let compiled = self.compiled.get_or_init(compile);
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}
