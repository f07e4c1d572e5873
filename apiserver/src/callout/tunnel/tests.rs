//! A client that pauses, with a server behind the tunnel that does not.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use davit_listen::{Acceptor, Bounds};
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto::Builder;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::callout::testing::self_signed;

/// More than the buffers of both sockets hold.
const MUCH: usize = 24 << 20;
/// How long the listener lets bytes stay unread.
const UNREAD: Duration = Duration::from_millis(300);

fn switching() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [(header::CONNECTION, "upgrade"), (header::UPGRADE, "much")] {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// Sends much at once to everybody who upgrades.
async fn source() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(|request: Request<Incoming>| async move {
            tokio::spawn(async move {
                let upgraded = hyper::upgrade::on(request).await.unwrap();
                let mut upgraded = TokioIo::new(upgraded);
                // It fails where the tunnel does.
                let _ = upgraded.write_all(&vec![7; MUCH]).await;
                let _ = upgraded.shutdown().await;
            });
            Ok::<_, Infallible>(switching())
        });
        let builder = hyper::server::conn::http1::Builder::new();
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        connection.with_upgrades().await.unwrap();
    });
    address
}

async fn through(source: std::net::SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let stream = TcpStream::connect(source).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    let onward = Request::get("/")
        .header(header::HOST, "source")
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "much")
        .body(Body::empty())
        .unwrap();
    let response = sender.send_request(onward).await.unwrap();
    tunnel(hyper::upgrade::on(request), hyper::upgrade::on(response));
    switching()
}

#[tokio::test]
async fn a_client_may_pause_for_longer_than_others_may_leave_bytes_unread() {
    let source = source().await;
    let (tls, certificate) = self_signed(&["localhost"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let bounds = Bounds {
            total: 1,
            per_source: 1,
        };
        let stream = Acceptor::new("a test", listener, bounds).next().await;
        let unread = u32::try_from(UNREAD.as_millis()).unwrap();
        setsockopt(&stream, sockopt::TcpUserTimeout, &unread).unwrap();
        let stream = TlsAcceptor::from(tls).accept(stream).await.unwrap();
        let service = service_fn(move |request| async move {
            Ok::<_, Infallible>(through(source, request).await)
        });
        let builder = Builder::new(TokioExecutor::new());
        let _ = builder
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .await;
    });

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client = TlsConnector::from(Arc::new(config))
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap();
    let request =
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: much\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(client.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "no tunnel");
    // The pause is what is tested: the kernel looks at such a connection at growing intervals.
    tokio::time::sleep(UNREAD * 12).await;
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len(), MUCH);
}
