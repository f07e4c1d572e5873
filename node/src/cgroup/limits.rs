//! Limits written through cgroups-rs, whose controllers know the files of both versions.
use std::path::PathBuf;

use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;

use crate::runtime::{CPU_PERIOD_US, Step, StepError};

/// A directory of one controller and whether it is v2.
pub(super) struct Place {
    /// The group's directory.
    pub(super) directory: PathBuf,
    /// Version 2 files.
    pub(super) unified: bool,
}

impl Place {
    /// Most bytes of memory; swap does not add to them.
    pub(super) fn memory(&self, bytes: u64) -> Result<(), StepError> {
        let controller = MemController::new(self.directory.clone(), PathBuf::new(), self.unified);
        let limit = i64::try_from(bytes).unwrap_or(i64::MAX);
        let (file, value) = if self.unified {
            ("memory.swap.max", 0)
        } else {
            ("memory.memsw.limit_in_bytes", limit)
        };
        let swap = self.directory.join(file);
        let set_swap = || match swap.exists() {
            true => controller
                .set_memswap_limit(value)
                .map_err(|e| self.failure("swap", &e)),
            false => Ok(()),
        };
        let set_memory = || {
            controller
                .set_limit(limit)
                .map_err(|e| self.failure("memory", &e))
        };
        // In version 1 memory must never be more than memory with swap: the greater one goes first when they grow.
        if !self.unified && bytes > super::usage::number(&swap) {
            set_swap()?;
            return set_memory();
        }
        set_memory()?;
        set_swap()
    }

    /// CPU weight, given in the scale of v1.
    pub(super) fn cpu_shares(&self, shares: u64) -> Result<(), StepError> {
        let controller = CpuController::new(self.directory.clone(), PathBuf::new(), self.unified);
        let value = if self.unified {
            weight_of_shares(shares)
        } else {
            shares.max(2)
        };
        controller
            .set_shares(value)
            .map_err(|e| self.failure("cpu weight", &e))
    }

    /// CPU time in microseconds a period.
    pub(super) fn cpu_quota(&self, quota_us: u64) -> Result<(), StepError> {
        let controller = CpuController::new(self.directory.clone(), PathBuf::new(), self.unified);
        let quota = i64::try_from(quota_us).unwrap_or(i64::MAX).max(1000);
        controller
            .set_cfs_quota_and_period(Some(quota), Some(CPU_PERIOD_US))
            .map_err(|e| self.failure("cpu quota", &e))
    }

    /// Most processes and threads.
    pub(super) fn pids(&self, max: u64) -> Result<(), StepError> {
        let controller = PidController::new(self.directory.clone(), PathBuf::new(), self.unified);
        let max = i64::try_from(max).map_or(MaxValue::Max, MaxValue::Value);
        controller
            .set_pid_max(max)
            .map_err(|e| self.failure("pids", &e))
    }

    fn failure(&self, what: &str, error: &cgroups_rs::fs::error::Error) -> StepError {
        let object = format!("{what} limit of {}", self.directory.display());
        StepError::other(Step::Cgroup, object, error.to_string())
    }
}

/// What the kernel makes of a limit of memory.
pub(super) fn whole_pages(bytes: u64) -> u64 {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let page = page
        .ok()
        .flatten()
        .and_then(|page| u64::try_from(page).ok());
    let page = page.filter(|page| *page > 0).unwrap_or(4096);
    bytes / page * page
}

/// The shares that a weight stands for; the weight of these shares is that weight again.
pub(super) fn shares_of_weight(weight: u64) -> u64 {
    2 + ((weight.clamp(1, 10_000) - 1) * 262_142).div_ceil(9_999)
}

/// The weight (1 to 10000) that gives the same part of the CPU as these shares (2 to 262144), as runc computes it.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_read_back_is_the_weight_written() {
        for weight in 1..=10_000 {
            assert_eq!(weight_of_shares(shares_of_weight(weight)), weight);
        }
    }

    #[test]
    fn shares_map_onto_the_whole_range_of_weights() {
        for (shares, weight) in [
            (0, 1),
            (2, 1),
            (1024, 39),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }
}
