//! SPDY/3.1, as far as Kubernetes' clients use it: streams that they open over an upgraded connection.
//!
//! Flow control: a client is always told what it may send again, and is sent no more than it says once it has said
//! anything about it. The library of kubectl says nothing and heeds nothing, so what waits for a stream of such a client is
//! bounded, and beyond that the connection is held up.
mod flow;
mod frame;
mod headers;
mod session;
mod upgrade;

pub(super) use session::{Session, Stream, start};
pub(super) use upgrade::{is_wanted, negotiate, upgrade};
