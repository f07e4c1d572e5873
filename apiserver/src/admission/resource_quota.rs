//! `ResourceQuota`: every write is charged to the quotas of its namespace, in the transaction that makes it.

use std::sync::Arc;

use async_trait::async_trait;
use davit_api::quota::{Amounts, Counted, Counting, Effect, Quota, Write};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Error, Operation, Plugin, Request, Reservation};
use crate::auth::{Kind, ObjectSource};
use crate::object;
use crate::storage;

/// Charges writes to quotas.
///
/// # Guarantees
/// Usage is compared with the bounds and written by the store between the writes before and after, so concurrent writes never
/// exceed a quota, and a write that fails for another reason leaves no usage behind. What goes away is given back at once.
pub(super) struct ResourceQuota {
    source: Arc<dyn ObjectSource>,
}

impl ResourceQuota {
    pub(super) fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self { source }
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        let events = request.resource == "events";
        request.operation != Operation::Connect && !request.namespace.is_empty() && !events
    }

    fn reserve(&self, request: &Request<'_>, object: &Value) -> Result<Vec<Reservation>, Error> {
        let quotas = self.source.list(Kind::RESOURCE_QUOTAS, request.namespace);
        if quotas.is_empty() || request.kind == "Namespace" {
            return Ok(Vec::new());
        }
        let write = Arc::new(write(request, object));
        let mut reservations = Vec::new();
        for stored in quotas {
            let quota = read(&stored)?.1;
            // A quota is written by this request itself.
            let itself = request.group.is_empty() && request.resource == "resourcequotas";
            if itself && quota.name == request.name {
                continue;
            }
            if quota.after(&write).map_err(Error::forbidden)? != Effect::None {
                reservations.push(reservation(request.namespace, &quota.name, &write));
            }
        }
        Ok(reservations)
    }
}

/// The request as quotas see it.
fn write(request: &Request<'_>, object: &Value) -> Write {
    let kind = Counting::new(request.group, request.resource);
    let now = Timestamp::now();
    let counted = |object: &Value| Counted::of(&kind, object, now);
    let old = request.old.map(counted);
    let new = (!object.is_null()).then(|| counted(object));
    Write {
        enforced: enforced(request),
        old,
        new,
        kind,
    }
}

/// Whether Kubernetes holds a request to the bounds; others are only counted.
fn enforced(request: &Request<'_>) -> bool {
    let changes = matches!(request.operation, Operation::Create | Operation::Update);
    let creates = request.operation == Operation::Create;
    match (request.group, request.resource, request.subresource) {
        ("", "pods", "resize") => request.operation == Operation::Update,
        ("", "persistentvolumeclaims" | "services", "") => changes,
        ("resource.k8s.io", "resourceclaims", "") => changes,
        (_, _, "") => creates,
        _ => false,
    }
}

fn reservation(namespace: &str, name: &str, write: &Arc<Write>) -> Reservation {
    let key = format!("{}{namespace}/{name}", Kind::RESOURCE_QUOTAS.prefix());
    let write = write.clone();
    Reservation::new(key.into(), move |stored| charge(stored, &write))
}

/// The quota after a write.
fn charge(stored: &[u8], write: &Write) -> Result<storage::Value, Error> {
    let (mut object, quota) = read(stored)?;
    if let Effect::Used(used) = quota.after(write).map_err(Error::forbidden)? {
        set_used(&mut object, &used);
    }
    Ok(object::encode(&object))
}

fn set_used(object: &mut Value, used: &Amounts) {
    let used = used.iter();
    object["status"]["used"] = used
        .map(|(name, amount)| (name.clone(), json!(amount.to_string())))
        .collect::<serde_json::Map<_, _>>()
        .into();
}

fn read(stored: &[u8]) -> Result<(Value, Quota), Error> {
    let failed = |error: serde_json::Error| Error::Internal {
        message: format!("a ResourceQuota cannot be read: {error}"),
    };
    let object = object::parse(stored).map_err(failed)?;
    let quota = Quota::read(&object).map_err(failed)?;
    Ok((object, quota))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Notes;
    use crate::admission::testing::request;
    use crate::auth::UserInfo;

    #[test]
    fn the_bounds_hold_where_kubernetes_holds_them() {
        let (user, notes) = (UserInfo::anonymous(), Notes::default());
        let cases = [
            (Operation::Create, "pods", "", true),
            (Operation::Update, "pods", "", false),
            (Operation::Update, "pods", "status", false),
            (Operation::Update, "pods", "resize", true),
            (Operation::Update, "services", "", true),
            (Operation::Update, "persistentvolumeclaims", "", true),
            (Operation::Update, "persistentvolumeclaims", "status", false),
            (Operation::Create, "apps/deployments", "", true),
            (Operation::Update, "apps/deployments", "", false),
            (Operation::Delete, "services", "", false),
        ];
        for (operation, resource, subresource, expected) in cases {
            let request = Request {
                subresource,
                ..request(&user, &notes, operation, resource, "a")
            };
            assert_eq!(enforced(&request), expected, "{operation:?} {resource}");
        }
    }
}
