//! The last steps of a process on its way into a container: who it is, what it may do, and the program it becomes.
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl;
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{
    AccessFlags, Gid, Uid, access, chdir, execve, getcwd, setgroups, setresgid, setresuid,
};
use seccompiler::sock_filter;

use super::gate::{Gate, with_pass};
use super::protocol::{CapabilityBits, ProcessPlan};
use super::report::Reporter;
use crate::kernel::passage::{Crossing, Program, cross};
use crate::kernel::path::is_kind;
use crate::kernel::process::{close_on_exec_from, die_with_parent, install_filter, set_rlimit};
use crate::runtime::identity::{Identity, identify};
use crate::runtime::{Step, StepError, User};

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Most that is read of a container's `/etc/passwd` and `/etc/group`.
const MAX_ACCOUNTS: u64 = 4 << 20;

/// The three standard streams of a process.
#[derive(Debug)]
pub(super) struct Streams {
    /// Standard input.
    pub(super) stdin: OwnedFd,
    /// Standard output.
    pub(super) stdout: OwnedFd,
    /// Standard error.
    pub(super) stderr: OwnedFd,
}

/// Puts the streams where programs expect them.
pub(super) fn connect(streams: &Streams) -> Result<(), StepError> {
    nix::unistd::dup2_stdin(&streams.stdin)
        .and_then(|()| nix::unistd::dup2_stdout(&streams.stdout))
        .and_then(|()| nix::unistd::dup2_stderr(&streams.stderr))
        .map_err(|errno| StepError::os(Step::Stdio, "0, 1, 2", errno))
}

/// Moves this process in the order of killing when memory runs out; where that is not allowed it is noted. Without a
/// wish it goes back to the middle, away from the shim's place.
pub(super) fn adjust_oom_score(adjustment: Option<i32>, reporter: &Reporter) {
    let adjustment = adjustment.unwrap_or(0);
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", adjustment.to_string()) {
        reporter.note(format!(
            "oom_score_adj stays as it is, {adjustment} was refused: {error}"
        ));
    }
}

/// Becomes the program of `plan`, or makes the process that does so behind the gate. The file tree is the container's
/// already, and descriptors 0 to 2 are in place.
pub(super) fn become_program(
    plan: &ProcessPlan,
    identity: &Identity,
    filters: &[Vec<sock_filter>],
    reporter: &Reporter,
    gate: Option<&Gate<'_>>,
) -> Result<Infallible, StepError> {
    set_rlimits(plan, reporter)?;
    // Without no-new-privileges a filter can only be installed while this process is still an administrator.
    if !plan.no_new_privileges {
        install(filters, gate)?;
    }
    limit_bounding_set(plan.capabilities.bounding)?;
    switch_user(identity)?;
    set_capabilities(&plan.capabilities, identity.uid)?;
    // Changing the user forgets both.
    let _ = prctl::set_dumpable(false);
    let _ = die_with_parent();
    enter_directory(&plan.cwd)?;
    if plan.no_new_privileges {
        prctl::set_no_new_privs()
            .map_err(|errno| StepError::os(Step::Capabilities, "no_new_privs", errno))?;
        install(filters, gate)?;
    }
    execute(plan, identity, gate)
}

/// Resolves a user by the files of the container, which is this process's file tree already.
pub(super) fn look_up(user: &User) -> Result<Identity, StepError> {
    let (passwd, group) = (
        read_accounts(Path::new("/etc/passwd")),
        read_accounts(Path::new("/etc/group")),
    );
    let text = |read: &Result<String, String>| read.clone().unwrap_or_default();
    identify(user, &text(&passwd), &text(&group)).map_err(|mut cause| {
        for problem in [passwd.err(), group.err()].into_iter().flatten() {
            cause = format!("{cause}; {problem}");
        }
        let object = user
            .name
            .clone()
            .or_else(|| user.uid.map(|uid| uid.to_string()));
        StepError::other(Step::User, object.unwrap_or_default(), cause)
    })
}

/// A file that an image brought along, which may be anything: a pipe that nobody writes to, a device, or without end.
/// One that is missing is empty.
fn read_accounts(path: &Path) -> Result<String, String> {
    let fail = |cause: String| format!("{} cannot be read: {cause}", path.display());
    let special = || fail("it is no regular file".to_owned());
    // Looked at before it is opened, for opening a device can do something already.
    let look = match open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
        result => result.map_err(|errno| fail(errno.desc().to_owned()))?,
    };
    let is_file = |fd: &OwnedFd| fstat(fd).is_ok_and(|stat| is_kind(&stat, SFlag::S_IFREG));
    if !is_file(&look) {
        return Err(special());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = open(path, flags, Mode::empty()).map_err(|errno| fail(errno.desc().to_owned()))?;
    if !is_file(&file) {
        return Err(special());
    }
    let mut bytes = Vec::new();
    File::from(file)
        .take(MAX_ACCOUNTS + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(error.to_string()))?;
    if bytes.len() as u64 > MAX_ACCOUNTS {
        return Err(fail(format!("it has more than {MAX_ACCOUNTS} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn set_rlimits(plan: &ProcessPlan, reporter: &Reporter) -> Result<(), StepError> {
    for (number, soft, hard) in &plan.rlimits {
        match set_rlimit(*number, *soft, *hard) {
            // Raising a limit needs a capability that this host may not have given to davit.
            Err(Errno::EPERM) => {
                reporter.note(format!(
                    "resource limit {number} stays as it is: not permitted"
                ));
            }
            result => {
                result.map_err(|errno| StepError::os(Step::Rlimit, number.to_string(), errno))?;
            }
        }
    }
    Ok(())
}

fn install(filters: &[Vec<sock_filter>], gate: Option<&Gate<'_>>) -> Result<(), StepError> {
    for filter in filters {
        match gate {
            Some(gate) => install_filter(&with_pass(filter, gate.pass)),
            None => install_filter(filter),
        }
        .map_err(|errno| StepError::os(Step::Seccomp, "filter", errno))?;
    }
    Ok(())
}

fn capability_failure(what: &str, error: &caps::errors::CapsError) -> StepError {
    StepError::other(Step::Capabilities, what, error.to_string())
}

fn limit_bounding_set(bits: u64) -> Result<(), StepError> {
    for capability in caps::all() {
        let kept = bits & capability.bitmask() != 0;
        if !kept && caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, capability)
                .map_err(|e| capability_failure("bounding set", &e))?;
        }
    }
    Ok(())
}

fn switch_user(identity: &Identity) -> Result<(), StepError> {
    let fail = |errno| StepError::os(Step::User, identity.uid.to_string(), errno);
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(fail)?;
    setresgid(gid, gid, gid).map_err(fail)?;
    // The sets are cut down afterwards, by name.
    prctl::set_keepcaps(true).map_err(fail)?;
    setresuid(uid, uid, uid).map_err(fail)?;
    prctl::set_keepcaps(false).map_err(fail)
}

/// Programs of users other than root start without capabilities, except ambient ones.
fn set_capabilities(bits: &CapabilityBits, uid: u32) -> Result<(), StepError> {
    let set = |bits: u64| -> CapsHashSet {
        caps::all()
            .into_iter()
            .filter(|c: &Capability| bits & c.bitmask() != 0)
            .collect()
    };
    let (effective, ambient) = (set(bits.effective), set(bits.ambient));
    let apply = |kind, wanted: &CapsHashSet, what| {
        caps::set(None, kind, wanted).map_err(|e| capability_failure(what, &e))
    };
    apply(CapSet::Effective, &effective, "effective set")?;
    apply(
        CapSet::Inheritable,
        &set(bits.inheritable),
        "inheritable set",
    )?;
    apply(CapSet::Permitted, &effective, "permitted set")?;
    caps::clear(None, CapSet::Ambient).map_err(|e| capability_failure("ambient set", &e))?;
    if uid != 0 && !ambient.is_empty() {
        apply(CapSet::Ambient, &ambient, "ambient set")?;
    }
    Ok(())
}

/// Changes to the working directory and makes sure that it lies in the container: a path through a descriptor of the
/// host would not (CVE-2024-21626).
fn enter_directory(cwd: &str) -> Result<(), StepError> {
    let fail = |errno| StepError::os(Step::WorkingDirectory, cwd, errno);
    chdir(cwd).map_err(fail)?;
    match getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        Ok(_) | Err(Errno::ENOENT) => Err(StepError::other(
            Step::WorkingDirectory,
            cwd,
            "lies outside of the container",
        )),
        Err(errno) => Err(fail(errno)),
    }
}

fn execute(
    plan: &ProcessPlan,
    identity: &Identity,
    gate: Option<&Gate<'_>>,
) -> Result<Infallible, StepError> {
    let text = |text: String| {
        CString::new(text).map_err(|_| StepError::other(Step::Exec, "argument", "holds a NUL"))
    };
    let program = plan.args.first().map(String::as_str).unwrap_or_default();
    let env = environment(plan, &identity.home);
    let path = env
        .iter()
        .find(|(name, _)| *name == "PATH")
        .map(|(_, value)| *value);
    let found = find_program(program, path.unwrap_or(DEFAULT_PATH))?;
    let path = CString::new(found.as_os_str().as_bytes())
        .map_err(|_| StepError::other(Step::Exec, program, "holds a NUL"))?;
    let args = plan
        .args
        .iter()
        .cloned()
        .map(text)
        .collect::<Result<_, _>>()?;
    let env = env
        .into_iter()
        .map(|(name, value)| text(format!("{name}={value}")))
        .collect::<Result<_, _>>()?;
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    let becoming = Program { path, args, env };
    let Some(gate) = gate else {
        // Nothing of the host but the standard streams gets through, whoever forgot to mark it.
        close_on_exec_from(3).map_err(|errno| StepError::os(Step::Exec, "descriptors", errno))?;
        return execve(&becoming.path, &becoming.args, &becoming.env)
            .map_err(|errno| StepError::os(Step::Exec, program, errno));
    };
    let errno = cross(&Crossing {
        program: &becoming,
        terminal: plan.terminal,
        pass: gate.pass,
        slip: gate.slip,
        top: gate.top,
    });
    Err(StepError::os(Step::Clone, "pid namespace", errno))
}

/// The environment with each name once, the last value given winning, and what programs expect to be there.
fn environment<'a>(plan: &'a ProcessPlan, home: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut env: Vec<(&str, &str)> = vec![("HOME", home)];
    if plan.terminal {
        env.push(("TERM", "xterm"));
    }
    for (name, value) in &plan.env {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => env.push((name, value)),
        }
    }
    env
}

fn find_program(name: &str, path: &str) -> Result<PathBuf, StepError> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let mut denied = false;
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = Path::new(directory).join(name);
        match access(&candidate, AccessFlags::X_OK) {
            Ok(()) if candidate.is_file() => return Ok(candidate),
            Err(Errno::EACCES) => denied = true,
            _ => {}
        }
    }
    let (errno, cause) = if denied {
        (Errno::EACCES, "permission denied")
    } else {
        (Errno::ENOENT, "executable file not found in $PATH")
    };
    Err(StepError {
        errno: errno as i32,
        ..StepError::other(Step::Exec, name, cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_from_regular_files_of_bounded_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        assert_eq!(read_accounts(&path("missing")), Ok(String::new()));
        std::fs::write(path("passwd"), "root:x:0:0::/:\n").unwrap();
        assert_eq!(
            read_accounts(&path("passwd")),
            Ok("root:x:0:0::/:\n".to_owned())
        );
        nix::unistd::mkfifo(&path("pipe"), Mode::from_bits_truncate(0o666)).unwrap();
        std::os::unix::fs::symlink("pipe", path("link")).unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("endless")).unwrap();
        std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for name in ["pipe", "link", "folder", "endless", "socket"] {
            let problem = read_accounts(&path(name)).unwrap_err();
            assert!(problem.contains("no regular file"), "{name}: {problem}");
        }
        let huge = File::create(path("huge")).unwrap();
        huge.set_len(1 << 40).unwrap();
        let problem = read_accounts(&path("huge")).unwrap_err();
        assert!(problem.contains("more than"), "{problem}");
    }
}
