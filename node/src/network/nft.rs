//! Packet rules of plans in nftables, spoken over netlink from this process: one table a driver,
//! each rule carrying the mark of its scope, every change of a list in one transaction.

mod affinity;
pub(crate) mod conntrack;
mod expression;
mod message;
mod rules;
pub(crate) mod services;
mod watch;
mod wire;

use std::collections::BTreeSet;

use davit_plugins::capabilities::{ActError, ActErrorKind, Drift, ScopeContext};
use davit_plugins::plan::NetworkOp;

use message::{Batch, KnownRule};
use rules::{CHAINS, Chain, Rule, loopback};
pub(crate) use watch::{Touched, Watch};

/// Start of the name of every table of ours.
const TABLE: &str = "davit-";

/// True for steps that are packet rules.
pub(super) fn is_rule(op: &NetworkOp) -> bool {
    matches!(
        op,
        NetworkOp::Masquerade { .. } | NetworkOp::Forward(_) | NetworkOp::Filter(_)
    )
}

/// Whether a table of this name has rules of a driver.
pub(crate) fn is_of_driver(table: &str) -> bool {
    table.starts_with(TABLE)
}

fn table_of(driver: &str) -> String {
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    };
    format!("{TABLE}{}", driver.chars().map(plain).collect::<String>())
}

/// Makes the scope's rules exactly those of the plan: missing ones are added, and those of the
/// scope that it no longer has are deleted, in one transaction.
pub(super) async fn replace(cx: &ScopeContext, ops: &[NetworkOp]) -> Result<(), ActError> {
    let (table, mark, wanted) = (table_of(&cx.driver), cx.mark(), rules::of(cx, ops));
    in_kernel(move |socket| {
        let known = message::rules(socket, &table)?;
        let mut batch = Batch::new();
        let have: BTreeSet<&str> = known
            .iter()
            .flatten()
            .map(|rule| rule.label.as_str())
            .collect();
        let missing: Vec<&Rule> = wanted
            .iter()
            .filter(|rule| !have.contains(rule.label.as_str()))
            .collect();
        if !missing.is_empty() {
            add_frame(&mut batch, &table);
            missing.iter().for_each(|rule| batch.add_rule(&table, rule));
        }
        for rule in known.iter().flatten().filter(|rule| rule.belongs_to(&mark)) {
            if !wanted.iter().any(|wanted| wanted.label == rule.label) {
                batch.delete_rule(&table, rule);
            }
        }
        batch.commit(socket)
    })
    .await
}

/// Deletes the scope's rules that these steps made, and the table with its last rule.
pub(super) async fn remove(cx: &ScopeContext, ops: &[NetworkOp]) -> Result<(), ActError> {
    let (table, unwanted) = (table_of(&cx.driver), rules::of(cx, ops));
    in_kernel(move |socket| {
        let Some(known) = message::rules(socket, &table)? else {
            return Ok(());
        };
        let doomed =
            |rule: &&KnownRule| unwanted.iter().any(|unwanted| unwanted.label == rule.label);
        delete(socket, &table, &known, doomed)
    })
    .await
}

/// The steps whose rules the kernel lacks.
pub(super) async fn missing(cx: &ScopeContext, ops: &[NetworkOp]) -> Result<Vec<Drift>, ActError> {
    if !ops.iter().any(is_rule) {
        return Ok(Vec::new());
    }
    let table = table_of(&cx.driver);
    let wanted: Vec<(usize, Vec<Rule>)> = ops
        .iter()
        .enumerate()
        .map(|(index, op)| (index, rules::of(cx, std::slice::from_ref(op))))
        .collect();
    in_kernel(move |socket| {
        let known = message::rules(socket, &table)?.unwrap_or_default();
        let lacks = |rule: &Rule| !known.iter().any(|known| known.label == rule.label);
        let drift = wanted.iter().filter(|(_, rules)| rules.iter().any(lacks));
        Ok(drift
            .map(|(index, _)| Drift {
                index: *index,
                what: "its packet rule is missing".into(),
            })
            .collect())
    })
    .await
}

/// Deletes the rules of scopes that `keep` does not know, in every table of ours.
pub(super) async fn collect(
    keep: &(dyn for<'a> Fn(&'a str) -> bool + Sync),
) -> Result<Vec<String>, ActError> {
    let tables = in_kernel(|socket| {
        let names = message::tables(socket)?;
        let ours = names.into_iter().filter(|name| is_of_driver(name));
        ours.map(|table| Ok((message::rules(socket, &table)?.unwrap_or_default(), table)))
            .collect::<std::io::Result<Vec<_>>>()
    })
    .await?;
    let mut removed = Vec::new();
    for (known, table) in tables {
        let doomed: BTreeSet<u64> = known
            .iter()
            .filter(|rule| !keep(rule.mark()))
            .map(|rule| rule.handle)
            .collect();
        removed.extend(
            known
                .iter()
                .filter(|rule| doomed.contains(&rule.handle))
                .map(|rule| rule.mark().to_owned()),
        );
        if !doomed.is_empty() || known.is_empty() {
            in_kernel(move |socket| {
                delete(socket, &table, &known, |rule| doomed.contains(&rule.handle))
            })
            .await?;
        }
    }
    Ok(removed)
}

/// Deletes some rules of a table; the table itself when none stays.
fn delete(
    socket: &mut wire::Socket,
    table: &str,
    known: &[KnownRule],
    doomed: impl Fn(&&KnownRule) -> bool,
) -> std::io::Result<()> {
    let mut batch = Batch::new();
    let gone: Vec<&KnownRule> = known.iter().filter(doomed).collect();
    if gone.len() == known.len() {
        batch.delete_table(table);
    } else {
        gone.iter().for_each(|rule| batch.delete_rule(table, rule));
    }
    batch.commit(socket)
}

/// The table and its base chains; making them again changes nothing.
fn add_frame(batch: &mut Batch, table: &str) {
    batch.add_table(table);
    CHAINS
        .iter()
        .for_each(|chain: &Chain| batch.add_chain(table, chain));
}

/// Netfilter's netlink has no asynchronous client here, and its answers come at once; a thread of
/// the blocking pool waits for them.
async fn in_kernel<T: Send + 'static>(
    work: impl FnOnce(&mut wire::Socket) -> std::io::Result<T> + Send + 'static,
) -> Result<T, ActError> {
    let done = tokio::task::spawn_blocking(move || work(&mut wire::Socket::open()?)).await;
    match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let unsupported = [libc::EOPNOTSUPP, libc::EPROTONOSUPPORT, libc::EAFNOSUPPORT];
            let kind = match error.raw_os_error() {
                Some(number) if unsupported.contains(&number) => ActErrorKind::Unsupported,
                _ => ActErrorKind::Failed,
            };
            Err(ActError::new(
                kind,
                format!("cannot change packet rules (nftables): {error}"),
            ))
        }
        Err(error) => Err(ActError::new(
            ActErrorKind::Failed,
            format!("packet rule task failed: {error}"),
        )),
    }
}

#[cfg(test)]
pub(super) async fn has_table(table: &'static str) -> bool {
    in_kernel(move |socket| Ok(message::tables(socket)?.iter().any(|name| name == table)))
        .await
        .unwrap()
}
