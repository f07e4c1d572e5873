//! Where a called server is: a URL, or a path of a Service.

use http::Uri;
use serde_json::Value;

/// An address as users write it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// An https URL of an object, which any user may have written who may write such objects.
    Url(String),
    /// An https URL of a file that the administrator of this machine wrote.
    Configured(String),
    /// A port of a Service.
    Service {
        namespace: String,
        name: String,
        port: u16,
        /// Begins with a slash.
        path: String,
    },
}

impl Place {
    /// From the `clientConfig` of a webhook.
    ///
    /// # Errors
    /// Text for the user: neither form, or a URL that is not https.
    pub(crate) fn from_client_config(config: &Value) -> Result<Self, String> {
        if let Some(url) = config["url"].as_str() {
            return https(url).map(Self::Url);
        }
        Self::from_service(&config["service"], "namespace")
    }

    /// From a URL in a file of the administrator.
    ///
    /// # Errors
    /// It is not an https URL.
    pub(crate) fn configured(url: &str) -> Result<Self, String> {
        https(url).map(Self::Configured)
    }

    /// From a reference to a Service, as webhooks and API services have them.
    pub(crate) fn from_service(service: &Value, namespace: &str) -> Result<Self, String> {
        let text = |key: &str| service[key].as_str().unwrap_or_default().to_owned();
        if text("name").is_empty() {
            return Err("webhook configuration must have either service or URL".to_owned());
        }
        let port = service["port"].as_u64().unwrap_or(443);
        Ok(Self::Service {
            namespace: text(namespace),
            name: text("name"),
            port: u16::try_from(port).unwrap_or(443),
            path: format!("/{}", text("path").trim_start_matches('/')),
        })
    }

    /// The name its certificate must have, with the port.
    fn authority(&self) -> String {
        match self {
            Self::Url(url) | Self::Configured(url) => {
                let uri: Option<Uri> = url.parse().ok();
                let authority = uri.and_then(|uri| Some(uri.authority()?.to_string()));
                authority.unwrap_or_default()
            }
            Self::Service {
                namespace,
                name,
                port,
                ..
            } => format!("{name}.{namespace}.svc:{port}"),
        }
    }

    /// The whole address.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Url(url) | Self::Configured(url) => url.clone(),
            Self::Service { path, .. } => format!("https://{}{path}", self.authority()),
        }
    }

    /// The same server without the path.
    pub(super) fn origin(&self) -> Self {
        let mut origin = self.clone();
        match &mut origin {
            Self::Url(url) | Self::Configured(url) => {
                *url = format!("https://{}/", self.authority())
            }
            Self::Service { path, .. } => "/".clone_into(path),
        }
        origin
    }

    /// The address of another path of the same server.
    pub(crate) fn at(&self, path_and_query: &str) -> String {
        format!("https://{}{path_and_query}", self.authority())
    }
}

fn https(url: &str) -> Result<String, String> {
    let uri: Uri = url
        .parse()
        .map_err(|e| format!("invalid URL {url:?}: {e}"))?;
    if uri.scheme_str() != Some("https") || uri.host().is_none_or(str::is_empty) {
        return Err(format!("the URL {url:?} is not an https URL"));
    }
    Ok(url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_as_users_write_them() {
        let table = [
            (
                json!({"url": "https://a.example:8443/x"}),
                Some("https://a.example:8443/x"),
            ),
            (json!({"url": "http://a.example/x"}), None),
            (json!({"url": "https:///x"}), None),
            (
                json!({"service": {"namespace": "n", "name": "s"}}),
                Some("https://s.n.svc:443/"),
            ),
            (
                json!({"service": {"namespace": "n", "name": "s", "port": 8443, "path": "/v"}}),
                Some("https://s.n.svc:8443/v"),
            ),
            (json!({}), None),
        ];
        for (config, url) in table {
            let place = Place::from_client_config(&config).ok();
            assert_eq!(place.map(|p| p.url()).as_deref(), url, "{config}");
        }
    }
}
