//! Bearer tokens of clients that cannot set headers, as browsers cannot for WebSockets: among the protocols that they
//! ask for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

/// What the protocol begins with that is none but a token.
const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// A token that was among the protocols, or what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProtocolToken(pub(super) Result<String, &'static str>);

/// Takes the token out of a request's headers, whoever they are passed on to; [`ProtocolToken`] is in the extensions then.
pub(crate) fn take(parts: &mut Parts) {
    if !parts.headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return;
    }
    let asked = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let names = asked.iter().filter_map(|value| value.to_str().ok());
    let names = names.flat_map(|value| value.split(',')).map(str::trim);
    let (tokens, others): (Vec<&str>, Vec<&str>) = names.partition(|name| name.starts_with(PREFIX));
    if tokens.is_empty() {
        return;
    }
    let token = token(&tokens, others.is_empty());
    let others = HeaderValue::from_str(&others.join(","));
    parts.headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Ok(others) = others
        && !others.is_empty()
    {
        parts.headers.insert(header::SEC_WEBSOCKET_PROTOCOL, others);
    }
    // An empty one is none.
    if is_websocket(&parts.headers) && token != Ok(String::new()) {
        parts.extensions.insert(ProtocolToken(token));
    }
}

fn token(tokens: &[&str], alone: bool) -> Result<String, &'static str> {
    let [token] = tokens else {
        return Err("multiple base64.bearer.authorization tokens specified");
    };
    let encoded = token.strip_prefix(PREFIX).unwrap_or_default();
    let decoded = URL_SAFE_NO_PAD.decode(encoded);
    let decoded = decoded.map_err(|_| "invalid base64.bearer.authorization token encoding")?;
    let token =
        String::from_utf8(decoded).map_err(|_| "invalid base64.bearer.authorization token")?;
    if alone && !token.is_empty() {
        // The server has to answer with one of the protocols that it was asked for.
        return Err("missing additional subprotocol");
    }
    Ok(token)
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| {
        let values = headers.get_all(name);
        let texts = values.iter().filter_map(|value| value.to_str().ok());
        let mut tokens = texts.flat_map(|text| text.split(','));
        tokens.any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn taken(protocols: &[&str], upgrade: &str) -> (Option<ProtocolToken>, Option<String>) {
        let mut request = Request::builder()
            .header(header::CONNECTION, "keep-alive, Upgrade")
            .header(header::UPGRADE, upgrade);
        for protocol in protocols {
            request = request.header(header::SEC_WEBSOCKET_PROTOCOL, *protocol);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        take(&mut parts);
        let left = parts.headers.get(header::SEC_WEBSOCKET_PROTOCOL);
        (
            parts.extensions.get().cloned(),
            left.map(|left| left.to_str().unwrap().to_owned()),
        )
    }

    #[test]
    fn a_token_is_taken_out_of_the_protocols() {
        let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode("secret"));
        let ok = || Ok("secret".to_owned());
        let table: [(&[&str], Option<Result<String, &str>>, Option<&str>); 8] = [
            (&[], None, None),
            (
                &["v5.channel.k8s.io, a"],
                None,
                Some("v5.channel.k8s.io, a"),
            ),
            (&["a", &secret, "b"], Some(ok()), Some("a,b")),
            (&[&format!("a, {secret}")], Some(ok()), Some("a")),
            (
                &[&secret],
                Some(Err("missing additional subprotocol")),
                None,
            ),
            (
                &["a", &secret, &secret],
                Some(Err("multiple base64.bearer.authorization tokens specified")),
                Some("a"),
            ),
            (
                &["a", &format!("{PREFIX}c2VjcmV0==")],
                Some(Err("invalid base64.bearer.authorization token encoding")),
                Some("a"),
            ),
            (&["a", PREFIX], None, Some("a")),
        ];
        for (protocols, token, left) in table {
            let found = taken(protocols, "websocket");
            assert_eq!(
                found,
                (token.map(ProtocolToken), left.map(str::to_owned)),
                "{protocols:?}"
            );
        }
        // Only WebSockets are let in by it, and yet nobody else is to see it.
        assert_eq!(taken(&["a", &secret], "SPDY/3.1"), (None, Some("a".into())));
    }

    proptest! {
        #[test]
        fn a_token_never_stays(before in "[ -~]{0,12}", token in "[ -+--~]{0,12}", after in "[ -~]{0,12}") {
            let text = format!("{before},{PREFIX}{token},{after}");
            let left = taken(&[&text], "websocket").1;
            prop_assert!(!left.unwrap_or_default().contains(PREFIX));
        }
    }
}
