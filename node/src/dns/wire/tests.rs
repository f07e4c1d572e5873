//! Messages there and back.
use proptest::prelude::*;

use super::*;

fn ask(name: &str, kind: u16) -> Query {
    Query::read(&question(7, name, kind).unwrap()).unwrap()
}

fn a(name: &str, last: u8) -> Record {
    let data = Data::A([10, 0, 0, last].into());
    Record {
        name: name.into(),
        ttl: 30,
        data,
    }
}

fn found(answers: Vec<Record>) -> Response {
    let mut response = Response::empty(Code::NoError);
    (response.answers, response.authoritative) = (answers, true);
    response
}

#[test]
fn a_question_is_answered_in_its_own_spelling() {
    let mut sent = question(7, "Kubernetes.default", kind::A).unwrap();
    sent[12 + 1] = b'K';
    let query = Query::read(&sent).unwrap();
    assert_eq!(
        (query.name.as_str(), query.kind, query.class),
        ("kubernetes.default", 1, 1)
    );
    let alias = Record {
        name: query.name.clone(),
        ttl: 5,
        data: Data::Cname("real.default".into()),
    };
    let reply = query.reply(&found(vec![alias.clone(), a("real.default", 1)]), 512);
    assert!(is_answer(&reply, &sent) && !is_cut(&reply));
    assert_eq!(reply[13], b'K');
    assert_eq!(
        reply[2..4],
        [0x85, 0x80],
        "an authoritative answer, recursion as asked"
    );
    let read = answers_of(&reply).unwrap();
    assert_eq!(
        read,
        Upstreams {
            code: Code::NoError,
            records: vec![alias, a("real.default", 1)]
        }
    );
    // head, question, alias by reference to the question, address by reference to the alias, extensions.
    let expected = 12 + (20 + 4) + (2 + 10 + 7) + (2 + 10 + 4) + 11;
    assert_eq!(reply.len(), expected);
}

#[test]
fn what_does_not_fit_is_left_out_and_told() {
    let query = ask("x.default", kind::A);
    let many: Vec<_> = (0..100).map(|n| a("x.default", n)).collect();
    let reply = query.reply(&found(many.clone()), 512);
    assert!(reply.len() <= 512 && is_cut(&reply));
    let kept = answers_of(&reply).unwrap().records;
    assert_eq!(kept, many[..kept.len()]);
    let mut more = found(many[..20].to_vec());
    more.additional = many;
    let reply = query.reply(&more, 512);
    assert!(
        reply.len() <= 512 && !is_cut(&reply),
        "only the answer itself counts"
    );
    assert_eq!(query.udp_bytes(), 1232);
}

#[test]
fn a_name_that_cannot_be_sent_is_left_out() {
    let long = "a".repeat(64);
    let bad = Record {
        name: "x".into(),
        ttl: 1,
        data: Data::Cname(long.clone()),
    };
    let reply = ask("x", kind::A).reply(&found(vec![bad, a("x", 1)]), 512);
    assert_eq!(answers_of(&reply).unwrap().records, [a("x", 1)]);
    for name in [&*long, "a..b", &"a.".repeat(128), "a\\1"] {
        assert!(question(1, name, 1).is_none(), "{name}");
    }
}

#[test]
fn what_is_no_question_is_refused_or_passed_over() {
    let sent = question(7, "a.b", kind::A).unwrap();
    let code = |packet: &[u8]| Query::read(packet).unwrap_err().map(|reply| reply[3] & 0xf);
    let changed = |at: usize, byte: u8| {
        let mut packet = sent.clone();
        packet[at] = byte;
        packet
    };
    assert_eq!(code(&sent[..11]), None, "no head");
    assert_eq!(code(&changed(2, 0x81)), None, "an answer");
    assert_eq!(code(&changed(2, 0x21)), Some(4), "another operation");
    assert_eq!(code(&changed(5, 2)), Some(1), "two questions");
    assert_eq!(
        code(&changed(12, 0xc0)),
        Some(1),
        "a reference in the question"
    );
    assert_eq!(code(&changed(12, 0x40)), Some(1), "no label");
    assert_eq!(code(&sent[..sent.len() - 1]), Some(1), "cut");
    let mut twice = sent.clone();
    twice[11] = 2;
    twice.extend_from_slice(&sent[sent.len() - 11..]);
    assert_eq!(code(&twice), Some(1), "extensions twice");
}

#[test]
fn references_end() {
    // A name at 12 that refers to itself, and two that refer to each other.
    let head = [0, 1, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    for names in [&[0xc0, 12][..], &[0xc0, 14, 0xc0, 12]] {
        let packet = [&head[..], names, &[0; 20]].concat();
        assert_eq!(answers_of(&packet), None);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(packet in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(lifetime) = lifetime(&packet) {
            prop_assert_eq!(lifetime.aged(packet.clone(), 1).len(), packet.len());
        }
        let _ = Query::read(&packet);
        let _ = answers_of(&packet);
        let _ = is_answer(&packet, &packet);
    }

    #[test]
    fn a_damaged_answer_is_read_without_harm(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let query = ask("x.default.svc", kind::A);
        let alias = Record { name: "x.default.svc".into(), ttl: 1, data: Data::Cname("y.svc".into()) };
        let mut reply = query.reply(&found(vec![alias, a("y.svc", 1)]), 512);
        let at = at.index(reply.len());
        reply[at] = byte;
        let _ = answers_of(&reply);
    }

    #[test]
    fn names_come_back(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..8)) {
        let mut packet = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0].to_vec();
        for label in &labels {
            packet.push(label.len() as u8);
            packet.extend(label);
        }
        packet.extend([0, 0, 1, 0, 1]);
        let query = Query::read(&packet).unwrap();
        let again = Query::read(&question(7, &query.name, 1).unwrap()).unwrap();
        prop_assert_eq!(&query.name, &again.name);
        let reply = query.reply(&found(vec![a(&query.name, 9)]), 512);
        prop_assert_eq!(&answers_of(&reply).unwrap().records[0].name, &query.name);
    }
}
