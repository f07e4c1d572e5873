//! `davit hello-server`: a tiny web server for the image davit makes of itself, so that a first deployment
//! needs no registry.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use davit_listen::{Acceptor, Bounds};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::fault::Fault;
use crate::shutdown;

/// What `davit hello-server` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Port to listen on
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
    /// What to say
    #[arg(long, env = "GREETING", default_value = "Hello from davit")]
    greeting: String,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Fault> {
        let shutdown = shutdown::on_signal()?;
        let listener = listen(self.port).await?;
        serve(listener, self.greeting, shutdown).await;
        Ok(())
    }
}

/// Listens on all addresses, of both families where the kernel has both.
async fn listen(port: u16) -> Result<TcpListener, Fault> {
    let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match TcpListener::bind(any).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await.map_err(|error| {
            Fault::new(
                format!("listening on port {port}"),
                error,
                "choose another with --port",
            )
        }),
    }
}

async fn serve(listener: TcpListener, greeting: String, shutdown: CancellationToken) {
    // It has nothing else to spend descriptors on, and whoever comes through a Service may have one address.
    let bounds = Bounds::share(2);
    let bounds = Bounds {
        per_source: bounds.total,
        ..bounds
    };
    let mut acceptor = Acceptor::new("hello", listener, bounds);
    while let Some(stream) = shutdown.run_until_cancelled(acceptor.next()).await {
        let address = stream
            .get_ref()
            .local_addr()
            .map(|address| address.ip().to_canonical().to_string());
        let text = page(&greeting, &hostname(), &address.unwrap_or_default());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request: Request<Incoming>| {
                    let response = answer(&request, &text);
                    async move { Ok::<_, Infallible>(response) }
                }),
            );
        let ended = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                // A client that breaks off is its own business.
                _ = connection => {}
            }
        });
    }
}

fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}

fn page(greeting: &str, hostname: &str, address: &str) -> Bytes {
    format!("{greeting}\nhostname: {hostname}\naddress: {address}\n").into()
}

fn answer<B>(request: &Request<B>, text: &Bytes) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, Bytes::from_static(b"ok\n")),
        (&Method::GET | &Method::HEAD, _) => (StatusCode::OK, text.clone()),
        _ => (
            StatusCode::METHOD_NOT_ALLOWED,
            Bytes::from_static(b"GET only\n"),
        ),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn it_says_where_it_runs() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, "Hi".into(), stop.clone()));
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.contains("Hi\nhostname: "), "{response}");
        assert!(response.ends_with("address: 127.0.0.1\n"), "{response}");
        stop.cancel();
        server.await.unwrap();
    }
}
