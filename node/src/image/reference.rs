//! Image references as Docker means them: `busybox` is `docker.io/library/busybox:latest`.
//!
//! The grammar is that of the distribution project's `reference` package, which Docker, containerd and Kubernetes
//! all apply: `[domain/]path[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::digest::{Digest, DigestError};

#[cfg(test)]
mod tests;

/// The registry a name without one belongs to.
pub(super) const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_REGISTRY: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A complete, checked image reference. Its text form is the normalized one, and parses to itself.
///
/// Guarantees: there is a tag, a digest or both; no part can be mistaken for a path that leaves a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an image reference. Kubernetes reports it as `InvalidImageName`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text is empty.
    #[error("the image reference is empty")]
    Empty,
    /// The domain before the first slash is not a host name or address with an optional port.
    #[error("image reference {text:?}: {domain:?} is not a registry host; write host[:port]/name")]
    Domain {
        /// The reference, shortened.
        text: String,
        /// The refused part.
        domain: String,
    },
    /// A capital letter in the repository.
    #[error("image reference {text:?}: the repository name must be lowercase")]
    Uppercase {
        /// The reference, shortened.
        text: String,
    },
    /// The repository does not follow the grammar.
    #[error(
        "image reference {text:?}: {repository:?} is not a repository name \
         (lower-case letters and digits, separated by '.', '_', '__', '-' or '/')"
    )]
    Repository {
        /// The reference, shortened.
        text: String,
        /// The refused part.
        repository: String,
    },
    /// The tag does not follow the grammar.
    #[error(
        "image reference {text:?}: {tag:?} is not a tag \
         (up to 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-')"
    )]
    Tag {
        /// The reference, shortened.
        text: String,
        /// The refused part.
        tag: String,
    },
    /// The digest is not one.
    #[error("image reference {text:?}: wrong digest")]
    Digest {
        /// The reference, shortened.
        text: String,
        /// What is wrong with it.
        #[source]
        source: DigestError,
    },
    /// The name is longer than registries accept.
    #[error("image reference {text:?}: the name is longer than {MAX_NAME} characters")]
    TooLong {
        /// The reference, shortened.
        text: String,
    },
    /// 64 hexadecimal digits are an image id, not a name.
    #[error("image reference {text:?}: 64 hexadecimal digits are an image id, not a name")]
    Identifier {
        /// The reference.
        text: String,
    },
}

impl Reference {
    /// Parses and normalizes a reference.
    ///
    /// # Errors
    /// The text does not follow the grammar; a retry cannot help.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let shown = || text.chars().take(200).collect::<String>();
        if text.is_empty() {
            return Err(ParseError::Empty);
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ParseError::Identifier { text: shown() });
        }
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => {
                let digest = digest.parse().map_err(|source| ParseError::Digest {
                    text: shown(),
                    source,
                })?;
                (named, Some(digest))
            }
            None => (text, None),
        };
        let (domain, rest) = split_domain(named);
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if !is_domain(domain) {
            return Err(ParseError::Domain {
                text: shown(),
                domain: domain.to_owned(),
            });
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ParseError::Uppercase { text: shown() });
        }
        if !is_repository(path) {
            return Err(ParseError::Repository {
                text: shown(),
                repository: path.to_owned(),
            });
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ParseError::Tag {
                text: shown(),
                tag: tag.to_owned(),
            });
        }
        let reference = Self::normalized(domain, path, tag, digest);
        if reference.registry.len() + 1 + reference.repository.len() > MAX_NAME {
            return Err(ParseError::TooLong { text: shown() });
        }
        Ok(reference)
    }

    fn normalized(domain: &str, path: &str, tag: Option<&str>, digest: Option<Digest>) -> Self {
        let registry = if domain == LEGACY_REGISTRY {
            DEFAULT_REGISTRY
        } else {
            domain
        };
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let prefix = if official { OFFICIAL_PREFIX } else { "" };
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        Self {
            registry: registry.to_owned(),
            repository: format!("{prefix}{path}"),
            tag: tag.map(str::to_owned),
            digest,
        }
    }

    /// The registry as written: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository inside the registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was given or implied.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given. It wins over the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `registry/repository`, without tag or digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same name pinned to `digest`, without a tag: the form of `repoDigests` and `imageID`.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest),
        }
    }

    /// What the registry is asked for: the digest where there is one, otherwise the tag.
    pub fn manifest_key(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// True for a reference whose default pull policy is `Always`: the tag `latest` and no digest.
    pub fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref() == Some(DEFAULT_TAG)
    }

    /// The short form people write: without `docker.io/library/`, and without `docker.io/`.
    pub fn familiar(&self) -> String {
        let text = self.to_string();
        let Some(rest) = text.strip_prefix("docker.io/") else {
            return text;
        };
        rest.strip_prefix(OFFICIAL_PREFIX)
            .unwrap_or(rest)
            .to_owned()
    }
}

/// Splits off the registry as Docker does: the part before the first slash is one if it could not be a path
/// component of Docker Hub (it has a dot, a colon or a capital letter, or is `localhost`).
fn split_domain(named: &str) -> (&str, &str) {
    match named.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, named),
    }
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = if let Some(bracketed) = domain.strip_prefix('[') {
        let Some((address, rest)) = bracketed.split_once(']') else {
            return false;
        };
        let port = match (rest, rest.strip_prefix(':')) {
            ("", _) => None,
            (_, Some(port)) => Some(port),
            _ => return false,
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        (None, port)
    } else {
        match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        }
    };
    let label = |label: &str| {
        let alphanumeric = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        alphanumeric(bytes.first())
            && alphanumeric(bytes.last())
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    host.is_none_or(|host| host.split('.').all(label))
        && port.is_none_or(|port| {
            port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
        })
}

fn is_repository(path: &str) -> bool {
    path.split('/').all(is_path_component)
}

/// Alternating runs of `[a-z0-9]+` and one separator of `.`, `_`, `__` or `-+`.
fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = component.as_bytes();
    loop {
        let word = rest.iter().take_while(|b| is_word(**b)).count();
        if word == 0 {
            return false;
        }
        let (_, after) = rest.split_at(word);
        if after.is_empty() {
            return true;
        }
        let separator = after.iter().take_while(|b| !is_word(**b)).count();
        let (separator, next) = after.split_at(separator);
        let dashes = separator.iter().all(|b| *b == b'-');
        if !(dashes || matches!(separator, b"." | b"_" | b"__")) {
            return false;
        }
        rest = next;
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    tag.len() <= MAX_TAG
        && tag.as_bytes().first().is_some_and(word)
        && tag.bytes().all(|b| word(&b) || matches!(b, b'.' | b'-'))
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}
