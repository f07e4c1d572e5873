//! Limits of what runs: read from the kernel, and changed while it runs.
use std::sync::Arc;

use super::{Error, Resources, Sandbox};

impl Sandbox {
    /// The limits in force for a container, or for the pod as a whole. Where the kernel has what it makes of `wanted`,
    /// they are told in the numbers of `wanted`; everything else is the kernel's own word.
    pub fn limits(&self, id: Option<&str>, wanted: &Resources) -> Resources {
        let cgroups = &self.inner.cgroups;
        told(
            wanted,
            &cgroups.kept(wanted),
            &cgroups.limits(&self.group(id)),
        )
    }

    /// Sets limits; those that are absent stay as they are.
    ///
    /// # Errors
    /// [`Error::Step`] with what the kernel says; limits set before that stay.
    pub async fn set_limits(&self, id: Option<&str>, limits: &Resources) -> Result<(), Error> {
        let (group, limits) = (self.group(id), limits.clone());
        let cgroups = Arc::clone(&self.inner.cgroups);
        let object = id.map_or_else(
            || format!("pod {}", self.inner.config.pod_uid),
            |id| format!("container {id}"),
        );
        // The kernel may take its time to find memory to give back.
        let done = tokio::task::spawn_blocking(move || cgroups.limit(&group, &limits)).await;
        let done = done.map_err(|_| self.lost())?;
        done.map_err(|source| Error::Step {
            action: "resize",
            object,
            source,
        })
    }

    fn group(&self, id: Option<&str>) -> String {
        let pod = &self.inner.pod_group;
        id.map_or_else(|| pod.clone(), |id| format!("{pod}/{id}"))
    }
}

fn told(wanted: &Resources, kept: &Resources, read: &Resources) -> Resources {
    let told = |wanted: Option<u64>, kept: Option<u64>, read: Option<u64>| {
        if read == kept { wanted } else { read }
    };
    Resources {
        memory_bytes: told(wanted.memory_bytes, kept.memory_bytes, read.memory_bytes),
        cpu_shares: told(wanted.cpu_shares, kept.cpu_shares, read.cpu_shares),
        cpu_quota_us: told(wanted.cpu_quota_us, kept.cpu_quota_us, read.cpu_quota_us),
        ..Resources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_has_is_told() {
        let one = |memory, shares, quota| Resources {
            memory_bytes: memory,
            cpu_shares: shares,
            cpu_quota_us: quota,
            ..Resources::default()
        };
        let wanted = one(Some(4097), Some(256), Some(40_000));
        let kept = one(Some(4096), Some(237), Some(40_000));
        assert_eq!(told(&wanted, &kept, &kept), wanted);
        let other = one(Some(8192), Some(2), Some(20_000));
        assert_eq!(told(&wanted, &kept, &other), other);
        assert_eq!(
            told(&wanted, &kept, &one(None, None, None)),
            one(None, None, None)
        );
    }
}
