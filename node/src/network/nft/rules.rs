//! Which nftables rules the steps of a plan mean.

use std::net::IpAddr;

use davit_plugins::capabilities::ScopeContext;
use davit_plugins::plan::{Filter, Forward, Hook, NetworkOp, Op, Protocol, Verdict};
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::expression::{
    Compare, Expression, Side, accept, address, drop_packet, family, link, masquerade, port,
    protocol, redirect, reject, to_this_node,
};

/// A base chain.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    /// Number of the netfilter hook.
    pub(super) hook: u32,
    pub(super) priority: i32,
}

/// The chains of every table of ours, at the usual priorities.
pub(super) const CHAINS: [Chain; 6] = [
    Chain {
        name: "prerouting",
        kind: "nat",
        hook: 0,
        priority: -100,
    },
    Chain {
        name: "output-nat",
        kind: "nat",
        hook: 3,
        priority: -100,
    },
    Chain {
        name: "postrouting",
        kind: "nat",
        hook: 4,
        priority: 100,
    },
    Chain {
        name: "input",
        kind: "filter",
        hook: 1,
        priority: 0,
    },
    Chain {
        name: "forward",
        kind: "filter",
        hook: 2,
        priority: 0,
    },
    Chain {
        name: "output",
        kind: "filter",
        hook: 3,
        priority: 0,
    },
];

/// A rule to be in the kernel.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) chain: &'static str,
    pub(super) expressions: Vec<Expression>,
    /// Tells the rule from every other: mark, key, number and a digest of the step.
    pub(super) label: String,
}

/// The rules of all packet steps of a plan, in the order they are to stand.
pub(super) fn of(cx: &ScopeContext, ops: &[NetworkOp]) -> Vec<Rule> {
    let mut filters: Vec<&NetworkOp> = ops.iter().collect();
    filters.sort_by_key(|op| match op {
        NetworkOp::Filter(filter) => filter.priority,
        _ => 0,
    });
    filters
        .into_iter()
        .flat_map(|op| labelled(cx, op))
        .collect()
}

fn labelled(cx: &ScopeContext, op: &NetworkOp) -> Vec<Rule> {
    let bodies = match op {
        NetworkOp::Masquerade { src, except } => {
            vec![("postrouting", masquerade_rule(*src, except))]
        }
        NetworkOp::Forward(forward) => forward_rules(forward),
        NetworkOp::Filter(filter) => filter_rules(filter),
        _ => return Vec::new(),
    };
    // Serialising plain data cannot fail; without a digest the label would only be less exact.
    let digest = Sha256::digest(serde_json::to_vec(op).unwrap_or_default());
    let digest = hex::encode(digest.get(..6).unwrap_or_default());
    let mark = cx.mark();
    bodies
        .into_iter()
        .enumerate()
        .map(|(number, (chain, expressions))| Rule {
            chain,
            expressions,
            label: format!("{mark} {} {number} {digest}", op.key().replace(' ', "_")),
        })
        .collect()
}

fn masquerade_rule(src: IpNet, except: &[IpNet]) -> Vec<Expression> {
    let mut list: Vec<Expression> = family(src.addr()).into();
    list.extend(address(Side::Source, Compare::Equal, src));
    let same_family = |net: &&IpNet| net.addr().is_ipv4() == src.addr().is_ipv4();
    for net in except.iter().filter(same_family) {
        list.extend(address(Side::Destination, Compare::NotEqual, *net));
    }
    list.push(masquerade());
    list
}

fn number_of(kind: Protocol) -> Option<u8> {
    match kind {
        Protocol::Any => None,
        Protocol::Tcp => Some(6),
        Protocol::Udp => Some(17),
        Protocol::Sctp => Some(132),
        Protocol::Icmp => Some(1),
    }
}

type Body = (&'static str, Vec<Expression>);

/// From outside, from the node itself, and back from the pod to itself.
fn forward_rules(forward: &Forward) -> Vec<Body> {
    let mut select: Vec<Expression> = family(forward.to_ip).into();
    match forward.host_ip.filter(|ip| !ip.is_unspecified()) {
        Some(ip) => select.extend(address(Side::Destination, Compare::Equal, ip.into())),
        None => select.extend(to_this_node()),
    }
    if let Some(number) = number_of(forward.protocol) {
        select.extend(protocol(number));
    }
    select.extend(port(forward.host_port, forward.host_port));
    let mut from_node = select.clone();
    if forward.to_ip.is_ipv4() {
        // Loopback addresses never leave the node, so they cannot be sent on.
        from_node.extend(address(Side::Destination, Compare::NotEqual, loopback()));
    }
    let target = redirect(forward.to_ip, forward.to_port);
    select.extend(target.clone());
    from_node.extend(target);
    let own: IpNet = forward.to_ip.into();
    let mut hairpin: Vec<Expression> = family(forward.to_ip).into();
    hairpin.extend(address(Side::Source, Compare::Equal, own));
    hairpin.extend(address(Side::Destination, Compare::Equal, own));
    hairpin.push(masquerade());
    vec![
        ("prerouting", select),
        ("output-nat", from_node),
        ("postrouting", hairpin),
    ]
}

pub(super) fn loopback() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::new_assert(
        std::net::Ipv4Addr::new(127, 0, 0, 0),
        8,
    ))
}

/// One rule for each combination of source, destination and port range.
fn filter_rules(filter: &Filter) -> Vec<Body> {
    let chain = match filter.hook {
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
    };
    let some = |list: &[IpNet]| -> Vec<Option<IpNet>> {
        if list.is_empty() {
            vec![None]
        } else {
            list.iter().copied().map(Some).collect()
        }
    };
    let ports: Vec<Option<(u16, u16)>> = if filter.ports.is_empty() {
        vec![None]
    } else {
        filter.ports.iter().copied().map(Some).collect()
    };
    let mut bodies = Vec::new();
    for src in some(&filter.src) {
        for dst in some(&filter.dst) {
            let family_of = |net: Option<IpNet>| net.map(|net| net.addr().is_ipv4());
            if let (Some(a), Some(b)) = (family_of(src), family_of(dst))
                && a != b
            {
                continue;
            }
            for range in &ports {
                bodies.push((chain, filter_rule(filter, src, dst, *range)));
            }
        }
    }
    bodies
}

fn filter_rule(
    filter: &Filter,
    src: Option<IpNet>,
    dst: Option<IpNet>,
    range: Option<(u16, u16)>,
) -> Vec<Expression> {
    let mut list = Vec::new();
    let either: Option<IpAddr> = src.or(dst).map(|net| net.addr());
    list.extend(either.into_iter().flat_map(family));
    list.extend(filter.iif.iter().flat_map(|name| link(true, name)));
    list.extend(filter.oif.iter().flat_map(|name| link(false, name)));
    list.extend(
        src.into_iter()
            .flat_map(|net| address(Side::Source, Compare::Equal, net)),
    );
    list.extend(
        dst.into_iter()
            .flat_map(|net| address(Side::Destination, Compare::Equal, net)),
    );
    list.extend(number_of(filter.protocol).into_iter().flat_map(protocol));
    list.extend(range.into_iter().flat_map(|(from, to)| port(from, to)));
    list.push(match filter.verdict {
        Verdict::Accept => accept(),
        Verdict::Drop => drop_packet(),
        Verdict::Reject => reject(),
    });
    list
}

#[cfg(test)]
mod tests {
    use davit_plugins::plan::ScopeId;

    use super::*;

    fn context() -> ScopeContext {
        ScopeContext {
            scope: ScopeId::node("pods"),
            driver: "bridge".into(),
            netns: None,
        }
    }

    fn filter(src: &[&str], dst: &[&str], ports: &[(u16, u16)]) -> NetworkOp {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
        NetworkOp::Filter(Filter {
            key: "f".into(),
            hook: Hook::Forward,
            priority: 0,
            protocol: Protocol::Tcp,
            src: nets(src),
            dst: nets(dst),
            ports: ports.to_vec(),
            iif: None,
            oif: None,
            verdict: Verdict::Drop,
        })
    }

    #[test]
    fn filters_multiply_within_a_family() {
        let op = filter(
            &["10.0.0.0/8", "fd00::/8"],
            &["10.1.0.0/16", "fd01::/16"],
            &[(1, 2), (5, 5)],
        );
        assert_eq!(of(&context(), &[op]).len(), 4);
        assert_eq!(of(&context(), &[filter(&[], &[], &[])]).len(), 1);
    }

    #[test]
    fn labels_tell_steps_apart_by_value() {
        let masquerade = |except: &[&str]| NetworkOp::Masquerade {
            src: "10.0.0.0/8".parse().unwrap(),
            except: except.iter().map(|net| net.parse().unwrap()).collect(),
        };
        let one = of(&context(), &[masquerade(&[])]);
        let other = of(&context(), &[masquerade(&["10.0.0.0/8"])]);
        assert!(
            one[0]
                .label
                .starts_with("davit:bridge:node/pods masquerade/10.0.0.0/8 0 ")
        );
        assert_ne!(one[0].label, other[0].label);
        assert_eq!(one[0].label, of(&context(), &[masquerade(&[])])[0].label);
    }
}
