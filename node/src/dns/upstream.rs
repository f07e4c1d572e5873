//! Names outside the cluster: the name servers of the machine are asked, one after the other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::cache::Cache;
use super::wire::{self, Code, Upstreams};
use crate::pod::dns::ResolvConf;

/// How long one server may take. Clients try again after five seconds.
const PATIENCE: Duration = Duration::from_secs(2);
const PORT: u16 = 53;
/// The longest message.
const LONGEST: usize = 65_535;

/// The name servers of the machine.
#[derive(Debug)]
pub(crate) struct Upstream {
    file: PathBuf,
    port: u16,
    /// Whether it was said that nobody can be asked.
    silent: AtomicBool,
    cache: Mutex<Cache>,
}

/// How a question is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Transport {
    /// A long answer comes back cut.
    Udp,
    /// Every answer comes back whole.
    Tcp,
}

impl Upstream {
    /// The servers in a `resolv.conf`, which is read for each question: it changes when a laptop moves.
    pub(crate) fn new(file: PathBuf) -> Self {
        Self {
            file,
            port: PORT,
            silent: AtomicBool::new(false),
            cache: Mutex::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn on_port(file: PathBuf, port: u16) -> Self {
        let upstream = Self::new(file);
        Self { port, ..upstream }
    }

    /// The answer to a question that is passed on as it is; nothing if no server has one. `not` are servers that would
    /// ask this one again.
    pub(super) async fn pass(
        &self,
        packet: &[u8],
        transport: Transport,
        not: &[IpAddr],
    ) -> Option<Vec<u8>> {
        let id = rand::random();
        let own = wire::with_id(packet, id);
        let answer = self.ask(&own, transport, not).await?;
        let [high, low, ..] = *packet else {
            return None;
        };
        Some(wire::with_id(&answer, u16::from_be_bytes([high, low])))
    }

    /// What the servers say about a name.
    pub(super) async fn resolve(&self, name: &str, kind: u16, not: &[IpAddr]) -> Upstreams {
        let failed = Upstreams {
            code: Code::ServerFailure,
            records: Vec::new(),
        };
        let Some(question) = wire::question(rand::random(), name, kind) else {
            return failed;
        };
        let answer = self.ask(&question, Transport::Tcp, not).await;
        answer
            .and_then(|answer| wire::answers_of(&answer))
            .unwrap_or(failed)
    }

    async fn ask(&self, packet: &[u8], transport: Transport, not: &[IpAddr]) -> Option<Vec<u8>> {
        let servers = self.servers(not).await;
        let kept = self
            .cache
            .lock()
            .get(&servers, packet, transport, Instant::now());
        if kept.is_some() {
            return kept;
        }
        let mut why = None;
        for server in &servers {
            let asked = tokio::time::timeout(PATIENCE, exchange(packet, *server, transport)).await;
            match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(answer) => {
                    self.silent.store(false, Ordering::Relaxed);
                    let mut cache = self.cache.lock();
                    cache.put(packet, transport, &answer, Instant::now());
                    return Some(answer);
                }
                Err(error) => why = Some((*server, error)),
            }
        }
        if !self.silent.swap(true, Ordering::Relaxed) {
            let file = self.file.display();
            match why {
                Some((server, error)) => {
                    tracing::warn!(%server, %error, %file, "no name server of this machine answers; pods cannot resolve names outside the cluster");
                }
                None => {
                    tracing::warn!(%file, "this machine names no name server; pods cannot resolve names outside the cluster");
                }
            }
        }
        None
    }

    async fn servers(&self, not: &[IpAddr]) -> Vec<SocketAddr> {
        let text = tokio::fs::read_to_string(&self.file).await;
        let conf = ResolvConf::parse(&text.unwrap_or_default());
        let servers = conf.servers.iter().filter_map(|text| text.parse().ok());
        servers
            .filter(|server| !not.contains(server))
            .map(|server| SocketAddr::new(server, self.port))
            .collect()
    }
}

/// Asks one server.
async fn exchange(packet: &[u8], server: SocketAddr, transport: Transport) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    // A socket of its own for each question: its port is as hard to guess as the number in it.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(packet).await?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let count = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..count).unwrap_or_default();
        if !wire::is_answer(answer, packet) {
            continue;
        }
        if transport == Transport::Tcp && wire::is_cut(answer) {
            return exchange_whole(packet, server).await;
        }
        buffer.truncate(count);
        return Ok(buffer);
    }
}

async fn exchange_whole(packet: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let size = u16::try_from(packet.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&size.to_be_bytes()[..], packet].concat())
        .await?;
    let size = stream.read_u16().await?;
    let mut answer = vec![0; size.into()];
    stream.read_exact(&mut answer).await?;
    if wire::is_answer(&answer, packet) {
        Ok(answer)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}
