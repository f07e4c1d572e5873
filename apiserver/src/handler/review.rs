//! Kinds that are questions: answered at once, never stored.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};

use super::{Answer, Call, body};
use crate::error::StatusError;
use crate::request::{Accept, Form};

pub(super) async fn answer(call: &Call, body: Bytes) -> Result<Response<Body>, StatusError> {
    if call.accept.form != Form::Plain {
        return Err(Accept::refused(true));
    }
    let (question, warnings) = body::decode(call, &body)?;
    let kind = &call.resource.kind;
    let reviews = &call.server.reviews;
    let answer = reviews
        .answer(kind, call.namespace(), &call.user, question)
        .await?;
    let mut answer = Answer::document(call.accept, StatusCode::CREATED, answer)?;
    answer.warnings = warnings;
    Ok(answer.into_response())
}
