//! Services on this node: their addresses and node ports lead to endpoints, by packet rules made from Services and
//! EndpointSlices.
//!
//! So do the host ports of this node's pods.
//!
//! [`plan`] decides which doors there are; `network::nft::services` makes them one table in one transaction. What
//! Kubernetes' kube-proxy promises holds but for this: a client of a Service with `sessionAffinity: ClientIP` keeps its
//! endpoint as long as the endpoints stay the same, by a hash of its address instead of a memory with a timeout.

mod endpoints;
mod host_ports;
mod outside;
mod plan;
#[cfg(test)]
mod tests;

pub(crate) use host_ports::{closed_host_ports, host_port_doors};
pub(crate) use outside::Refused;
pub(crate) use plan::{Relay, View, plan, refused};
