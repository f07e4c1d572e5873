//! Networking and discovery of endpoints.

use super::cells;
use super::entry::{Entry, Sub};
use crate::addresses::{InUse, ServiceRanges};

const GROUP: &str = "networking.k8s.io";

pub(super) const ENTRIES: &[Entry] = &[
    Entry::namespaced("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
        .columns(cells::ENDPOINT_SLICE),
    Entry::cluster(GROUP, "v1", "IngressClass", "ingressclasses").columns(cells::INGRESS_CLASS),
    Entry::namespaced(GROUP, "v1", "Ingress", "ingresses")
        .short(&["ing"])
        .sub(&[Sub::Status])
        .columns(cells::INGRESS),
    Entry::cluster(GROUP, "v1", "IPAddress", "ipaddresses")
        .short(&["ip"])
        .columns(cells::IP_ADDRESS)
        .companion(&InUse),
    Entry::namespaced(GROUP, "v1", "NetworkPolicy", "networkpolicies")
        .short(&["netpol"])
        .columns(cells::NETWORK_POLICY),
    Entry::cluster(GROUP, "v1", "ServiceCIDR", "servicecidrs")
        .sub(&[Sub::Status])
        .columns(cells::SERVICE_CIDR)
        .companion(&ServiceRanges),
];
