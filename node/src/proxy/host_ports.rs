//! From pods with host ports to doors. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;

use super::plan::protocol;
use crate::network::nft::services::{Door, Masquerade, Target};
use crate::pod::members;
use crate::pod::room::{OpenPort, open_ports};

/// The doors of these pods, in the order of their age: a port that two want is that of the elder. Clients keep their
/// address, but for those that would be answered past the rules.
pub(crate) fn host_port_doors(
    pods: &[impl AsRef<Pod>],
    networks: &[IpNet],
    bridges_are_seen: bool,
) -> Vec<Door> {
    let masquerade = if bridges_are_seen {
        Masquerade::Nobody
    } else {
        Masquerade::Only(networks.to_vec())
    };
    let mut pods: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
    pods.retain(|pod| !is_over(pod));
    pods.sort_by_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref();
        (created.map(|time| time.0), members::uid(pod).to_owned())
    });
    let doors = pods.into_iter().flat_map(|pod| {
        let ports = open_ports(pod).into_iter();
        let doors = ports.flat_map(|port| {
            let ips = ips(pod).into_iter();
            ips.filter_map(move |ip| door(pod, &port, ip))
        });
        doors.collect::<Vec<_>>()
    });
    let with = |door| Door {
        masquerade: masquerade.clone(),
        ..door
    };
    doors.map(with).collect()
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn ips(pod: &Pod) -> Vec<IpAddr> {
    let status = pod.status.as_ref();
    let listed = status.and_then(|status| status.pod_ips.as_ref());
    let ips = listed.into_iter().flatten();
    ips.filter_map(|ip| ip.ip.parse().ok()).collect()
}

/// None where the address of the port is of the other family, or of this machine alone: packets to it never leave the
/// loopback interface.
fn door(pod: &Pod, port: &OpenPort, pod_ip: IpAddr) -> Option<Door> {
    let is_v4 = pod_ip.is_ipv4();
    let address = match port.host.ip.as_str() {
        "" => None,
        ip => {
            let ip: IpAddr = ip.parse().ok()?;
            let any = [
                IpAddr::from(Ipv4Addr::UNSPECIFIED),
                Ipv6Addr::UNSPECIFIED.into(),
            ];
            if ip.is_ipv4() != is_v4 || ip.is_loopback() {
                return None;
            }
            Some(ip).filter(|ip| !any.contains(ip))
        }
    };
    Some(Door {
        label: format!(
            "{}/{} hostPort",
            members::namespace(pod),
            members::name(pod)
        ),
        protocol: protocol(Some(&port.host.protocol))?,
        address,
        is_v4,
        port: u16::try_from(port.host.port).ok()?,
        target: Target::Endpoints(vec![SocketAddr::new(pod_ip, port.port)]),
        masquerade: Masquerade::Nobody,
        sticky: None,
    })
}

/// Host ports of a pod that no rule can open: those on a loopback address.
pub(crate) fn closed_host_ports(pod: &Pod) -> Vec<String> {
    let loopback = |port: &OpenPort| {
        let ip = port.host.ip.parse::<IpAddr>();
        ip.is_ok_and(|ip| ip.is_loopback())
    };
    let ports = open_ports(pod).into_iter().filter(loopback);
    ports
        .map(|port| format!("{}:{}/{}", port.host.ip, port.host.port, port.host.protocol))
        .collect()
}
