//! `WWW-Authenticate`: what a registry wants to see (RFC 9110 §11.6.1).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// One way to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// The token server's address.
        realm: String,
        /// The name of the registry at the token server.
        service: Option<String>,
    },
}

impl Challenge {
    /// All challenges of an answer that are understood.
    pub(super) fn all(headers: &HeaderMap) -> Vec<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse)
            .collect()
    }
}

/// Reads one header value, which may hold several challenges.
fn parse(text: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = text;
    while let Some((scheme, after)) = word(rest) {
        let (parameters, after) = parameters(after);
        let parameter = |name: &str| {
            let found = parameters
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = parameter("realm")
        {
            challenges.push(Challenge::Bearer {
                realm,
                service: parameter("service"),
            });
        }
        rest = after;
    }
    challenges
}

/// The next token and what follows it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end = text.find([' ', '\t', ',', '=', '"']).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// `key=value` pairs up to the next scheme: a token that no `=` follows.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut pairs = Vec::new();
    let mut rest = text;
    loop {
        let Some((key, after)) = word(rest) else {
            // Neither a token nor the end: skip it, so that the caller advances.
            let mut chars = rest.trim_start_matches([' ', '\t', ',']).chars();
            chars.next();
            return (pairs, chars.as_str());
        };
        let Some(value) = after.trim_start().strip_prefix('=') else {
            return (pairs, rest);
        };
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find([' ', '\t', ',']).unwrap_or(value.len());
                let (value, after) = value.split_at(end);
                (value.to_owned(), after)
            }
        };
        pairs.push((key.to_owned(), value));
        rest = after;
    }
}

/// The text up to the closing quote, with backslashes resolved.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    (value, chars.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        }
    }

    #[test]
    fn reads_what_registries_send() {
        let table = [
            (
                r#"Bearer realm="https://auth.io/token",service="r.io",scope="repository:a:pull,push""#,
                vec![bearer("https://auth.io/token", Some("r.io"))],
            ),
            (
                r#"bearer service = x , realm=https://a.io/t"#,
                vec![bearer("https://a.io/t", Some("x"))],
            ),
            (r#"Basic realm="R, \"x\"""#, vec![Challenge::Basic]),
            (
                r#"Negotiate, Basic realm="x", Bearer realm="y""#,
                vec![Challenge::Basic, bearer("y", None)],
            ),
            (r#"Negotiate YII=, Basic"#, vec![Challenge::Basic]),
            (r#"Bearer service="x""#, vec![]),
            ("", vec![]),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "[a-z =\",\\\\]{0,60}") {
            let _any = parse(&text);
        }
    }
}
