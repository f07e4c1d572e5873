//! Names of addresses: `4.3.2.1.in-addr.arpa` and `….ip6.arpa`.

use std::net::{IpAddr, Ipv4Addr};

/// The address that a name stands for.
pub(super) fn address(name: &str) -> Option<IpAddr> {
    if let Some(parts) = name.strip_suffix(".in-addr.arpa") {
        let turned: Vec<&str> = parts.rsplit('.').collect();
        let ip = turned.join(".").parse::<Ipv4Addr>().ok()?;
        return Some(ip.into());
    }
    let parts = name.strip_suffix(".ip6.arpa")?;
    let mut bits = 0_u128;
    let mut count = 0;
    for digit in parts.rsplit('.') {
        let [digit] = digit.as_bytes() else {
            return None;
        };
        bits = bits << 4 | u128::from(char::from(*digit).to_digit(16)?);
        count += 1;
    }
    (count == 32).then(|| IpAddr::V6(bits.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_backwards() {
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        let cases = [
            ("10.0.96.10.in-addr.arpa", Some("10.96.0.10")),
            (v6, Some("fd00::1")),
            ("0.96.10.in-addr.arpa", None),
            ("256.0.0.1.in-addr.arpa", None),
            ("in-addr.arpa", None),
            (&v6[2..], None),
            ("x.ip6.arpa", None),
            ("a.cluster.local", None),
        ];
        for (name, ip) in cases {
            assert_eq!(address(name), ip.map(|ip| ip.parse().unwrap()), "{name}");
        }
    }
}
