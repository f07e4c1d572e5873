//! Which form of discovery a client asks for: the old documents, or everything in one.

use bytes::Bytes;
use serde_json::Value;

use super::Document;
use crate::error::StatusError;
use crate::protobuf;
use crate::request::{Accept, Form, Syntax};

const GROUP: &str = "apidiscovery.k8s.io";
const KIND: &str = "APIGroupDiscoveryList";

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A document of its own for every group and version.
    Plain(Accept),
    Aggregated(Aggregated),
}

/// The aggregated document in one of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aggregated {
    syntax: Syntax,
    /// `v2beta1`, as clients before 1.30 ask for it.
    beta: bool,
}

impl Wanted {
    /// Chooses from an `Accept` header: what the client likes best, and of several what it names first.
    ///
    /// # Errors
    /// 406 when nothing is acceptable.
    pub(crate) fn parse(header: &str) -> Result<Self, StatusError> {
        let plain = Accept::parse(header, true).map(|accept| Accept {
            form: Form::Plain,
            beta: false,
            ..accept
        });
        let mut best: Option<(f32, Self)> = None;
        for range in header.split(',') {
            let read = match aggregated(range) {
                Some((quality, form)) => Some((quality, Self::Aggregated(form))),
                None => {
                    Accept::quality(range).and_then(|q| Some((q, Self::Plain(plain.clone().ok()?))))
                }
            };
            if let Some((quality, wanted)) = read
                && quality > best.map_or(0.0, |(have, _)| have)
            {
                best = Some((quality, wanted));
            }
        }
        match best {
            Some((_, wanted)) => Ok(wanted),
            None => plain.map(Self::Plain),
        }
    }
}

impl Aggregated {
    /// The bytes of a document in this form, and what they are.
    ///
    /// # Errors
    /// 500 when the document cannot be written so.
    pub(crate) fn of(self, document: &Document) -> Result<(Bytes, String), StatusError> {
        let version = if self.beta { "v2beta1" } else { "v2" };
        let media = match self.syntax {
            Syntax::Json => "application/json",
            Syntax::Yaml => "application/yaml",
            Syntax::Protobuf => protobuf::MEDIA,
        };
        let media = format!("{media};g={GROUP};v={version};as={KIND}");
        if self.syntax == Syntax::Json && !self.beta {
            return Ok((document.bytes.clone(), media));
        }
        let mut list: Value =
            serde_json::from_slice(&document.bytes).map_err(StatusError::internal)?;
        list["apiVersion"] = format!("{GROUP}/{version}").into();
        let bytes = match self.syntax {
            Syntax::Json => list.to_string().into(),
            Syntax::Yaml => serde_saphyr::to_string(&list)
                .map_err(StatusError::internal)?
                .into(),
            Syntax::Protobuf => protobuf::encode(&list)
                .ok_or_else(|| StatusError::internal("discovery has no protobuf form"))?,
        };
        Ok((bytes, media))
    }
}

/// Quality and form of a media range that asks for the aggregated document.
fn aggregated(range: &str) -> Option<(f32, Aggregated)> {
    let mut parts = range.split(';').map(str::trim);
    let syntax = match parts.next()?.to_ascii_lowercase().as_str() {
        "application/json" => Syntax::Json,
        "application/yaml" => Syntax::Yaml,
        protobuf::MEDIA => Syntax::Protobuf,
        _ => return None,
    };
    let (mut quality, mut group, mut version, mut kind) = (1.0, "", "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("q", value)) => quality = value.parse().ok()?,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            Some(("as", value)) => kind = value,
            _ => {}
        }
    }
    let beta = version == "v2beta1";
    let known = group == GROUP && kind == KIND && (beta || version == "v2");
    known.then_some((quality, Aggregated { syntax, beta }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_client_gets_what_it_likes_best() {
        let form = |syntax, beta| Some(Wanted::Aggregated(Aggregated { syntax, beta }));
        let plain = |syntax| {
            Some(Wanted::Plain(Accept {
                syntax,
                ..Accept::default()
            }))
        };
        let of = |media: &str, version: &str| format!("{media};g={GROUP};v={version};as={KIND}");
        let (new, old) = (
            of("application/json", "v2"),
            of("application/json", "v2beta1"),
        );
        let cases = [
            (String::new(), plain(Syntax::Json)),
            ("*/*".to_owned(), plain(Syntax::Json)),
            (
                format!("{new},{old},application/json"),
                form(Syntax::Json, false),
            ),
            (format!("{old},application/json"), form(Syntax::Json, true)),
            (format!("application/json,{new}"), plain(Syntax::Json)),
            (
                format!("application/json;q=0.9,{new}"),
                form(Syntax::Json, false),
            ),
            (of(protobuf::MEDIA, "v2"), form(Syntax::Protobuf, false)),
            (
                of("application/json", "v3") + ",application/yaml",
                plain(Syntax::Yaml),
            ),
            (protobuf::MEDIA.to_owned(), plain(Syntax::Protobuf)),
            (of("application/json", "v3"), None),
            ("image/png".to_owned(), None),
        ];
        for (header, wanted) in cases {
            assert_eq!(Wanted::parse(&header).ok(), wanted, "{header}");
        }
    }

    #[test]
    fn a_document_has_every_form() {
        let list = json!({
            "kind": KIND, "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
            "items": [{
                "metadata": { "name": "apps", "creationTimestamp": null },
                "versions": [{ "version": "v1", "freshness": "Current", "resources": [{
                    "resource": "deployments", "scope": "Namespaced", "verbs": ["get"],
                    "responseKind": { "group": "apps", "version": "v1", "kind": "Deployment" },
                    "subresources": [{ "subresource": "scale", "verbs": ["get", "update"] }],
                }]}],
            }],
        });
        let document = Document::new(&list);
        let form = |syntax, beta| Aggregated { syntax, beta }.of(&document).unwrap();
        assert_eq!(form(Syntax::Json, false).0, document.bytes);
        let (old, media) = form(Syntax::Json, true);
        let old: Value = serde_json::from_slice(&old).unwrap();
        assert_eq!(old["apiVersion"], "apidiscovery.k8s.io/v2beta1");
        assert_eq!(old["items"], list["items"]);
        assert!(media.contains("v=v2beta1"));
        for beta in [false, true] {
            let (bytes, media) = form(Syntax::Protobuf, beta);
            assert!(media.starts_with(protobuf::MEDIA));
            let back = protobuf::decode(&bytes).unwrap();
            let resource = "/items/0/versions/0/resources/0";
            for field in ["/responseKind/kind", "/subresources/0/verbs/1", "/scope"] {
                let at = format!("{resource}{field}");
                assert_eq!(back.pointer(&at), list.pointer(&at), "{at}");
            }
        }
    }
}
