//! `davit:network/ipam`: addresses of the call's network.

use super::CallState;
use crate::engine::bindings::davit::network::{ipam, types as network};
use crate::engine::bindings::davit::plugin::types::Error;
use crate::error::CallError;
use std::net::IpAddr;

impl network::Host for CallState {}

impl ipam::Host for CallState {
    fn pools(&mut self) -> Result<Vec<ipam::Pool>, Error> {
        let pool = |info: crate::scope::PoolInfo| ipam::Pool {
            name: info.name.to_owned(),
            cidr: info.slice.to_string(),
            gateway: info.gateway.map(|ip| ip.to_string()),
            capacity: info.capacity,
            used: info.used,
        };
        Ok(self.session.pools().into_iter().map(pool).collect())
    }

    fn allocate(
        &mut self,
        pool: String,
        tag: String,
        want: Option<String>,
    ) -> Result<ipam::Lease, Error> {
        let want = want.map(|text| {
            let ip = text.parse::<IpAddr>();
            ip.map_err(|_| CallError::invalid(format!("{text:?} is not an IP address")))
        });
        if tag.len() > 64 {
            return Err(CallError::invalid("a lease's tag has at most 64 bytes").into());
        }
        let lease = self.session.allocate(&pool, &tag, want.transpose()?)?;
        Ok(ipam::Lease {
            pool: lease.slice.trunc().to_string(),
            address: lease.address.to_string(),
            gateway: lease.gateway.map(|ip| ip.to_string()),
        })
    }
}
