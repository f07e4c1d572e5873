//! Rules to BPF programs.
use std::collections::{BTreeMap, BTreeSet};

use caps::{Capability, CapsHashSet};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::Error;
use super::calls;
use super::restricted::{ABSENT, NAMESPACE_FLAGS, PERSONALITIES, REFUSED_FAMILIES, RESTRICTIONS};
use super::width::width;

/// Programs in the order of installing.
pub(super) type Programs = Vec<BpfProgram>;

/// Rules of one filter: for each system call the argument conditions, none meaning always.
pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

#[cfg(target_arch = "x86_64")]
const ARCH: (TargetArch, u32) = (TargetArch::x86_64, 0xC000_003E);
#[cfg(target_arch = "aarch64")]
const ARCH: (TargetArch, u32) = (TargetArch::aarch64, 0xC000_00B7);

/// Calls the default policy refuses to a container with these capabilities, whatever their arguments.
pub(super) fn refused_calls(capabilities: &CapsHashSet) -> BTreeSet<&'static str> {
    let lifted = |unless: &[Capability]| unless.iter().any(|cap| capabilities.contains(cap));
    RESTRICTIONS
        .iter()
        .filter(|restriction| !lifted(restriction.unless))
        .flat_map(|restriction| restriction.calls.iter().copied())
        .collect()
}

/// Whether the default policy looks at the arguments of this call.
pub(super) fn by_argument(name: &str, capabilities: &CapsHashSet) -> bool {
    match name {
        "personality" | "socket" => true,
        "clone" | "clone3" => !capabilities.contains(&Capability::CAP_SYS_ADMIN),
        _ => ABSENT.contains(&name),
    }
}

/// The default policy: a short list of refusals behind a guard that refuses everything unknown. Most calls run through
/// few instructions, and the kernel remembers which it need not filter at all.
pub(super) fn default_policy(capabilities: &CapsHashSet) -> Result<Programs, Error> {
    let mut rules = Rules::new();
    for name in refused_calls(capabilities) {
        rules.extend(calls::number(name).map(|number| (number, Vec::new())));
    }
    let admin = capabilities.contains(&Capability::CAP_SYS_ADMIN);
    if !admin {
        let flags = NAMESPACE_FLAGS.iter().map(|flag| {
            let flag = u64::from(flag.unsigned_abs());
            rule(vec![condition(
                "clone",
                0,
                SeccompCmpOp::MaskedEq(flag),
                flag,
            )?])
        });
        rules.insert(libc::SYS_clone, flags.collect::<Result<_, _>>()?);
    }
    let known = PERSONALITIES
        .iter()
        .map(|value| condition("personality", 0, SeccompCmpOp::Ne, *value));
    rules.insert(
        libc::SYS_personality,
        vec![rule(known.collect::<Result<_, _>>()?)?],
    );
    let families = REFUSED_FAMILIES.iter().map(|family| {
        let family = family.unsigned_abs().into();
        rule(vec![condition("socket", 0, SeccompCmpOp::Eq, family)?])
    });
    rules.insert(libc::SYS_socket, families.collect::<Result<_, _>>()?);

    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let absent = ABSENT.iter().chain((!admin).then_some(&"clone3"));
    let mut program = guard(absent.filter_map(|name| calls::number(name)));
    program.append(&mut filter(rules, SeccompAction::Allow, refused)?);
    Ok(vec![program])
}

/// One filter: `matched` for what the rules name, `otherwise` for the rest.
pub(super) fn filter(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Error> {
    SeccompFilter::new(rules, otherwise, matched, ARCH.0)
        .and_then(BpfProgram::try_from)
        .map_err(|e| Error::Compile(e.to_string()))
}

/// All conditions must hold.
pub(super) fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, Error> {
    SeccompRule::new(conditions).map_err(|e| Error::Compile(e.to_string()))
}

/// Compares one argument of a call, as much of its register as the kernel reads: what stands above an `int` means nothing to
/// the call, and so must not decide.
pub(super) fn condition(
    call: &str,
    argument: u8,
    op: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, Error> {
    let whole = || SeccompCondition::new(argument, SeccompCmpArgLen::Qword, op.clone(), value);
    let low = u64::from(u32::MAX);
    let made = match (width(call, argument), &op) {
        (SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask)) => SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::MaskedEq(mask & low),
            value & low,
        ),
        (SeccompCmpArgLen::Dword, _) if value <= low => {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op.clone(), value)
        }
        _ => whole(),
    };
    made.map_err(|e| Error::Compile(e.to_string()))
}

/// Answers `ENOSYS` to numbers that no known call has, and to the calls that are to look `absent`: `clone3`, whose flags lie
/// in memory where a filter cannot look, so that programs use `clone`. Everything else falls through to the instructions
/// that follow.
fn guard(absent: impl Iterator<Item = i64>) -> BpfProgram {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_GREATER: u16 = 0x25;
    const JUMP_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const ARCH_OFFSET: u32 = 4;
    const NUMBER_OFFSET: u32 = 0;
    let op = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let unknown = op(RETURN, 0, 0, 0x0005_0000 | libc::ENOSYS as u32);

    let mut body = vec![op(LOAD_WORD, 0, 0, NUMBER_OFFSET)];
    for (first, last) in unknown_numbers() {
        body.push(op(JUMP_AT_LEAST, 0, 2, first));
        body.push(op(JUMP_GREATER, 1, 0, last));
        body.push(unknown.clone());
    }
    for number in absent {
        body.push(op(JUMP_EQUAL, 0, 1, number as u32));
        body.push(unknown.clone());
    }
    let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
    let mut program = vec![
        op(LOAD_WORD, 0, 0, ARCH_OFFSET),
        // Another architecture's numbers mean other calls; the filter behind ends such a process.
        op(JUMP_EQUAL, 0, length, ARCH.1),
    ];
    program.append(&mut body);
    program
}

/// Ranges of numbers, both ends included, that no known call has.
fn unknown_numbers() -> Vec<(u32, u32)> {
    let known: BTreeSet<u32> = calls::all()
        .filter_map(|(_, number)| u32::try_from(number).ok())
        .collect();
    let mut ranges = Vec::new();
    let mut next = 0;
    for number in known {
        if number > next {
            ranges.push((next, number - 1));
        }
        next = number + 1;
    }
    ranges.push((next, u32::MAX));
    ranges
}
