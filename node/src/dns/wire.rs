//! DNS messages (RFC 1035, RFC 6891): as much of them as a server for pods needs.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) use read::{Lifetime, Upstreams, answers_of, is_answer, is_cut, lifetime};
pub(super) use write::{question, with_id};

/// The longest message over UDP that surely is not fragmented.
pub(super) const UDP_BYTES: usize = 1232;
/// What a client takes that says nothing about it.
const PLAIN_BYTES: usize = 512;

/// Types of records.
pub(super) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
}

/// The class of everything that is answered here.
pub(super) const INTERNET: u16 = 1;

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    NoError,
    FormatError,
    ServerFailure,
    NoName,
    NotImplemented,
    Refused,
    BadVersion,
}

impl Code {
    fn number(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormatError => 1,
            Self::ServerFailure => 2,
            Self::NoName => 3,
            Self::NotImplemented => 4,
            Self::Refused => 5,
            Self::BadVersion => 16,
        }
    }
}

/// What a client says about itself beyond the first standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edns {
    size: u16,
    pub(super) version: u8,
    dnssec: bool,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    id: u16,
    recursion_desired: bool,
    /// Lower case, without the last dot; bytes that are no letters of names as `\ddd`. The root is empty.
    pub(super) name: String,
    pub(super) kind: u16,
    pub(super) class: u16,
    /// The question as it was sent.
    question: Vec<u8>,
    pub(super) edns: Option<Edns>,
}

impl Query {
    /// The longest answer over UDP.
    pub(super) fn udp_bytes(&self) -> usize {
        let size = self.edns.map_or(PLAIN_BYTES, |edns| edns.size.into());
        size.clamp(PLAIN_BYTES, UDP_BYTES)
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: String,
    /// Seconds for which it may be kept.
    pub(super) ttl: u32,
    pub(super) data: Data,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(String),
    Ns(String),
    Ptr(String),
    Txt(String),
    Srv {
        weight: u16,
        port: u16,
        target: String,
    },
    /// The authority of a zone; with it a client learns how long nothing may be kept as an answer.
    Soa {
        server: String,
        mailbox: String,
        serial: u32,
        minimum: u32,
    },
}

impl Data {
    pub(super) fn kind(&self) -> u16 {
        match self {
            Self::A(_) => kind::A,
            Self::Aaaa(_) => kind::AAAA,
            Self::Cname(_) => kind::CNAME,
            Self::Ns(_) => kind::NS,
            Self::Ptr(_) => kind::PTR,
            Self::Txt(_) => kind::TXT,
            Self::Srv { .. } => kind::SRV,
            Self::Soa { .. } => kind::SOA,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) code: Code,
    /// Whether it comes from who owns the name.
    pub(super) authoritative: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authority: Vec<Record>,
    pub(super) additional: Vec<Record>,
}

impl Response {
    /// An answer without records.
    pub(super) fn empty(code: Code) -> Self {
        Self {
            code,
            authoritative: false,
            answers: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
        }
    }
}
