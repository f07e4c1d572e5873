//! Whether a token with a good signature is still good now.

use bytes::Bytes;
use serde::Deserialize;

use super::{Claims, Reference};
use crate::auth::{Kind, ObjectSource, UserInfo};

/// How long after its deletion began an object still vouches for tokens, in seconds.
const DELETION_GRACE: i64 = 60;

/// The head of an object, as far as bindings care.
#[derive(Deserialize)]
struct Bound {
    metadata: BoundMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BoundMeta {
    uid: String,
    deletion_timestamp: Option<jiff::Timestamp>,
}

/// The identity a token gives at second `now` to a server that answers to `audiences`.
///
/// # Errors
/// Why it gives none, for the log.
pub(crate) fn check_binding(
    claims: &Claims,
    audiences: &[String],
    now: i64,
    source: &dyn ObjectSource,
) -> Result<UserInfo, String> {
    if now >= claims.exp {
        return Err("service account token has expired".into());
    }
    if now < claims.nbf {
        return Err("service account token is not valid yet".into());
    }
    if !claims
        .aud
        .iter()
        .any(|audience| audiences.contains(audience))
    {
        return Err(format!(
            "token audiences {:?} is invalid for the target audiences",
            claims.aud
        ));
    }
    let facts = &claims.kubernetes;
    let (namespace, account) = (&*facts.namespace, &facts.serviceaccount);
    let mut user = UserInfo::service_account(namespace, &account.name);
    if claims.sub != user.name {
        return Err("the token's subject is not its service account".into());
    }
    let alive = |kind: Kind, namespace: &str, reference: &Reference| {
        vouches(
            source.get(kind, namespace, &reference.name),
            &reference.uid,
            now,
        )
        .map_err(|why| format!("{} {namespace}/{}: {why}", kind.plural, reference.name))
    };
    alive(Kind::SERVICE_ACCOUNTS, namespace, account)?;
    if let Some(secret) = &facts.secret {
        alive(Kind::SECRETS, namespace, secret)?;
    }
    match (&facts.pod, &facts.node) {
        (Some(pod), _) => alive(Kind::PODS, namespace, pod)?,
        (None, Some(node)) => alive(Kind::NODES, "", node)?,
        (None, None) => {}
    }
    add_facts(&mut user, claims);
    Ok(user)
}

/// Whether `object` is the one with `uid` and not long in deletion.
fn vouches(object: Option<Bytes>, uid: &str, now: i64) -> Result<(), &'static str> {
    let object = object.ok_or("it no longer exists")?;
    let bound: Bound = serde_json::from_slice(&object).map_err(|_| "it cannot be read")?;
    if bound.metadata.uid != uid {
        return Err("it was deleted and made again");
    }
    match bound.metadata.deletion_timestamp {
        Some(deleted) if deleted.as_second() + DELETION_GRACE < now => Err("it is being deleted"),
        _ => Ok(()),
    }
}

fn add_facts(user: &mut UserInfo, claims: &Claims) {
    let facts = &claims.kubernetes;
    user.uid.clone_from(&facts.serviceaccount.uid);
    let mut add = |key: &str, value: String| {
        user.extra
            .insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    };
    add("credential-id", format!("JTI={}", claims.jti));
    for (kind, reference) in [("pod", &facts.pod), ("node", &facts.node)] {
        if let Some(reference) = reference {
            add(&format!("{kind}-name"), reference.name.clone());
            add(&format!("{kind}-uid"), reference.uid.clone());
        }
    }
}
