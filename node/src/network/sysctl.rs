//! Kernel settings of a network namespace, by their dotted names.

use std::path::{Path, PathBuf};

use davit_plugins::capabilities::{ActError, ActErrorKind};

use super::namespace;

/// Writes a setting unless it has the value already.
pub(super) async fn write(netns: Option<&Path>, key: &str, value: &str) -> Result<(), ActError> {
    let path = path_of(key)?;
    let (target, wanted) = (path.clone(), value.to_owned());
    let written = namespace::inside(netns, move || {
        if is_same(&std::fs::read_to_string(&target)?, &wanted) {
            return Ok(());
        }
        std::fs::write(&target, wanted)
    });
    written.await.map_err(|error| {
        let message = format!("cannot set {key} to {value}: {}", error.message);
        ActError::new(error.kind, message)
    })
}

/// The present value of a setting.
pub(super) async fn read(netns: Option<&Path>, key: &str) -> Result<String, ActError> {
    let path = path_of(key)?;
    let text = namespace::inside(netns, move || std::fs::read_to_string(path)).await?;
    Ok(text.trim().to_owned())
}

/// The present value of a setting of the host; `None` while there is none, as of a link that is not there yet.
pub(super) async fn of_host(key: &str) -> Result<Option<String>, ActError> {
    let path = path_of(key)?;
    let read = move || match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    namespace::inside(None, read).await
}

/// Puts a setting of the host back to what it was, unless somebody else has set it since.
pub(super) async fn restore(key: &str, ours: &str, former: &str) -> Result<(), ActError> {
    match of_host(key).await? {
        Some(now) if is_same(&now, ours) && !is_same(&now, former) => {
            write(None, key, former).await
        }
        _ => Ok(()),
    }
}

/// Settings of several numbers are read with other blanks than they are written.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

/// `net.ipv4.conf.eth0/1.arp_filter` is `/proc/sys/net/ipv4/conf/eth0.1/arp_filter`; nothing
/// outside `net` belongs to a namespace of this kind.
fn path_of(key: &str) -> Result<PathBuf, ActError> {
    let refuse = || {
        let message = format!("{key:?} is not a network setting; write net.<family>.<name>");
        ActError::new(ActErrorKind::Unsupported, message)
    };
    let parts: Vec<String> = key.split('.').map(|part| part.replace('/', ".")).collect();
    let odd = |part: &String| {
        part.is_empty() || part == "." || part == ".." || part.contains(['\0', '\n'])
    };
    if parts.len() < 2 || parts.iter().any(odd) || parts.first().is_none_or(|part| part != "net") {
        return Err(refuse());
    }
    Ok(Path::new("/proc/sys").join(parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::{is_same, path_of};

    #[test]
    fn blanks_make_no_difference() {
        assert!(is_same("4096\t131072\t6291456\n", "4096 131072 6291456"));
        assert!(!is_same("1", "0"));
    }

    #[test]
    fn only_network_settings_have_a_path() {
        let path = path_of("net.ipv4.conf.eth0/1.arp_filter").unwrap();
        assert_eq!(
            path.to_str(),
            Some("/proc/sys/net/ipv4/conf/eth0.1/arp_filter")
        );
        for key in [
            "kernel.panic",
            "net",
            "net.",
            "net./.x",
            "net.//.x",
            "",
            "net.a\0",
        ] {
            assert!(path_of(key).is_err(), "{key:?}");
        }
    }
}
