//! The status of a quota, as a pure function of what was counted.

use std::collections::BTreeMap;

use davit_api::quota::{Amounts, Quota};
use k8s_openapi::api::core::v1::ResourceQuotaStatus;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Whether bounds were declared that are not in force, or are in force without being counted.
pub(super) fn is_behind(quota: &Quota) -> bool {
    quota.hard != quota.declared || quota.hard.keys().any(|name| !quota.used.contains_key(name))
}

/// The status after counting; `None` when it says so already. `counted` has an entry for every resource that some kind
/// counts against; of others the last number is kept.
pub(super) fn status(quota: &Quota, counted: &Amounts) -> Option<ResourceQuotaStatus> {
    let mut used = quota.used.clone();
    used.extend(counted.iter().map(|(name, amount)| (name.clone(), *amount)));
    used.retain(|name, _| quota.declared.contains_key(name));
    if quota.hard == quota.declared && quota.used == used {
        return None;
    }
    Some(ResourceQuotaStatus {
        hard: Some(written(&quota.declared)),
        used: Some(written(&used)),
    })
}

fn written(amounts: &Amounts) -> BTreeMap<String, Quantity> {
    let amounts = amounts.iter();
    amounts
        .map(|(name, amount)| (name.clone(), (*amount).into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_status_says_what_was_counted() {
        let two = json!({"pods": "2", "cpu": "1"});
        // Declared, in force, used, counted; the status, and whether the bounds were behind.
        let cases = [
            (
                &two,
                Value::Null,
                Value::Null,
                json!({"pods": "1", "cpu": "0"}),
                Some(json!({"pods": "1", "cpu": "0"})),
                true,
            ),
            (
                &two,
                two.clone(),
                json!({"pods": "1", "cpu": "0"}),
                json!({"pods": "1", "cpu": "0"}),
                None,
                false,
            ),
            (
                &two,
                two.clone(),
                json!({"pods": "1", "cpu": "0"}),
                json!({"pods": "0", "cpu": "0"}),
                Some(json!({"pods": "0", "cpu": "0"})),
                false,
            ),
            // A resource that nothing counts against keeps its number, if it has one.
            (
                &two,
                two.clone(),
                json!({"pods": "1", "cpu": "5"}),
                json!({"pods": "1"}),
                None,
                false,
            ),
            (
                &two,
                Value::Null,
                Value::Null,
                json!({"pods": "1"}),
                Some(json!({"pods": "1"})),
                true,
            ),
            // Bounds that are gone take their usage along.
            (
                &json!({"cpu": "1"}),
                two.clone(),
                json!({"pods": "1", "cpu": "0"}),
                json!({"cpu": "0"}),
                Some(json!({"cpu": "0"})),
                true,
            ),
        ];
        for (declared, hard, used, counted, expected, behind) in cases {
            let object =
                json!({"spec": {"hard": declared}, "status": {"hard": hard, "used": used}});
            let quota = Quota::read(&object).unwrap();
            let counted: Amounts = serde_json::from_value(counted).unwrap();
            let got = status(&quota, &counted).map(|status| {
                assert_eq!(&json!(status.hard), declared);
                json!(status.used)
            });
            assert_eq!(got, expected, "{object}");
            assert_eq!(is_behind(&quota), behind, "{object}");
        }
    }
}
