//! Names of the cluster, answered by the node itself for its own pods (Kubernetes' DNS specification 1.1.0).
//!
//! [`zone::Zone`] answers a question from Services and EndpointSlices, purely; `wire` reads and writes messages;
//! `server` has the sockets; names outside the cluster go to the name servers of the machine (`upstream`), whose answers
//! are kept for a while (`cache`). What differs from CoreDNS as Kubernetes ships it: a headless Service without endpoints has
//! no records (NOERROR) instead of not being there (NXDOMAIN).

mod cache;
mod packets;
mod resolver;
mod server;
mod upstream;
mod wire;
mod zone;

pub(crate) use resolver::Resolver;
pub(crate) use server::NameServer;
pub(crate) use upstream::Upstream;
pub(crate) use zone::{View, Zone};
