//! Before a request is looked at: who sends it, is there room for it, may it be.

use std::sync::Arc;

use axum::body::Body;
use http::Method;
use http::request::Parts;

use super::{Notes, body};
use crate::ApiServer;
use crate::auth::{
    Attributes, Decision, Error, InProcessUser, Target, UserInfo, groups, impersonate,
    is_public_path,
};
use crate::error::StatusError;
use crate::fairness::{Permit, work};
use crate::request;

/// Who sends a request. Whoever that is not clear of is told nothing about the rest of the request.
pub(super) async fn identify(
    server: &ApiServer,
    parts: &Parts,
) -> Result<Arc<UserInfo>, StatusError> {
    let sender = authenticate(server, parts).await;
    if let (Err(_), Some(auditor)) = (&sender, &server.auditor) {
        let path = parts.uri.path();
        let method = parts.method.as_str().to_ascii_lowercase();
        match request::Target::parse(path) {
            Ok(request::Target::Resource(path)) => {
                let verb = path.verb(&parts.method, false).unwrap_or(&method);
                auditor.refused(parts, &path.attributes(verb, None)).await;
            }
            _ => {
                auditor
                    .refused(parts, &Attributes::path(&method, path))
                    .await
            }
        }
    }
    sender
}

/// Lets a request in: whom it acts as, and the seats it is served in, as many as `width` says.
pub(super) async fn enter(
    server: &ApiServer,
    parts: &Parts,
    sender: Arc<UserInfo>,
    attributes: &Attributes<'_>,
    width: impl FnOnce() -> u32,
    notes: &mut Notes,
) -> Result<(Arc<UserInfo>, Option<Permit>), StatusError> {
    if let Some(auditor) = &server.auditor {
        notes.trail = auditor.begin(parts, &sender, attributes).await;
    }
    let user = impersonate::resolve(&server.authorizer, sender.clone(), &parts.headers).await?;
    if let Some(trail) = notes.trail.as_mut()
        && !Arc::ptr_eq(&user, &sender)
    {
        trail.impersonates(user.clone());
    }
    let seat = seat(server, parts, &user, attributes, width, notes).await?;
    authorize(server, &user, attributes, notes).await?;
    Ok((user, seat))
}

/// Whether the user may do this to an object of the path, as if it were a request of its own.
pub(super) async fn require(
    server: &ApiServer,
    user: &UserInfo,
    path: &request::ResourcePath,
    verb: &str,
) -> Result<(), StatusError> {
    if user.in_group(groups::MASTERS) {
        return Ok(());
    }
    let attributes = path.attributes(verb, None);
    Ok(server.authorizer.require(user, &attributes).await?)
}

/// A body that is to be logged is read before it is handled.
pub(super) async fn look_into(
    method: &Method,
    subresource: &str,
    body: Body,
    notes: &mut Notes,
) -> Result<Body, StatusError> {
    let Some(trail) = notes.trail.as_mut() else {
        return Ok(body);
    };
    if is_stream(subresource) {
        trail.streams();
        return Ok(body);
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(body);
    }
    let bytes = body::read(body).await?;
    trail.carries(bytes.clone());
    Ok(Body::from(bytes))
}

/// Whether requests for a subresource last as long as the client wants.
pub(super) fn is_stream(subresource: &str) -> bool {
    matches!(
        subresource,
        "log" | "exec" | "attach" | "portforward" | "proxy"
    )
}

async fn authenticate(server: &ApiServer, parts: &Parts) -> Result<Arc<UserInfo>, StatusError> {
    match server.authenticator.authenticate(parts).await? {
        Some(user) => Ok(user),
        None if is_public_path(parts.uri.path()) => Ok(Arc::new(UserInfo::anonymous())),
        None => Err(StatusError::unauthorized()),
    }
}

/// The seats that a request for a resource needs.
pub(super) fn width(
    server: &ApiServer,
    path: &request::ResourcePath,
    verb: &str,
    options: &request::Options,
) -> u32 {
    work::seats(verb, options, || {
        let snapshot = server.registry.snapshot();
        let resource = snapshot.find(&path.group, &path.version, &path.resource);
        resource.map_or(0, |resource| server.cache.kind(&resource.prefix).len())
    })
}

/// Seats to be served in. The process itself and streams need none; a watch has one until its first state
/// is there.
async fn seat(
    server: &ApiServer,
    parts: &Parts,
    user: &UserInfo,
    attributes: &Attributes<'_>,
    width: impl FnOnce() -> u32,
    notes: &mut Notes,
) -> Result<Option<Permit>, StatusError> {
    let subresource = match attributes.target {
        Target::Resource(target) => target.subresource,
        Target::Path(_) => "",
    };
    if parts.extensions.get::<InProcessUser>().is_some() || is_stream(subresource) {
        return Ok(None);
    }
    let fairness = &server.fairness;
    let class = &mut notes.class;
    fairness.admit(user, attributes, class, width).await
}

async fn authorize(
    server: &ApiServer,
    user: &UserInfo,
    attributes: &Attributes<'_>,
    notes: &mut Notes,
) -> Result<(), StatusError> {
    let public = matches!(attributes.target, Target::Path(path) if is_public_path(path));
    let decision = if public || user.in_group(groups::MASTERS) {
        Decision::Allow {
            reason: String::new(),
        }
    } else {
        server.authorizer.authorize(user, attributes).await
    };
    if let Some(trail) = notes.trail.as_mut() {
        let verdict = if decision.is_allowed() {
            "allow"
        } else {
            "forbid"
        };
        trail.annotate("authorization.k8s.io/decision", verdict);
        trail.annotate("authorization.k8s.io/reason", decision.reason());
    }
    match decision {
        Decision::Allow { .. } => Ok(()),
        Decision::NoOpinion { reason } | Decision::Deny { reason } => {
            Err(Error::forbidden(user, attributes, &reason).into())
        }
    }
}
