//! Connections: a URL's host is looked up, a Service leads to one of its ready endpoints.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use rand::seq::SliceRandom;
use rustls::CertificateError;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{Place, Reach};
use crate::auth::{Kind, ObjectSource};

/// Opens connections to one place.
#[derive(Clone)]
pub(super) struct Dial {
    place: Place,
    source: Arc<dyn ObjectSource>,
    reach: Arc<Reach>,
}

impl Dial {
    pub(super) fn new(place: &Place, source: Arc<dyn ObjectSource>, reach: Arc<Reach>) -> Self {
        let place = place.clone();
        Self {
            place,
            source,
            reach,
        }
    }
}

impl tower::Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move {
            let addresses = dial.addresses(&uri).await?;
            let mut last = io::Error::other("no address");
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        return Ok(TokioIo::new(stream));
                    }
                    Err(error) => last = io::Error::other(refused(address, &error)),
                }
            }
            Err(last)
        })
    }
}

impl Dial {
    /// What the place is at this moment, as far as it may be called.
    async fn addresses(&self, uri: &Uri) -> io::Result<Vec<SocketAddr>> {
        let found = self.resolved(uri).await?;
        if matches!(self.place, Place::Configured(_)) {
            return Ok(found);
        }
        self.reach
            .choose(found)
            .map_err(|why| io::Error::other(format!("dial tcp: {why}")))
    }

    async fn resolved(&self, uri: &Uri) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = match &self.place {
            Place::Url(_) | Place::Configured(_) => {
                let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
                (host.to_owned(), uri.port_u16().unwrap_or(443))
            }
            Place::Service {
                namespace,
                name,
                port,
                ..
            } => match resolve(&*self.source, namespace, name, *port) {
                Ok(Resolved::Endpoints(mut addresses)) => {
                    addresses.shuffle(&mut rand::rng());
                    return Ok(addresses);
                }
                Ok(Resolved::Name(name)) => (name, *port),
                Err(unresolved) => return Err(io::Error::other(unresolved.to_string())),
            },
        };
        let found = tokio::net::lookup_host((host.as_str(), port)).await;
        let found = found
            .map_err(|_| io::Error::other(format!("dial tcp: lookup {host}: no such host")))?;
        Ok(found.collect())
    }
}

fn refused(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("dial tcp {address}: connect: connection refused")
        }
        _ => format!("dial tcp {address}: {error}"),
    }
}

/// What a Service leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// Ready endpoints; at least one.
    Endpoints(Vec<SocketAddr>),
    /// The name an ExternalName Service stands for.
    Name(String),
}

/// Why a Service leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unresolved {
    /// There is no such Service.
    #[error("service {0:?} not found")]
    Service(String),
    /// The Service does not have the port.
    #[error("no service port {1} found for service {0:?}")]
    Port(String, u16),
    /// No endpoint is ready; with the name of the port.
    #[error("no endpoints available for service {0:?}")]
    Endpoints(String, String),
}

/// The ready endpoints behind a port of a Service.
pub(crate) fn resolve(
    source: &dyn ObjectSource,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Resolved, Unresolved> {
    let parse = |bytes: bytes::Bytes| serde_json::from_slice::<Value>(&bytes).ok();
    let service = source.get(Kind::SERVICES, namespace, name).and_then(parse);
    let service = service.ok_or_else(|| Unresolved::Service(name.to_owned()))?;
    if service["spec"]["type"] == "ExternalName" {
        let name = service["spec"]["externalName"].as_str().unwrap_or_default();
        return Ok(Resolved::Name(name.to_owned()));
    }
    let slices = source
        .list(Kind::ENDPOINT_SLICES, namespace)
        .into_iter()
        .filter_map(parse);
    let slices: Vec<Value> = slices
        .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name)
        .collect();
    endpoints(&service, &slices, name, port).map(Resolved::Endpoints)
}

fn endpoints(
    service: &Value,
    slices: &[Value],
    name: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, Unresolved> {
    let mut ports = list(&service["spec"]["ports"]);
    let found = ports.find(|have| have["port"] == port);
    let found = found.ok_or_else(|| Unresolved::Port(name.to_owned(), port))?;
    let port_name = found["name"].as_str().unwrap_or_default();
    let mut addresses = Vec::new();
    for slice in slices {
        let mut ports = list(&slice["ports"]);
        let port = ports.find(|have| have["name"].as_str().unwrap_or_default() == port_name);
        let port = port.and_then(|port| u16::try_from(port["port"].as_u64()?).ok());
        let Some(port) = port else { continue };
        let ready = list(&slice["endpoints"]).filter(|e| e["conditions"]["ready"] != false);
        for address in ready.flat_map(|endpoint| list(&endpoint["addresses"])) {
            let address = address.as_str().and_then(|text| text.parse().ok());
            addresses.extend(address.map(|ip| SocketAddr::new(ip, port)));
        }
    }
    if addresses.is_empty() {
        let port_name = port_name.to_owned();
        return Err(Unresolved::Endpoints(name.to_owned(), port_name));
    }
    Ok(addresses)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// What an error of the HTTP client says at its root, in the words users know.
pub(crate) fn cause(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(next) = beneath(last) {
        last = next;
    }
    match last.downcast_ref::<rustls::Error>() {
        // A wrong signature is that of another authority of the same name.
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => "tls: failed to verify certificate: x509: certificate signed by unknown authority"
            .to_owned(),
        Some(error @ rustls::Error::InvalidCertificate(_)) => {
            format!("tls: failed to verify certificate: {error}")
        }
        _ => last.to_string(),
    }
}

/// The error an error was made of. An `io::Error` does not count what it wraps as its source.
fn beneath<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
    let wrapped = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_leads_to_its_ready_endpoints() {
        let service = json!({"spec": {"ports": [
            {"name": "web", "port": 443, "targetPort": 8443}, {"name": "other", "port": 80},
        ]}});
        let slice = json!({
            "ports": [{"name": "other", "port": 8080}, {"name": "web", "port": 8443}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.3"]},
            ],
        });
        let found = endpoints(&service, std::slice::from_ref(&slice), "s", 443).unwrap();
        let expected = ["10.0.0.1:8443", "10.0.0.3:8443"].map(|a| a.parse().unwrap());
        assert_eq!(found, expected);
        let message = |slices: &[Value], port| {
            endpoints(&service, slices, "s", port)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            message(&[], 443),
            "no endpoints available for service \"s\""
        );
        assert_eq!(
            message(&[slice], 81),
            "no service port 81 found for service \"s\""
        );
    }
}
