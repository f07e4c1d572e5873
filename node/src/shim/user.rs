//! Who a process runs as, looked up in the container's own files: pure.
use crate::runtime::User;

/// Largest user and group number that can be asked for.
const MAX_ID: u32 = i32::MAX as u32;

/// A user with everything a process needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Looks a user up in the texts of `/etc/passwd` and `/etc/group`; unreadable lines are passed over.
pub(super) fn identify(user: &User, passwd: &str, group: &str) -> Result<Identity, String> {
    let text = user.name.as_deref().unwrap_or_default();
    let (name, group_name) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|g| !g.is_empty())),
        None => (text, None),
    };
    let image_user = named_user(name, passwd)?;
    let (uid, account) = match user.uid {
        Some(uid) => {
            let uid = in_range(u64::from(uid))?;
            (uid, accounts(passwd).find(|account| account.uid == uid))
        }
        None => image_user,
    };
    let gid = match (user.gid, group_name) {
        (Some(gid), _) => in_range(u64::from(gid))?,
        // The image's group belongs to the image's user.
        (None, Some(name)) if user.uid.is_none() => named_group(name, group)?,
        (None, _) => account.as_ref().map_or(0, |account| account.gid),
    };
    let mut groups = vec![gid];
    if let Some(account) = &account {
        groups.extend(memberships(account.name, group));
    }
    groups.extend(&user.additional_gids);
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

fn named_user<'a>(name: &str, passwd: &'a str) -> Result<(u32, Option<Account<'a>>), String> {
    if name.is_empty() {
        return Ok((0, accounts(passwd).find(|account| account.uid == 0)));
    }
    if let Some(account) = accounts(passwd).find(|account| account.name == name) {
        return Ok((account.uid, Some(account)));
    }
    match name.parse::<i128>() {
        Ok(number) => {
            let uid = u64::try_from(number)
                .map_err(|_| out_of_range(name))
                .and_then(in_range)?;
            Ok((uid, accounts(passwd).find(|account| account.uid == uid)))
        }
        Err(_) => Err(format!("user {name:?} is not in the image's /etc/passwd")),
    }
}

fn named_group(name: &str, group: &str) -> Result<u32, String> {
    let found = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    });
    if let Some(gid) = found {
        return Ok(gid);
    }
    match name.parse::<i128>() {
        Ok(number) => u64::try_from(number)
            .map_err(|_| out_of_range(name))
            .and_then(in_range),
        Err(_) => Err(format!("group {name:?} is not in the image's /etc/group")),
    }
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

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34::/srv/web:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:web\nadm:x:4:root,web\nlogs:x:9:web\nbad:x:\n";

    fn user(name: &str, uid: Option<u32>, gid: Option<u32>) -> User {
        let name = Some(name.to_owned()).filter(|n| !n.is_empty());
        User {
            name,
            uid,
            gid,
            additional_gids: vec![2000, 9],
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
    fn what_is_not_there_is_told() {
        for (name, word) in [
            ("nobody", "nobody"),
            ("web:wheel", "wheel"),
            ("-1", "-1"),
            ("4294967296", "4294967296"),
            ("0:99999999999", "99999999999"),
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
    }
}
