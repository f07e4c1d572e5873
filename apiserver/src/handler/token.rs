//! `serviceaccounts/<name>/token`: a bound token.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};

use super::{Answer, Call, admit, body};
use crate::admission::Operation;
use crate::auth::token;
use crate::error::StatusError;

pub(super) async fn create(call: &Call, body: Bytes) -> Result<Response<Body>, StatusError> {
    let group = "authentication.k8s.io";
    let mut request = body::decode_other(call, &body, group, "v1", "TokenRequest")?;
    let asked = call.admission(Operation::Create, &call.path.name, None);
    admit::all(call, &asked, &mut request).await?;
    let authenticator = &call.server.authenticator;
    let answer = token::request_token(
        authenticator.token_issuer(),
        &*call.server.cache,
        authenticator.audiences(),
        &call.path.namespace,
        &call.path.name,
        request,
    )?;
    let answer = Answer::document(call.accept, StatusCode::CREATED, answer)?;
    Ok(answer.into_response())
}
