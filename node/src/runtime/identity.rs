//! Who a process runs as: the one place where users and groups are resolved. Pure.
//!
//! The rule is containerd's, and with it the one that `runAsNonRoot` relies on: a number is that number, whatever account
//! of the image has it as its *name*; anything else is looked up in the container's own files. The ids that come out are
//! what `runAsNonRoot` is checked on, and what everything that is later executed in the container runs as.
use serde::{Deserialize, Serialize};

use super::User;

/// Largest user and group number that can be asked for.
const MAX_ID: u32 = i32::MAX as u32;

/// A user with everything a process needs of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// What the text of a user or group stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named<'a> {
    /// None is given: root.
    Nothing,
    /// This number.
    Number(u32),
    /// Whatever the container's own files say.
    Name(&'a str),
}

/// The user and the group that an image names as `user`, `user:group` or by numbers.
pub(crate) fn halves(text: &str) -> (&str, &str) {
    text.split_once(':').unwrap_or((text, ""))
}

/// Reads one half.
///
/// # Errors
/// A number out of range.
pub(crate) fn named(text: &str) -> Result<Named<'_>, String> {
    if text.is_empty() {
        return Ok(Named::Nothing);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Named::Name(text));
    }
    // A number too long for any type is out of range as well, not a name.
    let number = text.parse::<i128>().ok();
    let id = number.and_then(|number| u64::try_from(number).ok());
    id.ok_or_else(|| out_of_range(text))
        .and_then(in_range)
        .map(Named::Number)
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Resolves a user by the texts of `/etc/passwd` and `/etc/group`; unreadable lines are passed over.
///
/// # Errors
/// A name that is not there, a number out of range, or root where that is ruled out.
pub(crate) fn identify(user: &User, passwd: &str, group: &str) -> Result<Identity, String> {
    let (name, group_name) = halves(user.name.as_deref().unwrap_or_default());
    let uid = match user.uid {
        Some(uid) => in_range(u64::from(uid))?,
        None => named_user(name, passwd)?,
    };
    if user.not_root && uid == 0 {
        return Err("is root, which runAsNonRoot rules out".to_owned());
    }
    let account = accounts(passwd).find(|account| account.uid == uid);
    let gid = match (user.gid, named(group_name)?) {
        (Some(gid), _) => in_range(u64::from(gid))?,
        // The image's group belongs to the image's user.
        (None, Named::Number(gid)) if user.uid.is_none() => gid,
        (None, Named::Name(name)) if user.uid.is_none() => named_group(name, group)?,
        (None, _) => account.as_ref().map_or(0, |account| account.gid),
    };
    let mut groups = vec![gid];
    if let Some(account) = account.as_ref().filter(|_| !user.strict_groups) {
        groups.extend(memberships(account.name, group));
    }
    for gid in &user.additional_gids {
        groups.push(in_range(u64::from(*gid))?);
    }
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|gid| seen.insert(*gid));
    let home = account.map_or("/", |account| account.home).to_owned();
    Ok(Identity {
        uid,
        gid,
        groups,
        home,
    })
}

fn named_user(name: &str, passwd: &str) -> Result<u32, String> {
    match named(name)? {
        Named::Nothing => Ok(0),
        Named::Number(uid) => Ok(uid),
        Named::Name(name) => accounts(passwd)
            .find(|account| account.name == name)
            .map(|account| in_range(u64::from(account.uid)))
            .unwrap_or_else(|| Err(format!("user {name:?} is not in the image's /etc/passwd"))),
    }
}

fn named_group(name: &str, group: &str) -> Result<u32, String> {
    let found = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    });
    found
        .map(in_range)
        .unwrap_or_else(|| Err(format!("group {name:?} is not in the image's /etc/group")))
}

fn in_range(number: u64) -> Result<u32, String> {
    u32::try_from(number)
        .ok()
        .filter(|id| *id <= MAX_ID)
        .ok_or_else(|| out_of_range(&number.to_string()))
}

fn out_of_range(text: &str) -> String {
    format!("{text} is no user or group number: they go from 0 to {MAX_ID}")
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/");
        Some(Account {
            name,
            uid,
            gid,
            home,
        })
    })
}

fn memberships<'a>(name: &'a str, group: &'a str) -> impl Iterator<Item = u32> + 'a {
    group.lines().filter_map(move |line| {
        let mut fields = line.split(':');
        let gid = fields.nth(2)?.parse().ok()?;
        fields
            .next()?
            .trim()
            .split(',')
            .any(|member| member == name)
            .then_some(gid)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Accounts whose names are numbers, some of them root's.
    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34::/srv/web:/bin/false\n\
        1000:x:0:0::/root:/bin/sh\n7:x:33:34::/srv:/bin/sh\n+8:x:0:0::/:/bin/sh\nbig:x:4294967295:0::/:\n";
    const GROUP: &str =
        "root:x:0:\nwww:x:34:web\nadm:x:4:root,web\nlogs:x:9:web\nbad:x:\n5:x:0:\n50:x:0:1000\n";

    fn user(name: &str, uid: Option<u32>, gid: Option<u32>) -> User {
        let name = Some(name.to_owned()).filter(|n| !n.is_empty());
        User {
            name,
            uid,
            gid,
            additional_gids: vec![2000, 9],
            ..User::default()
        }
    }

    fn identified(name: &str, uid: Option<u32>, gid: Option<u32>) -> (u32, u32, Vec<u32>, String) {
        let identity = identify(&user(name, uid, gid), PASSWD, GROUP).unwrap();
        (identity.uid, identity.gid, identity.groups, identity.home)
    }

    #[test]
    fn names_numbers_and_wishes() {
        let web = vec![34, 4, 9, 2000];
        let home = || "/srv/web".to_owned();
        assert_eq!(identified("web", None, None), (33, 34, web.clone(), home()));
        assert_eq!(identified("33", None, None), (33, 34, web.clone(), home()));
        assert_eq!(identified("", Some(33), None), (33, 34, web, home()));
        assert_eq!(identified("web:adm", None, None).1, 4);
        assert_eq!(identified("web:7", None, Some(8)).1, 8);
        assert_eq!(
            identified("web:adm", Some(1234), None),
            (1234, 0, vec![0, 2000, 9], "/".into())
        );
        assert_eq!(
            identified("", None, None),
            (0, 0, vec![0, 4, 2000, 9], "/root".into())
        );
    }

    #[test]
    fn a_number_is_that_number_whatever_is_named_like_it() {
        let cases = [
            ("1000", (1000, 0)),
            ("+1000", (1000, 0)),
            ("01000", (1000, 0)),
            ("1000:5", (1000, 5)),
            ("7", (7, 0)),
            ("8:50", (8, 50)),
            ("0", (0, 0)),
            ("-0", (0, 0)),
            (":34", (0, 34)),
        ];
        for (name, (uid, gid)) in cases {
            let (found_uid, found_gid, groups, _) = identified(name, None, None);
            assert_eq!((found_uid, found_gid), (uid, gid), "{name}");
            assert_eq!(groups[0], gid, "{name}");
            let not_root = User {
                not_root: true,
                ..user(name, None, None)
            };
            assert_eq!(
                identify(&not_root, PASSWD, GROUP).is_ok(),
                uid != 0,
                "{name}"
            );
        }
    }

    #[test]
    fn strict_groups_are_the_pods_alone() {
        let strict = User {
            strict_groups: true,
            ..user("web", None, None)
        };
        let groups = identify(&strict, PASSWD, GROUP).unwrap().groups;
        assert_eq!(groups, [34, 2000, 9]);
    }

    #[test]
    fn what_is_not_there_is_told() {
        for (name, word) in [
            ("nobody", "nobody"),
            ("web:wheel", "wheel"),
            ("-1", "-1"),
            ("4294967296", "4294967296"),
            ("0:99999999999", "99999999999"),
            ("big", "4294967295"),
            (
                "340282366920938463463374607431768211456",
                "340282366920938463463374607431768211456",
            ),
        ] {
            let error = identify(&user(name, None, None), PASSWD, GROUP).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        identify(&user("", Some(u32::MAX), None), PASSWD, GROUP).unwrap_err();
    }

    proptest! {
        #[test]
        fn no_file_of_an_image_can_harm(passwd in ".{0,200}", group in ".{0,200}", name in ".{0,20}") {
            let _ = identify(&user(&name, None, None), &passwd, &group);
        }

        #[test]
        fn no_file_of_an_image_makes_another_of_a_number(
            uid in 1u32..=MAX_ID, gid in 0u32..=MAX_ID, other in 0u32..5,
        ) {
            let passwd = format!("{uid}:x:{other}:{other}::/:\nx:x:{uid}:{other}::/:\n");
            let group = format!("{gid}:x:{other}:\n");
            let user = User { not_root: true, ..user(&format!("{uid}:{gid}"), None, None) };
            let identity = identify(&user, &passwd, &group).unwrap();
            prop_assert_eq!((identity.uid, identity.gid), (uid, gid));
        }
    }
}
