//! The images of this node, for `davit images`.
//!
//! One process owns the image store. When an agent runs, commands ask it through a socket in the data
//! directory ([`socket`]); otherwise they open the store themselves.

pub(crate) mod socket;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use davit_node::image::{Image, ImageStore, Keyring, Progress, PullEvent, Reference};
use serde::{Deserialize, Serialize};

use crate::fault::chain;

/// What is asked of a store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Fetch an image.
    Pull {
        /// Its name.
        image: String,
        /// The user's `~/.docker/config.json`, for its credentials.
        docker_config: Option<String>,
    },
    /// Load the images of an archive.
    Import {
        /// Absolute path of the archive.
        file: PathBuf,
    },
    /// Tell all images.
    List,
    /// Remove a name or an id.
    Remove {
        /// The name or id.
        name: String,
    },
}

/// What a store answers: any number of `Progress`, then one of the others.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Bytes received so far, and in all.
    Progress {
        /// So far.
        done: u64,
        /// In all.
        total: u64,
    },
    /// The images that were asked for, fetched or loaded.
    Images(Vec<Row>),
    /// So many bytes were freed.
    Removed {
        /// The bytes.
        bytes: u64,
    },
    /// It did not work.
    Failed {
        /// Why.
        cause: String,
    },
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Names with tag.
    pub(crate) names: Vec<String>,
    /// Digest of the configuration.
    pub(crate) id: String,
    /// Unpacked size in bytes.
    pub(crate) size: u64,
}

impl From<&Image> for Row {
    fn from(image: &Image) -> Self {
        let names = if image.names.is_empty() {
            image.repo_digests.clone()
        } else {
            image.names.clone()
        };
        Self {
            names,
            id: image.id.to_string(),
            size: image.size,
        }
    }
}

/// Does what is asked with an open store.
pub(crate) async fn perform(
    store: &ImageStore,
    request: Request,
    report: impl Fn(Answer) + Send + Sync,
) -> Answer {
    let progress = Transfer {
        report,
        layers: Mutex::default(),
    };
    let result = match request {
        Request::List => Ok(Answer::Images(store.list().iter().map(Row::from).collect())),
        Request::Pull {
            image,
            docker_config,
        } => pull(store, &image, docker_config, &progress).await,
        Request::Import { file } => match store.import(&file, &progress).await {
            Ok(images) => Ok(Answer::Images(images.iter().map(Row::from).collect())),
            Err(error) => Err(chain(&error)),
        },
        Request::Remove { name } => match store.remove(&name).await {
            Ok(collected) => Ok(Answer::Removed {
                bytes: collected.bytes,
            }),
            Err(error) => Err(chain(&error)),
        },
    };
    result.unwrap_or_else(|cause| Answer::Failed { cause })
}

async fn pull(
    store: &ImageStore,
    image: &str,
    docker_config: Option<String>,
    progress: &dyn Progress,
) -> Result<Answer, String> {
    let reference = Reference::parse(image).map_err(|error| chain(&error))?;
    let mut keyring = Keyring::new();
    if let Some(config) = docker_config {
        keyring
            .add_docker_config(config.as_bytes())
            .map_err(|error| chain(&error))?;
    }
    let credentials = keyring.lookup(&reference);
    let pulled = store.pull(&reference, &credentials, progress).await;
    pulled
        .map(|image| Answer::Images(vec![Row::from(&image)]))
        .map_err(|error| chain(&error))
}

/// Sums up the layers of a download.
struct Transfer<F> {
    report: F,
    layers: Mutex<Layers>,
}

#[derive(Default)]
struct Layers {
    total: u64,
    done: HashMap<String, u64>,
}

impl<F: Fn(Answer) + Send + Sync> Progress for Transfer<F> {
    fn event(&self, event: PullEvent<'_>) {
        let Ok(mut layers) = self.layers.lock() else {
            return;
        };
        match event {
            PullEvent::Resolved { bytes, .. } => layers.total = bytes,
            PullEvent::Downloading { layer, done, .. } => {
                layers.done.insert(layer.to_string(), done);
            }
            _ => return,
        }
        let (done, total) = (layers.done.values().sum(), layers.total);
        drop(layers);
        (self.report)(Answer::Progress { done, total });
    }
}
