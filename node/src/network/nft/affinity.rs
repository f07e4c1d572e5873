//! Clients that come to the same endpoint each time, for as long as they come often enough: a set of addresses for each
//! endpoint, from which the kernel drops those that stayed away.

use std::net::SocketAddr;

use sha2::{Digest, Sha256};

use super::expression::{Expression, Side, is_in, remember, whole_address};
use super::services::Door;

/// The clients of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientSet {
    pub(super) name: String,
    pub(super) is_v4: bool,
    /// After this a client that has not come again is forgotten.
    pub(super) seconds: u32,
}

impl ClientSet {
    /// The set of an endpoint, if clients are to stay. All doors of a port of a Service share it, and it is the same
    /// however often the table is replaced.
    pub(super) fn of(door: &Door, endpoint: SocketAddr) -> Option<Self> {
        let seconds = door.sticky?;
        let text = format!("{} {} {endpoint} {seconds}", door.label, door.protocol);
        let digest = hex::encode(Sha256::digest(text).get(..10).unwrap_or_default());
        Some(Self {
            name: format!("clients-{digest}"),
            is_v4: door.is_v4,
            seconds,
        })
    }

    /// The packet's client is one of them.
    pub(super) fn has_client(&self) -> Vec<Expression> {
        vec![whole_address(self.is_v4, Side::Source), is_in(&self.name)]
    }

    /// The packet's client is one of them from now on.
    pub(super) fn take_client(&self) -> Vec<Expression> {
        vec![
            whole_address(self.is_v4, Side::Source),
            remember(&self.name),
        ]
    }
}
