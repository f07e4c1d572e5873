//! The texts Kubernetes allows as names, label keys and values, ports and environment variables.
//! Every function returns what is wrong, or `None`.

use std::borrow::Cow;
use std::net::IpAddr;

type Fault = Option<Cow<'static, str>>;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters \
    or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', \
    regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
    'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or \
    '-', start with an alphabetic character, and end with an alphanumeric character (e.g. \
    'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and \
    must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
    '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const QUALIFIED: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
    '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an \
    optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric \
    characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
    'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const ENVIRONMENT: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or \
    '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
    '[-._a-zA-Z0-9]+')";
const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. \
    'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' \
    (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

fn too_long(max: usize) -> Cow<'static, str> {
    Cow::Owned(format!("must be no more than {max} bytes"))
}

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().copied().is_some_and(lower)
        && bytes.last().copied().is_some_and(lower)
        && bytes.iter().all(|b| lower(*b) || *b == b'-')
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// RFC 1123 label: at most 63 of `[-a-z0-9]`.
pub(crate) fn dns_label(text: &str) -> Fault {
    match text {
        t if t.len() > 63 => Some(too_long(63)),
        t if is_label(t) => None,
        _ => Some(LABEL.into()),
    }
}

/// RFC 1123 subdomain: labels with dots, at most 253 bytes.
pub(crate) fn dns_subdomain(text: &str) -> Fault {
    match text {
        t if t.len() > 253 => Some(too_long(253)),
        t if t.split('.').all(is_label) => None,
        _ => Some(SUBDOMAIN.into()),
    }
}

/// DNS-1035 label: as a label, but it starts with a letter.
pub(crate) fn dns1035_label(text: &str) -> Fault {
    match text {
        t if t.len() > 63 => Some(too_long(63)),
        t if is_label(t) && t.starts_with(|c: char| c.is_ascii_lowercase()) => None,
        _ => Some(LABEL_1035.into()),
    }
}

/// A subdomain whose first label may be `*`.
pub(crate) fn wildcard_subdomain(text: &str) -> Fault {
    match text.strip_prefix("*.") {
        Some(rest) if dns_subdomain(rest).is_none() => None,
        _ => Some(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS \
             subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and \
             end with an alphanumeric character (e.g. '*.example.com', regex used for validation \
             is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .into(),
        ),
    }
}

/// A label key, resource or finalizer name: `[prefix/]name`.
pub(crate) fn qualified_name(text: &str) -> Fault {
    let (prefix, name) = match text.split_once('/') {
        Some((_, name)) if name.contains('/') => return Some(QUALIFIED.into()),
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    match prefix {
        Some("") => return Some("prefix part must be non-empty".into()),
        Some(prefix) => {
            if let Some(fault) = dns_subdomain(prefix) {
                return Some(format!("prefix part {fault}").into());
            }
        }
        None => {}
    }
    match name {
        "" => Some("name part must be non-empty".into()),
        n if n.len() > 63 => Some("name part must be no more than 63 bytes".into()),
        n if is_name(n) => None,
        _ => Some(NAME_PART.into()),
    }
}

/// The value of a label.
pub(crate) fn label_value(text: &str) -> Fault {
    match text {
        t if t.len() > 63 => Some(too_long(63)),
        t if t.is_empty() || is_name(t) => None,
        _ => Some(LABEL_VALUE.into()),
    }
}

/// A name that is one segment of a URL path.
pub(crate) fn path_segment(text: &str) -> Fault {
    match text {
        "." | ".." => Some(format!("may not be '{text}'").into()),
        t if t.contains('/') => Some("may not contain '/'".into()),
        t if t.contains('%') => Some("may not contain '%'".into()),
        _ => None,
    }
}

/// An IANA service name, as ports have them.
pub(crate) fn port_name(text: &str) -> Fault {
    let good = |b: u8| lower(b) || b == b'-';
    match text {
        t if t.len() > 15 => Some(too_long(15)),
        t if !t.bytes().all(good) || t.is_empty() => {
            Some("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into())
        }
        t if !t.bytes().any(|b| b.is_ascii_lowercase()) => {
            Some("must contain at least one letter (a-z)".into())
        }
        t if t.contains("--") => Some("must not contain consecutive hyphens".into()),
        t if t.starts_with('-') || t.ends_with('-') => {
            Some("must not begin or end with a hyphen".into())
        }
        _ => None,
    }
}

/// A port number.
pub(crate) fn port_number(port: i64) -> Fault {
    (!(1..=65535).contains(&port)).then(|| "must be between 1 and 65535, inclusive".into())
}

/// The name of an environment variable.
pub(crate) fn environment(text: &str) -> Fault {
    let good = !text.is_empty() && text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=');
    (!good).then(|| ENVIRONMENT.into())
}

/// A key of a ConfigMap or Secret.
pub(crate) fn config_key(text: &str) -> Fault {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match text {
        t if t.len() > 253 => Some(too_long(253)),
        t if t.is_empty() || !t.bytes().all(good) => Some(CONFIG_KEY.into()),
        "." => Some("must not be '.'".into()),
        ".." => Some("must not be '..'".into()),
        t if t.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

/// The name of an HTTP header.
pub(crate) fn header(text: &str) -> Fault {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (!good).then(|| HEADER.into())
}

/// `25%`
pub(crate) fn percent(text: &str) -> Fault {
    let digits = text.strip_suffix('%').unwrap_or_default();
    let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (!good).then(|| PERCENT.into())
}

/// An IPv4 or IPv6 address.
pub(crate) fn ip(text: &str) -> Fault {
    text.parse::<IpAddr>()
        .is_err()
        .then(|| "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into())
}

/// An IPv4 or IPv6 network.
pub(crate) fn cidr(text: &str) -> Fault {
    text.parse::<ipnet::IpNet>()
        .is_err()
        .then(|| "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_pass_and_names_that_fail() {
        type Check = fn(&str) -> Fault;
        let table: [(&str, Check, &[&str], &[&str]); 11] = [
            (
                "label",
                dns_label,
                &["a", "a-b", "0", "1a"],
                &["", "-a", "a-", "A", "a.b", "ä"],
            ),
            (
                "subdomain",
                dns_subdomain,
                &["a", "a.b-c.d"],
                &["", ".", "a..b", "a.", "A.b"],
            ),
            (
                "1035",
                dns1035_label,
                &["a", "a1-b"],
                &["", "1a", "a.b", "a-"],
            ),
            (
                "wildcard",
                wildcard_subdomain,
                &["*.a.b"],
                &["*", "*a", "a.*"],
            ),
            (
                "qualified",
                qualified_name,
                &["a", "A_b.c", "x.io/Name"],
                &["", "/a", "a/", "a/b/c", "x_y/a", "-a", "a b"],
            ),
            (
                "value",
                label_value,
                &["", "a", "A_b.c-1"],
                &["-a", "a ", "a/b", "ä"],
            ),
            (
                "port",
                port_name,
                &["http", "a-1"],
                &["", "1", "a--b", "-a", "A", "aaaaaaaaaaaaaaaa"],
            ),
            (
                "env",
                environment,
                &["A", "a.b-c", "1 x"],
                &["", "A=B", "ä", "a\n"],
            ),
            (
                "key",
                config_key,
                &["a", "A.b_c", ".a"],
                &["", ".", "..", "..a", "a/b"],
            ),
            ("header", header, &["X-A"], &["", "X A", "X_A"]),
            ("percent", percent, &["0%", "100%"], &["", "%", "1", "-1%"]),
        ];
        for (name, check, good, bad) in table {
            for text in good {
                assert_eq!(check(text), None, "{name} {text}");
            }
            for text in bad {
                assert!(check(text).is_some(), "{name} {text}");
            }
        }
        assert!(dns_label(&"a".repeat(64)).unwrap().contains("63"));
        assert!(dns_subdomain(&"a".repeat(254)).unwrap().contains("253"));
    }
}
