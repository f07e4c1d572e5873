//! API services: groups and versions that other servers serve under this server's paths.
//!
//! Every group and version served here has an APIService too, which says `Local`. One that names a Service is
//! checked, shown in discovery beside the others, and its requests are handed on in the name of the user.

mod availability;
mod documents;
mod follow;
mod proxy;

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::Value;

use crate::callout::{Place, Target, Trust};
use crate::discovery::Document;

pub(crate) use follow::follow;
pub(crate) use proxy::proxy;

/// A group and version that another server serves.
#[derive(Debug, PartialEq)]
pub(crate) struct External {
    group: String,
    version: String,
    /// Or why it cannot be called.
    target: Result<Target, String>,
    group_priority: i64,
    version_priority: i64,
    available: bool,
    /// Its APIResourceList; null while it has not answered.
    resources: Value,
    /// What its OpenAPI v2 document says of the version.
    openapi: Option<Arc<OpenApi>>,
}

/// A part of an OpenAPI v2 document.
#[derive(Debug)]
struct OpenApi {
    /// The ETag of the whole document.
    etag: String,
    document: Value,
}

impl PartialEq for OpenApi {
    fn eq(&self, other: &Self) -> bool {
        self.etag == other.etag
    }
}

/// All of them at one moment.
#[derive(Debug, Default)]
struct Served {
    externals: Vec<Arc<External>>,
    /// Grows with every change.
    generation: u64,
}

/// The other servers' groups as they are served now.
#[derive(Debug, Default)]
pub(crate) struct Aggregation {
    current: ArcSwap<Served>,
    /// The aggregated discovery of a generation of the registry and of the others.
    document: Mutex<Option<((u64, u64), Document)>>,
}

impl Aggregation {
    /// The server of a group and version that are not served here.
    pub(crate) fn find(&self, group: &str, version: &str) -> Option<Arc<External>> {
        let current = self.current.load();
        let mut externals = current.externals.iter();
        let found = externals.find(|e| e.group == group && e.version == version);
        found.cloned()
    }

    /// The server that answers a path outside the resources: discovery and OpenAPI of its version.
    pub(crate) fn find_path(&self, path: &str) -> Option<Arc<External>> {
        if self.current.load().externals.is_empty() {
            return None;
        }
        let own = path.strip_prefix("/openapi/v3").unwrap_or(path);
        let mut segments = own.strip_prefix("/apis/")?.split('/');
        match (segments.next(), segments.next(), segments.next()) {
            (Some(group), Some(version), None) => self.find(group, version),
            _ => None,
        }
    }

    /// What OpenAPI v2 documents of the others say, and a number that changes with it.
    pub(crate) fn openapi_v2<T>(&self, read: impl FnOnce(u64, &[&Value]) -> T) -> T {
        let current = self.current.load();
        let available = current.externals.iter().filter(|e| e.available);
        let documents = available.filter_map(|e| Some(&e.openapi.as_ref()?.document));
        read(current.generation, &documents.collect::<Vec<_>>())
    }

    /// What is known of a version's OpenAPI document.
    fn known_openapi(&self, group: &str, version: &str) -> Option<Arc<OpenApi>> {
        self.find(group, version)?.openapi.clone()
    }

    /// Serves these from now on.
    fn replace(&self, externals: Vec<Arc<External>>) {
        let current = self.current.load();
        if current.externals == externals {
            return;
        }
        let generation = current.generation + 1;
        self.current.store(Arc::new(Served {
            externals,
            generation,
        }));
    }
}

impl External {
    /// From an APIService that names a Service.
    fn of(service: &Value) -> Self {
        let spec = &service["spec"];
        let text = |key: &str| spec[key].as_str().unwrap_or_default().to_owned();
        Self {
            group: text("group"),
            version: text("version"),
            target: target(spec),
            group_priority: spec["groupPriorityMinimum"].as_i64().unwrap_or_default(),
            version_priority: spec["versionPriority"].as_i64().unwrap_or_default(),
            available: false,
            resources: Value::Null,
            openapi: None,
        }
    }

    /// The root of its paths.
    fn path(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }
}

fn target(spec: &Value) -> Result<Target, String> {
    use base64::Engine as _;
    let bundle = spec["caBundle"].as_str().unwrap_or_default();
    let bundle = base64::engine::general_purpose::STANDARD
        .decode(bundle)
        .map_err(|error| format!("the CA bundle is not base64: {error}"))?;
    let trust = Trust {
        blindly: spec["insecureSkipTLSVerify"] == true,
        identified: true,
        ..Trust::bundle(&bundle)
    };
    let place = Place::from_service(&spec["service"], "namespace")?;
    Ok(Target { place, trust })
}
