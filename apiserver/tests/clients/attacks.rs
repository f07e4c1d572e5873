//! Clients that mean harm: slow ones, floods, and streams that nobody reads. The server goes on for everybody else.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cluster::Cluster;

/// Longer than anything here takes on a busy machine; the server's own limits are far shorter.
const PATIENCE: Duration = Duration::from_secs(60);
const CONFIG_MAPS: &str = "/api/v1/namespaces/attacks/configmaps";

/// A cluster of our own, with little patience. Nobody else's is attacked.
async fn victim() -> Cluster {
    let cluster = Cluster::impatient().await;
    cluster.namespace("attacks").await;
    cluster
}

async fn connect(cluster: &Cluster, protocol: &str) -> TlsStream<TcpStream> {
    let (address, files) = cluster.identity();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&files.authority).unwrap())
        .unwrap();
    let chain = CertificateDer::pem_slice_iter(&files.certificate);
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(&files.key).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    let mut config = config.with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::from(address.ip());
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    connector.connect(name, stream).await.unwrap()
}

/// An HTTP/2 connection that is driven by a task of its own.
async fn connect_h2(cluster: &Cluster) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(connect(cluster, "h2").await)
        .await
        .unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("https://127.0.0.1{path}"))
        .body(())
        .unwrap()
}

/// Everything until the server ends the connection; an error ends it too.
async fn rest(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match timeout(PATIENCE, stream.read(&mut buffer))
            .await
            .expect("the connection stays open")
        {
            Ok(0) | Err(_) => return bytes,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

async fn is_well(cluster: &Cluster) {
    cluster.get(&format!("{CONFIG_MAPS}?limit=1")).await.ok();
}

#[tokio::test]
async fn who_does_not_finish_is_cut() {
    let cluster = victim().await;
    let (address, _) = cluster.identity();
    let mut silent = TcpStream::connect(address).await.unwrap();
    let read = timeout(PATIENCE, silent.read(&mut [0]))
        .await
        .expect("a silent client stays");
    assert!(matches!(read, Ok(0) | Err(_)));
    let mut half = connect(&cluster, "http/1.1").await;
    half.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-more: ")
        .await
        .unwrap();
    let answer = rest(&mut half).await;
    assert!(
        !answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    is_well(&cluster).await;
}

#[tokio::test]
async fn header_floods_are_refused() {
    let cluster = victim().await;
    let mut one = connect(&cluster, "http/1.1").await;
    let flood = "x-flood: 0123456789012345678901234567890123456789\r\n".repeat(10_000);
    let request = format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{flood}\r\n");
    // The server may answer and close before it has read everything.
    let _ = one.write_all(request.as_bytes()).await;
    let answer = rest(&mut one).await;
    assert!(
        !answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let mut two = connect_h2(&cluster).await;
    let mut request = get("/healthz");
    for number in 0..3000 {
        let name: http::HeaderName = format!("x-flood-{number}").parse().unwrap();
        request.headers_mut().insert(
            name,
            "0123456789012345678901234567890123456789".parse().unwrap(),
        );
    }
    let (answer, _) = two.send_request(request, true).unwrap();
    let refused = match timeout(PATIENCE, answer).await.unwrap() {
        Ok(answer) => answer.status() == 431,
        Err(_) => true,
    };
    assert!(refused);
    is_well(&cluster).await;
}

#[tokio::test]
async fn requests_that_are_reset_at_once_end_the_connection() {
    let cluster = victim().await;
    let mut client = connect_h2(&cluster).await;
    let mut ended = false;
    for _ in 0..20_000 {
        let Ok(ready) = timeout(PATIENCE, client.ready()).await.unwrap() else {
            ended = true;
            break;
        };
        client = ready;
        match client.send_request(get(CONFIG_MAPS), false) {
            Ok((_, mut stream)) => stream.send_reset(h2::Reason::CANCEL),
            Err(_) => {
                ended = true;
                break;
            }
        }
        tokio::task::yield_now().await;
    }
    assert!(ended, "20,000 requests were taken and thrown away");
    is_well(&cluster).await;
}

#[tokio::test]
async fn bodies_without_end_are_refused() {
    let cluster = victim().await;
    let mut announced = connect(&cluster, "http/1.1").await;
    let head =
        format!("POST {CONFIG_MAPS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
    let huge = format!("{head}content-length: 1073741824\r\n\r\n");
    announced.write_all(huge.as_bytes()).await.unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(announced);
    timeout(PATIENCE, reader.read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    assert!(line.starts_with("HTTP/1.1 413"), "{line}");
    let mut endless = connect(&cluster, "http/1.1").await;
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    endless.write_all(chunked.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut sent = 0;
    while sent < 256 << 20 {
        match timeout(PATIENCE, endless.write_all(chunk.as_bytes()))
            .await
            .unwrap()
        {
            Ok(()) => sent += chunk.len(),
            Err(error) => {
                let kinds = [
                    ErrorKind::BrokenPipe,
                    ErrorKind::ConnectionReset,
                    ErrorKind::ConnectionAborted,
                ];
                assert!(kinds.contains(&error.kind()), "{error}");
                break;
            }
        }
    }
    assert!(sent < 256 << 20, "the server took 256 MiB");
    is_well(&cluster).await;
}

/// The events of a watch, in order; the stream is an HTTP/1.1 answer in chunks.
fn events(answer: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(answer);
    let (_, mut body) = text.split_once("\r\n\r\n").unwrap();
    let mut joined = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        let Some(chunk) = rest.get(..size).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        joined.push_str(chunk);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    let whole = joined.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_watcher_that_does_not_read_holds_nobody_up_and_misses_nothing_unsaid() {
    const WRITES: usize = 300;
    let cluster = victim().await;
    let mut sleeper = connect(&cluster, "http/1.1").await;
    let watch = format!("GET {CONFIG_MAPS}?watch=true HTTP/1.1\r\nhost: x\r\n\r\n");
    sleeper.write_all(watch.as_bytes()).await.unwrap();
    let mut made = cluster
        .post(CONFIG_MAPS, &json!({"metadata": {"name": "big"}}))
        .await
        .ok();
    let filling = "x".repeat(200 << 10);
    for number in 0..WRITES {
        made["data"] = json!({"number": number.to_string(), "filling": filling});
        made = cluster.put(&format!("{CONFIG_MAPS}/big"), &made).await.ok();
    }
    cluster.delete(&format!("{CONFIG_MAPS}/big")).await.ok();
    cluster.end();
    let seen = events(&rest(&mut sleeper).await);
    let mut next = 0;
    for event in &seen {
        match event["type"].as_str().unwrap() {
            "MODIFIED" => {
                assert_eq!(event["object"]["data"]["number"], next.to_string(), "a gap");
                next += 1;
            }
            "ERROR" => assert_eq!(event["object"]["code"], 410),
            "ADDED" => assert_eq!(next, 0),
            _ => assert_eq!(next, WRITES, "a gap before the end"),
        }
    }
    assert!(!seen.is_empty());
}

#[tokio::test]
async fn two_thousand_watches_hear_of_one_change() {
    let cluster = victim().await;
    let mut streams = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = connect_h2(&cluster).await;
        for _ in 0..200 {
            client = client.ready().await.unwrap();
            let request = get(&format!("{CONFIG_MAPS}?watch=true"));
            streams.push(client.send_request(request, true).unwrap().0);
        }
        clients.push(client);
    }
    let mut bodies = Vec::new();
    for stream in streams {
        let answer = timeout(PATIENCE, stream).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        bodies.push(answer.into_body());
    }
    cluster
        .post(CONFIG_MAPS, &json!({"metadata": {"name": "heard"}}))
        .await
        .ok();
    for mut body in bodies {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let data = timeout(PATIENCE, body.data())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            line.extend_from_slice(&data);
        }
        let event: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["metadata"]["name"]),
            (&json!("ADDED"), &json!("heard"))
        );
    }
}
