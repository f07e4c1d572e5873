//! Probing by opening a TCP connection.
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use davit_api::SpecialAddress;
use k8s_openapi::api::core::v1::TCPSocketAction;
use tokio::net::{TcpStream, lookup_host};

use super::{Target, Verdict};

pub(super) async fn check(target: &Target, action: &TCPSocketAction, timeout: Duration) -> Verdict {
    let port = match target.port(&action.port) {
        Ok(port) => port,
        Err(message) => return Verdict::Error(message),
    };
    match connect(
        action.host.as_deref(),
        target.ip,
        port,
        target.on_host,
        timeout,
    )
    .await
    {
        Ok(_) => Verdict::Pass,
        Err(message) => Verdict::Fail(message),
    }
}

/// Connects to `host`, the pod itself when it is empty. The agent does it in the node's own network, so what a pod without that
/// network names is never the node's loopback or link.
pub(super) async fn connect(
    host: Option<&str>,
    ip: IpAddr,
    port: u16,
    on_host: bool,
    timeout: Duration,
) -> Result<TcpStream, String> {
    let host = host.filter(|host| !host.is_empty());
    let shown = match host {
        Some(host) => format!("{host}:{port}"),
        None => SocketAddr::new(ip, port).to_string(),
    };
    let open = async {
        let address = match host {
            None => SocketAddr::new(ip, port),
            Some(host) => {
                let mut found = lookup_host((host, port)).await?;
                let found = found
                    .next()
                    .ok_or_else(|| std::io::Error::other("no address for this name"))?;
                if let Some(special) = SpecialAddress::of(found.ip()).filter(|_| !on_host) {
                    let why = format!("the host of a probe {}", special.fault());
                    return Err(std::io::Error::other(why));
                }
                found
            }
        };
        TcpStream::connect(address).await
    };
    match tokio::time::timeout(timeout, open).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {shown}: {error}")),
        Err(_) => Err(format!("dial tcp {shown}: i/o timeout")),
    }
}
