//! Requests for the tests of plugins.

use serde_json::Value;

use super::{Error, Notes, Operation, Plugin, Request};
use crate::auth::UserInfo;

/// A request by `user` for `resource` (`pods` or `apps/deployments`) in `namespace`.
pub(super) fn request<'a>(
    user: &'a UserInfo,
    notes: &'a Notes,
    operation: Operation,
    resource: &'a str,
    namespace: &'a str,
) -> Request<'a> {
    let (group, resource) = resource.rsplit_once('/').unwrap_or(("", resource));
    Request {
        operation,
        user,
        group,
        version: "v1",
        kind: "",
        resource,
        subresource: "",
        namespace,
        name: "x",
        old: None,
        dry_run: false,
        options: None,
        round: None,
        notes,
    }
}

/// Creates `object` in namespace `a` through one plugin: what became of it.
pub(super) async fn create(
    plugin: &dyn Plugin,
    resource: &str,
    mut object: Value,
) -> Result<Value, Error> {
    let user = UserInfo::anonymous();
    let notes = Notes::default();
    let request = request(&user, &notes, Operation::Create, resource, "a");
    assert!(
        plugin.handles(&request),
        "{} does not handle {resource}",
        plugin.name()
    );
    plugin.mutate(&request, &mut object).await?;
    plugin.validate(&request, &object).await?;
    Ok(object)
}
