//! Credentials for registries, from `imagePullSecrets` and Docker's `config.json`.
//!
//! Which credentials fit an image follows kubelet's keyring: the keys of `auths` are hosts, optionally with a
//! scheme (ignored), a port, a path that must be a prefix, and `*` or `?` inside a host's labels. The most specific key
//! comes first, and all that fit are tried.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::reference::{DEFAULT_REGISTRY, Reference};

#[cfg(test)]
mod tests;

const SECRET_JSON: &str = "kubernetes.io/dockerconfigjson";
const SECRET_LEGACY: &str = "kubernetes.io/dockercfg";

/// What to show a registry. Never printed: `Debug` hides the secret part.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password, for basic authentication or to be exchanged for a token.
    Basic {
        /// The user.
        username: String,
        /// The password, or a personal access token.
        password: String,
    },
    /// An OAuth2 refresh token, to be exchanged for access tokens (`identitytoken`).
    Identity(String),
    /// A bearer token to be sent as it is (`registrytoken`).
    Registry(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username:?}, hidden)"),
            Self::Identity(_) => f.write_str("Identity(hidden)"),
            Self::Registry(_) => f.write_str("Registry(hidden)"),
        }
    }
}

/// Why pull credentials cannot be used. The text never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The Secret is of another type.
    #[error("secret {name} has type {kind:?}; pull secrets are {SECRET_JSON} or {SECRET_LEGACY}")]
    Kind {
        /// The Secret.
        name: String,
        /// Its type.
        kind: String,
    },
    /// The Secret has no such key.
    #[error("secret {name} has no key {key:?}")]
    Missing {
        /// The Secret.
        name: String,
        /// The key that its type demands.
        key: &'static str,
    },
    /// The text is not a Docker configuration.
    #[error("not a docker configuration: {reason} at line {line}, column {column}")]
    Json {
        /// What the parser expected, without the text.
        reason: &'static str,
        /// Line in the text.
        line: usize,
        /// Column in the line.
        column: usize,
    },
    /// The `auth` of one host is not base64 of `user:password`.
    #[error("docker configuration: auths[{host:?}].auth is not base64 of user:password")]
    Auth {
        /// The host's key.
        host: String,
    },
}

/// Credentials of several sources, asked by image.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    host: String,
    path: String,
    credentials: Credentials,
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Keyring {
    /// No credentials.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what a pull Secret holds, either of the two types Kubernetes knows.
    ///
    /// # Errors
    /// The Secret is of another type or its data is broken; the keyring is unchanged then, and the caller may go
    /// on with the others, as kubelet does.
    pub fn add_secret(&mut self, secret: &Secret) -> Result<(), CredentialsError> {
        let name = secret.metadata.name.clone().unwrap_or_default();
        let data = |key: &'static str| {
            let found = secret.data.as_ref().and_then(|data| data.get(key));
            found.ok_or_else(|| CredentialsError::Missing {
                name: name.clone(),
                key,
            })
        };
        match secret.type_.as_deref() {
            Some(SECRET_JSON) => self.add_docker_config(&data(".dockerconfigjson")?.0),
            Some(SECRET_LEGACY) => {
                let auths = serde_json::from_slice(&data(".dockercfg")?.0).map_err(json_error)?;
                self.add_auths(auths)
            }
            kind => Err(CredentialsError::Kind {
                name: name.clone(),
                kind: kind.unwrap_or("Opaque").to_owned(),
            }),
        }
    }

    /// Adds the `auths` of a Docker `config.json`. Credential helpers named in it are not run.
    ///
    /// # Errors
    /// The text is not such a file; the keyring is unchanged then.
    pub fn add_docker_config(&mut self, json: &[u8]) -> Result<(), CredentialsError> {
        let config: DockerConfig = serde_json::from_slice(json).map_err(json_error)?;
        self.add_auths(config.auths)
    }

    fn add_auths(&mut self, auths: BTreeMap<String, Auth>) -> Result<(), CredentialsError> {
        let mut added = Vec::new();
        for (key, auth) in auths {
            let Some(credentials) = auth.credentials(&key)? else {
                continue;
            };
            let (host, path) = split_key(&key);
            added.push(Entry {
                host,
                path,
                credentials,
            });
        }
        self.entries.extend(added);
        // kubelet walks its keys in reverse order, so that a longer path comes before its prefix.
        self.entries
            .sort_by(|a, b| (&b.host, &b.path).cmp(&(&a.host, &a.path)));
        Ok(())
    }

    /// All credentials that fit `reference`, most specific first, each once.
    pub fn lookup(&self, reference: &Reference) -> Vec<Credentials> {
        let mut found: Vec<Credentials> = Vec::new();
        for entry in &self.entries {
            if entry.fits(reference) && !found.contains(&entry.credentials) {
                found.push(entry.credentials.clone());
            }
        }
        found
    }
}

impl Auth {
    fn credentials(self, host: &str) -> Result<Option<Credentials>, CredentialsError> {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = some(self.identitytoken) {
            return Ok(Some(Credentials::Identity(token)));
        }
        if let Some(token) = some(self.registrytoken) {
            return Ok(Some(Credentials::Registry(token)));
        }
        if let Some(auth) = some(self.auth) {
            let refuse = || CredentialsError::Auth {
                host: host.to_owned(),
            };
            let trimmed = auth.trim();
            let bytes = STANDARD
                .decode(trimmed)
                .or_else(|_| STANDARD_NO_PAD.decode(trimmed));
            let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or_else(refuse)?;
            let (username, password) = text.split_once(':').ok_or_else(refuse)?;
            let password = password.trim_end_matches('\0').to_owned();
            return Ok(Some(Credentials::Basic {
                username: username.to_owned(),
                password,
            }));
        }
        Ok(some(self.username).map(|username| Credentials::Basic {
            username,
            password: self.password.unwrap_or_default(),
        }))
    }
}

impl Entry {
    fn fits(&self, reference: &Reference) -> bool {
        let path = self.path.trim_matches('/');
        let repository = reference.repository();
        let inside = path.is_empty()
            || repository
                .strip_prefix(path)
                .is_some_and(|r| r.is_empty() || r.starts_with('/'));
        inside && host_fits(&self.host, reference.registry())
    }
}

/// Splits `https://host:port/path` into a normalized host and a path.
fn split_key(key: &str) -> (String, String) {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let hub = matches!(
        host,
        "docker.io" | "index.docker.io" | "registry-1.docker.io"
    );
    if hub {
        // Docker writes its own registry as an API address; that path is no repository.
        let path = if matches!(path.trim_matches('/'), "v1" | "v2") {
            ""
        } else {
            path
        };
        return (DEFAULT_REGISTRY.to_owned(), path.to_owned());
    }
    let path = if matches!(path.trim_matches('/'), "v1" | "v2") {
        ""
    } else {
        path
    };
    (host.to_owned(), path.to_owned())
}

/// Compares hosts label by label; a label of the pattern may hold `*` and `?`. Ports must be equal.
fn host_fits(pattern: &str, host: &str) -> bool {
    let split = |text: &str| match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host.to_ascii_lowercase(), port.to_owned()),
        _ => (text.to_ascii_lowercase(), String::new()),
    };
    let ((pattern, pattern_port), (host, port)) = (split(pattern), split(host));
    if pattern_port != port {
        return false;
    }
    let (pattern, host): (Vec<_>, Vec<_>) =
        (pattern.split('.').collect(), host.split('.').collect());
    pattern.len() == host.len()
        && pattern
            .iter()
            .zip(&host)
            .all(|(p, h)| label_fits(p.as_bytes(), h.as_bytes()))
}

/// Glob match in linear space and at most quadratic time.
fn label_fits(pattern: &[u8], text: &[u8]) -> bool {
    let mut reachable = vec![false; text.len() + 1];
    if let Some(first) = reachable.first_mut() {
        *first = true;
    }
    for symbol in pattern {
        let mut next = vec![false; reachable.len()];
        let mut seen = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let here = reachable.get(at).copied().unwrap_or(false);
            let before = at.checked_sub(1);
            seen |= here;
            *slot = match symbol {
                b'*' => seen,
                symbol => before.is_some_and(|before| {
                    let matches = *symbol == b'?' || text.get(before) == Some(symbol);
                    matches && reachable.get(before).copied().unwrap_or(false)
                }),
            };
        }
        reachable = next;
    }
    reachable.last().copied().unwrap_or(false)
}

/// Keeps only the position: serde's own message may quote the secret.
fn json_error(error: serde_json::Error) -> CredentialsError {
    let reason = match error.classify() {
        serde_json::error::Category::Data => "a field has the wrong type",
        serde_json::error::Category::Eof => "the JSON ends early",
        _ => "it is not JSON",
    };
    CredentialsError::Json {
        reason,
        line: error.line(),
        column: error.column(),
    }
}
