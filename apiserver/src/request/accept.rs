//! Content negotiation: which of the forms a client accepts is sent.

use crate::error::StatusError;

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

/// The chosen form and syntax.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) form: Form,
    pub(crate) yaml: bool,
}

const OFFERED: &str = "application/json, application/yaml";

impl Accept {
    /// Chooses from an `Accept` header; an empty one accepts everything.
    ///
    /// # Errors
    /// 406 when nothing on offer is acceptable.
    pub(crate) fn parse(header: &str) -> Result<Self, StatusError> {
        if header.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut best: Option<(f32, Self)> = None;
        for range in header.split(',') {
            let Some((quality, accept)) = one(range) else {
                continue;
            };
            if quality > 0.0 && best.is_none_or(|(have, _)| quality > have) {
                best = Some((quality, accept));
            }
        }
        best.map(|(_, accept)| accept)
            .ok_or_else(|| StatusError::not_acceptable(OFFERED))
    }
}

/// Quality and form of one media range, `None` when it cannot be served.
fn one(range: &str) -> Option<(f32, Accept)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let yaml = match media.as_str() {
        "application/json" | "application/*" | "*/*" => false,
        "application/yaml" => true,
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
    let form = match kind {
        "" => Form::Plain,
        _ if group != "meta.k8s.io" || version != "v1" => return None,
        "Table" => Form::Table,
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Form::Partial,
        _ => return None,
    };
    Some((quality, Accept { form, yaml }))
}
