//! Image configurations: checked before an image is used, and turned into a command line.

use oci_spec::image::ImageConfiguration;

use super::digest::Digest;
use crate::runtime::identity::{self, Named};

/// The user an image wants to run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageUser {
    /// None named: root.
    Unset,
    /// A number, which `runAsNonRoot` can verify.
    Id(u32),
    /// A name, which only the image's `/etc/passwd` can tell; `runAsNonRoot` refuses it.
    Name(String),
}

/// Reads a configuration and checks everything a container would later stumble over.
///
/// # Errors
/// One sentence on the field and what is wrong with it.
pub(super) fn parse(bytes: &[u8], layers: usize) -> Result<ImageConfiguration, String> {
    let image: ImageConfiguration = serde_json::from_slice(bytes)
        .map_err(|error| format!("it is not a valid image configuration: {error}"))?;
    if image.os().to_string() != "linux" {
        return Err(format!("it is for {}, and this is linux", image.os()));
    }
    let diff_ids = diff_ids(&image)?;
    if diff_ids.len() != layers {
        let promised = diff_ids.len();
        return Err(format!(
            "rootfs.diff_ids names {promised} layers, the manifest has {layers}"
        ));
    }
    let Some(config) = image.config() else {
        return Ok(image);
    };
    parse_user(config.user().as_deref().unwrap_or_default())?;
    for entry in config.env().iter().flatten() {
        if entry.contains('\0') {
            let name = entry.split(['=', '\0']).next().unwrap_or_default();
            return Err(format!(
                "the environment variable {name:?} contains a NUL character"
            ));
        }
        if entry.is_empty() || entry.starts_with('=') {
            return Err(format!(
                "the environment has an entry without a name: {entry:?}"
            ));
        }
    }
    let words = config.entrypoint().iter().chain(config.cmd()).flatten();
    if words
        .chain(config.working_dir())
        .chain(config.volumes().iter().flatten())
        .any(|text| text.contains('\0'))
    {
        return Err(
            "the command, the working directory or a volume contains a NUL character".to_owned(),
        );
    }
    Ok(image)
}

/// The digests of the plain layers, bottom first.
pub(super) fn diff_ids(image: &ImageConfiguration) -> Result<Vec<Digest>, String> {
    let ids = image.rootfs().diff_ids().iter();
    ids.map(|id| {
        id.parse()
            .map_err(|error| format!("rootfs.diff_ids: {error}"))
    })
    .collect()
}

/// Chain ids (OCI image specification, "Layer ChainID"): each names a layer together with all below it.
pub(super) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let id = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::sha256(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(id);
    }
    chain
}

/// Reads `user`, `user:group`, `uid` or `uid:gid`.
///
/// # Errors
/// A number out of range, an empty half, or a character no user has.
pub(super) fn parse_user(text: &str) -> Result<ImageUser, String> {
    if text.is_empty() {
        return Ok(ImageUser::Unset);
    }
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    for half in std::iter::once(user).chain(group) {
        if half.is_empty() {
            return Err(format!("user {text:?} has an empty half"));
        }
        identity::named(half).map_err(|problem| format!("user {text:?}: {problem}"))?;
        if half
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '/')
        {
            return Err(format!("user {text:?}: {half:?} cannot be a user or group"));
        }
    }
    Ok(match identity::named(user)? {
        Named::Nothing => ImageUser::Unset,
        Named::Number(uid) => ImageUser::Id(uid),
        Named::Name(name) => ImageUser::Name(name.to_owned()),
    })
}

/// The command line of a container: `command` replaces the image's entry point and its arguments, `args` only its
/// arguments. None if nothing is left to run, which Kubernetes reports as `no command specified`.
pub fn process_args(
    image: &ImageConfiguration,
    command: &[String],
    args: &[String],
) -> Option<Vec<String>> {
    let config = image.config().as_ref();
    let entrypoint = config
        .and_then(|c| c.entrypoint().as_deref())
        .unwrap_or_default();
    let cmd = config.and_then(|c| c.cmd().as_deref()).unwrap_or_default();
    let (command, args) = match (command.is_empty(), args.is_empty()) {
        (true, true) => (entrypoint, cmd),
        (true, false) => (entrypoint, args),
        (false, _) => (command, args),
    };
    let line: Vec<String> = command.iter().chain(args).cloned().collect();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn image(config: serde_json::Value) -> Result<ImageConfiguration, String> {
        let image = json!({
            "architecture": "amd64", "os": "linux", "config": config, "history": null,
            "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(b"")] },
        });
        parse(image.to_string().as_bytes(), 1)
    }

    #[test]
    fn accepts_what_docker_writes() {
        let docker = json!({
            "Hostname": "", "User": "", "ExposedPorts": null, "Env": null, "Cmd": ["sh"], "Image": "sha256:x",
            "Volumes": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
            "ArgsEscaped": true, "Healthcheck": { "Test": ["CMD", "true"] },
        });
        let image = image(docker).unwrap();
        assert_eq!(process_args(&image, &[], &[]), Some(vec!["sh".to_owned()]));
    }

    #[test]
    fn refuses_what_no_container_could_run() {
        for config in [
            json!({ "User": "-1" }),
            json!({ "User": "4294967296" }),
            json!({ "User": "4294967295" }),
            json!({ "User": "0:-1" }),
            json!({ "User": ":" }),
            json!({ "User": "a:" }),
            json!({ "User": "a b" }),
            json!({ "Env": ["A=\u{0}"] }),
            json!({ "Env": ["=x"] }),
            json!({ "Env": [""] }),
            json!({ "Cmd": ["a\u{0}"] }),
            json!({ "WorkingDir": "/\u{0}" }),
        ] {
            assert!(image(config.clone()).is_err(), "{config}");
        }
        let rootfs = |ids: serde_json::Value| {
            let rootfs = json!({ "type": "layers", "diff_ids": ids });
            json!({ "architecture": "amd64", "os": "linux", "rootfs": rootfs }).to_string()
        };
        assert!(parse(rootfs(json!([])).as_bytes(), 1).is_err());
        assert!(parse(rootfs(json!(["sha256:../.."])).as_bytes(), 1).is_err());
        assert!(parse(rootfs(json!([])).replace("linux", "windows").as_bytes(), 0).is_err());
        assert!(parse(rootfs(json!([])).as_bytes(), 0).is_ok());
    }

    #[test]
    fn users_are_numbers_or_names() {
        assert_eq!(parse_user(""), Ok(ImageUser::Unset));
        assert_eq!(parse_user("0"), Ok(ImageUser::Id(0)));
        assert_eq!(parse_user("2147483647:5"), Ok(ImageUser::Id(2_147_483_647)));
        for wrong in ["2147483648", "-1", "5:-1", "5:", ":5", "a b", "a/b"] {
            assert!(parse_user(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            parse_user("app:staff"),
            Ok(ImageUser::Name("app".to_owned()))
        );
    }

    #[test]
    fn composes_the_command_line_as_kubernetes_does() {
        let image = image(json!({ "Entrypoint": ["e"], "Cmd": ["c"] })).unwrap();
        let line = |command: &[&str], args: &[&str]| {
            let own = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
            process_args(&image, &own(command), &own(args))
                .unwrap_or_default()
                .join(" ")
        };
        assert_eq!(line(&[], &[]), "e c");
        assert_eq!(line(&["x"], &[]), "x");
        assert_eq!(line(&[], &["y"]), "e y");
        assert_eq!(line(&["x"], &["y"]), "x y");
    }

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let ids = [Digest::sha256(b"a"), Digest::sha256(b"b")];
        let chain = chain_ids(&ids);
        assert_eq!(chain[0], ids[0]);
        assert_eq!(
            chain[1],
            Digest::sha256(format!("{} {}", ids[0], ids[1]).as_bytes())
        );
    }
}
