//! Order, edges, exclusions and exhaustion.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

fn pools(slices: &[&str], exclude: &[&str]) -> Pools {
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
    Pools {
        network: "lan".into(),
        slices: nets(slices),
        exclude: nets(exclude),
    }
}

fn scope(n: u32) -> ScopeId {
    ScopeId::net(&format!("pod-{n}"), "eth0")
}

fn take(book: &mut LeaseBook, pools: &Pools, n: u32) -> Result<String, LeaseError> {
    book.reserve(pools, "default", "eth0", None, &scope(n))
        .map(|l| l.address.addr().to_string())
}

#[test]
fn lowest_free_after_the_last() {
    let pools = pools(&["10.0.0.0/29"], &[]);
    let mut book = LeaseBook::default();
    let first = book
        .reserve(&pools, "ipv4", "eth0", None, &scope(1))
        .unwrap();
    assert_eq!(first.address.to_string(), "10.0.0.2/29");
    assert_eq!(first.gateway, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(take(&mut book, &pools, 2).unwrap(), "10.0.0.3");
    book.free_lease(&first, &scope(1));
    for expected in ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"] {
        assert_eq!(take(&mut book, &pools, 9).unwrap(), expected);
    }
    let error = take(&mut book, &pools, 9).unwrap_err();
    assert!(error.to_string().contains("no address is free"), "{error}");
}

#[test]
fn a_restart_goes_on_after_the_last() {
    let pools = pools(&["10.0.0.0/24"], &[]);
    let mut book = LeaseBook::default();
    let leases: Vec<Lease> = (0..3)
        .map(|n| book.reserve(&pools, "ipv4", "t", None, &scope(n)).unwrap())
        .collect();
    let mut after = LeaseBook::default();
    for (n, lease) in leases.iter().enumerate().rev() {
        after.hold(lease, &scope(n as u32));
    }
    assert_eq!(take(&mut after, &pools, 7).unwrap(), "10.0.0.5");
}

#[test]
fn exclusions_and_edges() {
    let some = pools(&["10.0.0.0/28"], &["10.0.0.0/29", "10.0.0.9/32"]);
    let mut book = LeaseBook::default();
    assert_eq!(take(&mut book, &some, 1).unwrap(), "10.0.0.8");
    assert_eq!(take(&mut book, &some, 2).unwrap(), "10.0.0.10");
    assert!(some.is_reserved("10.0.0.1".parse().unwrap()));
    assert!(some.is_reserved("10.0.0.15".parse().unwrap()));
    assert!(some.is_reserved("10.0.0.9".parse().unwrap()));
    assert!(!some.is_reserved("10.0.0.11".parse().unwrap()));
    let point = pools(&["10.0.0.4/31"], &[]);
    assert_eq!(take(&mut book, &point, 3).unwrap(), "10.0.0.4");
    assert_eq!(take(&mut book, &point, 4).unwrap(), "10.0.0.5");
    let all = pools(&["10.1.0.0/24"], &["10.0.0.0/8"]);
    assert!(take(&mut book, &all, 5).is_err());
    let top = pools(&["255.255.255.0/24"], &["255.255.255.0/24"]);
    assert!(take(&mut book, &top, 6).is_err());
}

#[test]
fn both_families_and_several_slices() {
    let pools = pools(&["10.0.0.0/30", "10.0.1.0/30", "fd00::/64"], &[]);
    let mut book = LeaseBook::default();
    assert_eq!(take(&mut book, &pools, 1).unwrap(), "10.0.0.2");
    assert_eq!(take(&mut book, &pools, 2).unwrap(), "10.0.1.2");
    assert!(take(&mut book, &pools, 3).is_err());
    let six = book
        .reserve(&pools, "ipv6", "eth0", None, &scope(1))
        .unwrap();
    assert_eq!(six.address.to_string(), "fd00::2/64");
    assert_eq!(six.gateway, Some("fd00::1".parse().unwrap()));
    let error = book
        .reserve(&pools, "blue", "eth0", None, &scope(1))
        .unwrap_err();
    assert!(
        error.to_string().contains("has no pool \"blue\""),
        "{error}"
    );
    assert_eq!(book.used_in("lan", &"10.0.0.0/30".parse().unwrap()), 1);
}

#[test]
fn certain_addresses() {
    let pools = pools(&["10.0.0.0/24"], &["10.0.0.200/32"]);
    let mut book = LeaseBook::default();
    let mut want = |ip: &str, n: u32| {
        book.reserve(&pools, "ipv4", "eth0", Some(ip.parse().unwrap()), &scope(n))
    };
    assert!(want("10.0.0.77", 1).is_ok());
    assert!(want("10.0.0.77", 1).is_ok(), "the same scope asks again");
    assert!(matches!(
        want("10.0.0.77", 2),
        Err(LeaseError::Taken { .. })
    ));
    for ip in ["10.0.0.1", "10.0.0.200", "10.0.0.255", "10.9.0.1"] {
        assert!(
            matches!(want(ip, 1), Err(LeaseError::Outside { .. })),
            "{ip}"
        );
    }
}

proptest! {
    #[test]
    fn no_address_is_held_twice(
        length in 26_u8..=30, steps in prop::collection::vec((0_u32..6, any::<bool>()), 1..80),
    ) {
        let slice: IpNet = format!("10.0.0.0/{length}").parse().unwrap();
        let pools = Pools { network: "lan".into(), slices: vec![slice], exclude: vec![] };
        let mut book = LeaseBook::default();
        let mut held: Vec<(u32, Lease)> = Vec::new();
        for (n, add) in steps {
            if add {
                match book.reserve(&pools, "ipv4", "t", None, &scope(n)) {
                    Ok(lease) => held.push((n, lease)),
                    Err(_) => prop_assert_eq!(held.len() as u32, (1 << (32 - length)) - 3),
                }
            } else if let Some(at) = held.iter().position(|(holder, _)| *holder == n) {
                let (n, lease) = held.remove(at);
                book.free_lease(&lease, &scope(n));
            }
            let distinct: HashSet<_> = held.iter().map(|(_, l)| l.address).collect();
            prop_assert_eq!(distinct.len(), held.len());
            prop_assert_eq!(book.used_in("lan", &slice), held.len() as u64);
        }
    }
}
