//! Images made by the test, and a registry to push them to.
use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use http::{Method, Uri};
use serde_json::{Value, json};

use super::*;

/// An image before it is anywhere.
#[derive(Clone)]
pub(super) struct Built {
    pub(super) id: Digest,
    pub(super) config: Vec<u8>,
    pub(super) layers: Vec<Vec<u8>>,
}

impl Built {
    pub(super) fn manifest(&self) -> Vec<u8> {
        let describe = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": Digest::sha256(bytes), "size": bytes.len() });
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|layer| describe(OCI_LAYER, layer))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": describe(OCI_CONFIG, &self.config), "layers": layers,
        });
        manifest.to_string().into_bytes()
    }

    pub(super) fn manifest_digest(&self) -> Digest {
        Digest::sha256(&self.manifest())
    }

    /// Another layer than the configuration promises.
    pub(super) fn swap_layer(&mut self, at: usize, layer: Vec<u8>) {
        self.layers[at] = layer;
    }
}

/// A plain layer of these files.
pub(super) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = ::tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, name, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A layer with one file of any name.
pub(super) fn raw_layer(name: &str, data: &[u8]) -> Vec<u8> {
    let mut header = ::tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut builder = ::tar::Builder::new(Vec::new());
    builder.append(&header, data).unwrap();
    builder.into_inner().unwrap()
}

/// An image of plain layers.
pub(super) fn image(layers: &[Vec<u8>], config: Value) -> Built {
    let host = Platform::host();
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::sha256(layer)).collect();
    let config = json!({
        "architecture": host.architecture, "os": host.os, "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = config.to_string().into_bytes();
    Built {
        id: Digest::sha256(&config),
        config,
        layers: layers.to_vec(),
    }
}

pub(super) fn other_platform() -> Platform {
    Platform {
        architecture: "mips".into(),
        os: "linux".into(),
        variant: None,
    }
}

pub(super) fn index(images: &[(&Built, Platform)]) -> Vec<u8> {
    let manifests: Vec<_> = images
        .iter()
        .map(|(image, platform)| {
            let manifest = image.manifest();
            let digest = Digest::sha256(&manifest);
            json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": manifest.len(), "platform": platform })
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    index.to_string().into_bytes()
}

/// Debian's docker-registry on a free loopback port; it ends with the test.
pub(super) struct Registry {
    pub(super) address: String,
    child: Child,
    transport: Transport,
    _dir: tempfile::TempDir,
}

impl Registry {
    #[allow(
        clippy::disallowed_methods,
        reason = "the peer of the test is a program of its own"
    )]
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let data = dir.path().join("data");
        let config = json!({
            "version": 0.1, "log": { "level": "error", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": data } }, "http": { "addr": address },
        });
        let file = dir.path().join("config.yml");
        fs::write(&file, config.to_string()).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("install docker-registry");
        let transport = Transport::new(Arc::new(Options::default()));
        let registry = Self {
            address,
            child,
            transport,
            _dir: dir,
        };
        registry.wait().await;
        registry
    }

    async fn wait(&self) {
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(&self.address).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("docker-registry does not listen on {}", self.address);
    }

    pub(super) async fn push(&self, repository: &str, tag: &str, image: &Built) {
        for blob in image.layers.iter().chain([&image.config]) {
            self.push_blob(repository, blob).await;
        }
        self.push_raw(repository, tag, OCI_MANIFEST, &image.manifest())
            .await;
        let digest = image.manifest_digest().to_string();
        self.push_raw(repository, &digest, OCI_MANIFEST, &image.manifest())
            .await;
    }

    async fn push_blob(&self, repository: &str, blob: &[u8]) {
        let uploads = format!("http://{}/v2/{repository}/blobs/uploads/", self.address);
        let answer = self
            .send(Method::POST, &uploads, HeaderMap::new(), &[])
            .await;
        let location = answer.headers()[LOCATION].to_str().unwrap();
        let separator = if location.contains('?') { '&' } else { '?' };
        let upload = format!("{location}{separator}digest={}", Digest::sha256(blob));
        let answer = self
            .send(Method::PUT, &upload, HeaderMap::new(), blob)
            .await;
        assert_eq!(answer.status(), 201);
    }

    pub(super) async fn push_raw(&self, repository: &str, tag: &str, kind: &str, body: &[u8]) {
        let uri = format!("http://{}/v2/{repository}/manifests/{tag}", self.address);
        let kind = HeaderValue::from_str(kind).unwrap();
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        let answer = self.send(Method::PUT, &uri, headers, body).await;
        assert_eq!(answer.status(), 201, "{uri}");
    }

    async fn send(
        &self,
        method: Method,
        uri: &str,
        headers: HeaderMap,
        body: &[u8],
    ) -> http::Response<hyper::body::Incoming> {
        let uri: Uri = uri.parse().unwrap();
        self.transport
            .send(method, &uri, &headers, body.to_vec())
            .await
            .unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
