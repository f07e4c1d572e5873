//! Which requests are approved without anybody being asked: nodes' client certificates, by those who may.

use serde_json::Value;

use super::{NODE_CLIENT, node_client_flaw, request_of, signer_of, usages_of};
use crate::auth::{Attributes, Authorizer, ResourceAttributes, UserInfo};

/// The message of the approval; `None` leaves the request to others.
pub(super) async fn plan(authorizer: &Authorizer, object: &Value) -> Option<&'static str> {
    if signer_of(object) != NODE_CLIENT {
        return None;
    }
    let request = request_of(object).ok()?;
    if node_client_flaw(&request, &usages_of(object)).is_some() {
        return None;
    }
    let user = author(object);
    // A node that renews its own certificate needs less of a right than whoever makes a node known.
    if user.name == request.common_name && may(authorizer, &user, "selfnodeclient").await {
        return Some("Auto approving self kubelet client certificate after SubjectAccessReview.");
    }
    let known = may(authorizer, &user, "nodeclient").await;
    known.then_some("Auto approving kubelet client certificate after SubjectAccessReview.")
}

async fn may(authorizer: &Authorizer, user: &UserInfo, subresource: &str) -> bool {
    let target = ResourceAttributes {
        group: "certificates.k8s.io",
        version: "*",
        resource: "certificatesigningrequests",
        subresource,
        ..ResourceAttributes::default()
    };
    let attributes = Attributes::resource("create", target);
    authorizer.authorize(user, &attributes).await.is_allowed()
}

/// Who made the request, as the server wrote it down.
fn author(object: &Value) -> UserInfo {
    let spec = &object["spec"];
    let text = |key: &str| spec[key].as_str().unwrap_or_default().to_owned();
    let groups = spec["groups"].as_array().into_iter().flatten();
    UserInfo {
        name: text("username"),
        uid: text("uid"),
        groups: groups
            .filter_map(|group| group.as_str().map(str::to_owned))
            .collect(),
        extra: serde_json::from_value(spec["extra"].clone()).unwrap_or_default(),
    }
}
