//! Acting as somebody else: the `Impersonate-*` headers.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;

use super::{Attributes, Authorizer, Error, ResourceAttributes, UserInfo, groups, users};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA_PREFIX: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user a request acts as: `user` itself without impersonation headers.
///
/// Each part of the wanted identity needs the verb `impersonate` on its own resource: `users`,
/// `serviceaccounts`, `groups`, `uids.authentication.k8s.io`, `userextras/<key>.authentication.k8s.io`.
///
/// # Errors
/// [`Error::Forbidden`] for the first part that is not allowed, [`Error::BadRequest`] for headers that
/// name a group, UID or extra but no user, or are not text.
pub async fn resolve(
    authorizer: &Authorizer,
    user: Arc<UserInfo>,
    headers: &HeaderMap,
) -> Result<Arc<UserInfo>, Error> {
    let Some(wanted) = Wanted::read(headers)? else {
        return Ok(user);
    };
    for target in wanted.targets() {
        authorizer
            .require(&user, &Attributes::resource("impersonate", target))
            .await?;
    }
    Ok(Arc::new(wanted.into_user()))
}

/// The identity the headers ask for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        let user = values(headers, USER)?
            .into_iter()
            .next()
            .unwrap_or_default();
        let uid = values(headers, UID)?.into_iter().next().unwrap_or_default();
        let groups = values(headers, GROUP)?;
        let mut extra = BTreeMap::new();
        for name in headers.keys() {
            if let Some(key) = name.as_str().strip_prefix(EXTRA_PREFIX) {
                extra.insert(unescape(key), values(headers, name.as_str())?);
            }
        }
        if !user.is_empty() {
            return Ok(Some(Self {
                user,
                uid,
                groups,
                extra,
            }));
        }
        if uid.is_empty() && groups.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        Err(Error::BadRequest {
            message: "requested groups, uid or extra without impersonating a user".into(),
        })
    }

    fn service_account(&self) -> Option<(&str, &str)> {
        self.user
            .strip_prefix(users::SERVICE_ACCOUNT_PREFIX)?
            .split_once(':')
    }

    /// What the caller must be allowed to impersonate.
    fn targets(&self) -> Vec<ResourceAttributes<'_>> {
        let none = ResourceAttributes {
            version: "v1",
            ..ResourceAttributes::default()
        };
        let mut targets = vec![match self.service_account() {
            Some((namespace, name)) => ResourceAttributes {
                resource: "serviceaccounts",
                namespace,
                name,
                ..none
            },
            None => ResourceAttributes {
                resource: "users",
                name: &self.user,
                ..none
            },
        }];
        let groups = self.groups.iter();
        targets.extend(groups.map(|name| ResourceAttributes {
            resource: "groups",
            name,
            ..none
        }));
        let identity = ResourceAttributes {
            group: AUTHENTICATION,
            ..none
        };
        if !self.uid.is_empty() {
            targets.push(ResourceAttributes {
                resource: "uids",
                name: &self.uid,
                ..identity
            });
        }
        for (key, values) in &self.extra {
            targets.extend(values.iter().map(|name| ResourceAttributes {
                resource: "userextras",
                subresource: key,
                name,
                ..identity
            }));
        }
        targets
    }

    /// The identity, with the groups that come with the user's name.
    fn into_user(self) -> UserInfo {
        let own_groups = match self.service_account() {
            Some((namespace, name)) if self.groups.is_empty() => {
                UserInfo::service_account(namespace, name).groups
            }
            _ => self.groups,
        };
        let mut user = UserInfo {
            name: self.user,
            uid: self.uid,
            groups: own_groups,
            extra: self.extra,
        };
        let anonymous = user.name == users::ANONYMOUS;
        user.add_group(if anonymous {
            groups::UNAUTHENTICATED
        } else {
            groups::AUTHENTICATED
        });
        user
    }
}

fn values(headers: &HeaderMap, name: &str) -> Result<Vec<String>, Error> {
    let read = |value: &http::HeaderValue| {
        std::str::from_utf8(value.as_bytes())
            .map(str::to_owned)
            .map_err(|_| Error::BadRequest {
                message: format!("header {name} is not UTF-8"),
            })
    };
    headers.get_all(name).iter().map(read).collect()
}

/// Undoes the percent-encoding of the key of an extra; what is no encoding stays.
fn unescape(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let [first, after @ ..] = rest {
        let decoded = match (first, after) {
            (b'%', [high, low, ..]) => hex::decode([*high, *low]).ok(),
            _ => None,
        };
        match decoded {
            Some(byte) => {
                bytes.extend(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Kind;
    use crate::auth::memory::Memory;
    use serde_json::json;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[tokio::test]
    async fn every_part_must_be_allowed() {
        let source = Memory::with([
            (
                Kind::CLUSTER_ROLES,
                json!({
                    "metadata": {"name": "deputy"},
                    "rules": [
                        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"]},
                        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups", "serviceaccounts"]},
                        {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/a/b"]},
                    ],
                }),
            ),
            (
                Kind::CLUSTER_ROLE_BINDINGS,
                json!({
                    "metadata": {"name": "deputy"},
                    "roleRef": {"kind": "ClusterRole", "name": "deputy"},
                    "subjects": [{"kind": "User", "name": "deputy"}],
                }),
            ),
        ]);
        let authorizer = Authorizer::new(source);
        let deputy = Arc::new(UserInfo::new("deputy", Vec::<String>::new()));
        let act = async |pairs: &[(&'static str, &'static str)]| {
            resolve(&authorizer, deputy.clone(), &headers(pairs)).await
        };
        assert_eq!(act(&[]).await.unwrap().name, "deputy");
        let bob = act(&[
            (USER, "bob"),
            (GROUP, "dev"),
            ("impersonate-extra-a%2fb", "x"),
        ])
        .await
        .unwrap();
        assert_eq!(
            (&*bob.name, &bob.groups[..]),
            (
                "bob",
                &["dev".to_owned(), "system:authenticated".to_owned()][..]
            )
        );
        assert_eq!(bob.extra["a/b"], ["x"]);
        let account = act(&[(USER, "system:serviceaccount:x:web")]).await.unwrap();
        assert!(account.in_group("system:serviceaccounts:x"));
        for (pairs, expected) in [
            (
                &[(USER, "eve")][..],
                "cannot impersonate resource \"users\"",
            ),
            (
                &[(USER, "bob"), (UID, "1")][..],
                "cannot impersonate resource \"uids\"",
            ),
            (&[(GROUP, "dev")][..], "without impersonating a user"),
        ] {
            let error = act(pairs).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
