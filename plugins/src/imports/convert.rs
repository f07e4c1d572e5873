//! Text forms of the WIT into typed values, and errors both ways.

use crate::engine::bindings::davit::plugin::types::{Code as WitCode, Error};
use crate::error::{CallError, Code};
use crate::plan::MacAddr;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

pub(super) fn ip(text: &str) -> Result<IpAddr, CallError> {
    text.parse()
        .map_err(|_| CallError::invalid(format!("{text:?} is not an IP address")))
}

/// An address with a prefix length; host bits may be set.
pub(super) fn cidr(text: &str) -> Result<IpNet, CallError> {
    text.parse().map_err(|_| {
        CallError::invalid(format!(
            "{text:?} is not an address with a prefix length, as 10.0.0.7/24"
        ))
    })
}

/// A range: host bits are cleared.
pub(super) fn range(text: &str) -> Result<IpNet, CallError> {
    Ok(cidr(text)?.trunc())
}

pub(super) fn mac(text: &str) -> Result<MacAddr, CallError> {
    text.parse::<MacAddr>()
        .map_err(|error| CallError::invalid(error.to_string()))
}

pub(super) fn optional<T>(
    text: Option<&String>,
    read: impl Fn(&str) -> Result<T, CallError>,
) -> Result<Option<T>, CallError> {
    text.map(|text| read(text)).transpose()
}

pub(super) fn each<T>(
    texts: &[String],
    read: impl Fn(&str) -> Result<T, CallError>,
) -> Result<Vec<T>, CallError> {
    texts.iter().map(|text| read(text)).collect()
}

/// One of several words, each standing for a value.
pub(super) fn word<T: Copy>(what: &str, text: &str, words: &[(&str, T)]) -> Result<T, CallError> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        CallError::invalid(format!(
            "{what} {text:?} is not one of {}",
            known.join(", ")
        ))
    })
}

/// Options by name; a name given twice is an error.
pub(super) fn options(list: Vec<(String, String)>) -> Result<BTreeMap<String, String>, CallError> {
    let mut map = BTreeMap::new();
    for (name, value) in list {
        if map.contains_key(&name) {
            return Err(CallError::invalid(format!(
                "option {name:?} is given twice"
            )));
        }
        map.insert(name, value);
    }
    Ok(map)
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let retry = error
            .retry_after
            .map(|after| after.as_millis().min(u128::from(u32::MAX)) as u32);
        Self {
            code: error.code.into(),
            message: error.message,
            retry_after_ms: retry,
        }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self {
            code: error.code.into(),
            message: super::log::printable(&error.message),
            retry_after: error
                .retry_after_ms
                .map(|ms| Duration::from_millis(ms.into())),
        }
    }
}

/// The two enumerations have the same cases; one table serves both directions.
macro_rules! codes {
    ($($case:ident),*) => {
        impl From<Code> for WitCode {
            fn from(code: Code) -> Self {
                match code { $(Code::$case => Self::$case),* }
            }
        }
        impl From<WitCode> for Code {
            fn from(code: WitCode) -> Self {
                match code { $(WitCode::$case => Self::$case),* }
            }
        }
    };
}

codes!(
    InvalidArgument,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DeadlineExceeded,
    Unauthenticated
);
