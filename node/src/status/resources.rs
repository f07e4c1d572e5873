//! `status.containerStatuses[].resources`: what is in force, from the kernel.
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::pod::resources::limits_of;
use crate::runtime::{CPU_PERIOD_US, Resources};

/// Fewest shares, which is also what a container without a request has.
const LEAST_SHARES: u64 = 2;

/// What a container that was allotted this has in force. Amounts that the kernel has as they were allotted are told in the
/// words of the allotment; others in the kernel's numbers. A request of memory is nothing the kernel knows of.
pub(super) fn in_force(
    allotted: &ResourceRequirements,
    kernel: &Resources,
) -> Option<ResourceRequirements> {
    let wanted = limits_of(allotted);
    let mut told = allotted.clone();
    let limits = &mut told.limits;
    if kernel.memory_bytes != wanted.memory_bytes {
        put(
            limits,
            "memory",
            kernel.memory_bytes.map(|bytes| bytes.to_string()),
        );
    }
    if kernel.cpu_quota_us != wanted.cpu_quota_us {
        let milli = |quota: u64| format!("{}m", quota.saturating_mul(1000) / CPU_PERIOD_US);
        put(limits, "cpu", kernel.cpu_quota_us.map(milli));
    }
    if kernel.cpu_shares != wanted.cpu_shares {
        let shares = kernel.cpu_shares.filter(|shares| *shares > LEAST_SHARES);
        let milli = |shares: u64| format!("{}m", shares.saturating_mul(1000).div_ceil(1024));
        put(&mut told.requests, "cpu", shares.map(milli));
    }
    (told != ResourceRequirements::default()).then_some(told)
}

type List = Option<std::collections::BTreeMap<String, Quantity>>;

fn put(list: &mut List, name: &str, amount: Option<String>) {
    match amount {
        Some(amount) => {
            let list = list.get_or_insert_default();
            list.insert(name.to_owned(), Quantity(amount));
        }
        None => {
            if let Some(amounts) = list {
                amounts.remove(name);
            }
            if list.as_ref().is_some_and(|amounts| amounts.is_empty()) {
                *list = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_kernels_word_wins_over_the_spec() {
        let allotted = json!({
            "requests": { "cpu": "0.25", "memory": "32Mi" },
            "limits": { "cpu": "200m", "memory": "64Mi" },
        });
        let kernel = |shares, quota, memory| Resources {
            cpu_shares: shares,
            cpu_quota_us: quota,
            memory_bytes: memory,
            ..Resources::default()
        };
        let same = kernel(Some(256), Some(20_000), Some(64 << 20));
        let cases: [(Value, Resources, Option<Value>); 4] = [
            (allotted.clone(), same.clone(), Some(allotted.clone())),
            (
                allotted.clone(),
                kernel(Some(102), Some(40_000), Some(1 << 20)),
                Some(json!({
                    "requests": { "cpu": "100m", "memory": "32Mi" },
                    "limits": { "cpu": "400m", "memory": "1048576" },
                })),
            ),
            (
                allotted,
                kernel(Some(2), None, None),
                Some(json!({ "requests": { "memory": "32Mi" } })),
            ),
            (json!({}), kernel(Some(2), None, None), None),
        ];
        for (allotted, kernel, expected) in cases {
            let allotted: ResourceRequirements = serde_json::from_value(allotted).unwrap();
            let told = in_force(&allotted, &kernel);
            let told = told.map(|told| serde_json::to_value(told).unwrap());
            assert_eq!(told, expected, "{kernel:?}");
        }
    }
}
