//! Counts the objects of a namespace that a quota is about, newest state first-hand from the server.

use davit_api::Quantity;
use davit_api::quota::{Amounts, Counted, Counting, Quota, counts};
use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};

use crate::error::Error;
use crate::garbage;

/// Kinds whose objects count more than themselves, with version and kind.
const MEASURED: [(&str, &str, &str, &str); 4] = [
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims"),
];
/// Objects read at once.
const PAGE: u32 = 500;

/// The usage of every resource the quota bounds, as far as some kind counts against it.
pub(super) async fn usage(
    client: &Client,
    namespace: &str,
    quota: &Quota,
) -> Result<Amounts, Error> {
    let mut total = Amounts::new();
    for (kind, resource) in kinds(client, quota).await? {
        let names: Vec<&String> = quota
            .declared
            .keys()
            .filter(|name| counts(&kind, name))
            .collect();
        for name in &names {
            total.entry((*name).clone()).or_default();
        }
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let counted = if is_measured(&kind) {
            measure(&api, &kind, quota).await?
        } else {
            number(&api, &kind, quota).await?
        };
        for name in names {
            if let (Some(sum), Some(more)) = (total.get_mut(name), counted.get(name)) {
                *sum += *more;
            }
        }
    }
    Ok(total)
}

fn is_measured(kind: &Counting) -> bool {
    let found = MEASURED
        .iter()
        .find(|(group, _, _, plural)| kind.group == *group && kind.plural == *plural);
    found.is_some()
}

/// The kinds that count against the quota. The server is asked for its kinds only when a number of objects is bounded.
async fn kinds(client: &Client, quota: &Quota) -> Result<Vec<(Counting, ApiResource)>, Error> {
    let mut all: Vec<(Counting, ApiResource)> = MEASURED
        .iter()
        .map(|(group, version, kind, plural)| {
            let kind = kube::api::GroupVersionKind::gvk(group, version, kind);
            let resource = ApiResource::from_gvk_with_plural(&kind, plural);
            (Counting::new(group, plural), resource)
        })
        .collect();
    let counted = |name: &String| all.iter().any(|(kind, _)| counts(kind, name));
    if !quota.declared.keys().all(counted) {
        let failed = Error::api("discover kinds for quota", quota.name.clone());
        let found = garbage::discover(client).await.map_err(failed)?;
        for (resource, namespaced) in found {
            let kind = Counting::new(&resource.group, &resource.plural);
            if namespaced && !is_measured(&kind) {
                all.push((kind, (*resource).clone()));
            }
        }
    }
    all.retain(|(kind, _)| quota.declared.keys().any(|name| counts(kind, name)));
    Ok(all)
}

/// Adds up what each object counts.
async fn measure(
    api: &Api<DynamicObject>,
    kind: &Counting,
    quota: &Quota,
) -> Result<Amounts, Error> {
    let now = Timestamp::now();
    let mut total = Amounts::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = list(api, &params, kind).await?;
        for object in &page.items {
            let object = serde_json::to_value(object).unwrap_or_default();
            let counted = Counted::of(kind, &object, now);
            if quota.includes(&counted) {
                for (name, amount) in counted.usage {
                    *total.entry(name).or_default() += amount;
                }
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(total),
        }
    }
}

/// Counts objects without reading them.
async fn number(
    api: &Api<DynamicObject>,
    kind: &Counting,
    quota: &Quota,
) -> Result<Amounts, Error> {
    let one = Counted::of(kind, &serde_json::Value::Null, Timestamp::now());
    if !quota.includes(&one) {
        return Ok(Amounts::new());
    }
    let page = list(api, &ListParams::default().limit(1), kind).await?;
    let more = page.metadata.remaining_item_count.unwrap_or_default();
    let number = Quantity::from_int(page.items.len() as i64 + more);
    Ok(one.usage.into_keys().map(|name| (name, number)).collect())
}

async fn list(
    api: &Api<DynamicObject>,
    params: &ListParams,
    kind: &Counting,
) -> Result<kube::api::ObjectList<DynamicObject>, Error> {
    let listed = api.list(params).await;
    listed.map_err(Error::api("list", kind.plural.clone()))
}
