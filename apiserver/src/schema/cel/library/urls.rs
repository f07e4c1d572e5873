//! URLs: `url("https://example.com:8080/a?b=c").getHostname()`.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Map, Opaque};

use super::{Metered, Native, list_of, opaque, string, text};
use crate::schema::cel::meter::{Failure, Meter};

/// The parts of a URL, as they are written.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    scheme: String,
    /// Host and port.
    host: String,
    path: String,
    query: String,
}

impl Opaque for Url {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.URL"
    }
}

pub(super) const FUNCTIONS: &[(&str, Native)] = &[
    ("getEscapedPath", |v| Ok(string(url(v)?.path.as_str()))),
    ("getHost", |v| Ok(string(url(v)?.host.as_str()))),
    ("getHostname", |v| Ok(string(hostname(&url(v)?.host).0))),
    ("getPort", |v| Ok(string(hostname(&url(v)?.host).1))),
    ("getScheme", |v| Ok(string(url(v)?.scheme.as_str()))),
    ("isURL", |v| Ok(Value::Bool(read(text(v, 0)?).is_some()))),
    ("url", |v| {
        let source = text(v, 0)?;
        let url = read(source);
        let url = url
            .ok_or_else(|| format!("URL parse error during conversion from string: {source:?}"))?;
        Ok(Value::Opaque(Arc::new(url) as Arc<dyn Opaque>))
    }),
];

pub(super) const METERED: &[(&str, Metered)] = &[("getQuery", |v, m| query(&url(v)?.query, m))];

fn url(values: &[Value]) -> Result<&Url, String> {
    opaque(values, 0).ok_or_else(|| "no such overload".to_owned())
}

/// An absolute URL or an absolute path, as Go's ParseRequestURI takes them.
fn read(source: &str) -> Option<Url> {
    let plain = |c: char| !c.is_control() && c != ' ' && c != '\u{7f}';
    if source.is_empty() || !source.chars().all(plain) || !escapes_are_whole(source) {
        return None;
    }
    let (scheme, rest) = match source.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        _ => (String::new(), source),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !rest.starts_with('/') {
        return None;
    }
    let after = rest.strip_prefix("//").filter(|_| !scheme.is_empty());
    let (host, path) = match after {
        Some(after) => after.split_at(after.find('/').unwrap_or(after.len())),
        None => ("", rest),
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    is_host(host).then(|| Url {
        scheme,
        host: host.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
    })
}

fn is_scheme(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    first && text.bytes().all(plain)
}

fn is_host(host: &str) -> bool {
    let port = match host.rsplit_once(']') {
        Some((inside, after)) => {
            if !inside.starts_with('[') {
                return false;
            }
            after
        }
        None => host
            .find(':')
            .and_then(|at| host.get(at..))
            .unwrap_or_default(),
    };
    let digits = port.strip_prefix(':');
    (port.is_empty() || digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit())))
        && !host.contains(['<', '>', '"', '\\', '^', '`', '{', '|', '}'])
}

/// Every `%` is followed by two hexadecimal digits.
fn escapes_are_whole(source: &str) -> bool {
    source.split('%').skip(1).all(|rest| {
        let code = rest.as_bytes().get(..2);
        code.is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit))
    })
}

/// The host without its brackets, and the port.
fn hostname(host: &str) -> (&str, &str) {
    if let Some(inside) = host.strip_prefix('[') {
        let (name, after) = inside.split_once(']').unwrap_or((inside, ""));
        return (name, after.strip_prefix(':').unwrap_or_default());
    }
    host.split_once(':').unwrap_or((host, ""))
}

/// All values of each key.
fn query(source: &str, meter: &mut Meter) -> Result<Value, Failure> {
    meter.pass(source.len())?;
    let pairs = source.bytes().filter(|byte| *byte == b'&').count() + 1;
    // A key, a list and a value each; what is escaped grows up to three times when it is no text.
    meter.make_values(pairs.saturating_mul(3), source.len().saturating_mul(3))?;
    let mut found: HashMap<Key, Vec<Value>> = HashMap::new();
    for (key, value) in form_urlencoded::parse(source.as_bytes()) {
        let values = found.entry(Key::from(key.into_owned())).or_default();
        values.push(string(value.as_ref()));
    }
    let map = found.into_iter();
    let map = map.map(|(key, values)| (key, list_of(values))).collect();
    Ok(Value::Map(Map { map: Arc::new(map) }))
}
