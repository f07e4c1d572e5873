//! Pulling: from a reference to an image in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use oci_spec::image::ImageConfiguration;

use super::index::{self, Record};
use super::layers::{self, Pins, Source, Wanted};
use super::{Image, Inner, blocking, selfmade};
use crate::image::auth::Credentials;
use crate::image::client::{RawManifest, Repository};
use crate::image::config;
use crate::image::digest::Digest;
use crate::image::error::Error;
use crate::image::manifest::{
    self, Descriptor, Document, MAX_CONFIG, MAX_DEPTH, Manifest, Platform,
};
use crate::image::progress::{Progress, PullEvent};
use crate::image::reference::Reference;

/// An image whose documents are known and checked.
pub(super) struct Resolved {
    /// What the reference pointed at: an index or the manifest.
    pub(super) target: Option<Digest>,
    pub(super) manifest: Option<Digest>,
    pub(super) id: Digest,
    pub(super) config: Arc<ImageConfiguration>,
    pub(super) layers: Vec<Wanted>,
    /// Documents to be kept: index, manifest, configuration.
    pub(super) documents: BTreeMap<Digest, Vec<u8>>,
}

pub(super) async fn pull(
    inner: &Arc<Inner>,
    reference: &Reference,
    credentials: &[Credentials],
    progress: &dyn Progress,
) -> Result<Image, Error> {
    if reference.registry() == selfmade::REGISTRY {
        return local(inner, reference).await;
    }
    let mut refused = None;
    let anonymous = credentials.is_empty().then_some(None);
    for credentials in credentials.iter().cloned().map(Some).chain(anonymous) {
        match pull_as(inner, reference, credentials, progress).await {
            Err(error @ Error::Unauthorized { .. }) => refused = Some(error),
            result => return result,
        }
    }
    Err(refused.unwrap_or_else(|| Error::NotFound {
        reference: reference.to_string(),
    }))
}

/// `davit.local` is this machine: its images were imported, and one is made when somebody wants it.
async fn local(inner: &Arc<Inner>, reference: &Reference) -> Result<Image, Error> {
    if reference.to_string() == selfmade::NAME {
        return selfmade::build_running(inner).await;
    }
    let known = inner.state.lock().find(reference).map(Record::image);
    known.ok_or_else(|| Error::Unknown {
        name: reference.to_string(),
    })
}

async fn pull_as(
    inner: &Arc<Inner>,
    reference: &Reference,
    credentials: Option<Credentials>,
    progress: &dyn Progress,
) -> Result<Image, Error> {
    let repository = Repository::open(&inner.transport, reference, credentials).await?;
    let mut documents = BTreeMap::new();
    let target = repository.manifest(&reference.manifest_key()).await?;
    let target_digest = target.digest.clone();
    let (digest, manifest) = descend(&repository, reference, target, &mut documents).await?;
    let bytes = manifest
        .layers
        .iter()
        .fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
    progress.event(PullEvent::Resolved {
        manifest: &digest,
        layers: manifest.layers.len(),
        bytes,
    });
    check_sizes(inner, reference, &manifest)?;

    let id = manifest.config.digest.clone();
    let config = repository.small_blob(&id, MAX_CONFIG).await?;
    let resolved = resolve(inner, id, config, &manifest.layers, documents)?;
    let resolved = Resolved {
        target: Some(target_digest),
        manifest: Some(digest),
        ..resolved
    };
    let source = Remote {
        inner,
        repository: &repository,
        layers: &manifest.layers,
    };
    store(inner, resolved, &name(reference), &source, progress).await
}

/// The names an image gets by being pulled.
fn name(reference: &Reference) -> BTreeSet<Reference> {
    BTreeSet::from([reference.clone()])
}

/// Follows indexes down to this machine's manifest; keeps every document it passes.
async fn descend(
    repository: &Repository<'_>,
    reference: &Reference,
    target: RawManifest,
    documents: &mut BTreeMap<Digest, Vec<u8>>,
) -> Result<(Digest, Manifest), Error> {
    let host = Platform::host();
    let unusable = |reason| Error::Manifest {
        reference: reference.to_string(),
        reason,
    };
    let mut raw = target;
    for _ in 0..=MAX_DEPTH {
        let document =
            manifest::parse(&raw.bytes, raw.content_type.as_deref()).map_err(unusable)?;
        documents.insert(raw.digest.clone(), raw.bytes);
        let next = match document {
            Document::Manifest(manifest) => return Ok((raw.digest, manifest)),
            Document::Index(index) => {
                let chosen = index.choose(&host).map_err(|available| Error::Platform {
                    reference: reference.to_string(),
                    wanted: host.to_string(),
                    available,
                })?;
                chosen.digest.clone()
            }
        };
        if documents.contains_key(&next) {
            return Err(unusable("its index names itself".to_owned()));
        }
        raw = repository.manifest(&next.to_string()).await?;
    }
    Err(unusable(format!(
        "indexes are nested more than {MAX_DEPTH} deep"
    )))
}

/// Refuses what is too big before any of it is fetched.
fn check_sizes(inner: &Inner, reference: &Reference, manifest: &Manifest) -> Result<(), Error> {
    let limits = &inner.options.limits;
    let too_large = |what: String, limit| Err(Error::TooLarge { what, limit });
    if manifest.config.size > MAX_CONFIG {
        return too_large(format!("the configuration of {reference}"), MAX_CONFIG);
    }
    if let Some(layer) = manifest
        .layers
        .iter()
        .find(|layer| layer.size > limits.blob_bytes)
    {
        return too_large(
            format!("layer {} of {reference}", layer.digest),
            limits.blob_bytes,
        );
    }
    if manifest.layers.len() > limits.layers {
        let (count, most) = (manifest.layers.len(), limits.layers);
        let reason = format!("it has {count} layers; davit stacks at most {most}");
        return Err(Error::Manifest {
            reference: reference.to_string(),
            reason,
        });
    }
    Ok(())
}

/// Reads and checks the configuration; `id` is its verified digest.
pub(super) fn resolve(
    inner: &Inner,
    id: Digest,
    config: Vec<u8>,
    layers: &[Descriptor],
    mut documents: BTreeMap<Digest, Vec<u8>>,
) -> Result<Resolved, Error> {
    let unusable = |reason| Error::Config {
        image: id.to_string(),
        reason,
    };
    if layers.len() > inner.options.limits.layers {
        let (count, most) = (layers.len(), inner.options.limits.layers);
        return Err(unusable(format!(
            "it has {count} layers; davit stacks at most {most}"
        )));
    }
    let parsed = config::parse(&config, layers.len()).map_err(unusable)?;
    let diff_ids = config::diff_ids(&parsed).map_err(unusable)?;
    let chain = config::chain_ids(&diff_ids);
    let wanted = layers
        .iter()
        .zip(diff_ids)
        .zip(chain)
        .map(|((layer, diff_id), chain_id)| Wanted {
            chain_id,
            diff_id,
            blob: layer.digest.clone(),
        });
    let layers = wanted.collect();
    documents.insert(id.clone(), config);
    Ok(Resolved {
        target: None,
        manifest: None,
        id,
        config: Arc::new(parsed),
        layers,
        documents,
    })
}

/// Brings the layers here, then names the image.
pub(super) async fn store(
    inner: &Arc<Inner>,
    resolved: Resolved,
    names: &BTreeSet<Reference>,
    source: &dyn Source,
    progress: &dyn Progress,
) -> Result<Image, Error> {
    let chain: Vec<_> = resolved
        .layers
        .iter()
        .map(|layer| layer.chain_id.clone())
        .collect();
    let _pins = Pins::new(inner, &chain);
    let size = layers::install(inner, &resolved.layers, source, progress).await?;
    commit(inner, resolved, names, chain, size).await
}

/// Names an image whose layers are all here.
pub(super) async fn commit(
    inner: &Arc<Inner>,
    resolved: Resolved,
    names: &BTreeSet<Reference>,
    chain: Vec<Digest>,
    size: u64,
) -> Result<Image, Error> {
    let digests = resolved
        .target
        .iter()
        .flat_map(|target| names.iter().map(|name| name.with_digest(target.clone())));
    let now = Timestamp::now();
    let record = Record {
        id: resolved.id.clone(),
        manifest: resolved.manifest,
        names: names
            .iter()
            .filter(|name| name.digest().is_none())
            .cloned()
            .collect(),
        digests: digests.collect(),
        layers: chain.clone(),
        size,
        pulled_at: now,
        used_at: now,
        config: resolved.config,
    };
    let (store, documents) = (Arc::clone(inner), resolved.documents);
    let image = blocking("store an image", move || {
        for (digest, bytes) in &documents {
            store.layout.put_blob(digest, bytes)?;
        }
        let image = store.state.lock().insert(record).image();
        index::save(&store)?;
        Ok(image)
    })
    .await?;
    layers::sync_later(inner, chain);
    Ok(image)
}

/// Layers in a registry.
struct Remote<'p> {
    inner: &'p Inner,
    repository: &'p Repository<'p>,
    layers: &'p [Descriptor],
}

#[async_trait]
impl Source for Remote<'_> {
    async fn obtain(
        &self,
        at: usize,
        scratch: &Path,
        progress: &dyn Progress,
    ) -> Result<PathBuf, Error> {
        let path = scratch.join("blob");
        let Some(layer) = self.layers.get(at) else {
            return Ok(path);
        };
        let what = format!("layer {}", layer.digest);
        self.inner
            .layout
            .check_space(&self.inner.options.limits, &what, layer.size)?;
        let (digest, total) = (&layer.digest, layer.size);
        let done = |done| {
            progress.event(PullEvent::Downloading {
                layer: digest,
                done,
                total,
            })
        };
        self.repository.download(layer, &path, &done).await?;
        Ok(path)
    }
}
