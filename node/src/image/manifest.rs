//! Manifests and indexes, OCI and Docker schema 2, and the choice of this machine's platform.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// What is asked for, in the order of preference.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Most bytes of a manifest or index; registries themselves refuse more than 4 MiB.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;
/// Most bytes of an image's configuration.
pub(super) const MAX_CONFIG: u64 = 8 << 20;
/// Indexes inside indexes that are followed.
pub(super) const MAX_DEPTH: usize = 4;

/// A pointer to content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// What a manifest in an index is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) variant: Option<String>,
}

/// One image: a configuration and its layers, bottom first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    #[serde(default)]
    pub(super) media_type: Option<String>,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// Several images, usually one a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub(super) manifests: Vec<Descriptor>,
}

/// What a registry or an archive may hold under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// The fields that tell what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}

/// Reads a document. What it says of itself counts; the registry's content type only decides where it is silent.
///
/// # Errors
/// One sentence on why it is unusable.
pub(super) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Document, String> {
    let not_json = |error: serde_json::Error| format!("it is not valid JSON of its kind: {error}");
    let probe: Probe = serde_json::from_slice(bytes).map_err(not_json)?;
    if probe.schema_version == 1 {
        let hint = "push it again with a current tool";
        return Err(format!("it has Docker's obsolete schema version 1; {hint}"));
    }
    if probe.schema_version != 2 {
        return Err(format!(
            "its schemaVersion is {}, not 2",
            probe.schema_version
        ));
    }
    // A document that reads both ways could mean one thing to a scanner and another here.
    if probe.config.is_some() && probe.manifests.is_some() {
        return Err("it is both a manifest and an index".to_owned());
    }
    let content_type = content_type.map(|text| text.split(';').next().unwrap_or(text).trim());
    let kind = probe
        .media_type
        .as_deref()
        .or(content_type)
        .unwrap_or_default();
    let is_index = match kind {
        OCI_INDEX | DOCKER_LIST => true,
        OCI_MANIFEST | DOCKER_MANIFEST => false,
        _ => probe.manifests.is_some(),
    };
    if is_index {
        return serde_json::from_slice(bytes)
            .map(Document::Index)
            .map_err(not_json);
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(not_json)?;
    check_media_types(&manifest)?;
    Ok(Document::Manifest(manifest))
}

fn check_media_types(manifest: &Manifest) -> Result<(), String> {
    let config = manifest.config.media_type.as_str();
    let is_image = config.is_empty()
        || config == OCI_CONFIG
        || config.starts_with("application/vnd.docker.container.image.v1+json")
        || config == "application/octet-stream";
    if !is_image {
        return Err(format!(
            "it is not a container image but an artifact of type {config:?}"
        ));
    }
    for layer in &manifest.layers {
        let kind = layer.media_type.as_str();
        if kind.contains("encrypted") {
            return Err(format!(
                "layer {} is encrypted, which davit cannot read",
                layer.digest
            ));
        }
        if kind.contains("foreign") || kind.contains("nondistributable") {
            return Err(format!(
                "layer {} is not stored in the registry ({kind})",
                layer.digest
            ));
        }
    }
    Ok(())
}

impl Platform {
    /// This machine's.
    pub(super) fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// How well an image for `other` runs here: none if it does not, otherwise smaller is better.
    fn distance(&self, other: &Self) -> Option<u32> {
        if other.os != self.os || other.architecture != self.architecture {
            return None;
        }
        let level = |variant: Option<&str>, default: u32| {
            variant
                .filter(|v| !v.is_empty())
                .map_or(Some(default), |v| {
                    v.strip_prefix('v')
                        .and_then(|digits| digits.parse::<u32>().ok())
                })
        };
        // A missing variant means the architecture's baseline.
        let baseline = match self.architecture.as_str() {
            "arm64" => 8,
            "arm" => 7,
            _ => 1,
        };
        let own = level(self.variant.as_deref(), baseline)?;
        let others = level(other.variant.as_deref(), baseline)?;
        own.checked_sub(others)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

impl Index {
    /// The entry that fits `host` best; an entry without platform fits if nothing else does (nested indexes and
    /// one-image archives have none).
    ///
    /// # Errors
    /// What the index offers, for the message.
    pub(super) fn choose(&self, host: &Platform) -> Result<&Descriptor, String> {
        let fitting = self.manifests.iter().filter_map(|descriptor| {
            let distance = host.distance(descriptor.platform.as_ref()?)?;
            Some((distance, descriptor))
        });
        if let Some((_, best)) = fitting.min_by_key(|(distance, _)| *distance) {
            return Ok(best);
        }
        let unspecific = self
            .manifests
            .iter()
            .find(|descriptor| descriptor.platform.is_none());
        unspecific.ok_or_else(|| self.offer())
    }

    fn offer(&self) -> String {
        let platforms = self
            .manifests
            .iter()
            .filter_map(|descriptor| descriptor.platform.as_ref());
        // Build attestations are listed as unknown/unknown.
        let known = platforms.filter(|platform| platform.os != "unknown");
        let mut names: Vec<_> = known.take(40).map(ToString::to_string).collect();
        names.dedup();
        if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let os = parts.next().unwrap();
        Platform {
            os,
            architecture: parts.next().unwrap(),
            variant: parts.next(),
        }
    }

    fn index(platforms: &[&str]) -> Index {
        let manifests = platforms.iter().map(|text| Descriptor {
            media_type: OCI_MANIFEST.to_owned(),
            digest: Digest::sha256(text.as_bytes()),
            size: 1,
            platform: (!text.is_empty()).then(|| platform(text)),
            annotations: BTreeMap::new(),
        });
        Index {
            manifests: manifests.collect(),
        }
    }

    #[test]
    fn chooses_the_platform_that_runs_best() {
        let table: [(&str, &[&str], Option<&str>); 9] = [
            (
                "linux/amd64",
                &["linux/arm64", "linux/amd64"],
                Some("linux/amd64"),
            ),
            (
                "linux/amd64",
                &["linux/amd64/v3", "linux/amd64"],
                Some("linux/amd64"),
            ),
            ("linux/amd64", &["linux/amd64/v3"], None),
            (
                "linux/arm64/v8",
                &["linux/arm/v7", "linux/arm64"],
                Some("linux/arm64"),
            ),
            (
                "linux/arm/v7",
                &["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"],
                Some("linux/arm/v6"),
            ),
            ("linux/amd64", &["windows/amd64", "unknown/unknown"], None),
            ("linux/amd64", &["", "windows/amd64"], Some("")),
            ("linux/amd64", &["", "linux/amd64"], Some("linux/amd64")),
            ("linux/amd64", &[], None),
        ];
        for (host, offered, expected) in table {
            let index = index(offered);
            let chosen = index.choose(&platform(host)).ok().map(|d| d.digest.clone());
            let expected = expected.map(|text| Digest::sha256(text.as_bytes()));
            assert_eq!(chosen, expected, "{host} of {offered:?}");
        }
        let index = index(&["windows/amd64", "unknown/unknown"]);
        let offer = index.choose(&platform("linux/amd64"));
        assert_eq!(offer.unwrap_err(), "windows/amd64");
    }

    #[test]
    fn refuses_what_is_no_image() {
        let digest = Digest::sha256(b"");
        let descriptor =
            |kind: &str| format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":2}}"#);
        let manifest = |config: &str, layer: &str| {
            let (config, layer) = (descriptor(config), descriptor(layer));
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#)
        };
        let good = manifest(OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+gzip");
        assert!(matches!(
            parse(good.as_bytes(), None),
            Ok(Document::Manifest(_))
        ));
        assert!(parse(good.as_bytes(), Some(OCI_INDEX)).is_err());
        let ambiguous = good.replacen('{', r#"{"manifests":[],"#, 1);
        let foreign = manifest(
            OCI_CONFIG,
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        );
        let artifact = manifest("application/vnd.cncf.helm.config.v1+json", OCI_LAYER);
        for text in [
            "",
            "[]",
            "{}",
            "null",
            r#"{"schemaVersion":1}"#,
            r#"{"schemaVersion":2}"#,
            &ambiguous,
            &foreign,
            &artifact,
            &good.replace(":2}", ":-2}"),
            &good.replace("sha256:", "md5:"),
        ] {
            assert!(parse(text.as_bytes(), None).is_err(), "{text}");
        }
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            descriptor(OCI_MANIFEST)
        );
        assert!(matches!(
            parse(index.as_bytes(), Some("text/plain")),
            Ok(Document::Index(_))
        ));
    }
}
