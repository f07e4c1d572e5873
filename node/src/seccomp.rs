//! System call filters: davit's default policy and profiles given by users.
//!
//! A [`Filter`] is compiled by the agent, handed to the shim as bytes, and installed by the container's first process.
mod calls;
mod compile;
mod profile;
mod restricted;
mod width;

use caps::CapsHashSet;

use crate::kernel::process::filter_to_bytes;
use crate::runtime::Seccomp;
use compile::Programs;

/// Compiled filters; the kernel runs all of them and obeys the strictest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    programs: Programs,
}

/// Why a profile cannot be used. The same profile fails again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// Not JSON of the expected shape.
    #[error("the seccomp profile is not valid: {0}")]
    Shape(String),
    /// Nothing in it: that would be no confinement.
    #[error("the seccomp profile is empty; name a defaultAction, or ask for type Unconfined")]
    Empty,
    /// An action this runtime does not have.
    #[error("the seccomp profile asks for action {0}, which davit does not have")]
    Action(String),
    /// The compiler refused it.
    #[error("the seccomp profile cannot be compiled: {0}")]
    Compile(String),
}

impl Filter {
    /// The filter a container with these capabilities gets, if any.
    ///
    /// # Errors
    /// [`Error`] for a profile that cannot be used.
    pub(crate) fn for_container(
        choice: &Seccomp,
        capabilities: &CapsHashSet,
    ) -> Result<Option<Self>, Error> {
        let programs = match choice {
            Seccomp::Unconfined => return Ok(None),
            Seccomp::RuntimeDefault => compile::default_policy(capabilities)?,
            Seccomp::Profile(json) => profile::compile(json, capabilities)?,
        };
        Ok(Some(Self { programs }))
    }

    /// The programs in the order of installing, eight bytes an instruction.
    pub(crate) fn to_bytes(&self) -> Vec<Vec<u8>> {
        self.programs
            .iter()
            .map(|program| filter_to_bytes(program))
            .collect()
    }
}

/// Names of the system calls that the default policy lets a container with these capabilities use without looking at
/// arguments.
pub(crate) fn default_allowed(capabilities: &CapsHashSet) -> Vec<String> {
    let refused = compile::refused_calls(capabilities);
    let mut names: Vec<String> = calls::all()
        .filter(|(name, _)| !refused.contains(name) && !compile::by_argument(name, capabilities))
        .map(|(name, _)| name.to_owned())
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
pub(crate) mod tests;
