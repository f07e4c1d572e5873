//! Connections that last: exec, attach and port-forward, over WebSockets or SPDY/3.1.
//!
//! A transport ([`websocket`], [`super::spdy`]) turns a connection into channels of bytes ([`channel`]); a session
//! ([`exec`], [`attach`], [`forward`]) connects those with a container. Neither knows the other.
mod attach;
mod channel;
mod credit;
mod exec;
mod forward;
mod pump;
mod remote;
mod status;
mod target;
mod tunnel;
mod wishes;

pub(super) mod websocket;

pub(super) use attach::attach;
pub(super) use channel::{Inlet, Intake, Outlet, Parcel};
pub(super) use credit::{Credit, Credits, WINDOW};
pub(super) use exec::exec;
pub(super) use forward::port_forward;
