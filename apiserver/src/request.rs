//! What a request asks for, read from its method, path and query.

mod accept;
mod options;
mod rules;

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

pub(crate) use accept::{Accept, Form, Lean, Syntax};
pub(crate) use options::{Match, Options, Propagation, dry_run};
pub(crate) use rules::{Verb, exclusive, refuse};

use crate::auth::{Attributes, ResourceAttributes};
use crate::error::StatusError;

/// A request for a resource, or for another path of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Resource(ResourcePath),
    /// Discovery, health, OpenAPI and the like; without a trailing slash.
    Other(String),
}

/// The parts of a resource's path. Empty strings mean "none".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// What follows the subresource, for proxies.
    pub(crate) rest: String,
    /// The deprecated `/watch/` prefix.
    pub(crate) watch: bool,
}

impl Target {
    /// Reads a path.
    ///
    /// # Errors
    /// 400 for a segment that is not UTF-8 or holds a slash or a NUL; 404 for a resource path that is too
    /// long.
    pub(crate) fn parse(path: &str) -> Result<Self, StatusError> {
        let trimmed = path.strip_suffix('/').unwrap_or(path);
        let mut segments = trimmed.split('/').skip(1);
        let (group, version) = match segments.next() {
            Some("api") => ("", segments.next()),
            Some("apis") => (segments.next().unwrap_or_default(), segments.next()),
            _ => return Ok(Self::Other(trimmed.to_owned())),
        };
        let Some(version) = version else {
            return Ok(Self::Other(trimmed.to_owned()));
        };
        let rest: Vec<&str> = segments.collect();
        if rest.is_empty() {
            return Ok(Self::Other(trimmed.to_owned()));
        }
        let mut target = ResourcePath {
            group: decode(group)?.into_owned(),
            version: decode(version)?.into_owned(),
            ..ResourcePath::default()
        };
        target.fill(&rest)?;
        Ok(Self::Resource(target))
    }
}

impl ResourcePath {
    fn fill(&mut self, segments: &[&str]) -> Result<(), StatusError> {
        let mut segments = segments;
        if let ["watch", rest @ ..] = segments {
            self.watch = true;
            segments = rest;
        }
        if let ["namespaces", namespace, resource, rest @ ..] = segments {
            // `namespaces/x/status` is a subresource of the namespace itself.
            if !matches!(*resource, "status" | "finalize") {
                self.namespace = decode(namespace)?.into_owned();
                return self.fill_resource(resource, rest);
            }
        }
        let [resource, rest @ ..] = segments else {
            return Err(StatusError::no_such_path());
        };
        self.fill_resource(resource, rest)?;
        if self.group.is_empty() && self.resource == "namespaces" {
            self.namespace.clone_from(&self.name);
        }
        Ok(())
    }

    fn fill_resource(&mut self, resource: &str, rest: &[&str]) -> Result<(), StatusError> {
        self.resource = decode(resource)?.into_owned();
        let mut rest = rest.iter();
        if let Some(name) = rest.next() {
            self.name = decode(name)?.into_owned();
        }
        if let Some(subresource) = rest.next() {
            self.subresource = decode(subresource)?.into_owned();
        }
        self.rest = rest.copied().collect::<Vec<_>>().join("/");
        if !self.rest.is_empty() && self.subresource != "proxy" {
            return Err(StatusError::no_such_path());
        }
        Ok(())
    }

    /// The API verb of a method on this path.
    pub(crate) fn verb(&self, method: &Method, watch: bool) -> Option<&'static str> {
        let named = !self.name.is_empty();
        Some(match *method {
            Method::GET | Method::HEAD if watch || self.watch => "watch",
            Method::GET | Method::HEAD if named => "get",
            Method::GET | Method::HEAD => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if named => "delete",
            Method::DELETE => "deletecollection",
            // Passed on to whoever is behind the proxy; nothing else has this verb.
            Method::OPTIONS if self.subresource == "proxy" => "",
            _ => return None,
        })
    }

    /// What authorization is asked; `pinned` is the one name a list or watch of the collection is limited to.
    pub(crate) fn attributes<'a>(
        &'a self,
        verb: &'a str,
        pinned: Option<&'a str>,
    ) -> Attributes<'a> {
        let own = Some(self.name.as_str()).filter(|name| !name.is_empty());
        Attributes::resource(
            verb,
            ResourceAttributes {
                group: &self.group,
                version: &self.version,
                resource: &self.resource,
                subresource: &self.subresource,
                namespace: &self.namespace,
                name: own.or(pinned).unwrap_or_default(),
                ..ResourceAttributes::default()
            },
        )
    }
}

fn decode(segment: &str) -> Result<Cow<'_, str>, StatusError> {
    let decoded = percent_decode_str(segment).decode_utf8();
    match decoded {
        Ok(text) if !text.contains(['/', '\0']) && text != ".." && text != "." => Ok(text),
        _ => Err(StatusError::bad_request(format!(
            "the path segment {segment:?} is not valid"
        ))),
    }
}

#[cfg(test)]
mod tests;
