//! Birth in a pid namespace in which others are watching.
//!
//! A process is visible to its neighbours from the moment `clone` makes it, and one with `CAP_SYS_PTRACE` reads its
//! memory and follows its links. So everything is done by a process outside of the namespace, and what it finally makes
//! inside consists of three instructions' worth of nothing: a few pages with the program's own arguments, no heap, no
//! stack, no library, and no descriptor beyond the standard three. The code for that cannot be Rust, which needs those.
use std::arch::global_asm;
use std::ffi::{CStr, CString};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::process::close_from;

/// Most stretches of memory that have something to keep between them.
const MAX_GAPS: usize = 4;

/// Exit code of the process outside when the one inside could not become a session leader or take its terminal.
pub(crate) const NO_SESSION: i32 = 200;

/// What the code works with; offsets are known to it.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct Orders {
    /// 0: gaps that count.
    gaps: u64,
    /// 8: flags of `clone`.
    flags: u64,
    /// 16: where `clone` writes the process id of what it made.
    pid: u64,
    /// 24: sixth argument of what the filters must let through.
    pass: u64,
    /// 32: standard input becomes the controlling terminal.
    terminal: u64,
    /// 40, 48, 56: what to execute.
    path: u64,
    argv: u64,
    envp: u64,
    /// 64: what became of it, 0 if all went well.
    verdict: u64,
    /// 72: address and length of each gap.
    gap: [[u64; 2]; MAX_GAPS],
}

/// Flags of the one `clone` that is made: the child belongs to the caller's parent, which is told when it ends; the
/// caller waits until it has become its program or ended.
pub(crate) const CLONE_FLAGS: u32 =
    (libc::CLONE_PARENT | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID) as u32;

// Between the two labels lies whole pages of code, which is all that is kept of the executable. The first register saved
// over system calls holds the orders. No instruction touches the stack, which is gone.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .text.davit_passage, \"ax\", @progbits",
    ".p2align 12",
    ".globl davit_passage_begin",
    "davit_passage_begin:",
    ".globl davit_passage_cross",
    "davit_passage_cross:",
    "mov rbx, rdi",
    "call 40f",
    // clone(flags, 0, pid, 0, 0)
    "mov rdi, [rbx + 8]",
    "xor esi, esi",
    "mov rdx, [rbx + 16]",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "mov r9, [rbx + 24]",
    "mov eax, {clone}",
    "syscall",
    "test rax, rax",
    "jz 12f",
    "js 30f",
    "mov edi, [rbx + 64]",
    "jmp 31f",
    // Inside: setsid()
    "12:",
    "mov r9, [rbx + 24]",
    "mov eax, {setsid}",
    "syscall",
    "test rax, rax",
    "js 20f",
    "cmp qword ptr [rbx + 32], 0",
    "je 13f",
    // ioctl(0, TIOCSCTTY, 0)
    "xor edi, edi",
    "mov esi, {tiocsctty}",
    "xor edx, edx",
    "mov r9, [rbx + 24]",
    "mov eax, {ioctl}",
    "syscall",
    "test rax, rax",
    "js 20f",
    "13:",
    "mov rdi, [rbx + 40]",
    "mov rsi, [rbx + 48]",
    "mov rdx, [rbx + 56]",
    "mov eax, {execve}",
    "syscall",
    "neg eax",
    "mov [rbx + 64], eax",
    "mov edi, eax",
    "jmp 31f",
    "20:",
    "mov edi, {no_session}",
    "mov [rbx + 64], edi",
    "jmp 31f",
    "30:",
    "neg eax",
    "mov edi, eax",
    "31:",
    "mov eax, {exit_group}",
    "syscall",
    "ud2",
    ".globl davit_passage_hold",
    "davit_passage_hold:",
    "mov rbx, rdi",
    "call 40f",
    // close_range(0, all, 0)
    "xor edi, edi",
    "mov esi, -1",
    "xor edx, edx",
    "mov eax, {close_range}",
    "syscall",
    // ppoll(0, 0, 0, 0), for ever
    "50:",
    "xor edi, edi",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "mov eax, {ppoll}",
    "syscall",
    "jmp 50b",
    // Unmaps the gaps; the way back is kept in a register, since the stack is in one of them.
    "40:",
    "pop rbp",
    "lea r12, [rbx + 72]",
    "mov r13, [rbx]",
    "41:",
    "test r13, r13",
    "jz 42f",
    "mov rdi, [r12]",
    "mov rsi, [r12 + 8]",
    "mov eax, {munmap}",
    "syscall",
    "test rax, rax",
    "jnz 30b",
    "add r12, 16",
    "dec r13",
    "jmp 41b",
    "42:",
    "jmp rbp",
    ".p2align 12",
    ".globl davit_passage_end",
    "davit_passage_end:",
    ".popsection",
    clone = const libc::SYS_clone,
    setsid = const libc::SYS_setsid,
    ioctl = const libc::SYS_ioctl,
    tiocsctty = const libc::TIOCSCTTY,
    execve = const libc::SYS_execve,
    exit_group = const libc::SYS_exit_group,
    close_range = const libc::SYS_close_range,
    ppoll = const libc::SYS_ppoll,
    munmap = const libc::SYS_munmap,
    no_session = const NO_SESSION,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .text.davit_passage, \"ax\", @progbits",
    ".p2align 16",
    ".globl davit_passage_begin",
    "davit_passage_begin:",
    ".globl davit_passage_cross",
    "davit_passage_cross:",
    "mov x19, x0",
    "bl 40f",
    // clone(flags, 0, pid, 0, 0)
    "ldr x0, [x19, #8]",
    "mov x1, xzr",
    "ldr x2, [x19, #16]",
    "mov x3, xzr",
    "mov x4, xzr",
    "ldr x5, [x19, #24]",
    "mov x8, #{clone}",
    "svc #0",
    "cbz x0, 12f",
    "tbnz x0, #63, 30f",
    "ldr w0, [x19, #64]",
    "b 31f",
    // Inside: setsid()
    "12:",
    "ldr x5, [x19, #24]",
    "mov x8, #{setsid}",
    "svc #0",
    "tbnz x0, #63, 20f",
    "ldr x9, [x19, #32]",
    "cbz x9, 13f",
    // ioctl(0, TIOCSCTTY, 0)
    "mov x0, xzr",
    "mov x1, #{tiocsctty}",
    "mov x2, xzr",
    "ldr x5, [x19, #24]",
    "mov x8, #{ioctl}",
    "svc #0",
    "tbnz x0, #63, 20f",
    "13:",
    "ldr x0, [x19, #40]",
    "ldr x1, [x19, #48]",
    "ldr x2, [x19, #56]",
    "mov x8, #{execve}",
    "svc #0",
    "neg w0, w0",
    "str w0, [x19, #64]",
    "b 31f",
    "20:",
    "mov w0, #{no_session}",
    "str w0, [x19, #64]",
    "b 31f",
    "30:",
    "neg w0, w0",
    "31:",
    "mov x8, #{exit_group}",
    "svc #0",
    "brk #1",
    ".globl davit_passage_hold",
    "davit_passage_hold:",
    "mov x19, x0",
    "bl 40f",
    // close_range(0, all, 0)
    "mov x0, xzr",
    "mov w1, #-1",
    "mov x2, xzr",
    "mov x8, #{close_range}",
    "svc #0",
    // ppoll(0, 0, 0, 0), for ever
    "50:",
    "mov x0, xzr",
    "mov x1, xzr",
    "mov x2, xzr",
    "mov x3, xzr",
    "mov x8, #{ppoll}",
    "svc #0",
    "b 50b",
    // Unmaps the gaps; the way back stays in the link register.
    "40:",
    "add x20, x19, #72",
    "ldr x21, [x19]",
    "41:",
    "cbz x21, 42f",
    "ldp x0, x1, [x20], #16",
    "mov x8, #{munmap}",
    "svc #0",
    "cbnz x0, 30b",
    "sub x21, x21, #1",
    "b 41b",
    "42:",
    "ret",
    ".p2align 16",
    ".globl davit_passage_end",
    "davit_passage_end:",
    ".popsection",
    clone = const libc::SYS_clone,
    setsid = const libc::SYS_setsid,
    ioctl = const libc::SYS_ioctl,
    tiocsctty = const libc::TIOCSCTTY,
    execve = const libc::SYS_execve,
    exit_group = const libc::SYS_exit_group,
    close_range = const libc::SYS_close_range,
    ppoll = const libc::SYS_ppoll,
    munmap = const libc::SYS_munmap,
    no_session = const NO_SESSION,
);

unsafe extern "C" {
    static davit_passage_begin: u8;
    static davit_passage_end: u8;
    fn davit_passage_cross(orders: *const Orders) -> !;
    fn davit_passage_hold(orders: *const Orders) -> !;
}

/// A page that a process shares with one that it has made, and with nobody else: there the process id of a third is
/// written by the kernel.
#[derive(Debug)]
pub(crate) struct Slip(NonNull<AtomicI32>);

impl Slip {
    /// A new page, with nothing on it.
    pub(crate) fn new() -> nix::Result<Self> {
        map(page_size(), libc::MAP_SHARED).map(|page| Self(page.cast()))
    }

    /// The process that was made, once there is one.
    pub(crate) fn pid(&self) -> Option<Pid> {
        // SAFETY: the page is mapped as long as this lives, and nobody but the kernel writes to it.
        let pid = unsafe { self.0.as_ref() }.load(Ordering::Acquire);
        (pid > 0).then(|| Pid::from_raw(pid))
    }

    /// Has the kernel leave it out of children that the calling process makes from now on.
    fn withhold(&self) -> nix::Result<()> {
        // SAFETY: changes nothing about the page in this process.
        let result =
            unsafe { libc::madvise(self.0.as_ptr().cast(), page_size(), libc::MADV_DONTFORK) };
        Errno::result(result).map(drop)
    }
}

impl Drop for Slip {
    fn drop(&mut self) {
        // SAFETY: the page was mapped by `new`, and nothing refers to it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), page_size()) };
    }
}

/// What is executed inside.
#[derive(Debug)]
pub(crate) struct Program {
    /// Path of the executable.
    pub(crate) path: CString,
    /// Its arguments.
    pub(crate) args: Vec<CString>,
    /// Its environment.
    pub(crate) env: Vec<CString>,
}

/// End of the memory that a process has mapped, vsyscall page excepted. To be asked while `/proc` is that of the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopOfMemory(u64);

impl TopOfMemory {
    /// Looks at the calling process; what is mapped later comes below.
    pub(crate) fn look() -> io::Result<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let ends = maps.lines().filter_map(|line| {
            let range = line.split(' ').next()?.split_once('-')?;
            u64::from_str_radix(range.1, 16).ok()
        });
        // The vsyscall page is in the kernel's half and cannot be unmapped.
        ends.filter(|end| *end <= 1 << 57)
            .max()
            .map(Self)
            .ok_or_else(|| io::Error::other("nothing is mapped"))
    }
}

/// How to go in.
#[derive(Debug)]
pub(crate) struct Crossing<'a> {
    /// What is executed.
    pub(crate) program: &'a Program,
    /// Standard input becomes the controlling terminal.
    pub(crate) terminal: bool,
    /// The sixth argument by which filters know the calls made here.
    pub(crate) pass: u64,
    /// Shared with the parent.
    pub(crate) slip: &'a Slip,
    /// Seen earlier.
    pub(crate) top: TopOfMemory,
}

/// Makes a child of this process's parent that becomes the program, in the pid namespace chosen by `setns` before, then
/// ends this process: with 0 if that went well, [`NO_SESSION`], or the error of `execve`. Returns only if it cannot begin.
pub(crate) fn cross(crossing: &Crossing<'_>) -> Errno {
    match prepare(crossing) {
        Err(errno) => errno,
        // SAFETY: nothing of this process is used any more; the orders are complete and what they point to lies in
        // memory that is kept. The process has one thread.
        Ok(orders) => unsafe { davit_passage_cross(orders) },
    }
}

fn prepare(crossing: &Crossing<'_>) -> nix::Result<*const Orders> {
    let program = crossing.program;
    let lists = [&program.args, &program.env];
    let pointers: usize = lists.iter().map(|list| list.len() + 1).sum();
    let texts = lists.iter().flat_map(|list| list.iter());
    let bytes: usize = texts.map(|text| text.as_bytes_with_nul().len()).sum();
    // Each list begins at an aligned place.
    let size = size_of::<Orders>()
        + (pointers + lists.len()) * size_of::<u64>()
        + bytes
        + program.path.as_bytes_with_nul().len();
    // Shared, so that this process hears what became of the other.
    let mut luggage = Luggage::new(size, libc::MAP_SHARED)?;
    let argv = luggage.list(&program.args)?;
    let envp = luggage.list(&program.env)?;
    let path = luggage.text(&program.path)?;
    crossing.slip.withhold()?;
    let slip = crossing.slip.0.as_ptr() as u64;
    let mut orders = luggage.orders(&[[slip, slip + page_size() as u64]], crossing.top);
    orders.flags = u64::from(CLONE_FLAGS);
    orders.pid = slip;
    orders.pass = crossing.pass;
    orders.terminal = u64::from(crossing.terminal);
    (orders.path, orders.argv, orders.envp) = (path, argv, envp);
    close_from(3)?;
    Ok(luggage.leave(orders))
}

/// A process ready to give up everything and wait for ever.
#[derive(Debug)]
pub(crate) struct Rest(*const Orders);

impl Rest {
    /// Lays out what little is kept. Filters that are installed after this must let `munmap`, `close_range`, `ppoll` and
    /// `exit_group` through.
    pub(crate) fn prepare(top: TopOfMemory) -> nix::Result<Self> {
        let luggage = Luggage::new(size_of::<Orders>(), libc::MAP_PRIVATE)?;
        let orders = luggage.orders(&[], top);
        Ok(Self(luggage.leave(orders)))
    }

    /// Gives up all memory, then all descriptors, and waits; children that are ignored are reaped by the kernel.
    pub(crate) fn begin(self) -> ! {
        // SAFETY: nothing of this process is used any more, and the orders lie in memory that is kept.
        unsafe { davit_passage_hold(self.0) }
    }
}

/// The memory that is taken along.
struct Luggage {
    begin: NonNull<u8>,
    size: usize,
    used: usize,
}

impl Luggage {
    fn new(size: usize, kind: libc::c_int) -> nix::Result<Self> {
        let size = size.next_multiple_of(page_size());
        Ok(Self {
            begin: map(size, kind)?,
            size,
            used: size_of::<Orders>(),
        })
    }

    fn take(&mut self, size: usize) -> nix::Result<*mut u8> {
        if size > self.size.saturating_sub(self.used) {
            return Err(Errno::ENOMEM);
        }
        // SAFETY: the offset lies within the mapping, as was just checked.
        let place = unsafe { self.begin.as_ptr().add(self.used) };
        self.used += size;
        Ok(place)
    }

    /// A list of pointers to texts, ended by a null; the pointers come first, so that they are aligned.
    fn list(&mut self, texts: &[CString]) -> nix::Result<u64> {
        self.used = self.used.next_multiple_of(size_of::<u64>());
        let list = self
            .take((texts.len() + 1) * size_of::<u64>())?
            .cast::<u64>();
        for (index, text) in texts.iter().enumerate() {
            let address = self.text(text)?;
            // SAFETY: room for all pointers was taken above, the place is aligned, and the mapping is writable.
            unsafe { list.add(index).write(address) };
        }
        Ok(list as u64)
    }

    fn text(&mut self, text: &CStr) -> nix::Result<u64> {
        let bytes = text.to_bytes_with_nul();
        let place = self.take(bytes.len())?;
        // SAFETY: the room was just taken and overlaps nothing.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(place as u64)
    }

    /// Orders to give up all but the code, this memory and what else is kept.
    fn orders(&self, kept: &[[u64; 2]], top: TopOfMemory) -> Orders {
        let begin = self.begin.as_ptr() as u64;
        let code = [
            (&raw const davit_passage_begin) as u64,
            (&raw const davit_passage_end) as u64,
        ];
        let mut all = vec![code, [begin, begin + self.size as u64]];
        all.extend(kept);
        let gaps = gaps(all, top.0);
        let mut orders = Orders {
            gaps: gaps.len() as u64,
            ..Orders::default()
        };
        for (to, gap) in orders.gap.iter_mut().zip(gaps) {
            *to = gap;
        }
        orders
    }

    fn leave(self, orders: Orders) -> *const Orders {
        let place = self.begin.as_ptr().cast::<Orders>();
        // SAFETY: the beginning of the mapping is kept free for them and aligned to a page.
        unsafe { place.write(orders) };
        place
    }
}

/// Address and length of what lies between the ranges, from 0 to `top`.
fn gaps(mut kept: Vec<[u64; 2]>, top: u64) -> Vec<[u64; 2]> {
    kept.sort_unstable();
    let begins = std::iter::once(0).chain(kept.iter().map(|range| range[1]));
    let ends = kept.iter().map(|range| range[0]).chain([top]);
    begins
        .zip(ends)
        .filter(|(begin, end)| begin < end)
        .map(|(begin, end)| [begin, end - begin])
        .collect()
}

fn map(size: usize, kind: libc::c_int) -> nix::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            kind | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    NonNull::new(address.cast()).ok_or(Errno::ENOMEM)
}

fn page_size() -> usize {
    // SAFETY: takes an integer.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// A number that nobody can guess, from the kernel: a copy of a generator would give all children the same.
pub(crate) fn random() -> nix::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: the kernel writes at most as many bytes as the buffer has.
    let result = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match Errno::result(result)? {
        8 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(Errno::EAGAIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_is_given_up() {
        let cases: [(&[[u64; 2]], &[[u64; 2]]); 4] = [
            (&[], &[[0, 100]]),
            (&[[40, 50], [10, 20]], &[[0, 10], [20, 20], [50, 50]]),
            (&[[0, 10], [10, 20]], &[[20, 80]]),
            (&[[90, 100]], &[[0, 90]]),
        ];
        for (kept, expected) in cases {
            assert_eq!(gaps(kept.to_vec(), 100), expected, "{kept:?}");
        }
    }

    #[test]
    fn all_memory_is_below_the_top() {
        let local = 0u8;
        let top = TopOfMemory::look().unwrap().0;
        assert!((&raw const local) as u64 <= top);
        assert!((&raw const davit_passage_end) as u64 <= top);
        assert_eq!(((&raw const davit_passage_begin) as u64) % 4096, 0);
        assert_eq!(((&raw const davit_passage_end) as u64) % 4096, 0);
    }
}
