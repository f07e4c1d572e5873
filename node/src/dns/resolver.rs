//! From a message to its answer: the zone first, then, for other names, the name servers of the machine.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::upstream::{Transport, Upstream};
use super::wire::{Code, Data, INTERNET, Query, Record, Response, kind};
use super::zone::{Meaning, Zone};

/// Other names for other names are followed this far.
const LONGEST_CHAIN: usize = 8;
/// How long questions wait for the first zone, which is there soon after a start; less than clients wait for an answer.
const FIRST_ZONE: Duration = Duration::from_secs(3);
/// The longest message over TCP.
const TCP_BYTES: usize = 65_535;

/// Answers messages.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    zone: Arc<watch::Sender<Option<Arc<Zone>>>>,
    upstream: Arc<Upstream>,
}

impl Resolver {
    /// Answers from `zone` and `upstream`.
    pub(crate) fn new(upstream: Upstream) -> Self {
        Self {
            zone: Arc::new(watch::Sender::new(None)),
            upstream: Arc::new(upstream),
        }
    }

    /// Answers from this zone from now on.
    pub(crate) fn put(&self, zone: Zone) {
        self.zone.send_replace(Some(Arc::new(zone)));
    }

    async fn zone(&self) -> Option<Arc<Zone>> {
        let known = self.zone.borrow().clone();
        if known.is_some() {
            return known;
        }
        let mut zones = self.zone.subscribe();
        let first = tokio::time::timeout(FIRST_ZONE, zones.wait_for(Option::is_some)).await;
        first.ok()?.ok()?.clone()
    }

    /// The answer to a message; nothing if it deserves none.
    pub(super) async fn answer(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let query = match Query::read(packet) {
            Ok(query) => query,
            Err(refusal) => return refusal,
        };
        let limit = match transport {
            Transport::Udp => query.udp_bytes(),
            Transport::Tcp => TCP_BYTES,
        };
        let response = match (refusal(&query), self.zone().await) {
            (Some(code), _) => Response::empty(code),
            (None, None) => Response::empty(Code::ServerFailure),
            (None, Some(zone)) => match self.of_cluster(&zone, &query).await {
                Some(response) => response,
                None => {
                    let passed = self.upstream.pass(packet, transport, zone.servers()).await;
                    if passed.is_some() {
                        return passed;
                    }
                    Response::empty(Code::ServerFailure)
                }
            },
        };
        Some(query.reply(&response, limit))
    }

    /// The answer of the zone, with what other servers say where a name of the zone stands for one of theirs; nothing
    /// for names that are not the zone's.
    async fn of_cluster(&self, zone: &Zone, query: &Query) -> Option<Response> {
        if query.class != INTERNET {
            return None;
        }
        let mut response = Response::empty(Code::NoError);
        response.authoritative = true;
        let mut name = query.name.clone();
        for _ in 0..LONGEST_CHAIN {
            match zone.meaning(&name, query.kind) {
                Meaning::Records(records, more) => {
                    response.answers.extend(mixed(records));
                    response.additional = more;
                    return Some(response);
                }
                Meaning::Alias(record, target) => {
                    response.answers.push(record);
                    name = target;
                }
                Meaning::Foreign if response.answers.is_empty() => return None,
                Meaning::Foreign => {
                    let servers = zone.servers();
                    let found = self.upstream.resolve(&name, query.kind, servers).await;
                    response.code = found.code;
                    response.answers.extend(found.records);
                    return Some(response);
                }
                Meaning::Nothing => return Some(without(response, zone, Code::NoError)),
                Meaning::NoName => return Some(without(response, zone, Code::NoName)),
            }
        }
        Some(Response::empty(Code::ServerFailure))
    }
}

/// Why a question is not looked at.
fn refusal(query: &Query) -> Option<Code> {
    if query.edns.is_some_and(|edns| edns.version != 0) {
        return Some(Code::BadVersion);
    }
    // Nobody needs the whole zone.
    matches!(query.kind, kind::AXFR | kind::IXFR).then_some(Code::Refused)
}

fn without(mut response: Response, zone: &Zone, code: Code) -> Response {
    response.code = code;
    response.authority = vec![zone.authority()];
    response
}

/// The records in another order each time, so that clients that take the first one spread.
fn mixed(mut records: Vec<Record>) -> Vec<Record> {
    let is_address = |record: &Record| matches!(record.data, Data::A(_) | Data::Aaaa(_));
    if records.len() > 1 && records.iter().all(is_address) {
        let first = rand::random_range(0..records.len());
        records.rotate_left(first);
    }
    records
}
