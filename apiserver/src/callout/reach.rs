//! Which addresses are called for users.
//!
//! Names and Services are resolved once, what comes out is judged here, and the connection goes to what was judged: a name that
//! means something else a moment later leads nowhere.

use std::net::{IpAddr, SocketAddr};

use davit_api::SpecialAddress;
use ipnet::IpNet;

/// What clouds serve to their machines at addresses that are not link-local; it hands out credentials.
const METADATA: [&str; 3] = ["fd00:ec2::254", "100.100.100.200", "168.63.129.16"];

/// The rule, and the exceptions that the administrator makes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reach {
    exceptions: Vec<IpNet>,
}

/// An address that must not be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "address not allowed: {address} is one of the API server's own machine or link; an administrator can allow it with \
     --allow-callouts"
)]
pub(crate) struct NotAllowed {
    address: IpAddr,
}

impl Reach {
    /// The rule with exceptions.
    pub(crate) fn beyond(exceptions: &[IpNet]) -> Self {
        Self {
            exceptions: exceptions.to_vec(),
        }
    }

    /// Whether an address that a user wrote may be called.
    ///
    /// # Errors
    /// It is one of this machine or link, and no exception.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), NotAllowed> {
        let is_metadata = || METADATA.contains(&address.to_string().as_str());
        let is_exception = || self.exceptions.iter().any(|net| net.contains(&address));
        let special = SpecialAddress::of(address).is_some() || is_metadata();
        if special && !is_exception() {
            return Err(NotAllowed { address });
        }
        Ok(())
    }

    /// Those of the addresses that may be called.
    ///
    /// # Errors
    /// There are some, and none may be called.
    pub(super) fn choose(&self, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, NotAllowed> {
        let mut refused = None;
        let judge = |address: &SocketAddr| match self.check(address.ip()) {
            Ok(()) => true,
            Err(why) => {
                refused = Some(why);
                false
            }
        };
        let chosen: Vec<SocketAddr> = addresses.into_iter().filter(judge).collect();
        match refused {
            Some(why) if chosen.is_empty() => Err(why),
            _ => Ok(chosen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_link_are_not_called() {
        let reach = Reach::beyond(&["127.0.0.8/31".parse().unwrap()]);
        let cases = [
            ("10.0.0.1", true),
            ("2001:db8::1", true),
            ("127.0.0.1", false),
            ("127.0.0.9", true),
            ("::1", false),
            ("::ffff:127.0.0.9", false),
            ("0.0.0.0", false),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("fd00:ec2::254", false),
            ("100.100.100.200", false),
            ("224.0.0.1", false),
        ];
        for (address, called) in cases {
            assert_eq!(
                reach.check(address.parse().unwrap()).is_ok(),
                called,
                "{address}"
            );
        }
        let found = |texts: &[&str]| {
            let all = texts
                .iter()
                .map(|text| SocketAddr::new(text.parse().unwrap(), 1));
            reach.choose(all.collect()).map(|chosen| chosen.len())
        };
        assert_eq!(found(&["127.0.0.1", "10.0.0.1"]), Ok(1));
        assert_eq!(found(&[]), Ok(0));
        let why = found(&["127.0.0.1", "::1"]).unwrap_err().to_string();
        assert!(
            why.contains("::1") && why.contains("--allow-callouts"),
            "{why}"
        );
    }
}
