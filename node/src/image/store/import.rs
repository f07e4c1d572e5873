//! Importing archives: OCI layouts and what `docker save` writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use super::layers::Source;
use super::layout::Scratch;
use super::{Image, Inner, blocking, pull};
use crate::image::digest::Digest;
use crate::image::error::Error;
use crate::image::manifest::{self, Descriptor, Document, Index, MAX_CONFIG, MAX_DEPTH, Platform};
use crate::image::progress::Progress;
use crate::image::reference::Reference;
use archive::Contents;

mod archive;

/// One image of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An image found in an archive.
struct Found {
    resolved: pull::Resolved,
    names: BTreeSet<Reference>,
    /// Where its layers are, bottom first.
    layers: Vec<PathBuf>,
}

pub(super) async fn import(
    inner: &Arc<Inner>,
    path: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Image>, Error> {
    let (owned, path) = (Arc::clone(inner), path.to_owned());
    let (scratch, found) = blocking("read an archive", move || read(&owned, &path)).await?;
    let mut images = Vec::new();
    for found in found {
        let source = Local {
            layers: found.layers,
        };
        images.push(pull::store(inner, found.resolved, &found.names, &source, progress).await?);
    }
    drop(scratch);
    Ok(images)
}

/// Copies the archive's members to a scratch directory and reads its documents. Blocks.
fn read(inner: &Inner, path: &Path) -> Result<(Scratch, Vec<Found>), Error> {
    let scratch = inner.layout.scratch()?;
    let contents = Contents::extract(inner, path, &scratch.path)?;
    let found = if let Some(saved) = contents.json::<Vec<Saved>>("manifest.json")? {
        let saved = saved.iter().map(|saved| docker(inner, &contents, saved));
        saved.collect::<Result<Vec<_>, _>>()?
    } else if let Some(index) = contents.json::<Index>("index.json")? {
        oci(inner, &contents, &index)?
    } else {
        let reason = "it has neither manifest.json nor index.json at its top";
        return Err(contents.unusable(reason));
    };
    if found.is_empty() {
        return Err(contents.unusable("it holds no image"));
    }
    Ok((scratch, found))
}

/// An image of `docker save`: layers are plain or compressed archives named by path.
fn docker(inner: &Inner, contents: &Contents, saved: &Saved) -> Result<Found, Error> {
    let config = contents.read(&saved.config, MAX_CONFIG)?;
    let id = Digest::sha256(&config);
    let mut layers = Vec::new();
    let mut descriptors = Vec::new();
    for layer in &saved.layers {
        let path = contents.path(layer)?;
        // There is no descriptor; the layer goes by a digest of its name, and diff_ids verify its content.
        descriptors.push(descriptor(layer));
        layers.push(path);
    }
    let resolved = pull::resolve(inner, id, config, &descriptors, BTreeMap::new())?;
    let tags = saved.repo_tags.iter().flatten().map(String::as_str);
    Ok(Found {
        resolved,
        names: names(contents, tags)?,
        layers,
    })
}

fn descriptor(layer: &str) -> Descriptor {
    let hex = layer.strip_prefix("blobs/sha256/").unwrap_or_default();
    let digest = format!("sha256:{hex}").parse();
    Descriptor {
        media_type: manifest::OCI_LAYER.to_owned(),
        digest: digest.unwrap_or_else(|_no_digest| Digest::sha256(layer.as_bytes())),
        size: 0,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

/// The images of an OCI layout for this machine.
fn oci(inner: &Inner, contents: &Contents, index: &Index) -> Result<Vec<Found>, Error> {
    let host = Platform::host();
    let mut found = Vec::new();
    // Several platforms of one name are one image; without names, the top level itself is such a list.
    let mut groups: BTreeMap<Option<&str>, Vec<Descriptor>> = BTreeMap::new();
    for descriptor in &index.manifests {
        groups
            .entry(name_of(descriptor))
            .or_default()
            .push(descriptor.clone());
    }
    for (name, manifests) in groups {
        let group = Index { manifests };
        let chosen = group.choose(&host).map_err(|available| Error::Platform {
            reference: name.map_or_else(|| contents.shown(), str::to_owned),
            wanted: host.to_string(),
            available,
        })?;
        found.push(oci_image(inner, contents, chosen, name)?);
    }
    Ok(found)
}

fn name_of(descriptor: &Descriptor) -> Option<&str> {
    let annotation = |key| descriptor.annotations.get(key).map(String::as_str);
    annotation("io.containerd.image.name")
        .or_else(|| annotation("org.opencontainers.image.ref.name"))
}

fn oci_image(
    inner: &Inner,
    contents: &Contents,
    target: &Descriptor,
    name: Option<&str>,
) -> Result<Found, Error> {
    let host = Platform::host();
    let mut documents = BTreeMap::new();
    let mut descriptor = target.clone();
    for _ in 0..=MAX_DEPTH {
        let bytes = contents.blob(&descriptor.digest, manifest::MAX_MANIFEST)?;
        let document = manifest::parse(&bytes, Some(&descriptor.media_type));
        let document = document.map_err(|reason| contents.unusable(&reason))?;
        documents.insert(descriptor.digest.clone(), bytes);
        let manifest = match document {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => {
                descriptor = index
                    .choose(&host)
                    .map_err(|available| Error::Platform {
                        reference: contents.shown(),
                        wanted: host.to_string(),
                        available,
                    })?
                    .clone();
                continue;
            }
        };
        let layers = manifest
            .layers
            .iter()
            .map(|layer| contents.blob_path(&layer.digest));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let id = manifest.config.digest.clone();
        let config = contents.blob(&id, MAX_CONFIG)?;
        let resolved = pull::resolve(inner, id, config, &manifest.layers, documents)?;
        let resolved = pull::Resolved {
            target: Some(target.digest.clone()),
            manifest: Some(descriptor.digest),
            ..resolved
        };
        return Ok(Found {
            resolved,
            names: names(contents, name.into_iter())?,
            layers,
        });
    }
    Err(contents.unusable("its indexes are nested too deep"))
}

/// The names an archive gives, or one made of its file name.
fn names<'n>(
    contents: &Contents,
    given: impl Iterator<Item = &'n str>,
) -> Result<BTreeSet<Reference>, Error> {
    let mut names = BTreeSet::new();
    for name in given {
        // A bare tag is what tools write that know no name.
        let is_tag = !name.contains(['/', ':', '@']);
        let text = if is_tag {
            format!("{}:{name}", contents.name())
        } else {
            name.to_owned()
        };
        let parsed =
            Reference::parse(&text).map_err(|error| contents.unusable(&error.to_string()))?;
        names.insert(parsed);
    }
    if names.is_empty() {
        names.extend(Reference::parse(&contents.name()).ok());
    }
    Ok(names)
}

/// Layers that are files already.
struct Local {
    layers: Vec<PathBuf>,
}

#[async_trait]
impl Source for Local {
    async fn obtain(
        &self,
        at: usize,
        scratch: &Path,
        _progress: &dyn Progress,
    ) -> Result<PathBuf, Error> {
        Ok(self
            .layers
            .get(at)
            .cloned()
            .unwrap_or_else(|| scratch.join("blob")))
    }
}
