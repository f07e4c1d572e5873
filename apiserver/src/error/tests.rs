//! Messages and bodies as clients expect them.

use super::*;
use crate::resource::Registry;

#[test]
fn messages_have_the_shape_clients_parse() {
    let registry = Registry::builtin();
    let pods = registry.snapshot().find("", "v1", "pods").unwrap();
    let deployments = registry
        .snapshot()
        .find("apps", "v1", "deployments")
        .unwrap();
    let cases = [
        (
            StatusError::not_found(&pods, "a"),
            404,
            "pods \"a\" not found",
        ),
        (
            StatusError::already_exists(&deployments, "a"),
            409,
            "deployments.apps \"a\" already exists",
        ),
        (
            StatusError::method_not_allowed(),
            405,
            "the server does not allow this method on the requested resource",
        ),
    ];
    for (error, code, message) in cases {
        assert_eq!((error.code(), error.message()), (code, message));
    }
}

#[test]
fn the_body_is_a_status_object() {
    let error = StatusError::too_many_requests("later", 7);
    let body: serde_json::Value = serde_json::from_slice(&error.to_json()).unwrap();
    assert_eq!(body["kind"], "Status");
    assert_eq!(body["metadata"], serde_json::json!({}));
    assert_eq!(body["reason"], "TooManyRequests");
    assert_eq!(body["details"]["retryAfterSeconds"], 7);
    assert_eq!(error.into_response().headers()["retry-after"], "7");
}
