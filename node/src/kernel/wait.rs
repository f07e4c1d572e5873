//! What the kernel tells of children, each kind of change apart from the others.
//!
//! nix knows only signals that have a name, so a child ended by a real-time signal would be an error there, and lost.
use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal.
    Signaled(i32),
}

/// What a wait came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is no more.
    Ended(End),
    /// It lives, and waits for the calling process, which it has made its tracer (`PTRACE_TRACEME`), to say how it goes
    /// on. `event` is not 0 for stops that are no delivery of the signal.
    Traced {
        /// The signal it was stopped at.
        signal: i32,
        /// `PTRACE_EVENT_*`.
        event: i32,
    },
    /// It lives, and goes on after a stop.
    Continued,
}

/// The change behind a wait status.
fn change(status: i32) -> Change {
    if libc::WIFEXITED(status) {
        Change::Ended(End::Exited(libc::WEXITSTATUS(status)))
    } else if libc::WIFSIGNALED(status) {
        Change::Ended(End::Signaled(libc::WTERMSIG(status)))
    } else if libc::WIFSTOPPED(status) {
        // Stops are not asked for: only tracers are told of them all the same.
        Change::Traced {
            signal: libc::WSTOPSIG(status),
            event: status >> 16,
        }
    } else {
        Change::Continued
    }
}

/// The next change of any child, or of a thread that is traced by the caller; none if nothing has happened.
///
/// # Errors
/// `ECHILD` without children.
pub(crate) fn next_change() -> nix::Result<Option<(Pid, Change)>> {
    wait(-1, libc::WNOHANG)
}

/// Waits until a child has ended, whatever else happens to it before, and reaps it. Not for one that others can trace:
/// they can keep it from being reaped.
///
/// # Errors
/// `ECHILD` for one that is no child or was reaped.
pub(crate) fn until_ended(pid: Pid) -> nix::Result<End> {
    loop {
        if let Some((_, Change::Ended(end))) = wait(pid.as_raw(), 0)? {
            return Ok(end);
        }
    }
}

/// How a child ended that is not reaped yet, without reaping it: a tracer that does not let go keeps its parent from
/// being told, but not from looking.
pub(crate) fn end_of_zombie(pid: Pid) -> Option<End> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    end_in_stat(&stat)
}

/// The state and the wait status in the text of `/proc/<pid>/stat`; the name before them may hold anything.
fn end_in_stat(stat: &str) -> Option<End> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace();
    if !matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    match change(fields.last()?.parse().ok()?) {
        Change::Ended(end) => Some(end),
        _ => None,
    }
}

fn wait(pid: libc::pid_t, options: libc::c_int) -> nix::Result<Option<(Pid, Change)>> {
    let mut status = 0;
    loop {
        // SAFETY: the status outlives the call.
        let result = unsafe { libc::waitpid(pid, &raw mut status, options | libc::__WALL) };
        match Errno::result(result) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) => return Ok(None),
            Ok(pid) => return Ok(Some((Pid::from_raw(pid), change(status)))),
        }
    }
}

/// Sends a signal by its number, real-time signals included.
///
/// # Errors
/// `EINVAL` for a number that is no signal, `ESRCH` for a process that is gone.
pub(crate) fn send_signal(pid: Pid, signal: i32) -> nix::Result<()> {
    // SAFETY: takes two integers.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}

/// Stops tracing what was never asked to be traced: it goes on as if it had not tried, with the signal that it was
/// stopped at.
///
/// # Errors
/// `ESRCH` for one that was killed meanwhile.
pub(crate) fn let_go(pid: Pid, signal: i32, event: i32) -> nix::Result<()> {
    // SAFETY: all-zero is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: the structure outlives the call.
    let told = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, pid.as_raw(), none, &raw mut info) };
    // One that is stopped together with all its threads has no signal to take along, and stays stopped.
    let delivery = event == 0 && told == 0;
    let signal = if delivery && !is_exec_trap(signal, info.si_code) {
        signal
    } else {
        0
    };
    let signal = ptr::without_provenance_mut::<libc::c_void>(signal.unsigned_abs() as usize);
    // SAFETY: takes integers.
    let result = unsafe { libc::ptrace(libc::PTRACE_DETACH, pid.as_raw(), none, signal) };
    Errno::result(result).map(drop)
}

/// The trap that only a traced process gets when it executes a program; one of the processor has another code.
fn is_exec_trap(signal: i32, code: i32) -> bool {
    signal == libc::SIGTRAP && code == libc::SI_USER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_told_apart() {
        let traced = |signal, event| Change::Traced { signal, event };
        let cases = [
            (0x0000, Change::Ended(End::Exited(0))),
            (0x0700, Change::Ended(End::Exited(7))),
            (0xff00, Change::Ended(End::Exited(255))),
            (0x0009, Change::Ended(End::Signaled(9))),
            // With a core dump.
            (0x008b, Change::Ended(End::Signaled(11))),
            // Real-time signals.
            (0x0022, Change::Ended(End::Signaled(34))),
            (0x0040, Change::Ended(End::Signaled(64))),
            (0x137f, traced(19, 0)),
            (0x057f, traced(5, 0)),
            (0x227f, traced(34, 0)),
            (
                (libc::PTRACE_EVENT_EXEC << 16) | 0x057f,
                traced(5, libc::PTRACE_EVENT_EXEC),
            ),
            (
                (libc::PTRACE_EVENT_STOP << 16) | 0x137f,
                traced(19, libc::PTRACE_EVENT_STOP),
            ),
            (0xffff, Change::Continued),
        ];
        for (status, expected) in cases {
            assert_eq!(change(status), expected, "{status:#x}");
        }
    }

    #[test]
    fn the_dead_are_told_from_the_living() {
        let stat = |name: &str, state: &str, status: i32| {
            format!("7 ({name}) {state} 1 7 7 0 -1 4194304 0 0 0 0 {status}\n")
        };
        assert_eq!(end_in_stat(&stat("a", "S", 0)), None);
        assert_eq!(end_in_stat(&stat("a) Z 1", "t", 9)), None);
        assert_eq!(end_in_stat(&stat("a", "Z", 9)), Some(End::Signaled(9)));
        assert_eq!(
            end_in_stat(&stat(") S (", "Z", 0x300)),
            Some(End::Exited(3))
        );
        assert_eq!(end_in_stat(""), None);
        assert_eq!(end_of_zombie(nix::unistd::getpid()), None);
    }
}
