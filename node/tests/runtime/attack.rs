//! Programs that try to get out of a container; they run in containers of the tests, as this test's own executable.
//!
//! Each says on standard output what it has got hold of (`VIOLATION …`), and at its end what it has seen (`SEEN …`), so
//! that a test can tell an attack that found nothing from one that never looked.
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What the processes of davit are called until they have become something else.
const OURS: &str = "davit";

/// Runs the attack named first.
pub(crate) fn main(args: &[String]) -> ExitCode {
    match args.first().map(String::as_str) {
        Some("look") => look(&args[1..]),
        Some("traceme") => trace_me(),
        Some("traced-program") => traced_program(),
        Some("keyring") => println!("keyring {}", session_keyring()),
        Some("hold") => hold(&args[1]),
        other => panic!("no attack {other:?}"),
    }
    ExitCode::SUCCESS
}

/// What the tests know of the host, so that it can be recognised.
struct Host {
    /// Device of the host's root file system and of where the tests have their files.
    devices: Vec<u64>,
    /// Words that stand in no memory that the attacker may see.
    secrets: Vec<Vec<u8>>,
    /// Names of the host's namespaces.
    namespaces: Vec<PathBuf>,
}

/// Follows every link of every process there is, as fast as it can: `look SECONDS ENOUGH DEVICES SECRETS NAMESPACES`,
/// lists with commas. The secrets are spelled backwards, so that these words themselves, which commands in the container
/// may inherit, are none. Ends early once it has seen `ENOUGH` processes on their way.
fn look(args: &[String]) {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let host = Host {
        devices: list(&args[2]).iter().map(|d| d.parse().unwrap()).collect(),
        secrets: list(&args[3])
            .iter()
            .map(|word| word.bytes().rev().collect())
            .collect(),
        namespaces: list(&args[4]).into_iter().map(PathBuf::from).collect(),
    };
    let end = Instant::now() + Duration::from_secs(args[0].parse().unwrap());
    let enough: usize = args[1].parse().unwrap();
    let (mut seen, mut newest) = (0, std::process::id());
    let mut looked = 0u64;
    while Instant::now() < end && seen < enough {
        looked += 1;
        // Who is born next has one of the next numbers; all others are looked at now and then.
        let all = looked.is_multiple_of(64);
        let candidates: Vec<u32> = if all {
            processes()
        } else {
            (newest + 1..newest + 6).collect()
        };
        for pid in candidates {
            if pid == std::process::id() || !is_there(pid) {
                continue;
            }
            newest = newest.max(pid);
            // The one that holds a namespace is always there.
            seen += usize::from(examine(pid, &host) && pid != 1);
        }
        if all {
            newest = processes().into_iter().max().unwrap_or(newest);
        }
    }
    println!("SEEN {seen} on their way in {looked} rounds");
}

fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn is_there(pid: u32) -> bool {
    // SAFETY: signal 0 is only a question.
    unsafe { libc::kill(pid as i32, 0) == 0 || *libc::__errno_location() == libc::EPERM }
}

fn name_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
}

/// Looks at everything there is of one process; true if it was one of davit's, from the beginning to the end.
fn examine(pid: u32, host: &Host) -> bool {
    let place = PathBuf::from(format!("/proc/{pid}"));
    let ours_before = name_of(pid).starts_with(OURS);
    let mut found = Vec::new();
    for base in [place.clone(), place.join(format!("task/{pid}"))] {
        for link in ["root", "cwd"] {
            // With the slash it is what the link leads to.
            let target = base.join(link).join(".");
            if let Ok(stat) = std::fs::metadata(&target)
                && host.devices.contains(&stat.dev())
            {
                found.push(format!("{link} is the host's"));
            }
        }
        for entry in std::fs::read_dir(base.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Ok(stat) = std::fs::metadata(entry.path())
                && host.devices.contains(&stat.dev())
            {
                let to = std::fs::read_link(entry.path()).unwrap_or_default();
                found.push(format!(
                    "descriptor {:?} leads to {to:?}",
                    entry.file_name()
                ));
            }
        }
        for entry in std::fs::read_dir(base.join("ns"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = std::fs::read_link(entry.path()).unwrap_or_default();
            if host.namespaces.contains(&name) {
                found.push(format!("{:?} is the host's", entry.file_name()));
            }
        }
        for text in ["environ", "cmdline", "auxv"] {
            let bytes = std::fs::read(base.join(text)).unwrap_or_default();
            if ours_before {
                found.extend(secrets_in(&bytes, host, text));
            }
        }
    }
    if std::fs::OpenOptions::new()
        .write(true)
        .open(place.join("exe"))
        .is_ok()
        && ours_before
    {
        found.push("its executable can be written".to_owned());
    }
    found.extend(memory(&place, host, ours_before));
    found.extend(descriptors(pid, host));
    let status = std::fs::read_to_string(place.join("status")).unwrap_or_default();
    let maps = std::fs::read_to_string(place.join("maps")).unwrap_or_default();
    // Only what is still the same was one of davit's while it was looked at.
    let ours = ours_before && name_of(pid).starts_with(OURS);
    if ours {
        found.extend(rights(&status));
        let libraries = maps.lines().filter(|line| {
            line.contains(".so") || line.contains("[heap]") || line.contains("[stack]")
        });
        found.extend(libraries.map(|line| format!("has mapped {line}")));
    }
    for what in found {
        println!("VIOLATION {pid} {}: {what}", name_of(pid).trim());
    }
    ours
}

fn secrets_in(bytes: &[u8], host: &Host, place: &str) -> Vec<String> {
    host.secrets
        .iter()
        .filter(|secret| {
            bytes
                .windows(secret.len())
                .any(|window| window == secret.as_slice())
        })
        .map(|secret| format!("{place} holds {}", String::from_utf8_lossy(secret)))
        .collect()
}

/// Reads the memory of one of davit's, by `/proc` and by the system call.
fn memory(place: &Path, host: &Host, ours: bool) -> Vec<String> {
    if !ours {
        return Vec::new();
    }
    let mut found = Vec::new();
    let maps = std::fs::read_to_string(place.join("maps")).unwrap_or_default();
    let Ok(mut memory) = File::open(place.join("mem")) else {
        return found;
    };
    for line in maps.lines() {
        let range = line
            .split(' ')
            .next()
            .and_then(|range| range.split_once('-'));
        let Some((begin, end)) = range else { continue };
        let begin = u64::from_str_radix(begin, 16).unwrap();
        let end = u64::from_str_radix(end, 16).unwrap_or(begin);
        // Code of megabytes holds no secret and takes too long to read.
        let length = (end - begin).min(1 << 20);
        let mut bytes = vec![0; length as usize];
        if memory.seek(SeekFrom::Start(begin)).is_ok() {
            let read = memory.read(&mut bytes).unwrap_or(0);
            found.extend(secrets_in(&bytes[..read], host, line));
        }
    }
    found
}

/// Takes descriptors out of another process.
fn descriptors(pid: u32, host: &Host) -> Vec<String> {
    let mut found = Vec::new();
    // SAFETY: takes integers.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if process < 0 {
        return found;
    }
    // SAFETY: just made by the kernel.
    let process = unsafe { OwnedFd::from_raw_fd(process as i32) };
    let ours = name_of(pid).starts_with(OURS);
    for number in 0..16 {
        // SAFETY: takes integers.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
        if got < 0 {
            continue;
        }
        // SAFETY: just made by the kernel.
        let got = File::from(unsafe { OwnedFd::from_raw_fd(got as i32) });
        let on_host = got
            .metadata()
            .is_ok_and(|stat| host.devices.contains(&stat.dev()));
        if on_host || (number > 2 && ours && name_of(pid).starts_with(OURS)) {
            found.push(format!("descriptor {number} could be taken"));
        }
    }
    found
}

/// One of davit's has no rights that the attacker has not, and is filtered.
fn rights(status: &str) -> Vec<String> {
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut found = Vec::new();
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        let bits = |text: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(set));
            line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        };
        if let (Some(theirs), Some(own)) = (bits(status), bits(&own))
            && theirs & !own != 0
        {
            found.push(format!("{set} has {theirs:x}, the attacker {own:x}"));
        }
    }
    if status.contains("Seccomp:\t0") {
        found.push("is not filtered".to_owned());
    }
    found
}

/// Makes its parent its tracer, again and again, and wants to be stopped for ever.
fn trace_me() {
    println!("begun");
    for _ in 0..1000 {
        // SAFETY: takes no pointer.
        unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
        for signal in [
            libc::SIGUSR1,
            libc::SIGRTMIN() + 2,
            libc::SIGWINCH,
            libc::SIGURG,
        ] {
            // SAFETY: ignoring runs no code.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
            // SAFETY: takes an integer.
            unsafe { libc::raise(signal) };
        }
    }
    println!("through");
    loop {
        // SAFETY: takes no pointer.
        unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
        // SAFETY: takes no pointer.
        unsafe { libc::pause() };
    }
}

/// The session's keyring.
pub(crate) fn session_keyring() -> i64 {
    // SAFETY: takes integers.
    unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_GET_KEYRING_ID,
            libc::KEY_SPEC_SESSION_KEYRING,
            1,
        )
    }
}

/// Executes a program that its parent is to trace.
fn traced_program() {
    let program = c"/bin/true";
    // SAFETY: takes no pointer.
    unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
    let _ = nix::unistd::execv(program, &[program]);
}

/// Traces the process whose command line begins with a word and never lets go of it, dead or alive.
fn hold(word: &str) {
    let program = CString::new(word).unwrap();
    loop {
        let victim = processes().into_iter().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(program.as_bytes_with_nul())
        });
        let Some(pid) = victim else { continue };
        // SAFETY: takes integers.
        let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
        println!("held {pid} {seized}");
        loop {
            // SAFETY: takes no pointer.
            unsafe { libc::pause() };
        }
    }
}
