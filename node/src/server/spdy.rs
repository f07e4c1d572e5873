//! SPDY/3.1, as far as Kubernetes' clients use it: streams that they open over an upgraded connection.
//!
//! Flow control is left to TCP, as by the library of those clients: it sends no window updates and reads none.
mod frame;
mod headers;
mod session;
mod upgrade;

pub(super) use session::{Session, Stream, start};
pub(super) use upgrade::{is_wanted, negotiate, upgrade};
