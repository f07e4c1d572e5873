//! The image store as the workers use it.
use std::str::FromStr as _;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use oci_spec::image::ImageConfiguration;

use super::{ImageError, ImageService, LocalImage};
use crate::image::{Digest, Image, ImageStore, Keyring, Reference, Silent};
use crate::pod::observed::ImageId;
use crate::runtime::RootFs;

#[async_trait]
impl ImageService for ImageStore {
    fn find(&self, name: &str) -> Result<Option<LocalImage>, ImageError> {
        let reference = parse(name)?;
        Ok(Self::find(self, &reference).map(|image| local(&image, &reference)))
    }

    async fn pull(&self, name: &str, secrets: &[Arc<Secret>]) -> Result<LocalImage, ImageError> {
        let reference = parse(name)?;
        let mut keyring = Keyring::new();
        for secret in secrets {
            // A secret that is no pull secret is passed over, as kubelet does; the registry's refusal tells.
            if let Err(error) = keyring.add_secret(secret) {
                tracing::warn!(secret = secret.metadata.name, %error, "pull secret not used");
            }
        }
        let credentials = keyring.lookup(&reference);
        let image = Self::pull(self, &reference, &credentials, &Silent)
            .await
            .map_err(|source| store(name, source))?;
        Ok(local(&image, &reference))
    }

    fn config(&self, image: &ImageId) -> Option<Arc<ImageConfiguration>> {
        Some(self.find_id(&Digest::from_str(&image.id).ok()?)?.config)
    }

    fn prepare(&self, image: &ImageId, container_id: &str) -> Result<RootFs, ImageError> {
        let found = Digest::from_str(&image.id)
            .ok()
            .and_then(|id| self.find_id(&id));
        let gone = || crate::image::Error::NotFound {
            reference: image.name.clone(),
        };
        let found = found.ok_or_else(|| store(&image.name, gone()))?;
        let root = Self::prepare(self, &found, container_id)
            .map_err(|source| store(&image.name, source))?;
        Ok(RootFs {
            lower: root.lower,
            upper: root.upper,
            work: root.work,
            read_only: root.read_only,
        })
    }

    async fn discard(&self, container_id: &str) -> Result<(), ImageError> {
        Self::discard(self, container_id)
            .await
            .map_err(|source| store(container_id, source))
    }
}

fn parse(name: &str) -> Result<Reference, ImageError> {
    Reference::parse(name).map_err(|source| ImageError::Name {
        name: name.to_owned(),
        source,
    })
}

fn store(name: &str, source: crate::image::Error) -> ImageError {
    ImageError::Store {
        name: name.to_owned(),
        source,
    }
}

fn local(image: &Image, reference: &Reference) -> LocalImage {
    let repository = format!("{}/{}@", reference.registry(), reference.repository());
    let own = image
        .repo_digests
        .iter()
        .find(|digest| digest.starts_with(&repository));
    let digest = own
        .or_else(|| image.repo_digests.first())
        .cloned()
        .unwrap_or_else(|| image.id.to_string());
    LocalImage {
        id: ImageId {
            name: reference.to_string(),
            id: image.id.to_string(),
            digest,
        },
        size: image.size,
    }
}
