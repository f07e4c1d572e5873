//! Taking the port of the API server.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use crate::fault::Fault;

/// Listens on `address`.
///
/// # Errors
/// One line that says whether the port is taken, needs more rights, or the address is not of this machine.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, Fault> {
    let failed = |error: std::io::Error| {
        let remedy = match error.kind() {
            ErrorKind::AddrInUse => {
                "stop the program that uses the port, or choose another with --listen"
            }
            ErrorKind::AddrNotAvailable => "choose an address of this machine with --listen",
            ErrorKind::PermissionDenied => "choose a port above 1023 with --listen",
            _ => "choose another address with --listen",
        };
        Fault::new(format!("listening on {address}"), error, remedy)
    };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// The URL under which programs of this machine reach a server that listens on `address`.
pub(crate) fn local_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("https://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_reachable_from_here() {
        let cases = [
            ("0.0.0.0:6443", "https://127.0.0.1:6443"),
            ("[::]:6443", "https://[::1]:6443"),
            ("10.1.2.3:80", "https://10.1.2.3:80"),
        ];
        for (address, expected) in cases {
            assert_eq!(local_url(address.parse().unwrap()), expected);
        }
    }

    #[test]
    fn a_full_port_is_one_clear_line() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.local_addr().unwrap();
        let fault = bind(address).unwrap_err().to_string();
        assert!(
            fault.starts_with(&format!("listening on {address}: ")),
            "{fault}"
        );
        assert!(fault.ends_with("choose another with --listen"), "{fault}");
    }
}
