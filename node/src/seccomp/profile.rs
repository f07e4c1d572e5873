//! Profiles in the JSON that Docker and the OCI runtime spec share.
use caps::CapsHashSet;
use seccompiler::{SeccompAction, SeccompCmpOp, SeccompRule};
use serde::Deserialize;

use super::compile::{Programs, Rules, condition, filter, rule};
use super::{Error, calls};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: Option<String>,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Circumstances,
    #[serde(default)]
    excludes: Circumstances,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
struct Circumstances {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

/// Compiles a profile for a container with these capabilities.
pub(super) fn compile(
    json: &serde_json::Value,
    capabilities: &CapsHashSet,
) -> Result<Programs, Error> {
    let profile = Profile::deserialize(json).map_err(|error| Error::Shape(error.to_string()))?;
    let Some(default) = &profile.default_action else {
        return Err(Error::Empty);
    };
    let default = action(default, profile.default_errno_ret)?;
    let entries: Vec<&Entry> = profile
        .syscalls
        .iter()
        .filter(|entry| entry.applies(capabilities))
        .collect();

    // One filter can only tell two actions apart. The first lets through whatever has an action of its own; each
    // further one knows a single action and lets all else through; the strictest answer wins.
    let mut own: Vec<(SeccompAction, Rules)> = Vec::new();
    let mut passed = Rules::new();
    for entry in &entries {
        let wanted = action(&entry.action, entry.errno_ret)?;
        if wanted == default {
            continue;
        }
        entry.add_to(&mut passed)?;
        if wanted != SeccompAction::Allow {
            if !own.iter().any(|(known, _)| *known == wanted) {
                own.push((wanted.clone(), Rules::new()));
            }
            for (_, rules) in own.iter_mut().filter(|(known, _)| *known == wanted) {
                entry.add_to(rules)?;
            }
        }
    }
    let mut programs = Programs::new();
    if default != SeccompAction::Allow {
        programs.push(filter(passed, default, SeccompAction::Allow)?);
    }
    for (wanted, rules) in own {
        programs.push(filter(rules, SeccompAction::Allow, wanted)?);
    }
    Ok(programs)
}

impl Entry {
    fn applies(&self, capabilities: &CapsHashSet) -> bool {
        let has = |name: &String| name.parse().is_ok_and(|cap| capabilities.contains(&cap));
        let here = |arch: &String| {
            let arch = arch.as_str();
            match std::env::consts::ARCH {
                "x86_64" => matches!(arch, "amd64" | "x86_64" | "SCMP_ARCH_X86_64"),
                "aarch64" => matches!(arch, "arm64" | "aarch64" | "SCMP_ARCH_AARCH64"),
                other => arch == other,
            }
        };
        let included = self.includes.caps.iter().all(has)
            && (self.includes.arches.is_empty() || self.includes.arches.iter().any(here));
        let excluded = self.excludes.caps.iter().any(has) || self.excludes.arches.iter().any(here);
        included && !excluded
    }

    /// Adds this entry's calls; names this architecture does not have are passed over, as other runtimes do.
    fn add_to(&self, rules: &mut Rules) -> Result<(), Error> {
        for name in self.names.iter().chain(&self.name) {
            let Some(number) = calls::number(name) else {
                continue;
            };
            let conditions = self.conditions(name)?;
            match rules.entry(number) {
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(conditions);
                }
                std::collections::btree_map::Entry::Occupied(mut occupied) => {
                    // No condition at all means always, and stays so.
                    if conditions.is_empty() {
                        occupied.get_mut().clear();
                    } else if !occupied.get().is_empty() {
                        occupied.get_mut().extend(conditions);
                    }
                }
            }
        }
        Ok(())
    }

    /// Conditions on different arguments must all hold; several on one argument are alternatives.
    fn conditions(&self, call: &str) -> Result<Vec<SeccompRule>, Error> {
        let arguments = self.args.as_deref().unwrap_or_default();
        if arguments.is_empty() {
            return Ok(Vec::new());
        }
        let conditions = arguments
            .iter()
            .map(|argument| argument.condition(call))
            .collect::<Result<Vec<_>, Error>>()?;
        let repeated = arguments
            .iter()
            .enumerate()
            .any(|(i, a)| arguments.iter().skip(i + 1).any(|b| a.index == b.index));
        if repeated {
            conditions.into_iter().map(|one| rule(vec![one])).collect()
        } else {
            Ok(vec![rule(conditions)?])
        }
    }
}

impl Argument {
    fn condition(&self, call: &str) -> Result<seccompiler::SeccompCondition, Error> {
        let (op, value) = match self.op.as_str() {
            "SCMP_CMP_NE" => (SeccompCmpOp::Ne, self.value),
            "SCMP_CMP_LT" => (SeccompCmpOp::Lt, self.value),
            "SCMP_CMP_LE" => (SeccompCmpOp::Le, self.value),
            "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, self.value),
            "SCMP_CMP_GE" => (SeccompCmpOp::Ge, self.value),
            "SCMP_CMP_GT" => (SeccompCmpOp::Gt, self.value),
            "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(self.value), self.value_two),
            other => return Err(Error::Shape(format!("unknown comparison {other}"))),
        };
        condition(call, self.index, op, value)
    }
}

fn action(name: &str, errno: Option<u32>) -> Result<SeccompAction, Error> {
    let errno = errno.unwrap_or(libc::EPERM as u32);
    Ok(match name {
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_ERRNO" => SeccompAction::Errno(errno),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_LOG" => SeccompAction::Log,
        "SCMP_ACT_TRACE" => SeccompAction::Trace(errno),
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        other => return Err(Error::Action(other.to_owned())),
    })
}
