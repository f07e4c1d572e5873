//! Messages of ours. Names that were written before are referred to (RFC 1035, 4.1.4).

use std::collections::HashMap;

use super::read::{CUT, HEAD, RECURSION_DESIRED, RESPONSE};
use super::{Data, INTERNET, Query, Record, Response, UDP_BYTES, kind};

const AUTHORITATIVE: u16 = 0x0400;
const RECURSION_AVAILABLE: u16 = 0x0080;
/// Bytes of the record that speaks of extensions.
const OPT_BYTES: usize = 11;
/// References reach this far.
const REACH: usize = 0x4000;

/// A name that cannot be sent: a part of it is empty or too long.
#[derive(Debug)]
struct Unsendable;

struct Writer {
    bytes: Vec<u8>,
    /// Where the ends of names stand.
    places: HashMap<Vec<u8>, u16>,
}

impl Writer {
    fn number(&mut self, number: u16) {
        self.bytes.extend(number.to_be_bytes());
    }

    fn long(&mut self, number: u32) {
        self.bytes.extend(number.to_be_bytes());
    }

    /// Writes a name, by reference where `refer` allows it.
    fn name(&mut self, name: &str, refer: bool) -> Result<(), Unsendable> {
        let labels = labels(name)?;
        for index in 0..labels.len() {
            let rest: Vec<u8> = labels.get(index..).unwrap_or_default().concat();
            if let Some(place) = self.places.get(&rest).filter(|_| refer) {
                let reference = 0xc000 | *place;
                self.number(reference);
                return Ok(());
            }
            if let Some(place) = u16::try_from(self.bytes.len()).ok()
                && usize::from(place) < REACH
            {
                self.places.entry(rest).or_insert(place);
            }
            self.bytes.extend(labels.get(index).into_iter().flatten());
        }
        self.bytes.push(0);
        Ok(())
    }

    fn record(&mut self, record: &Record) -> Result<(), Unsendable> {
        self.name(&record.name, true)?;
        self.number(record.data.kind());
        self.number(INTERNET);
        self.long(record.ttl);
        let length = self.bytes.len();
        self.number(0);
        self.data(&record.data)?;
        let size = u16::try_from(self.bytes.len() - length - 2).map_err(|_| Unsendable)?;
        if let Some(place) = self.bytes.get_mut(length..length + 2) {
            place.copy_from_slice(&size.to_be_bytes());
        }
        Ok(())
    }

    fn data(&mut self, data: &Data) -> Result<(), Unsendable> {
        match data {
            Data::A(ip) => self.bytes.extend(ip.octets()),
            Data::Aaaa(ip) => self.bytes.extend(ip.octets()),
            Data::Cname(name) | Data::Ns(name) | Data::Ptr(name) => self.name(name, true)?,
            Data::Txt(text) => {
                let size = u8::try_from(text.len()).map_err(|_| Unsendable)?;
                self.bytes.push(size);
                self.bytes.extend(text.as_bytes());
            }
            Data::Srv {
                weight,
                port,
                target,
            } => {
                [0, *weight, *port]
                    .into_iter()
                    .for_each(|number| self.number(number));
                // Not by reference: RFC 2782.
                self.name(target, false)?;
            }
            Data::Soa {
                server,
                mailbox,
                serial,
                minimum,
            } => {
                self.name(server, true)?;
                self.name(mailbox, true)?;
                [*serial, 7200, 1800, 86_400, *minimum]
                    .into_iter()
                    .for_each(|number| self.long(number));
            }
        }
        Ok(())
    }

    /// Writes records while they fit; how many, and whether that is all. One that cannot be sent is left out.
    fn section(&mut self, records: &[Record], limit: usize) -> (u16, bool) {
        let mut count = 0;
        for record in records {
            let before = self.bytes.len();
            let sendable = self.record(record).is_ok();
            if !sendable || self.bytes.len() > limit {
                let whole = !sendable;
                self.bytes.truncate(before);
                self.places.retain(|_, place| usize::from(*place) < before);
                if whole {
                    continue;
                }
                return (count, false);
            }
            count += 1;
        }
        (count, true)
    }
}

/// The parts of a name, each with its length in front.
fn labels(name: &str) -> Result<Vec<Vec<u8>>, Unsendable> {
    let mut labels = Vec::new();
    let mut total = 1;
    let name = name.strip_suffix('.').unwrap_or(name);
    for text in name.split('.').filter(|_| !name.is_empty()) {
        let mut label = vec![0];
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte != b'\\' {
                label.push(byte);
                continue;
            }
            let mut code = 0_u32;
            for _ in 0..3 {
                let digit = rest.next().filter(u8::is_ascii_digit).ok_or(Unsendable)?;
                code = code * 10 + u32::from(digit - b'0');
            }
            label.push(u8::try_from(code).map_err(|_| Unsendable)?);
        }
        let size = label.len() - 1;
        if size == 0 || size > 63 {
            return Err(Unsendable);
        }
        total += label.len();
        if let (Some(first), Ok(size)) = (label.first_mut(), u8::try_from(size)) {
            *first = size;
        }
        labels.push(label);
    }
    if total > 255 {
        Err(Unsendable)
    } else {
        Ok(labels)
    }
}

impl Query {
    /// The answer as bytes, at most `limit` of them; what does not fit is left out and, of the answer itself, marked.
    pub(in crate::dns) fn reply(&self, response: &Response, limit: usize) -> Vec<u8> {
        let mut writer = Writer {
            bytes: Vec::with_capacity(PLENTY),
            places: HashMap::new(),
        };
        writer.bytes.resize(HEAD, 0);
        // Notes where the name stands; the client's own spelling, which is as long, then takes its place.
        let _ = writer.name(&self.name, false);
        writer.bytes.truncate(HEAD);
        writer.bytes.extend(&self.question);
        let reserved = if self.edns.is_some() { OPT_BYTES } else { 0 };
        let room = limit.saturating_sub(reserved);
        let (answers, whole) = writer.section(&response.answers, room);
        let (authority, _) = writer.section(&response.authority, room);
        let (mut additional, _) = writer.section(&response.additional, room);
        let code = response.code.number();
        if let Some(edns) = self.edns {
            additional += 1;
            writer.bytes.push(0);
            writer.number(kind::OPT);
            writer.number(UDP_BYTES as u16);
            let flags = if edns.has_dnssec() { 0x8000 } else { 0 };
            writer.long(u32::from(code >> 4) << 24 | flags);
            writer.number(0);
        }
        let mut flags = RESPONSE | RECURSION_AVAILABLE | code & 0xf;
        flags |= if self.recursion_desired {
            RECURSION_DESIRED
        } else {
            0
        };
        flags |= if response.authoritative {
            AUTHORITATIVE
        } else {
            0
        };
        flags |= if whole { 0 } else { CUT };
        let head = [self.id, flags, 1, answers, authority, additional];
        let head = head.map(u16::to_be_bytes).concat();
        if let Some(place) = writer.bytes.get_mut(..HEAD) {
            place.copy_from_slice(&head);
        }
        writer.bytes
    }
}

/// Most answers fit.
const PLENTY: usize = 512;

/// A question of ours; nothing if the name cannot be asked for.
pub(in crate::dns) fn question(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut writer = Writer {
        bytes: Vec::new(),
        places: HashMap::new(),
    };
    [id, RECURSION_DESIRED, 1, 0, 0, 1]
        .into_iter()
        .for_each(|number| writer.number(number));
    writer.name(name, false).ok()?;
    writer.number(kind);
    writer.number(INTERNET);
    writer.bytes.push(0);
    writer.number(kind::OPT);
    writer.number(UDP_BYTES as u16);
    writer.long(0);
    writer.number(0);
    Some(writer.bytes)
}

/// The message with another number.
pub(in crate::dns) fn with_id(packet: &[u8], id: u16) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if let Some(place) = packet.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    packet
}
