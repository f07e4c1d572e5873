//! What this machine is and how it fares, read from `/proc`, `/sys` and the file system.
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use crate::network::{MARK, marked_links};

/// What does not change while the agent runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) cpus: u64,
    pub(super) memory_bytes: u64,
    pub(super) kernel: String,
    pub(super) os_image: String,
    pub(super) architecture: String,
    pub(super) machine_id: String,
    pub(super) system_uuid: String,
    pub(super) boot_id: String,
    pub(super) hostname: String,
}

/// How the machine fares now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) memory_available: u64,
    pub(super) disk: Disk,
    pub(super) processes: u64,
    pub(super) most_processes: u64,
}

/// A file system's size and what is left of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) bytes: u64,
    pub(super) bytes_available: u64,
    pub(super) files: u64,
    pub(super) files_available: u64,
}

impl Machine {
    /// What cannot be read stays empty: it is for people to look at.
    pub(super) fn read() -> Self {
        let uname = nix::sys::utsname::uname().ok();
        let text = |value: Option<&std::ffi::OsStr>| {
            value
                .map(|text| text.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        Self {
            cpus: std::thread::available_parallelism()
                .map_or(1, |count| u64::try_from(count.get()).unwrap_or(1)),
            memory_bytes: memory(&line_file("/proc/meminfo"), "MemTotal:").unwrap_or(0),
            kernel: text(uname.as_ref().map(nix::sys::utsname::UtsName::release)),
            os_image: os_image(&line_file("/etc/os-release")),
            architecture: go_architecture(&text(
                uname.as_ref().map(nix::sys::utsname::UtsName::machine),
            )),
            machine_id: line_file("/etc/machine-id").trim().to_owned(),
            system_uuid: line_file("/sys/class/dmi/id/product_uuid")
                .trim()
                .to_owned(),
            boot_id: line_file("/proc/sys/kernel/random/boot_id")
                .trim()
                .to_owned(),
            hostname: text(uname.as_ref().map(nix::sys::utsname::UtsName::nodename)),
        }
    }
}

impl Health {
    /// How the machine fares, its disk being the one that holds `data_dir`.
    pub(super) fn read(data_dir: &Path) -> Self {
        let loads = line_file("/proc/loadavg");
        let processes = loads
            .split_whitespace()
            .nth(3)
            .and_then(|runs| runs.split('/').nth(1));
        Self {
            memory_available: memory(&line_file("/proc/meminfo"), "MemAvailable:")
                .unwrap_or(u64::MAX),
            disk: Disk::of(data_dir).unwrap_or_default(),
            processes: processes.and_then(|count| count.parse().ok()).unwrap_or(0),
            most_processes: line_file("/proc/sys/kernel/pid_max")
                .trim()
                .parse()
                .unwrap_or(u64::MAX),
        }
    }
}

impl Disk {
    /// The file system that holds `path`.
    pub(super) fn of(path: &Path) -> nix::Result<Self> {
        let stat = nix::sys::statvfs::statvfs(path)?;
        let block = stat.fragment_size();
        Ok(Self {
            bytes: stat.blocks().saturating_mul(block),
            bytes_available: stat.blocks_available().saturating_mul(block),
            files: stat.files(),
            files_available: stat.files_available(),
        })
    }
}

fn line_file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn memory(meminfo: &str, field: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

fn os_image(os_release: &str) -> String {
    let name = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map(|name| name.trim_matches('"').to_owned())
        .unwrap_or_else(|| "Linux".to_owned())
}

/// The architecture as images and labels name it.
fn go_architecture(machine: &str) -> String {
    match machine {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        "armv7l" => "arm".to_owned(),
        other => other.to_owned(),
    }
}

/// The addresses other machines reach this one by: those the default routes leave from, else one of an interface of its own,
/// else loopback, so that a machine without a network still works for itself. Bridges and other links that were made for pods
/// lead to no other machine.
pub(super) async fn node_addresses() -> Vec<IpAddr> {
    let routes: [(IpAddr, IpAddr); 2] = [
        (
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        ),
        (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ),
    ];
    let mut found: Vec<IpAddr> = routes
        .into_iter()
        .filter_map(|(from, to)| source_towards(from, to))
        .collect();
    if found.is_empty() {
        // Netlink, since sysfs may be that of another network namespace. Without it sysfs has to do.
        let ours = marked_links().await.unwrap_or_default();
        found.extend(best(interface_addresses(&ours)));
    }
    if found.is_empty() {
        found.push(Ipv4Addr::LOCALHOST.into());
    }
    found
}

/// The kernel picks the source when a datagram socket is connected; nothing is sent. The targets are documentation addresses.
fn source_towards(from: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).ok()?;
    socket.connect(SocketAddr::new(to, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

/// An address and what it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    ip: IpAddr,
    link: LinkKind,
}

/// What kind of link an address is on, the most likely to lead to other machines first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum LinkKind {
    /// Hardware.
    Device,
    /// Something virtual, or a bridge that hardware is part of.
    Virtual,
    /// A bridge between virtual links: of another container engine, most likely.
    Inner,
    /// Made by a davit, of this or another data directory.
    Davit,
}

/// The first on the best kind of link, unless that is davit's own.
fn best(candidates: Vec<Candidate>) -> Option<IpAddr> {
    let usable = candidates.into_iter().filter(|candidate| {
        let ip = candidate.ip;
        candidate.link != LinkKind::Davit && !ip.is_loopback() && !is_link_local(&ip)
    });
    usable
        .min_by_key(|candidate| candidate.link)
        .map(|candidate| candidate.ip)
}

fn interface_addresses(ours: &HashSet<String>) -> Vec<Candidate> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = all.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address
            .as_sockaddr_in()
            .map(|address| IpAddr::from(address.ip()));
        let v6 = || Some(IpAddr::from(address.as_sockaddr_in6()?.ip()));
        let ip = v4.or_else(v6)?;
        let link = if ours.contains(&interface.interface_name) {
            LinkKind::Davit
        } else {
            link_kind(&Path::new("/sys/class/net").join(interface.interface_name))
        };
        Some(Candidate { ip, link })
    });
    addresses.collect()
}

/// The kind of the link with this directory in sysfs.
fn link_kind(link: &Path) -> LinkKind {
    let alias = std::fs::read_to_string(link.join("ifalias")).unwrap_or_default();
    if alias.starts_with(MARK) {
        return LinkKind::Davit;
    }
    if link.join("device").exists() {
        return LinkKind::Device;
    }
    let ports = std::fs::read_dir(link.join("brif"));
    let Ok(mut ports) = ports else {
        return LinkKind::Virtual;
    };
    let has_device = ports.any(|port| {
        let port = port.map(|port| port.path().join("../device"));
        port.is_ok_and(|device| device.exists())
    });
    if has_device {
        LinkKind::Virtual
    } else {
        LinkKind::Inner
    }
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The node's own `resolv.conf`: where a local stub resolver is configured, the one with the real servers behind it.
pub(super) fn resolv_conf() -> PathBuf {
    let plain = PathBuf::from("/etc/resolv.conf");
    let behind = PathBuf::from("/run/systemd/resolve/resolv.conf");
    let stub = std::fs::read_to_string(&plain)
        .unwrap_or_default()
        .contains("127.0.0.53");
    if stub && behind.exists() {
        behind
    } else {
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_machines_own_is_preferred() {
        let at = |ip: &str, link| Candidate {
            ip: ip.parse().unwrap(),
            link,
        };
        let bridge = at("10.42.0.1", LinkKind::Davit);
        let engine = at("172.17.0.1", LinkKind::Inner);
        let tunnel = at("10.9.0.1", LinkKind::Virtual);
        let card = at("192.0.2.7", LinkKind::Device);
        let table: [(&[Candidate], Option<&str>); 5] = [
            (&[bridge, engine, tunnel, card], Some("192.0.2.7")),
            (&[bridge, engine, tunnel], Some("10.9.0.1")),
            (&[bridge, engine], Some("172.17.0.1")),
            (&[bridge, at("169.254.0.9", LinkKind::Device)], None),
            (&[bridge, at("127.0.0.1", LinkKind::Virtual)], None),
        ];
        for (candidates, expected) in table {
            let expected = expected.map(|ip| ip.parse().unwrap());
            assert_eq!(best(candidates.to_vec()), expected, "{candidates:?}");
        }
    }

    #[test]
    fn links_are_told_apart_by_sysfs() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, files: &[&str]| {
            let link = dir.path().join(name);
            std::fs::create_dir_all(&link).unwrap();
            for file in files {
                std::fs::create_dir_all(link.join(file)).unwrap();
            }
            link
        };
        assert_eq!(link_kind(&make("eth0", &["device"])), LinkKind::Device);
        assert_eq!(link_kind(&make("wg0", &[])), LinkKind::Virtual);
        assert_eq!(
            link_kind(&make("docker0", &["brif/veth1"])),
            LinkKind::Inner
        );
        let own = make("davit0", &["brif/veth2"]);
        std::fs::write(own.join("ifalias"), "davit:bridge:node/default\n").unwrap();
        assert_eq!(link_kind(&own), LinkKind::Davit);
        // The entries of a bridge's ports are links to directories of theirs, in the directory of the port itself.
        let bridge = make("br0", &["brif"]);
        make("eth1", &["device", "brport"]);
        std::os::unix::fs::symlink("../../eth1/brport", bridge.join("brif/eth1")).unwrap();
        assert_eq!(link_kind(&bridge), LinkKind::Virtual);
    }

    #[test]
    fn proc_files_are_read() {
        let meminfo = "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   12 kB\n";
        assert_eq!(memory(meminfo, "MemTotal:"), Some(24_000_000 * 1024));
        assert_eq!(memory(meminfo, "Nothing:"), None);
        assert_eq!(os_image("ID=x\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        let machine = Machine::read();
        assert!(machine.cpus > 0 && machine.memory_bytes > 0 && !machine.kernel.is_empty());
        assert!(Health::read(Path::new("/")).disk.bytes > 0);
    }
}
