//! Messages of others. Nothing in them is trusted: every length is checked, and names end.

use super::{Code, Data, Edns, Query, Record, kind};

/// Bytes of the head of every message.
pub(super) const HEAD: usize = 12;
/// The longest name, in bytes as it is sent.
const LONGEST_NAME: usize = 255;

pub(super) const RESPONSE: u16 = 0x8000;
pub(super) const CUT: u16 = 0x0200;
pub(super) const RECURSION_DESIRED: u16 = 0x0100;
const OPERATION: u16 = 0x7800;
const CODE: u16 = 0x000f;
const DNSSEC_OK: u32 = 0x8000;

/// Reads a message from its beginning.
struct Reader<'p> {
    packet: &'p [u8],
    at: usize,
}

impl<'p> Reader<'p> {
    fn bytes(&mut self, count: usize) -> Option<&'p [u8]> {
        let bytes = self.packet.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes(2)?.try_into().ok()?))
    }

    fn long(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?))
    }

    /// A name. A reference leads to an earlier place than the one before, so that there is an end.
    fn name(&mut self) -> Option<String> {
        self.any_name(true)
    }

    fn any_name(&mut self, refers: bool) -> Option<String> {
        let mut text = String::new();
        let (mut at, mut end, mut earliest, mut length) = (self.at, None, self.at, 1);
        loop {
            let first = *self.packet.get(at)?;
            match first & 0xc0 {
                0 if first == 0 => {
                    self.at = end.unwrap_or(at + 1);
                    return Some(text);
                }
                0 => {
                    let size = usize::from(first);
                    length += size + 1;
                    if length > LONGEST_NAME {
                        return None;
                    }
                    push_label(&mut text, self.packet.get(at + 1..at + 1 + size)?);
                    at += 1 + size;
                }
                0xc0 if refers => {
                    let low = *self.packet.get(at + 1)?;
                    end.get_or_insert(at + 2);
                    at = usize::from(u16::from_be_bytes([first & 0x3f, low]));
                    if at >= earliest {
                        return None;
                    }
                    earliest = at;
                }
                _ => return None,
            }
        }
    }
}

fn push_label(text: &mut String, label: &[u8]) {
    if !text.is_empty() {
        text.push('.');
    }
    for byte in label {
        let plain = byte.is_ascii_graphic() && !matches!(byte, b'.' | b'\\');
        if plain {
            text.push(char::from(byte.to_ascii_lowercase()));
        } else {
            text.push_str(&format!("\\{byte:03}"));
        }
    }
}

/// The head of a message.
struct Head {
    id: u16,
    flags: u16,
    /// How many questions, answers, authorities and additional records follow.
    counts: [u16; 4],
}

fn head(reader: &mut Reader<'_>) -> Option<Head> {
    let (id, flags) = (reader.number()?, reader.number()?);
    let mut counts = [0; 4];
    for count in &mut counts {
        *count = reader.number()?;
    }
    Some(Head { id, flags, counts })
}

impl Query {
    /// Reads a question.
    ///
    /// # Errors
    /// The refusal to send, or nothing to send at all, when this is no question that could be answered.
    pub(in crate::dns) fn read(packet: &[u8]) -> Result<Self, Option<Vec<u8>>> {
        let mut reader = Reader { packet, at: 0 };
        let head = head(&mut reader).ok_or(None)?;
        if head.flags & RESPONSE != 0 {
            return Err(None);
        }
        let refusal = |code: Code| {
            let flags = RESPONSE | head.flags & (OPERATION | RECURSION_DESIRED) | code.number();
            let words = [head.id, flags, 0, 0, 0, 0];
            Some(words.map(u16::to_be_bytes).concat())
        };
        if head.flags & OPERATION != 0 {
            return Err(refusal(Code::NotImplemented));
        }
        let query = Self::rest(&mut reader, &head);
        query.ok_or_else(|| refusal(Code::FormatError))
    }

    fn rest(reader: &mut Reader<'_>, head: &Head) -> Option<Self> {
        let [1, answers, authorities, additional] = head.counts else {
            return None;
        };
        let name = reader.any_name(false)?;
        let (kind, class) = (reader.number()?, reader.number()?);
        let question = reader.packet.get(HEAD..reader.at)?.to_vec();
        let mut edns = None;
        for _ in 0..u32::from(answers) + u32::from(authorities) + u32::from(additional) {
            let owner = reader.name()?;
            let (record, size, flags) = (reader.number()?, reader.number()?, reader.long()?);
            let length = reader.number()?;
            reader.bytes(length.into())?;
            if record == super::kind::OPT {
                // There may be one, and it belongs to the root.
                if edns.is_some() || !owner.is_empty() {
                    return None;
                }
                edns = Some(Edns {
                    size,
                    version: flags.to_be_bytes()[1],
                    dnssec: flags & DNSSEC_OK != 0,
                });
            }
        }
        Some(Self {
            id: head.id,
            recursion_desired: head.flags & RECURSION_DESIRED != 0,
            name,
            kind,
            class,
            question,
            edns,
        })
    }
}

impl Edns {
    pub(super) fn has_dnssec(self) -> bool {
        self.dnssec
    }
}

/// Whether `packet` answers the question in `asked`.
pub(in crate::dns) fn is_answer(packet: &[u8], asked: &[u8]) -> bool {
    let read = |packet: &[u8]| {
        let mut reader = Reader { packet, at: 0 };
        let head = head(&mut reader)?;
        let asked = (reader.name()?, reader.number()?, reader.number()?);
        (head.counts[0] == 1).then_some((head.id, head.flags & RESPONSE != 0, asked))
    };
    match (read(packet), read(asked)) {
        (Some((id, true, answered)), Some((own, false, asked))) => id == own && answered == asked,
        _ => false,
    }
}

/// Whether a message says that it was cut short.
pub(in crate::dns) fn is_cut(packet: &[u8]) -> bool {
    let flags = packet.get(2..4).and_then(|bytes| bytes.try_into().ok());
    flags.is_some_and(|bytes| u16::from_be_bytes(bytes) & CUT != 0)
}

/// How long an answer may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dns) struct Lifetime {
    pub(in crate::dns) seconds: u32,
    /// Where in the message the seconds of its records stand.
    places: Vec<usize>,
}

impl Lifetime {
    /// The message so many seconds later.
    pub(in crate::dns) fn aged(&self, mut packet: Vec<u8>, age: u64) -> Vec<u8> {
        let age = u32::try_from(age).unwrap_or(u32::MAX);
        for place in &self.places {
            let bytes = packet.get_mut(*place..).and_then(<[u8]>::first_chunk_mut);
            if let Some(bytes) = bytes {
                *bytes = u32::from_be_bytes(*bytes).saturating_sub(age).to_be_bytes();
            }
        }
        packet
    }
}

/// How long a whole answer may be kept; nothing for one that may not be kept at all. That there is no such name or no such
/// record holds as long as the authority of the zone says (RFC 2308).
pub(in crate::dns) fn lifetime(packet: &[u8]) -> Option<Lifetime> {
    let mut reader = Reader { packet, at: 0 };
    let head = head(&mut reader)?;
    if head.flags & CUT != 0 || !matches!(head.flags & CODE, 0 | 3) {
        return None;
    }
    let [questions, answers, authorities, additional] = head.counts;
    for _ in 0..questions {
        reader.name()?;
        reader.bytes(4)?;
    }
    let (mut places, mut seconds, mut authority) = (Vec::new(), u32::MAX, None);
    for _ in 0..u32::from(answers) + u32::from(authorities) + u32::from(additional) {
        reader.name()?;
        let (kind, _class, place) = (reader.number()?, reader.number()?, reader.at);
        // A number with the first bit means nothing, and so nothing is kept (RFC 2181 §8).
        let ttl = i32::try_from(reader.long()?).map_or(0, i32::unsigned_abs);
        let length = reader.number()?;
        let data = reader.bytes(length.into())?;
        if kind == super::kind::OPT {
            continue;
        }
        places.push(place);
        seconds = seconds.min(ttl);
        if kind == super::kind::SOA {
            let minimum = data.last_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
            authority = Some(minimum.min(ttl));
        }
    }
    if answers == 0 {
        seconds = seconds.min(authority?);
    }
    (seconds > 0 && !places.is_empty()).then_some(Lifetime { seconds, places })
}

/// What another server said about a name.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::dns) struct Upstreams {
    pub(in crate::dns) code: Code,
    /// Addresses and aliases; records of other types are left out.
    pub(in crate::dns) records: Vec<Record>,
}

/// The answers in a message; nothing if it cannot be read.
pub(in crate::dns) fn answers_of(packet: &[u8]) -> Option<Upstreams> {
    let mut reader = Reader { packet, at: 0 };
    let head = head(&mut reader)?;
    for _ in 0..head.counts[0] {
        reader.name()?;
        reader.bytes(4)?;
    }
    let mut records = Vec::new();
    for _ in 0..head.counts[1] {
        let name = reader.name()?;
        let (kind, class, ttl) = (reader.number()?, reader.number()?, reader.long()?);
        let length = usize::from(reader.number()?);
        let start = reader.at;
        let data = (class == super::INTERNET)
            .then(|| data(&mut reader, kind, length))
            .flatten();
        records.extend(data.map(|data| Record { name, ttl, data }));
        reader.at = start;
        reader.bytes(length)?;
    }
    let code = match head.flags & CODE {
        0 => Code::NoError,
        3 => Code::NoName,
        _ => Code::ServerFailure,
    };
    Some(Upstreams { code, records })
}

fn data(reader: &mut Reader<'_>, kind: u16, length: usize) -> Option<Data> {
    match (kind, length) {
        (kind::A, 4) => {
            let bytes: [u8; 4] = reader.bytes(4)?.try_into().ok()?;
            Some(Data::A(bytes.into()))
        }
        (kind::AAAA, 16) => {
            let bytes: [u8; 16] = reader.bytes(16)?.try_into().ok()?;
            Some(Data::Aaaa(bytes.into()))
        }
        (kind::CNAME, _) => reader.name().map(Data::Cname),
        _ => None,
    }
}
