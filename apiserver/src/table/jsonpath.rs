//! The part of JSONPath that CRD columns, scale paths and selectable fields use.
//!
//! `.a.b`, `['a.b']`, `.a\.b`, `[0]`, `[-1]`, `[*]`, `[?(@.type=="Ready")]`, `..name`.

use serde_json::Value;

/// A compiled path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    Index(i64),
    Every,
    /// The key anywhere below.
    Deep(String),
    Filter(Filter),
}

#[derive(Debug, Clone, PartialEq)]
struct Filter {
    path: JsonPath,
    /// `None`: the path must exist.
    test: Option<(Test, Value)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Test {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// The text is no path of this subset; `at` is a byte offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSONPath {path:?} at byte {at}: expected {expected}")]
pub(crate) struct PathError {
    path: String,
    at: usize,
    expected: &'static str,
}

impl JsonPath {
    /// Reads a path, with or without the leading dot or `$`.
    pub(crate) fn parse(text: &str) -> Result<Self, PathError> {
        let bare = text.trim();
        let bare = bare
            .strip_prefix('{')
            .and_then(|t| t.strip_suffix('}'))
            .unwrap_or(bare);
        let bare = bare.strip_prefix('$').unwrap_or(bare);
        let mut parser = Parser { text: bare, at: 0 };
        let steps = parser.steps()?;
        if parser.at < bare.len() {
            return Err(parser.error("a dot or a bracket"));
        }
        Ok(Self(steps))
    }

    /// Every value at the path.
    pub(crate) fn find<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        let mut current = vec![root];
        for step in &self.0 {
            current = current
                .into_iter()
                .flat_map(|value| step.apply(value))
                .collect();
        }
        current
    }
}

impl Step {
    fn apply<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Key(key) => value.get(key).into_iter().collect(),
            Self::Index(index) => {
                let Some(items) = value.as_array() else {
                    return Vec::new();
                };
                let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let index = if *index < 0 { length + index } else { *index };
                usize::try_from(index)
                    .ok()
                    .and_then(|at| items.get(at))
                    .into_iter()
                    .collect()
            }
            Self::Every => children(value),
            Self::Deep(key) => {
                let mut found = Vec::new();
                descend(value, key, &mut found);
                found
            }
            Self::Filter(filter) => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                items.iter().filter(|item| filter.holds(item)).collect()
            }
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn descend<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v Value>) {
    found.extend(value.get(key));
    for child in children(value) {
        descend(child, key, found);
    }
}

impl Filter {
    fn holds(&self, item: &Value) -> bool {
        let found = self.path.find(item);
        let Some((test, wanted)) = &self.test else {
            return !found.is_empty();
        };
        found.first().is_some_and(|value| test.holds(value, wanted))
    }
}

impl Test {
    fn holds(self, value: &Value, wanted: &Value) -> bool {
        let order = match (value.as_f64(), wanted.as_f64()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => value.as_str().zip(wanted.as_str()).map(|(a, b)| a.cmp(b)),
        };
        match self {
            Self::Equal => value == wanted || order.is_some_and(|o| o.is_eq()),
            Self::NotEqual => value != wanted && !order.is_some_and(|o| o.is_eq()),
            Self::Less => order.is_some_and(|o| o.is_lt()),
            Self::LessEqual => order.is_some_and(|o| o.is_le()),
            Self::Greater => order.is_some_and(|o| o.is_gt()),
            Self::GreaterEqual => order.is_some_and(|o| o.is_ge()),
        }
    }
}

/// A value as text: strings bare, the rest as JSON.
pub(crate) fn print(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, expected: &'static str) -> PathError {
        PathError {
            path: self.text.to_owned(),
            at: self.at,
            expected,
        }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn steps(&mut self) -> Result<Vec<Step>, PathError> {
        let mut steps = Vec::new();
        loop {
            if self.eat("..") {
                steps.push(Step::Deep(self.key()?));
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else if self.eat(".*") {
                steps.push(Step::Every);
            } else if self.eat(".") {
                if self.rest().is_empty() || self.rest().starts_with('[') {
                    continue;
                }
                steps.push(Step::Key(self.key()?));
            } else if steps.is_empty() && self.rest().starts_with(|c: char| c.is_alphanumeric()) {
                steps.push(Step::Key(self.key()?));
            } else {
                return Ok(steps);
            }
        }
    }

    fn key(&mut self) -> Result<String, PathError> {
        let mut key = String::new();
        let mut used = 0;
        let mut chars = self.rest().chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => {
                    let Some(escaped) = chars.next() else { break };
                    used += escaped.len_utf8();
                    key.push(escaped);
                }
                '.' | '[' | ']' | ' ' | '=' | '!' | '<' | '>' | ')' => break,
                _ => key.push(c),
            }
            used += c.len_utf8();
        }
        self.at += used;
        if key.is_empty() {
            Err(self.error("a field name"))
        } else {
            Ok(key)
        }
    }

    fn bracket(&mut self) -> Result<Step, PathError> {
        let step = if self.eat("*") {
            Step::Every
        } else if self.eat("?(") {
            let filter = self.filter()?;
            if !self.eat(")") {
                return Err(self.error("a closing parenthesis"));
            }
            Step::Filter(filter)
        } else if self.rest().starts_with(['\'', '"']) {
            Step::Key(self.quoted()?)
        } else {
            let digits = self.rest().find(']').unwrap_or(0);
            let index = self
                .rest()
                .get(..digits)
                .and_then(|text| text.trim().parse().ok());
            let index = index.ok_or_else(|| self.error("an index, a quoted key, * or ?("))?;
            self.at += digits;
            Step::Index(index)
        };
        if self.eat("]") {
            Ok(step)
        } else {
            Err(self.error("a closing bracket"))
        }
    }

    fn quoted(&mut self) -> Result<String, PathError> {
        let quote = self
            .rest()
            .chars()
            .next()
            .ok_or_else(|| self.error("a quote"))?;
        self.at += quote.len_utf8();
        let end = self
            .rest()
            .find(quote)
            .ok_or_else(|| self.error("a closing quote"))?;
        let text = self.rest().get(..end).unwrap_or_default().to_owned();
        self.at += end + quote.len_utf8();
        Ok(text)
    }

    fn filter(&mut self) -> Result<Filter, PathError> {
        self.spaces();
        if !self.eat("@") {
            return Err(self.error("@"));
        }
        let path = JsonPath(self.steps()?);
        self.spaces();
        let tests = [
            ("==", Test::Equal),
            ("!=", Test::NotEqual),
            ("<=", Test::LessEqual),
            (">=", Test::GreaterEqual),
            ("<", Test::Less),
            (">", Test::Greater),
        ];
        let Some((_, test)) = tests.into_iter().find(|(token, _)| self.eat(token)) else {
            return Ok(Filter { path, test: None });
        };
        self.spaces();
        let wanted = self.literal()?;
        self.spaces();
        Ok(Filter {
            path,
            test: Some((test, wanted)),
        })
    }

    fn literal(&mut self) -> Result<Value, PathError> {
        if self.rest().starts_with(['\'', '"']) {
            return Ok(self.quoted()?.into());
        }
        let end = self.rest().find([')', ' ']).unwrap_or(self.rest().len());
        let text = self.rest().get(..end).unwrap_or_default();
        let value = serde_json::from_str(text).map_err(|_| self.error("a literal"))?;
        self.at += end;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_what_they_name() {
        let object = json!({
            "spec": {"a.b": 1, "list": [{"n": "x"}, {"n": "y", "v": 7}]},
            "status": {"conditions": [
                {"type": "Synced", "status": "False"},
                {"type": "Ready", "status": "True"},
            ]},
        });
        let cases = [
            (".spec['a.b']", vec![json!(1)]),
            (".spec.a\\.b", vec![json!(1)]),
            (".spec.list[0].n", vec![json!("x")]),
            (".spec.list[-1].n", vec![json!("y")]),
            (".spec.list[*].n", vec![json!("x"), json!("y")]),
            (
                ".status.conditions[?(@.type==\"Ready\")].status",
                vec![json!("True")],
            ),
            (
                ".status.conditions[?(@.type == 'Ready')].status",
                vec![json!("True")],
            ),
            (".spec.list[?(@.v)].n", vec![json!("y")]),
            (".spec.list[?(@.v>6)].n", vec![json!("y")]),
            ("..n", vec![json!("x"), json!("y")]),
            (".nothing.here", vec![]),
        ];
        for (path, expected) in cases {
            let found: Vec<_> = JsonPath::parse(path)
                .unwrap()
                .find(&object)
                .into_iter()
                .cloned()
                .collect();
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for path in [".a[", ".a[x]", ".a[?(b)]", ".a]", ".a['b]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            if let Ok(path) = JsonPath::parse(&text) {
                path.find(&json!({"a": [1, {"b": "c"}]}));
            }
        }
    }
}
