//! Content negotiation: which of the forms a client accepts is sent.

use crate::error::StatusError;
use crate::protobuf;

/// What becomes of the objects in an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Plain,
    /// Rows for people (`as=Table`).
    Table,
    /// Metadata only (`as=PartialObjectMetadata(List)`).
    Partial,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Syntax {
    /// Kept as it is sent, so it is chosen over what a client likes as well.
    #[default]
    Json,
    Yaml,
    Protobuf,
}

/// The chosen form and syntax.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) form: Form,
    pub(crate) syntax: Syntax,
    /// Tables and metadata are named `meta.k8s.io/v1beta1`, as older clients know them.
    pub(crate) beta: bool,
    /// Lists and watches may leave out `managedFields`.
    pub(crate) lean: bool,
}

/// Request extension of clients inside the process: lists and watches come without `managedFields`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lean;

const OFFERED: &str = "application/json, application/yaml";
const OFFERED_TOO: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

impl Accept {
    /// Chooses from an `Accept` header; an empty one accepts everything. `protobuf` says whether the kind has that form.
    ///
    /// # Errors
    /// 406 when nothing on offer is acceptable.
    pub(crate) fn parse(header: &str, protobuf: bool) -> Result<Self, StatusError> {
        if header.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut best: Option<(f32, Self)> = None;
        for range in header.split(',') {
            let Some((quality, accept)) = one(range) else {
                continue;
            };
            let binary = accept.syntax == Syntax::Protobuf;
            if quality <= 0.0 || binary && !protobuf {
                continue;
            }
            let better = best.is_none_or(|(have, chosen)| {
                let cheaper = chosen.syntax == Syntax::Protobuf && !binary;
                quality > have || quality >= have && cheaper
            });
            if better {
                best = Some((quality, accept));
            }
        }
        best.map(|(_, accept)| accept)
            .ok_or_else(|| Self::refused(protobuf))
    }

    /// Whether objects are sent as they are kept.
    pub(crate) fn is_plain(self) -> bool {
        self.form == Form::Plain && self.syntax == Syntax::Json
    }

    /// How much a media range is liked; `None` when it cannot be served in any form.
    pub(crate) fn quality(range: &str) -> Option<f32> {
        one(range).map(|(quality, _)| quality)
    }

    /// 406, with what is on offer.
    pub(crate) fn refused(protobuf: bool) -> StatusError {
        StatusError::not_acceptable(if protobuf { OFFERED_TOO } else { OFFERED })
    }
}

/// Quality and form of one media range, `None` when it cannot be served.
fn one(range: &str) -> Option<(f32, Accept)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let syntax = match media.as_str() {
        "application/json" | "application/*" | "*/*" => Syntax::Json,
        "application/yaml" => Syntax::Yaml,
        protobuf::MEDIA => Syntax::Protobuf,
        _ => return None,
    };
    let (mut quality, mut kind, mut version, mut group) = (1.0, "", "v1", "meta.k8s.io");
    for part in parts {
        match part.split_once('=') {
            Some(("q", value)) => quality = value.parse().ok()?,
            Some(("as", value)) => kind = value,
            Some(("v", value)) => version = value,
            Some(("g", value)) => group = value,
            _ => {}
        }
    }
    let beta = version == "v1beta1" && syntax != Syntax::Protobuf;
    let form = match kind {
        "" => Form::Plain,
        _ if group != "meta.k8s.io" || version != "v1" && !beta => return None,
        "Table" if syntax == Syntax::Protobuf => return None,
        "Table" => Form::Table,
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Form::Partial,
        _ => return None,
    };
    let accept = Accept {
        form,
        syntax,
        beta: beta && form != Form::Plain,
        lean: false,
    };
    Some((quality, accept))
}
