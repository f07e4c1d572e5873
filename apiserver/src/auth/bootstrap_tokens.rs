//! Short-lived tokens with which a new node introduces itself: Secrets of type
//! `bootstrap.kubernetes.io/token` in `kube-system`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Kind, ObjectSource, UserInfo, groups};

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP_PREFIX: &str = "system:bootstrappers:";

#[derive(Deserialize)]
struct TokenSecret {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
    metadata: TokenMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenMeta {
    deletion_timestamp: Option<jiff::Timestamp>,
}

/// The user of a bootstrap token at `now`; `Ok(None)` when `token` does not look like one.
///
/// # Errors
/// Why a token that looks like one is not good, for the log.
pub(super) fn authenticate(
    token: &str,
    now: jiff::Timestamp,
    source: &dyn ObjectSource,
) -> Result<Option<UserInfo>, String> {
    let Some((id, secret)) = token.split_once('.') else {
        return Ok(None);
    };
    if !(is_part(id, 6) && is_part(secret, 16)) {
        return Ok(None);
    }
    let object = source
        .get(Kind::SECRETS, NAMESPACE, &format!("bootstrap-token-{id}"))
        .ok_or_else(|| format!("there is no bootstrap token {id}"))?;
    let stored: TokenSecret = serde_json::from_slice(&object).map_err(|error| error.to_string())?;
    check(&stored, id, secret, now).map_err(|why| format!("bootstrap token {id} {why}"))?;
    let mut user = UserInfo::new(
        format!("system:bootstrap:{id}"),
        [groups::BOOTSTRAPPERS.to_owned()],
    );
    for group in extra_groups(&stored)? {
        user.add_group(&group);
    }
    Ok(Some(user))
}

fn is_part(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn check(
    stored: &TokenSecret,
    id: &str,
    secret: &str,
    now: jiff::Timestamp,
) -> Result<(), &'static str> {
    if stored.kind != TYPE || stored.metadata.deletion_timestamp.is_some() {
        return Err("is no usable token Secret");
    }
    let field = |name: &str| stored.field(name).unwrap_or_default();
    if field("token-id") != id || !same_secret(&field("token-secret"), secret) {
        return Err("has another secret");
    }
    if field("usage-bootstrap-authentication") != "true" {
        return Err("is not for authentication");
    }
    match stored
        .field("expiration")
        .map(|end| end.parse::<jiff::Timestamp>())
    {
        None => Ok(()),
        Some(Ok(end)) if now < end => Ok(()),
        Some(Ok(_)) => Err("has expired"),
        Some(Err(_)) => Err("has an expiration that cannot be read"),
    }
}

/// Compares in a time that does not depend on where the two differ.
fn same_secret(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |differs, (x, y)| differs | (x ^ y))
            == 0
}

fn extra_groups(stored: &TokenSecret) -> Result<Vec<String>, String> {
    let listed = stored.field("auth-extra-groups").unwrap_or_default();
    let groups: Vec<_> = listed
        .split(',')
        .map(str::trim)
        .filter(|group| !group.is_empty())
        .map(str::to_owned)
        .collect();
    match groups.iter().find(|group| !group.starts_with(GROUP_PREFIX)) {
        Some(group) => Err(format!(
            "bootstrap token group {group:?} does not begin with {GROUP_PREFIX}"
        )),
        None => Ok(groups),
    }
}

impl TokenSecret {
    fn field(&self, name: &str) -> Option<String> {
        let bytes = STANDARD.decode(self.data.get(name)?).ok()?;
        String::from_utf8(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::memory::Memory;
    use serde_json::json;

    #[test]
    fn only_a_live_token_with_its_secret_counts() {
        let b64 = |text: &str| STANDARD.encode(text);
        let secret = |expiration: &str, usage: &str| {
            json!({
                "metadata": {"namespace": "kube-system", "name": "bootstrap-token-abcdef"},
                "type": TYPE,
                "data": {
                    "token-id": b64("abcdef"),
                    "token-secret": b64("0123456789abcdef"),
                    "expiration": b64(expiration),
                    "usage-bootstrap-authentication": b64(usage),
                    "auth-extra-groups": b64("system:bootstrappers:nodes"),
                },
            })
        };
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        let ask = |token: &str, expiration: &str, usage: &str| {
            let source = Memory::with([(Kind::SECRETS, secret(expiration, usage))]);
            authenticate(token, now, &*source)
        };
        let (good, later) = ("abcdef.0123456789abcdef", "2031-01-01T00:00:00Z");
        let user = ask(good, later, "true").unwrap().unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert!(user.in_group("system:bootstrappers:nodes"));
        assert!(ask(good, "2029-01-01T00:00:00Z", "true").is_err());
        assert!(ask(good, later, "false").is_err());
        assert!(
            ask("abcdef.0123456789abcdeX", later, "true")
                .unwrap()
                .is_none()
        );
        assert!(ask("abcdef.0123456789abcdee", later, "true").is_err());
        assert!(ask("bbbbbb.0123456789abcdef", later, "true").is_err());
        assert!(ask("ey.ey.x", later, "true").unwrap().is_none());
    }
}
