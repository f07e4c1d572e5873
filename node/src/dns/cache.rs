//! Answers of other name servers, kept for as long as they say.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::upstream::Transport;
use super::wire::{self, Lifetime};

/// Most answers that are kept.
const MOST: usize = 4096;
/// The longest answer that is kept.
const LONGEST: usize = 4096;
/// How long an answer is kept at most. A machine that moves to another network finds names there soon.
const LONGEST_LIFE: Duration = Duration::from_secs(30);

/// A message without its number, and how it was sent: whoever asks the same in the same words gets the same answer.
type Question = (Vec<u8>, Transport);

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Who gave them.
    servers: Vec<SocketAddr>,
    answers: HashMap<Arc<Question>, Kept>,
    /// The same by their ends.
    ends: BTreeSet<(Instant, Arc<Question>)>,
}

#[derive(Debug)]
struct Kept {
    answer: Vec<u8>,
    lifetime: Lifetime,
    since: Instant,
    end: Instant,
}

fn question(packet: &[u8], transport: Transport) -> Question {
    (packet.get(2..).unwrap_or_default().to_vec(), transport)
}

impl Cache {
    /// What one of `servers` said to the same question not too long ago, as an answer to this packet.
    pub(super) fn get(
        &mut self,
        servers: &[SocketAddr],
        packet: &[u8],
        transport: Transport,
        now: Instant,
    ) -> Option<Vec<u8>> {
        if self.servers != servers {
            // Others may say something else.
            *self = Self {
                servers: servers.to_vec(),
                ..Self::default()
            };
        }
        let kept = self.answers.get(&question(packet, transport))?;
        let age = now.saturating_duration_since(kept.since).as_secs();
        let [high, low, ..] = *packet else {
            return None;
        };
        (now < kept.end).then(|| {
            let answer = wire::with_id(&kept.answer, u16::from_be_bytes([high, low]));
            kept.lifetime.aged(answer, age)
        })
    }

    /// Keeps an answer, if it may be kept.
    pub(super) fn put(&mut self, packet: &[u8], transport: Transport, answer: &[u8], now: Instant) {
        let Some(lifetime) = wire::lifetime(answer).filter(|_| answer.len() <= LONGEST) else {
            return;
        };
        let life = Duration::from_secs(lifetime.seconds.into()).min(LONGEST_LIFE);
        let question = Arc::new(question(packet, transport));
        let kept = Kept {
            answer: answer.to_vec(),
            lifetime,
            since: now,
            end: now + life,
        };
        self.ends.insert((kept.end, Arc::clone(&question)));
        if let Some(old) = self.answers.insert(Arc::clone(&question), kept)
            && old.end != now + life
        {
            self.ends.remove(&(old.end, question));
        }
        // Those that end first make room, and those that have ended do so first of all.
        while self.answers.len() > MOST
            && let Some((_, first)) = self.ends.pop_first()
        {
            self.answers.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Code, Data, Query, Record, Response, kind};
    use super::*;

    fn ask(id: u16, name: &str) -> Vec<u8> {
        wire::question(id, name, kind::A).unwrap()
    }

    fn answer(packet: &[u8], code: Code, ttl: u32) -> Vec<u8> {
        let query = Query::read(packet).unwrap();
        let mut response = Response::empty(code);
        let name = query.name.clone();
        if code == Code::NoError {
            let data = Data::A([192, 0, 2, 1].into());
            response.answers.push(Record { name, ttl, data });
        } else {
            let data = Data::Soa {
                server: "ns.example".into(),
                mailbox: "root.example".into(),
                serial: 1,
                minimum: ttl,
            };
            response.authority.push(Record {
                name: "example".into(),
                ttl: 1000,
                data,
            });
        }
        query.reply(&response, 1000)
    }

    const UDP: Transport = Transport::Udp;

    fn servers(last: u8) -> Vec<SocketAddr> {
        vec![SocketAddr::from(([192, 0, 2, last], 53))]
    }

    #[test]
    fn answers_are_kept_as_long_as_they_say_and_get_older() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::default();
        let first = ask(1, "far.example");
        assert_eq!(cache.get(&servers(1), &first, UDP, start), None);
        cache.put(&first, UDP, &answer(&first, Code::NoError, 20), start);
        let again = ask(2, "far.example");
        let found = cache.get(&servers(1), &again, UDP, after(5)).unwrap();
        assert!(wire::is_answer(&found, &again));
        assert_eq!(wire::answers_of(&found).unwrap().records[0].ttl, 15);
        assert_eq!(cache.get(&servers(1), &again, UDP, after(20)), None);
        assert_eq!(
            cache.get(&servers(1), &ask(2, "else.example"), UDP, start),
            None
        );
        assert_eq!(cache.get(&servers(1), &again, Transport::Tcp, start), None);
        // What others say may be something else.
        assert_eq!(cache.get(&servers(2), &again, UDP, after(5)), None);
        assert_eq!(cache.get(&servers(1), &again, UDP, after(5)), None);
    }

    #[test]
    fn what_is_not_there_is_remembered_and_failures_are_not() {
        let start = Instant::now();
        for (code, ttl, expected) in [
            (Code::NoName, 10, true),
            (Code::NoName, 0, false),
            (Code::ServerFailure, 10, false),
            (Code::NoError, 0, false),
        ] {
            let mut cache = Cache::default();
            let packet = ask(1, "none.example");
            cache.get(&servers(1), &packet, UDP, start);
            cache.put(&packet, UDP, &answer(&packet, code, ttl), start);
            let at = |seconds| start + Duration::from_secs(seconds);
            let mut found = |seconds| cache.get(&servers(1), &packet, UDP, at(seconds)).is_some();
            assert_eq!((found(9), found(10)), (expected, false), "{code:?} {ttl}");
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let start = Instant::now();
        let mut cache = Cache::default();
        for number in 0..MOST + 10 {
            let packet = ask(1, &format!("n{number}.example"));
            cache.get(&servers(1), &packet, UDP, start);
            // Longer and longer lives, and some asked for twice.
            let ttl = 1 + u32::try_from(number / 300).unwrap();
            cache.put(&packet, UDP, &answer(&packet, Code::NoError, ttl), start);
            cache.put(
                &packet,
                UDP,
                &answer(&packet, Code::NoError, ttl + 1),
                start,
            );
        }
        assert_eq!((cache.answers.len(), cache.ends.len()), (MOST, MOST));
        let newest = ask(1, &format!("n{}.example", MOST + 9));
        assert!(cache.get(&servers(1), &newest, UDP, start).is_some());
    }
}
