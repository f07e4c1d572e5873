//! Classification by the suggested objects, and seats under load.

use std::sync::Arc;

use serde_json::json;

use super::seats::{Limits, Outcome, Permit, Refusal, Seats};
use super::table::Table;
use super::{FLOW_SCHEMAS, PRIORITY_LEVELS, objects};
use crate::auth::memory::Memory;
use crate::auth::{Attributes, ResourceAttributes, UserInfo, groups};

fn source() -> Arc<Memory> {
    Memory::with(objects().into_iter().map(|object| {
        let schemas = object.plural == FLOW_SCHEMAS.plural;
        let kind = if schemas {
            FLOW_SCHEMAS
        } else {
            PRIORITY_LEVELS
        };
        let mut value = object.object;
        value["metadata"]["uid"] = value["metadata"]["name"].clone();
        (kind, value)
    }))
}

fn classified(table: &Table, user: &UserInfo, attributes: &Attributes<'_>) -> (String, String) {
    let flow = table.classify(user, attributes);
    let schema = flow.schema.uid.to_str().unwrap().to_owned();
    (schema, flow.level.name.clone())
}

#[test]
fn the_suggested_schemas_classify_as_in_kubernetes() {
    let table = Table::read(&*source(), &Table::default());
    let resource = |verb, group, resource, namespace| {
        let target = ResourceAttributes {
            group,
            version: "v1",
            resource,
            namespace,
            ..Default::default()
        };
        Attributes::resource(verb, target)
    };
    let pods = resource("list", "", "pods", "a");
    let cluster_pods = resource("list", "", "pods", "");
    let lease = resource("update", "coordination.k8s.io", "leases", "kube-system");
    let node = resource("patch", "", "nodes", "");
    let bob = UserInfo::new("bob", Vec::<String>::new());
    let cases = [
        (
            UserInfo::new("admin", [groups::MASTERS]),
            pods,
            "exempt",
            "exempt",
        ),
        (bob.clone(), pods, "global-default", "global-default"),
        (
            bob.clone(),
            cluster_pods,
            "global-default",
            "global-default",
        ),
        (bob, Attributes::path("get", "/readyz"), "probes", "exempt"),
        (
            UserInfo::anonymous(),
            Attributes::path("get", "/version"),
            "global-default",
            "global-default",
        ),
        (UserInfo::node("n"), pods, "system-nodes", "system"),
        (UserInfo::node("n"), node, "system-node-high", "node-high"),
        (
            UserInfo::service_account("kube-system", "x"),
            lease,
            "system-leader-election",
            "leader-election",
        ),
        (
            UserInfo::service_account("kube-system", "x"),
            pods,
            "kube-system-service-accounts",
            "workload-high",
        ),
        (
            UserInfo::service_account("a", "x"),
            pods,
            "service-accounts",
            "workload-low",
        ),
        (
            UserInfo::new("system:kube-scheduler", Vec::<String>::new()),
            pods,
            "kube-scheduler",
            "workload-high",
        ),
        (UserInfo::default(), pods, "catch-all", "catch-all"),
    ];
    for (user, attributes, schema, level) in cases {
        let found = classified(&table, &user, &attributes);
        assert_eq!(
            found,
            (schema.to_owned(), level.to_owned()),
            "{} {attributes:?}",
            user.name
        );
    }
}

#[test]
fn precedence_decides_and_a_schema_without_level_does_not_count() {
    let source = source();
    let schema = |name: &str, precedence: i32, level: &str| {
        json!({ "metadata": { "name": name, "uid": name }, "spec": {
            "matchingPrecedence": precedence, "priorityLevelConfiguration": { "name": level },
            "rules": [{ "subjects": [{ "kind": "User", "user": { "name": "bob" } }], "resourceRules": [
                { "verbs": ["list"], "apiGroups": ["*"], "resources": ["pods"], "namespaces": ["a"] },
            ]}],
        }})
    };
    source.put(FLOW_SCHEMAS, &schema("dangling", 3, "none"));
    source.put(FLOW_SCHEMAS, &schema("z", 50, "system"));
    source.put(FLOW_SCHEMAS, &schema("b", 40, "workload-low"));
    let table = Table::read(&*source, &Table::default());
    let bob = UserInfo::new("bob", Vec::<String>::new());
    let list = |resource, namespace| {
        let target = ResourceAttributes {
            resource,
            namespace,
            version: "v1",
            ..Default::default()
        };
        Attributes::resource("list", target)
    };
    let schema = |attributes| classified(&table, &bob, &attributes).0;
    assert_eq!(schema(list("pods", "a")), "b");
    assert_eq!(schema(list("pods", "c")), "global-default");
    assert_eq!(schema(list("pods", "")), "global-default");
    assert_eq!(schema(list("secrets", "a")), "global-default");
}

const PLAIN: Limits = Limits {
    shares: 1,
    lendable_percent: 0,
    borrowing_percent: None,
    queues: 0,
    hand: 0,
    queue_length: 0,
};

fn seats(total: u32, levels: &[(&'static str, Limits)]) -> Arc<Seats> {
    let seats = Arc::new(Seats::new(total));
    seats.configure(levels.iter().copied());
    seats
}

fn seated(seats: &Arc<Seats>, level: &str) -> Permit {
    match seats.take(level, 0, 1) {
        Outcome::Seated(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn refused(seats: &Arc<Seats>, level: &str) -> Refusal {
    match seats.take(level, 0, 1) {
        Outcome::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn seats_are_shared_out_and_come_back() {
    let seats = seats(4, &[("a", PLAIN), ("b", PLAIN)]);
    let first = seated(&seats, "a");
    let _second = seated(&seats, "a");
    assert_eq!(refused(&seats, "a"), Refusal::NoSeat);
    let _other = seated(&seats, "b");
    drop(first);
    drop(seated(&seats, "a"));
}

#[test]
fn idle_seats_are_lent_within_limits_and_taken_back_at_once() {
    let lender = Limits {
        lendable_percent: 50,
        ..PLAIN
    };
    let levels = [
        ("a", PLAIN),
        ("b", lender),
        (
            "c",
            Limits {
                borrowing_percent: Some(0),
                ..PLAIN
            },
        ),
    ];
    let seats = seats(12, &levels);
    let mut held: Vec<_> = (0..6).map(|_| seated(&seats, "a")).collect();
    assert_eq!(refused(&seats, "a"), Refusal::NoSeat);
    held.extend((0..4).map(|_| seated(&seats, "c")));
    assert_eq!(refused(&seats, "c"), Refusal::NoSeat);
    held.extend((0..4).map(|_| seated(&seats, "b")));
    assert_eq!(refused(&seats, "b"), Refusal::NoSeat);
    drop(held);
    held = (0..6).map(|_| seated(&seats, "a")).collect();
    assert_eq!(held.len(), 6);
}

#[test]
fn flows_wait_in_queues_and_take_turns() {
    let limits = Limits {
        queues: 64,
        hand: 1,
        queue_length: 3,
        ..PLAIN
    };
    let seats = seats(1, &[("a", limits)]);
    let mut seat = Some(seated(&seats, "a"));
    let queue = |hash| match seats.take("a", hash, 1) {
        Outcome::Queued(turn) => turn,
        other => panic!("{other:?}"),
    };
    let mut busy: Vec<_> = (0..3).map(|_| queue(1)).collect();
    assert!(matches!(
        seats.take("a", 1, 1),
        Outcome::Refused(Refusal::QueueFull)
    ));
    let mut quiet = queue(2);
    // Somebody who gave up makes room, and costs no turn.
    drop(busy.remove(1));
    busy.push(queue(1));
    let mut order = Vec::new();
    for _ in 0..4 {
        drop(seat.take());
        for (at, turn) in busy.iter_mut().chain([&mut quiet]).enumerate() {
            if let Ok(permit) = turn.try_recv() {
                order.push(at);
                seat = Some(permit);
            }
        }
    }
    assert_eq!(order, [0, 3, 1, 2]);
    drop(seat);
    drop(seated(&seats, "a"));
}

#[test]
fn wide_requests_take_more_seats_but_never_a_whole_level() {
    let limits = Limits {
        queues: 1,
        hand: 1,
        queue_length: 9,
        ..PLAIN
    };
    let seats = seats(40, &[("a", limits), ("b", PLAIN)]);
    let executing = || {
        let gauges = seats.gauges();
        let of = |name: &str| {
            let gauge = gauges.iter().find(|(have, _)| have.ends_with(name));
            gauge.unwrap().1[0].1
        };
        (of("executing_seats"), of("executing_requests"))
    };
    let take = |width| match seats.take("a", 0, width) {
        Outcome::Seated(permit) => permit,
        other => panic!("{other:?}"),
    };
    let mut held: Vec<_> = (0..6).map(|_| take(10)).collect();
    assert_eq!(executing(), (18, 6));
    // Three seats are not left; whoever comes later waits behind, even if it needs only one.
    let Outcome::Queued(mut wide) = seats.take("a", 0, 3) else {
        panic!("no place in the queue");
    };
    let Outcome::Queued(mut narrow) = seats.take("a", 0, 1) else {
        panic!("it got ahead");
    };
    held.pop();
    let served = [wide.try_recv().unwrap(), narrow.try_recv().unwrap()];
    assert_eq!(executing(), (19, 7));
    drop((held, served));
    assert_eq!(executing(), (0, 0));
}
