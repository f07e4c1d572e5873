//! The accept loop against listeners that misbehave.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use crate::accept::Accepted;
use crate::{Acceptor, Bounds, Listen};

/// Hands out what it was given, then fails for ever.
#[derive(Clone)]
struct Script {
    streams: Arc<Mutex<VecDeque<(DuplexStream, IpAddr)>>>,
    then: Errno,
    calls: Arc<AtomicUsize>,
}

impl Script {
    fn new(then: Errno) -> Self {
        Self {
            streams: Arc::default(),
            then,
            calls: Arc::default(),
        }
    }

    /// The client's end.
    fn connect(&self, from: u8) -> DuplexStream {
        let (client, server) = duplex(64);
        let from = IpAddr::from([10, 42, 0, from]);
        self.streams.lock().push_back((server, from));
        client
    }
}

impl Listen for Script {
    type Stream = DuplexStream;

    async fn accept(&self) -> io::Result<Accepted<DuplexStream>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match self.streams.lock().pop_front() {
            Some((stream, from)) => Ok(Accepted {
                stream,
                ends: Some((SocketAddr::new(from, 9), [10, 42, 0, 1].into())),
            }),
            None => Err(self.then.into()),
        }
    }
}

const BOUNDS: Bounds = Bounds {
    total: 8,
    per_source: 4,
};

#[tokio::test]
async fn a_listener_that_only_fails_is_asked_ten_times_a_second() {
    for errno in [
        Errno::EMFILE,
        Errno::ENFILE,
        Errno::ENOBUFS,
        Errno::ENOMEM,
        Errno::EINVAL,
    ] {
        let script = Script::new(errno);
        let mut acceptor = Acceptor::new("a test", script.clone(), BOUNDS);
        let start = Instant::now();
        let waited = tokio::time::timeout(Duration::from_millis(350), acceptor.next()).await;
        assert!(waited.is_err());
        let most = start.elapsed().as_millis() / 100 + 1;
        let calls = script.calls.load(Ordering::Relaxed);
        assert!(calls >= 1 && calls as u128 <= most, "{errno}: {calls}");
    }
}

#[tokio::test]
async fn want_of_descriptors_makes_idle_connections_go() {
    let script = Script::new(Errno::EMFILE);
    let _clients: Vec<_> = (0..3).map(|_| script.connect(2)).collect();
    let mut acceptor = Acceptor::new("a test", script.clone(), BOUNDS);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(acceptor.next().await);
    }
    let goes_on = async {
        let mut byte = [0];
        for connection in &mut held {
            let error = connection.read(&mut byte).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        }
    };
    tokio::select! {
        _ = acceptor.next() => panic!("nobody else came"),
        () = goes_on => {}
    }
}

#[tokio::test]
async fn a_source_has_its_bound_and_others_are_served() {
    let script = Script::new(Errno::EMFILE);
    let mut clients: Vec<_> = (0..20).map(|_| script.connect(2)).collect();
    let mut modest = script.connect(3);
    let mut acceptor = Acceptor::new("a test", script.clone(), BOUNDS);
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(acceptor.next().await);
    }
    let peers: Vec<_> = held.iter().map(|held| held.peer().unwrap().ip()).collect();
    assert_eq!(
        peers
            .iter()
            .filter(|ip| **ip == IpAddr::from([10, 42, 0, 2]))
            .count(),
        4
    );
    held[4].write_all(b"served").await.unwrap();
    let mut read = [0; 6];
    modest.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"served");
    // Those beyond the bound are closed, not kept waiting.
    let mut rest = Vec::new();
    clients[19].read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn strangers_take_no_place() {
    let script = Script::new(Errno::EMFILE);
    let _strangers: Vec<_> = (0..20).map(|_| script.connect(9)).collect();
    let _client = script.connect(2);
    let near = |peer: IpAddr, _own| peer != IpAddr::from([10, 42, 0, 9]);
    let mut acceptor = Acceptor::new("a test", script.clone(), BOUNDS).only(near);
    let first = acceptor.next().await;
    assert_eq!(first.peer().unwrap().ip(), IpAddr::from([10, 42, 0, 2]));
}

#[tokio::test]
async fn real_sockets_are_those_of_this_machine() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut acceptor = Acceptor::new("a test", listener, BOUNDS);
    let mut pairs = Vec::new();
    for _ in 0..8 {
        let client = TcpStream::connect(address).await.unwrap();
        pairs.push((client, acceptor.next().await));
    }
    let (mut client, mut server) = pairs.swap_remove(0);
    client.write_all(b"ping").await.unwrap();
    let mut read = [0; 4];
    server.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"ping");
}
