//! Requests to nftables: reading tables and rules, and transactions that change them.

use std::io;

use super::affinity::ClientSet;
use super::expression::Expression;
use super::rules::{Chain, Rule};
use super::wire::{Attributes, Message, Socket, attributes};

pub(super) const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const GET_SET: u16 = 10;
const DELETE_SET: u16 = 11;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
pub(super) const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// The family that holds IPv4 and IPv6 alike.
const INET: u8 = 1;

/// Type of the user data entry that holds a comment, which is what `nft list` shows.
const COMMENT: u8 = 0;
const LONGEST_COMMENT: usize = 253;

/// A rule in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownRule {
    pub(super) chain: String,
    pub(super) handle: u64,
    /// Its comment: the scope's mark, the step's key and a digest; empty when it is not ours.
    pub(super) label: String,
}

impl KnownRule {
    /// The mark of the rule's scope.
    pub(super) fn mark(&self) -> &str {
        self.label.split(' ').next().unwrap_or_default()
    }

    pub(super) fn belongs_to(&self, mark: &str) -> bool {
        self.mark() == mark
    }
}

fn request(kind: u16, flags: u16, attributes: Attributes) -> Message {
    Message {
        type_: SUBSYSTEM << 8 | kind,
        flags: REQUEST | flags,
        family: INET,
        resource: 0,
        attributes,
    }
}

/// Names of all tables of the family.
pub(super) fn tables(socket: &mut Socket) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    socket.dump(&request(GET_TABLE, DUMP, Attributes::new()), |object| {
        names.extend(text(object, 1));
    })?;
    Ok(names)
}

/// Names of the chains of a table that packets come to only from others, and of its sets.
pub(super) fn chains_and_sets(
    socket: &mut Socket,
    table: &str,
) -> io::Result<(Vec<String>, Vec<String>)> {
    let filter = || Attributes::new().text(1, table);
    let is_here = |object: &[u8]| text(object, 1).as_deref() == Some(table);
    let (mut chains, mut sets) = (Vec::new(), Vec::new());
    socket.dump(&request(GET_CHAIN, DUMP, filter()), |object| {
        let is_plain = find(object, 4).is_none();
        chains.extend(text(object, 3).filter(|_| is_here(object) && is_plain));
    })?;
    socket.dump(&request(GET_SET, DUMP, filter()), |object| {
        sets.extend(text(object, 2).filter(|_| is_here(object)));
    })?;
    Ok((chains, sets))
}

/// The rules of a table, or `None` when there is no such table.
pub(super) fn rules(socket: &mut Socket, table: &str) -> io::Result<Option<Vec<KnownRule>>> {
    if !tables(socket)?.iter().any(|name| name == table) {
        return Ok(None);
    }
    let mut rules = Vec::new();
    let filter = Attributes::new().text(1, table);
    socket.dump(&request(GET_RULE, DUMP, filter), |object| {
        if text(object, 1).as_deref() == Some(table) {
            rules.push(KnownRule {
                chain: text(object, 2).unwrap_or_default(),
                handle: find(object, 3).map_or(0, long),
                label: find(object, 7).and_then(comment).unwrap_or_default(),
            });
        }
    })?;
    Ok(Some(rules))
}

pub(super) fn find(object: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(object)
        .find(|(type_, _)| *type_ == wanted)
        .map(|(_, value)| value)
}

pub(super) fn text(object: &[u8], wanted: u16) -> Option<String> {
    let value = find(object, wanted)?;
    let value = value.strip_suffix(&[0]).unwrap_or(value);
    Some(String::from_utf8_lossy(value).into_owned())
}

fn long(value: &[u8]) -> u64 {
    value.try_into().map_or(0, u64::from_be_bytes)
}

/// User data is a list of (type, length, value); the comment ends with a zero.
fn comment(data: &[u8]) -> Option<String> {
    let mut rest = data;
    while let [type_, length, tail @ ..] = rest {
        let value = tail.get(..usize::from(*length))?;
        if *type_ == COMMENT {
            let value = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(value).into_owned());
        }
        rest = tail.get(usize::from(*length)..)?;
    }
    None
}

fn user_data(label: &str) -> Vec<u8> {
    let text = label.as_bytes();
    let text = text.get(..LONGEST_COMMENT).unwrap_or(text);
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    let mut data = vec![COMMENT, length];
    data.extend_from_slice(text);
    data.push(0);
    data
}

/// A transaction: all of it happens, or nothing.
#[derive(Debug, Default)]
pub(super) struct Batch {
    messages: Vec<Message>,
    /// Chains and labels of the rules that are added.
    labels: Vec<(String, String)>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn add_table(&mut self, table: &str) {
        let attributes = Attributes::new().text(1, table).number(2, 0);
        self.messages.push(request(NEW_TABLE, CREATE, attributes));
    }

    pub(super) fn delete_table(&mut self, table: &str) {
        self.messages
            .push(request(DELETE_TABLE, 0, Attributes::new().text(1, table)));
    }

    /// Deletes all rules of a table.
    pub(super) fn delete_rules(&mut self, table: &str) {
        self.messages
            .push(request(DELETE_RULE, 0, Attributes::new().text(1, table)));
    }

    /// Deletes a chain that no rule leads to any more.
    pub(super) fn delete_chain(&mut self, table: &str, name: &str) {
        let attributes = Attributes::new().text(1, table).text(3, name);
        self.messages.push(request(DELETE_CHAIN, 0, attributes));
    }

    /// A set of clients; one that is there already keeps them.
    pub(super) fn add_clients(&mut self, table: &str, set: &ClientSet, number: u32) {
        // As `nft` numbers types, so that it can list them.
        let (kind, length) = if set.is_v4 { (7, 4) } else { (8, 16) };
        const MAY_END: u32 = 0x10;
        const BY_RULES: u32 = 0x20;
        let attributes = Attributes::new()
            .text(1, table)
            .text(2, &set.name)
            .number(3, MAY_END | BY_RULES)
            .number(4, kind)
            .number(5, length)
            .number(10, number)
            .long(11, u64::from(set.seconds) * 1000);
        self.messages.push(request(NEW_SET, CREATE, attributes));
    }

    /// Deletes a set that no rule asks any more.
    pub(super) fn delete_set(&mut self, table: &str, name: &str) {
        let attributes = Attributes::new().text(1, table).text(2, name);
        self.messages.push(request(DELETE_SET, 0, attributes));
    }

    pub(super) fn add_chain(&mut self, table: &str, chain: &Chain) {
        let hook = Attributes::new()
            .number(1, chain.hook)
            .bytes(2, &chain.priority.to_be_bytes());
        let attributes = Attributes::new()
            .text(1, table)
            .text(3, chain.name)
            .nest(4, &hook)
            .text(7, chain.kind);
        self.messages.push(request(NEW_CHAIN, CREATE, attributes));
    }

    /// A chain that packets come to only from other chains.
    pub(super) fn add_plain_chain(&mut self, table: &str, name: &str) {
        let attributes = Attributes::new().text(1, table).text(3, name);
        self.messages.push(request(NEW_CHAIN, CREATE, attributes));
    }

    pub(super) fn add_rule(&mut self, table: &str, rule: &Rule) {
        self.append(table, rule.chain, &rule.expressions, &rule.label);
    }

    /// Puts a rule at the end of a chain.
    pub(super) fn append(
        &mut self,
        table: &str,
        chain: &str,
        expressions: &[Expression],
        label: &str,
    ) {
        let data = user_data(label);
        self.labels
            .push((chain.to_owned(), comment(&data).unwrap_or_default()));
        let expressions = expressions
            .iter()
            .fold(Attributes::new(), |list, expression| {
                list.nest(1, expression)
            });
        let attributes = Attributes::new()
            .text(1, table)
            .text(2, chain)
            .nest(4, &expressions)
            .bytes(7, &data);
        self.messages
            .push(request(NEW_RULE, CREATE | APPEND, attributes));
    }

    /// Whether a table has the rules that are added, and no others.
    pub(super) fn is_done(&self, mut rules: Vec<KnownRule>) -> bool {
        let mut wanted = self.labels.clone();
        wanted.sort();
        rules.sort_by(|a, b| (&a.chain, &a.label).cmp(&(&b.chain, &b.label)));
        let have = rules.into_iter().map(|rule| (rule.chain, rule.label));
        have.eq(wanted)
    }

    pub(super) fn delete_rule(&mut self, table: &str, rule: &KnownRule) {
        let attributes = Attributes::new()
            .text(1, table)
            .text(2, &rule.chain)
            .long(3, rule.handle);
        self.messages.push(request(DELETE_RULE, 0, attributes));
    }

    /// Carries the transaction out; an empty one does nothing.
    pub(super) fn commit(mut self, socket: &mut Socket) -> io::Result<()> {
        let Some(last) = self.messages.last_mut() else {
            return Ok(());
        };
        last.flags |= ACK;
        let marker = |type_| Message {
            type_,
            flags: REQUEST,
            family: 0,
            resource: SUBSYSTEM,
            attributes: Attributes::new(),
        };
        let acknowledged = self.messages.len();
        self.messages.insert(0, marker(BATCH_BEGIN));
        self.messages.push(marker(BATCH_END));
        socket.transact(&self.messages, acknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_survive_a_round_trip() {
        let label = "davit:bridge:node/pods masquerade/10.0.0.0/8 0123";
        assert_eq!(comment(&user_data(label)).as_deref(), Some(label));
        assert_eq!(comment(&[9, 200, 1]), None);
        assert_eq!(comment(&[]), None);
        let rule = KnownRule {
            chain: "c".into(),
            handle: 1,
            label: label.into(),
        };
        assert!(rule.belongs_to("davit:bridge:node/pods"));
        assert!(!rule.belongs_to("davit:bridge:node/pod"));
    }
}
