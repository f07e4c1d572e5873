//! Questions about identities and rights, asked by creating a review object.

use std::sync::Arc;

use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes as ResourceSpec, SubjectAccessReviewSpec,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Attributes, Authenticator, Authorizer, Decision, Error, ResourceAttributes, UserInfo};

/// Answers the kinds of `authentication.k8s.io` and `authorization.k8s.io`, which are never stored.
#[derive(Clone, Debug)]
pub struct Reviews {
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Authorizer>,
}

impl Reviews {
    /// Reviews answered by these two.
    pub fn new(authenticator: Arc<Authenticator>, authorizer: Arc<Authorizer>) -> Self {
        Self {
            authenticator,
            authorizer,
        }
    }

    /// Answers the review `body` of `kind` (`SubjectAccessReview`, `LocalSubjectAccessReview`,
    /// `SelfSubjectAccessReview`, `SelfSubjectRulesReview`, `TokenReview`, `SelfSubjectReview`), asked
    /// by `user` in `namespace` (empty for cluster-scoped kinds): the body with its `status`.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::BadRequest`] for questions that make no sense,
    /// [`Error::NotFound`] for other kinds.
    pub async fn answer(
        &self,
        kind: &str,
        namespace: &str,
        user: &UserInfo,
        body: Value,
    ) -> Result<Value, Error> {
        let spec = body.get("spec").cloned().unwrap_or_else(|| json!({}));
        let status = match kind {
            "SubjectAccessReview" => self.subject_access("SubjectAccessReview", &spec).await?,
            "LocalSubjectAccessReview" => {
                check_local(&spec, namespace)?;
                self.subject_access("LocalSubjectAccessReview", &spec)
                    .await?
            }
            "SelfSubjectAccessReview" => {
                self.access("SelfSubjectAccessReview", user, parse(&spec)?)
                    .await?
            }
            "SelfSubjectRulesReview" => self.rules(user, &spec)?,
            "TokenReview" => self.token(&body).await?,
            "SelfSubjectReview" => json!({"userInfo": to_json(user)}),
            _ => {
                return Err(Error::NotFound {
                    group: String::new(),
                    resource: kind.to_owned(),
                    name: String::new(),
                });
            }
        };
        Ok(with_status(body, status))
    }

    async fn subject_access(&self, kind: &'static str, spec: &Value) -> Result<Value, Error> {
        let wanted: SubjectAccessReviewSpec = parse(spec)?;
        let user = UserInfo {
            name: wanted.user.clone().unwrap_or_default(),
            uid: wanted.uid.clone().unwrap_or_default(),
            groups: wanted.groups.clone().unwrap_or_default(),
            extra: wanted.extra.clone().unwrap_or_default(),
        };
        if user.name.is_empty() && user.groups.is_empty() {
            let detail = "Required value: at least one of user or group must be specified".into();
            return Err(invalid(kind, "spec.user", detail));
        }
        self.access(kind, &user, wanted).await
    }

    async fn access(
        &self,
        kind: &'static str,
        user: &UserInfo,
        spec: SubjectAccessReviewSpec,
    ) -> Result<Value, Error> {
        let decision = match (&spec.resource_attributes, &spec.non_resource_attributes) {
            (Some(resource), None) => {
                self.authorizer
                    .authorize(user, &of_resource(resource))
                    .await
            }
            (None, Some(path)) => self.authorizer.authorize(user, &of_path(path)).await,
            (Some(_), Some(_)) => {
                let detail =
                    "Invalid value: cannot be specified in combination with resourceAttributes";
                return Err(invalid(kind, "spec.nonResourceAttributes", detail.into()));
            }
            (None, None) => {
                let detail = "Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified";
                return Err(invalid(kind, "spec.resourceAttributes", detail.into()));
            }
        };
        Ok(access_status(&decision))
    }

    fn rules(&self, user: &UserInfo, spec: &Value) -> Result<Value, Error> {
        let namespace = spec
            .get("namespace")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if namespace.is_empty() {
            return Err(Error::BadRequest {
                message: "no namespace on request".into(),
            });
        }
        let (rules, incomplete) = self.authorizer.rules_for(user, namespace);
        let (paths, resources): (Vec<_>, Vec<_>) = rules
            .iter()
            .partition(|rule| !rule.non_resource_urls.is_empty());
        Ok(json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": incomplete}))
    }

    async fn token(&self, body: &Value) -> Result<Value, Error> {
        let review: TokenReview = parse(body)?;
        let spec = review.spec;
        let token = spec.token;
        if token.is_empty() {
            let message = "token is required for TokenReview in authentication".into();
            return Err(Error::BadRequest { message });
        }
        let asked = spec.audiences.unwrap_or_default();
        let audiences = if asked.is_empty() {
            self.authenticator.audiences()
        } else {
            &asked
        };
        Ok(
            match self
                .authenticator
                .authenticate_token(&token, audiences)
                .await
            {
                Ok(known) => json!({
                    "authenticated": true,
                    "user": to_json(&known.user),
                    "audiences": known.audiences,
                }),
                Err(Error::Unauthorized { reason }) => json!({"user": {}, "error": reason}),
                Err(error) => json!({"user": {}, "error": error.to_string()}),
            },
        )
    }
}

/// The answer: the question with its status.
fn with_status(body: Value, status: Value) -> Value {
    let mut answer = match body {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    answer.insert("status".into(), status);
    Value::Object(answer)
}

/// A local review is about the namespace it is asked in.
fn check_local(spec: &Value, namespace: &str) -> Result<(), Error> {
    if spec
        .get("nonResourceAttributes")
        .is_some_and(|value| !value.is_null())
    {
        let detail = "Invalid value: disallowed on this kind of request".into();
        return Err(invalid(
            "LocalSubjectAccessReview",
            "spec.nonResourceAttributes",
            detail,
        ));
    }
    let asked = spec
        .pointer("/resourceAttributes/namespace")
        .and_then(Value::as_str);
    if asked.unwrap_or_default() == namespace {
        return Ok(());
    }
    Err(Error::BadRequest {
        message: format!(
            "spec.resourceAttributes.namespace must match namespace: {:?} is not {namespace:?}",
            asked.unwrap_or_default()
        ),
    })
}

fn access_status(decision: &Decision) -> Value {
    let mut status = Map::new();
    status.insert("allowed".into(), decision.is_allowed().into());
    if matches!(decision, Decision::Deny { .. }) {
        status.insert("denied".into(), true.into());
    }
    if !decision.reason().is_empty() {
        status.insert("reason".into(), decision.reason().into());
    }
    Value::Object(status)
}

fn of_resource(spec: &ResourceSpec) -> Attributes<'_> {
    Attributes::resource(
        spec.verb.as_deref().unwrap_or_default(),
        ResourceAttributes {
            group: spec.group.as_deref().unwrap_or_default(),
            version: spec.version.as_deref().unwrap_or_default(),
            resource: spec.resource.as_deref().unwrap_or_default(),
            subresource: spec.subresource.as_deref().unwrap_or_default(),
            namespace: spec.namespace.as_deref().unwrap_or_default(),
            name: spec.name.as_deref().unwrap_or_default(),
            ..ResourceAttributes::default()
        },
    )
    .selected_by(selector_of(spec))
}

/// As clients send it. A selector in parts is not taken up, so the answer may be no where the request itself is let in.
fn selector_of(spec: &ResourceSpec) -> &str {
    let selector = spec.field_selector.as_ref();
    let raw = selector.and_then(|selector| selector.raw_selector.as_deref());
    raw.unwrap_or_default()
}

fn of_path(spec: &NonResourceAttributes) -> Attributes<'_> {
    Attributes::path(
        spec.verb.as_deref().unwrap_or_default(),
        spec.path.as_deref().unwrap_or_default(),
    )
}

/// A user as the API writes it.
pub(crate) fn to_json(user: &UserInfo) -> Value {
    let mut json = Map::new();
    json.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        json.insert("uid".into(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        json.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        json.insert("extra".into(), json!(user.extra));
    }
    Value::Object(json)
}

fn parse<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(value).map_err(|error| Error::BadRequest {
        message: error.to_string(),
    })
}

fn invalid(kind: &'static str, field: &str, detail: String) -> Error {
    Error::Invalid {
        kind,
        name: String::new(),
        field: field.to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests;
