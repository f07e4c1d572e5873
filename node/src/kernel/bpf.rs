//! The device filter of a cgroup v2: a small eBPF program that knows an allow list.
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;

use crate::cgroup::{DeviceKind, DeviceRule};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const ACCESS_ALL: u32 = 7;

/// One eBPF instruction.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: to | from << 4,
        offset,
        immediate,
    }
}

/// `to = *(u32 *)(r1 + offset)`: a field of the access that is asked about.
const fn load(to: u8, offset: i16) -> Instruction {
    op(0x61, to, 1, offset, 0)
}

const fn and(to: u8, value: i32) -> Instruction {
    op(0x57, to, 0, 0, value)
}

const fn shift_right(to: u8, bits: i32) -> Instruction {
    op(0x77, to, 0, 0, bits)
}

const fn copy(to: u8, from: u8) -> Instruction {
    op(0xbf, to, from, 0, 0)
}

const fn skip_unless_equal(register: u8, value: i32, skip: i16) -> Instruction {
    op(0x55, register, 0, skip, value)
}

/// `return value`
const fn answer(value: i32) -> [Instruction; 2] {
    [op(0xb7, 0, 0, 0, value), op(0x95, 0, 0, 0, 0)]
}

/// Registers: r2 kind, r3 access, r4 major, r5 minor.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut code = vec![
        load(2, 0),
        copy(3, 2),
        and(2, 0xffff),
        shift_right(3, 16),
        load(4, 4),
        load(5, 8),
    ];
    for rule in rules {
        let mut tests: Vec<Instruction> = Vec::new();
        match rule.kind {
            DeviceKind::Any => {}
            DeviceKind::Block => tests.push(skip_unless_equal(2, 1, 0)),
            DeviceKind::Character => tests.push(skip_unless_equal(2, 2, 0)),
        }
        let refused = ACCESS_ALL & !rule.access.bits();
        if refused != 0 {
            tests.push(copy(0, 3));
            tests.push(and(0, refused as i32));
            tests.push(skip_unless_equal(0, 0, 0));
        }
        tests.extend(rule.major.map(|n| skip_unless_equal(4, n as i32, 0)));
        tests.extend(rule.minor.map(|n| skip_unless_equal(5, n as i32, 0)));
        let length = tests.len() + 2;
        for (index, test) in tests.iter_mut().enumerate() {
            if test.code == 0x55 {
                test.offset = (length - index - 1) as i16;
            }
        }
        code.append(&mut tests);
        code.extend(answer(1));
    }
    code.extend(answer(0));
    code
}

/// Lets processes in the cgroup directory `group`, and beneath it, use these devices and no others.
pub(crate) fn allow_devices(group: impl AsFd, rules: &[DeviceRule]) -> nix::Result<()> {
    let program = load_program(&program(rules))?;
    #[repr(C)]
    #[derive(Default)]
    struct Attach {
        target_fd: u32,
        attach_bpf_fd: u32,
        attach_type: u32,
        attach_flags: u32,
        replace_bpf_fd: u32,
        relative_fd: u32,
        expected_revision: u64,
    }
    let attributes = Attach {
        target_fd: group.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
        ..Attach::default()
    };
    // SAFETY: the structure outlives the call and its size is passed along.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attributes,
            size_of::<Attach>(),
        )
    };
    Errno::result(result).map(drop)
}

fn load_program(code: &[Instruction]) -> nix::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
    }
    let attributes = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: the instructions and the license outlive the call, and the counts are theirs.
    super::owned(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attributes,
            size_of::<Load>(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Access;

    #[test]
    fn every_jump_lands_behind_its_own_rule() {
        let rule = |kind, major, minor, access| DeviceRule {
            kind,
            major,
            minor,
            access,
        };
        let rules = [
            rule(DeviceKind::Character, Some(1), Some(3), Access::ALL),
            rule(DeviceKind::Any, None, None, Access::MKNOD),
            rule(
                DeviceKind::Block,
                Some(8),
                None,
                Access::READ | Access::WRITE,
            ),
        ];
        let code = program(&rules);
        let ends: Vec<usize> = (0..code.len()).filter(|&i| code[i].code == 0x95).collect();
        assert_eq!(ends.len(), rules.len() + 1);
        for (index, instruction) in code.iter().enumerate() {
            if instruction.code == 0x55 {
                let next_rule = ends.iter().find(|&&end| end >= index).unwrap() + 1;
                assert_eq!(index + 1 + instruction.offset as usize, next_rule);
            }
        }
    }

    #[test]
    fn the_kernel_takes_the_program() {
        let rule = DeviceRule {
            kind: DeviceKind::Character,
            major: Some(1),
            minor: Some(3),
            access: Access::READ,
        };
        load_program(&program(&[rule])).unwrap();
    }
}
