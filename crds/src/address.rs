//! Addresses that mean this machine, this link, or nobody in particular, in whatever way they are written.
//!
//! An address that somebody wrote into an object is seen by other machines than the author's: there a loopback address is the
//! reader itself, and a link-local one is whatever else is on the reader's link, such as a cloud's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is special about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialAddress {
    /// No address: `0.0.0.0/8`, `::`. Linux takes it for itself.
    Unspecified,
    /// The machine that uses it: `127.0.0.0/8`, `::1`.
    Loopback,
    /// The link of the machine that uses it: `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// Groups on that link: `224.0.0.0/24`, `ff02::/16` and those of smaller scope.
    LinkLocalMulticast,
    /// Groups: `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// Everybody on the link: `255.255.255.255`.
    Broadcast,
}

impl SpecialAddress {
    /// What is special about `address`; `None` for addresses of one machine that mean the same everywhere.
    ///
    /// # Guarantees
    /// An IPv4 address counts as what it is also within an IPv6 one (see [`embedded`]).
    pub fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6).or_else(|| Self::of_v4(embedded(v6)?)),
        }
    }

    fn of_v4(v4: Ipv4Addr) -> Option<Self> {
        let octets = v4.octets();
        Some(match octets {
            [0, ..] => Self::Unspecified,
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            [224, 0, 0, _] => Self::LinkLocalMulticast,
            [224..=239, ..] => Self::Multicast,
            [255, 255, 255, 255] => Self::Broadcast,
            _ => return None,
        })
    }

    fn of_v6(v6: Ipv6Addr) -> Option<Self> {
        Some(match v6.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] => Self::Unspecified,
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            [first, ..] if first & 0xffc0 == 0xfe80 => Self::LinkLocal,
            [first, ..] if first & 0xff0f == 0xff01 || first & 0xff0f == 0xff02 => {
                Self::LinkLocalMulticast
            }
            [first, ..] if first & 0xff00 == 0xff00 => Self::Multicast,
            _ => return None,
        })
    }

    /// Why the address may not stand in an object, in Kubernetes' words.
    pub fn fault(self) -> &'static str {
        match self {
            Self::Unspecified => "may not be unspecified",
            Self::Loopback => "may not be in the loopback range (127.0.0.0/8, ::1/128)",
            Self::LinkLocal => "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
            Self::LinkLocalMulticast => {
                "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
            }
            Self::Multicast => "may not be a multicast address",
            Self::Broadcast => "may not be the broadcast address",
        }
    }
}

/// The IPv4 address within an IPv6 one: mapped, compatible, behind NAT64 (RFC 6052) or 6to4 (RFC 3056).
pub fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let joined = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(joined(high, low))
        }
        [0x2002, high, low, ..] => Some(joined(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_mean_something_else_to_others() {
        use SpecialAddress::*;
        let cases = [
            ("10.0.0.1", None),
            ("192.0.2.1", None),
            ("1.0.0.0", None),
            ("2001:db8::1", None),
            ("fd00::1", None),
            ("::ffff:10.0.0.1", None),
            ("64:ff9b::192.0.2.1", None),
            ("0.0.0.0", Some(Unspecified)),
            ("0.1.2.3", Some(Unspecified)),
            ("::", Some(Unspecified)),
            ("127.0.0.1", Some(Loopback)),
            ("127.255.0.9", Some(Loopback)),
            ("::1", Some(Loopback)),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("::127.0.0.1", Some(Loopback)),
            ("64:ff9b::127.0.0.1", Some(Loopback)),
            ("2002:7f00:1::", Some(Loopback)),
            ("169.254.169.254", Some(LinkLocal)),
            ("::ffff:169.254.169.254", Some(LinkLocal)),
            ("fe80::1", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("fec0::1", None),
            ("224.0.0.1", Some(LinkLocalMulticast)),
            ("ff02::1", Some(LinkLocalMulticast)),
            ("ff12::1", Some(LinkLocalMulticast)),
            ("ff01::1", Some(LinkLocalMulticast)),
            ("239.1.1.1", Some(Multicast)),
            ("ff05::1", Some(Multicast)),
            ("255.255.255.255", Some(Broadcast)),
        ];
        for (text, expected) in cases {
            assert_eq!(
                SpecialAddress::of(text.parse().unwrap()),
                expected,
                "{text}"
            );
        }
    }
}
