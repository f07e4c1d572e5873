//! Which capabilities a container gets.
use caps::{Capability, CapsHashSet};

use super::{Error, Security};

/// What every container gets unless it says otherwise: the set Docker and containerd give.
pub(crate) const DEFAULT: [Capability; 14] = [
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_CHROOT,
];

/// The set for these settings, limited to what `available` (this process's own bounding set) can give.
pub(crate) fn granted(
    container: &str,
    security: &Security,
    available: &CapsHashSet,
) -> Result<CapsHashSet, Error> {
    if security.privileged {
        return Ok(available.clone());
    }
    let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let mut set: CapsHashSet = if all(&security.drop_capabilities) {
        CapsHashSet::new()
    } else {
        DEFAULT.into_iter().collect()
    };
    if all(&security.add_capabilities) {
        set = available.clone();
    }
    for name in &security.add_capabilities {
        set.extend(parse(container, "capabilities.add", name)?);
    }
    for name in &security.drop_capabilities {
        if let Some(capability) = parse(container, "capabilities.drop", name)? {
            set.remove(&capability);
        }
    }
    set.retain(|capability| available.contains(capability));
    Ok(set)
}

/// One bit a capability.
pub(crate) fn bits(set: &CapsHashSet) -> u64 {
    set.iter()
        .fold(0, |bits, capability| bits | capability.bitmask())
}

fn parse(container: &str, field: &str, name: &str) -> Result<Option<Capability>, Error> {
    let upper = name.to_ascii_uppercase();
    if upper == "ALL" {
        return Ok(None);
    }
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    full.parse().map(Some).map_err(|_| Error::Invalid {
        object: container.to_owned(),
        field: field.to_owned(),
        problem: format!("names {name:?}, which is no capability of Linux"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted_names(add: &[&str], drop: &[&str]) -> Vec<String> {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let security = Security {
            add_capabilities: list(add),
            drop_capabilities: list(drop),
            ..Security::default()
        };
        let set = granted("c", &security, &caps::all()).unwrap();
        let mut names: Vec<String> = set.iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn additions_and_drops() {
        assert_eq!(granted_names(&[], &[]).len(), 14);
        assert_eq!(
            granted_names(&["NET_BIND_SERVICE"], &["ALL"]),
            ["CAP_NET_BIND_SERVICE"]
        );
        assert_eq!(granted_names(&["ALL"], &[]).len(), caps::all().len());
        assert_eq!(
            granted_names(&["ALL"], &["SYS_ADMIN"]).len(),
            caps::all().len() - 1
        );
        assert!(granted_names(&["cap_sys_time"], &[]).contains(&"CAP_SYS_TIME".to_owned()));
        assert!(!granted_names(&["NET_RAW"], &["NET_RAW"]).contains(&"CAP_NET_RAW".to_owned()));
    }

    #[test]
    fn a_wrong_name_is_told() {
        let security = Security {
            add_capabilities: vec!["FLY".to_owned()],
            ..Security::default()
        };
        let error = granted("web", &security, &caps::all()).unwrap_err();
        assert!(error.to_string().contains("FLY"), "{error}");
    }
}
