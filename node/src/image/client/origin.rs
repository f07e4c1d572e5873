//! Where a request goes: scheme, host and port, and the redirects between such places.

use http::Uri;
use std::net::IpAddr;

/// A registry's address. Two requests go to the same one only if scheme, host and port are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: &'static str,
    authority: String,
}

impl Origin {
    pub(super) fn https(authority: &str) -> Self {
        Self {
            scheme: "https",
            authority: authority.to_ascii_lowercase(),
        }
    }

    /// The same host without TLS.
    pub(super) fn plain(&self) -> Self {
        Self {
            scheme: "http",
            authority: self.authority.clone(),
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        self.scheme == "http"
    }

    /// An address at this origin.
    pub(super) fn uri(&self, path: &str) -> Result<Uri, &'static str> {
        let text = format!("{}://{}{path}", self.scheme, self.authority);
        text.parse().map_err(|_invalid| "it is no valid address")
    }

    /// True if `uri` is at this origin.
    pub(super) fn is_of(&self, uri: &Uri) -> bool {
        let own: Option<Uri> = self.uri("/").ok();
        let parts = |uri: &Uri| {
            let scheme = uri.scheme_str()?.to_owned();
            let port = uri
                .port_u16()
                .unwrap_or(if scheme == "http" { 80 } else { 443 });
            Some((scheme, uri.host()?.to_ascii_lowercase(), port))
        };
        own.and_then(|own| parts(&own))
            .is_some_and(|own| parts(uri) == Some(own))
    }
}

/// True for names and addresses that never leave the machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Where a `Location` leads from `base`.
///
/// # Errors
/// It is empty, of another scheme, carries a user, or is no address.
pub(super) fn resolve(base: &Uri, location: &str) -> Result<Uri, &'static str> {
    const INVALID: &str = "it is no valid address";
    let location = location.split('#').next().unwrap_or_default();
    if location.is_empty() {
        return Err("it names no place");
    }
    let (scheme, authority) = (
        base.scheme_str().unwrap_or("https"),
        base.authority().ok_or(INVALID)?,
    );
    let text = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location
        .split(['/', '?'])
        .next()
        .is_some_and(|first| first.contains(':'))
    {
        location.to_owned()
    } else {
        let directory = base
            .path()
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    let uri: Uri = text.parse().map_err(|_invalid| INVALID)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("only http and https are followed");
    }
    if uri
        .authority()
        .is_none_or(|authority| authority.as_str().contains('@'))
    {
        return Err("it carries credentials of its own");
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = Origin::https("Registry.example.com");
        let is = |text: &str| origin.is_of(&text.parse().unwrap());
        assert!(is("https://registry.example.com/v2/") && is("https://REGISTRY.example.com:443/x"));
        assert!(!is("http://registry.example.com/"));
        assert!(!is("https://registry.example.com:5000/"));
        assert!(!is("https://registry.example.com.evil.org/"));
        assert!(!is("/relative"));
        assert!(
            Origin::https("h:443")
                .plain()
                .is_of(&"http://h:443/".parse().unwrap())
        );
    }

    #[test]
    fn locations_resolve_as_browsers_do() {
        let base: Uri = "https://r.io/v2/a/blobs/x?q".parse().unwrap();
        let table = [
            ("https://cdn.io/b?sig=a:b", Some("https://cdn.io/b?sig=a:b")),
            ("//cdn.io/b", Some("https://cdn.io/b")),
            ("/b#f", Some("https://r.io/b")),
            ("y?z", Some("https://r.io/v2/a/blobs/y?z")),
            ("", None),
            ("file:///etc/passwd", None),
            ("https://user:pw@r.io/", None),
            ("https://", None),
        ];
        for (location, expected) in table {
            let resolved = resolve(&base, location).ok().map(|uri| uri.to_string());
            assert_eq!(resolved.as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn loopback_is_only_this_machine() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "::1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example.com",
            "127.0.0.1.nip.io",
            "10.0.0.1",
            "[::2]",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    proptest! {
        #[test]
        fn no_location_panics(location in "\\PC{0,60}") {
            let _either = resolve(&"https://r.io/v2/x".parse().unwrap(), &location);
        }
    }
}
