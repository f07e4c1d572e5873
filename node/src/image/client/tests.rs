//! The client against small servers that authenticate, redirect, stall, break and lie.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;

use super::*;
use crate::image::manifest::Descriptor;
use crate::image::store::Options;

const IMPATIENT: Patience = Patience {
    silence: Duration::from_millis(300),
    window: Duration::from_millis(300),
    least: 1000,
    pause: Duration::from_millis(1),
};

/// Serves on a free loopback port until the test's runtime ends.
async fn serve(answer: impl Fn(Request) -> Response + Clone + Send + Sync + 'static) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().fallback(move |request: Request| {
        let answer = answer(request);
        async move { answer }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn transport() -> Transport {
    Transport::new(Arc::new(Options::default()))
}

async fn repository<'t>(
    transport: &'t Transport,
    address: SocketAddr,
    credentials: Option<Credentials>,
) -> Repository<'t> {
    let reference = Reference::parse(&format!("{address}/team/app:1")).unwrap();
    let mut repository = Repository::open(transport, &reference, credentials)
        .await
        .unwrap();
    repository.set_patience(IMPATIENT);
    repository
}

fn basic(password: &str) -> Option<Credentials> {
    Some(Credentials::Basic {
        username: "u".into(),
        password: password.into(),
    })
}

fn status(code: u16) -> Response {
    StatusCode::from_u16(code).unwrap().into_response()
}

fn with(code: u16, name: &str, value: &str) -> Response {
    Response::builder()
        .status(code)
        .header(name, value)
        .body(Body::empty())
        .unwrap()
}

fn header(request: &Request, name: &str) -> Option<String> {
    Some(request.headers().get(name)?.to_str().unwrap().to_owned())
}

fn blob(content: &[u8]) -> Descriptor {
    Descriptor {
        media_type: String::new(),
        digest: Digest::sha256(content),
        size: content.len() as u64,
        platform: None,
        annotations: Default::default(),
    }
}

/// Downloads into a temporary directory.
async fn download(repository: &Repository<'_>, blob: &Descriptor) -> Result<Vec<u8>, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blob");
    repository.download(blob, &path, &|_done| ()).await?;
    Ok(std::fs::read(path).unwrap())
}

#[tokio::test]
async fn a_token_is_fetched_with_the_credentials_and_used() {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&asked);
    let tokens = serve(move |request| {
        let authorization = header(&request, "authorization").unwrap_or_default();
        heard
            .lock()
            .push(format!("{} {authorization}", request.uri()));
        if authorization == "Basic dTpyaWdodA==" {
            return r#"{"access_token":"secret-token"}"#.into_response();
        }
        status(401)
    })
    .await;
    let registry = serve(
        move |request| match header(&request, "authorization").as_deref() {
            Some("Bearer secret-token") => "{}".into_response(),
            _ if request.uri().path() == "/v2/" => status(401),
            _ => {
                let challenge = format!("Bearer realm=\"http://{tokens}/token\",service=\"reg\"");
                with(401, "www-authenticate", &challenge)
            }
        },
    )
    .await;
    let transport = transport();
    let good = repository(&transport, registry, basic("right")).await;
    assert_eq!(good.manifest("1").await.unwrap().bytes, b"{}");
    assert_eq!(good.manifest("2").await.unwrap().bytes, b"{}");
    let expected = "/token?service=reg&scope=repository%3Ateam%2Fapp%3Apull Basic dTpyaWdodA==";
    assert_eq!(*asked.lock(), [expected], "the token is fetched once");
    for wrong in [basic("wrong"), None] {
        let refused = repository(&transport, registry, wrong).await;
        let error = refused.manifest("1").await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("wrong"));
    }
}

#[tokio::test]
async fn basic_and_ready_made_tokens_work_without_a_token_server() {
    let registry = serve(
        |request| match header(&request, "authorization").as_deref() {
            Some("Basic dTpw" | "Bearer ready") => "{}".into_response(),
            _ => with(401, "www-authenticate", "Basic realm=\"r\""),
        },
    )
    .await;
    let transport = transport();
    for credentials in [basic("p"), Some(Credentials::Registry("ready".into()))] {
        let repository = repository(&transport, registry, credentials).await;
        assert_eq!(repository.manifest("1").await.unwrap().bytes, b"{}");
    }
    let identity = Some(Credentials::Identity("refresh".into()));
    let error = repository(&transport, registry, identity)
        .await
        .manifest("1")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
}

#[tokio::test]
async fn credentials_go_to_the_registry_and_nowhere_else() {
    let leaked: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let heard = Arc::clone(&leaked);
    let elsewhere = serve(move |request| {
        heard.lock().push(header(&request, "authorization"));
        "content".into_response()
    })
    .await;
    let registry = serve(move |request| {
        let path = request.uri().path().to_owned();
        match header(&request, "authorization") {
            None if path != "/v2/" => with(401, "www-authenticate", "Basic realm=\"r\""),
            _ if path.contains("blobs") => with(307, "location", &format!("http://{elsewhere}/x")),
            _ => "{}".into_response(),
        }
    })
    .await;
    let transport = transport();
    let repository = repository(&transport, registry, basic("p")).await;
    let content = download(&repository, &blob(b"content")).await.unwrap();
    assert_eq!(content, b"content");
    assert_eq!(*leaked.lock(), [None]);
}

#[tokio::test]
async fn passwords_are_not_sent_to_plain_token_servers_elsewhere() {
    for (realm, reason) in [
        ("http://192.0.2.1/token", "https only"),
        ("ftp://127.0.0.1/token", "https only"),
        ("not an address", "no valid address"),
    ] {
        let challenge = format!("Bearer realm=\"{realm}\"");
        let registry = serve(move |_| with(401, "www-authenticate", &challenge)).await;
        let transport = transport();
        let error = repository(&transport, registry, basic("p"))
            .await
            .manifest("1")
            .await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn redirects_out_of_bounds_are_refused() {
    for (to, reason) in [
        ("http://192.0.2.1/x", "leave TLS"),
        ("ftp://127.0.0.1/etc/shadow", "only http and https"),
        ("http://user:pw@127.0.0.1/x", "credentials of its own"),
        ("/v2/team/app/blobs/again", "too many redirects"),
    ] {
        let registry = serve(move |_| with(302, "location", to)).await;
        let transport = transport();
        let reference = Reference::parse(&format!("{registry}/team/app:1")).unwrap();
        let repository = Repository::open(&transport, &reference, None)
            .await
            .unwrap();
        let error = repository.manifest("1").await.unwrap_err().to_string();
        assert!(error.contains(reason), "{to}: {error}");
    }
}

#[tokio::test]
async fn lies_about_content_are_noticed() {
    let registry = serve(|request| match request.uri().path() {
        "/v2/team/app/manifests/big" => vec![b' '; 5 << 20].into_response(),
        "/v2/team/app/manifests/404" => status(404),
        "/v2/team/app/manifests/500" => {
            let body = "{\"errors\":[{\"code\":\"DOWN\",\"message\":\"for\\u001b[2Jever\"}]}";
            (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
        }
        _ => "other".into_response(),
    })
    .await;
    let transport = transport();
    let repository = repository(&transport, registry, None).await;
    let digest = Digest::sha256(b"expected");
    let error = repository.manifest(&digest.to_string()).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    let error = repository.small_blob(&digest, 100).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    let error = repository.small_blob(&digest, 4).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 4, .. }), "{error}");
    let error = repository.manifest("big").await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    let error = repository.manifest("404").await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let error = repository.manifest("500").await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnavailable");
    assert!(
        error
            .to_string()
            .ends_with("answered 500 to GET /v2/team/app/manifests/500: DOWN: for[2Jever")
    );
    let error = download(&repository, &blob(b"these")).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    let error = download(&repository, &blob(b"shor")).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 4, .. }), "{error}");
}

#[tokio::test]
async fn endless_slow_and_silent_blobs_end() {
    let registry = serve(|request| {
        let pause = match request.uri().path() {
            path if path.contains(Digest::sha256(b"endless").hex()) => None,
            path if path.contains(Digest::sha256(b"slow").hex()) => Some(50),
            _ => Some(100_000),
        };
        let pieces =
            futures::stream::repeat(Bytes::from_static(&[0; 64])).then(move |piece| async move {
                if let Some(pause) = pause {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                Ok::<_, std::io::Error>(piece)
            });
        Body::from_stream(pieces).into_response()
    })
    .await;
    let transport = transport();
    let repository = repository(&transport, registry, None).await;
    let of = |content: &[u8], size| Descriptor {
        size,
        ..blob(content)
    };
    let error = download(&repository, &of(b"endless", 1000))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit: 1000, .. }),
        "{error}"
    );
    let error = download(&repository, &of(b"slow", 1 << 40))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("bytes came in"), "{error}");
    let error = download(&repository, &of(b"silent", 10)).await.unwrap_err();
    assert!(matches!(error, Error::Stalled { .. }), "{error}");
}

#[tokio::test]
async fn broken_downloads_go_on_where_they_stopped() {
    let content: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    let ranges: Arc<Mutex<Vec<String>>> = Arc::default();
    for knows_ranges in [true, false] {
        let (whole, heard) = (content.clone(), Arc::clone(&ranges));
        let tries = Arc::new(AtomicUsize::new(0));
        let registry = serve(move |request| {
            if request.uri().path() == "/v2/" {
                return status(200);
            }
            let range = header(&request, "range").unwrap_or_default();
            heard.lock().push(range.clone());
            let from = range
                .strip_prefix("bytes=")
                .and_then(|r| r.strip_suffix('-'));
            let from: usize = from
                .filter(|_| knows_ranges)
                .map_or(0, |from| from.parse().unwrap());
            let rest = Bytes::from(whole[from..].to_vec());
            let first = tries.fetch_add(1, Ordering::Relaxed);
            let body = if first < 2 {
                let part = rest.slice(..40_000);
                let broken = async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Err(std::io::Error::other("the line broke"))
                };
                let part = futures::stream::iter([Ok(part)]);
                Body::from_stream(part.chain(futures::stream::once(broken)))
            } else {
                Body::from(rest)
            };
            let code = if from > 0 { 206 } else { 200 };
            Response::builder().status(code).body(body).unwrap()
        })
        .await;
        let transport = transport();
        let repository = repository(&transport, registry, None).await;
        assert_eq!(
            download(&repository, &blob(&content)).await.unwrap(),
            content
        );
    }
    let ranges = ranges.lock();
    assert_eq!(ranges[..3], ["", "bytes=40000-", "bytes=80000-"]);
}

#[tokio::test]
async fn nobody_listening_is_said_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let transport = transport();
    let reference = Reference::parse(&format!("{address}/x")).unwrap();
    let error = Repository::open(&transport, &reference, None)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "RegistryUnavailable");
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot reach registry {address}"))
    );
}

#[tokio::test]
async fn a_loopback_registry_may_speak_tls_with_an_authority_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let answer = hyper::service::service_fn(|_| async {
                    Ok::<_, std::convert::Infallible>(http::Response::new("{}".to_owned()))
                });
                let stream = hyper_util::rt::TokioIo::new(stream);
                let _ended = hyper::server::conn::http1::Builder::new()
                    .serve_connection(stream, answer)
                    .await;
            });
        }
    });
    let options = Options {
        certs_dir: dir.path().to_owned(),
        ..Options::default()
    };
    let transport = Transport::new(Arc::new(options));
    let stranger = repository(&transport, address, None)
        .await
        .manifest("1")
        .await
        .unwrap_err();
    assert!(matches!(stranger, Error::Unreachable { .. }), "{stranger}");
    let authorities = dir.path().join(address.to_string());
    std::fs::create_dir(&authorities).unwrap();
    std::fs::write(authorities.join("ca.crt"), made.cert.pem()).unwrap();
    let known = repository(&transport, address, None).await;
    assert_eq!(known.manifest("1").await.unwrap().bytes, b"{}");
}
