//! Places for mounts inside volumes that no container may write, made before the container starts.
//!
//! A mount needs something to be mounted on. Within a ConfigMap, a Secret or the like a runtime finds nothing and may make
//! nothing; the volume is davit's own, so it is made there from outside, and stays through all later changes of the files.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};

use super::observed::Problem;
use super::services::VolumeSource;
use crate::kernel::path::{TargetKind, open_beneath, target_in_root};
use crate::runtime::{Mount, MountKind};

/// One place to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountPoint<'a> {
    /// The volume's directory on the host.
    volume: &'a Path,
    /// Where in it.
    place: PathBuf,
    /// What will be mounted there; the place must be of its kind.
    shows: &'a MountKind,
}

/// The places that `mounts` need in volumes of davit's own making. Pure.
pub(crate) fn mount_points<'a>(
    mounts: &'a [Mount],
    volumes: &BTreeMap<String, VolumeSource>,
) -> Vec<MountPoint<'a>> {
    let own = |path: &Path| {
        volumes
            .values()
            .any(|volume| volume.own_files && volume.path == path)
    };
    let places = mounts.iter().filter_map(|mount| {
        let destination = Path::new(&mount.destination);
        let around = mounts
            .iter()
            .map(|other| (Path::new(&other.destination), &other.kind))
            .filter(|(other, _)| *other != destination && destination.starts_with(other))
            .max_by_key(|(other, _)| other.components().count());
        let (
            outer,
            MountKind::Bind {
                source: volume,
                sub_path,
            },
        ) = around?
        else {
            return None;
        };
        let within = destination.strip_prefix(outer).ok()?;
        own(volume).then(|| MountPoint {
            volume,
            place: sub_path.clone().unwrap_or_default().join(within),
            shows: &mount.kind,
        })
    });
    places.collect()
}

impl MountPoint<'_> {
    /// Makes the place unless it is there.
    ///
    /// # Errors
    /// `CreateContainerError`: a file of the volume is in the way, or the kernel refuses.
    pub(crate) fn make(&self) -> Result<(), Problem> {
        self.try_make().map_err(|errno| {
            let (place, volume) = (self.place.display(), self.volume.display());
            let cause = errno.desc();
            let message = format!("cannot make place for a mount at {place} in {volume}: {cause}");
            Problem::new("CreateContainerError", message)
        })
    }

    fn try_make(&self) -> nix::Result<()> {
        let kind = self.kind()?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let volume = open(self.volume, flags, Mode::empty())?;
        target_in_root(&volume, &self.place, kind).map(drop)
    }

    fn kind(&self) -> nix::Result<TargetKind> {
        let MountKind::Bind { source, sub_path } = self.shows else {
            return Ok(TargetKind::Directory);
        };
        let source = open(source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let Some(beneath) = sub_path else {
            return Ok(TargetKind::of(&fstat(&source)?));
        };
        match open_beneath(&source, beneath, OFlag::O_PATH) {
            // It will be made as a directory.
            Err(Errno::ENOENT) => Ok(TargetKind::Directory),
            found => Ok(TargetKind::of(&fstat(&found?)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Propagation;

    fn bind(source: &Path, beneath: Option<&str>, destination: &str) -> Mount {
        Mount {
            kind: MountKind::Bind {
                source: source.to_owned(),
                sub_path: beneath.map(PathBuf::from),
            },
            destination: destination.to_owned(),
            read_only: false,
            recursive_read_only: false,
            propagation: Propagation::Private,
        }
    }

    fn volume(path: &Path, own_files: bool) -> (String, VolumeSource) {
        let source = VolumeSource {
            path: path.to_owned(),
            sub_path: PathBuf::new(),
            read_only: own_files,
            block: false,
            own_files,
        };
        (path.display().to_string(), source)
    }

    #[test]
    fn each_mount_needs_a_place_in_the_innermost_volume_around_it() {
        let [config, secret, empty] = ["/v/config", "/v/secret", "/v/empty"].map(Path::new);
        let volumes = BTreeMap::from([
            volume(config, true),
            volume(secret, true),
            volume(empty, false),
        ]);
        let mounts = [
            bind(config, None, "/d"),
            bind(config, Some("part"), "/etc"),
            bind(empty, None, "/data"),
            bind(empty, None, "/d/a/b"),
            bind(secret, None, "/d/s"),
            bind(empty, None, "/d/s/deep"),
            bind(Path::new("/pods/hosts"), None, "/etc/hosts"),
            bind(secret, None, "/data/s"),
            bind(empty, None, "/da"),
        ];
        let found: Vec<_> = mount_points(&mounts, &volumes)
            .iter()
            .map(|point| (point.volume, point.place.clone()))
            .collect();
        let expected = [
            (config, "a/b"),
            (config, "s"),
            (secret, "deep"),
            (config, "part/hosts"),
        ];
        assert_eq!(
            found,
            expected.map(|(volume, place)| (volume, PathBuf::from(place)))
        );
    }

    #[test]
    fn places_are_of_the_kind_of_what_they_are_for_and_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["config", "config/..x", "empty/sub"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::fs::write(at("empty/file"), "").unwrap();
        std::os::unix::fs::symlink("..x", at("config/..data")).unwrap();
        std::os::unix::fs::symlink("..data/key", at("config/key")).unwrap();
        std::fs::write(at("config/..x/key"), "k").unwrap();
        let (config, empty) = (at("config"), at("empty"));
        let volumes = BTreeMap::from([volume(&config, true)]);
        let make = |beneath: Option<&str>, destination: &str| {
            let mounts = [
                bind(&config, None, "/d"),
                bind(&empty, beneath, destination),
            ];
            let points = mount_points(&mounts, &volumes);
            assert_eq!(points.len(), 1);
            points[0].make()
        };
        make(None, "/d/one/two").unwrap();
        make(Some("file"), "/d/one/file").unwrap();
        make(Some("missing"), "/d/new").unwrap();
        make(None, "/d/one/two").unwrap();
        assert!(at("config/one/two").is_dir() && at("config/one/file").is_file());
        assert!(at("config/new").is_dir());
        let problem = make(None, "/d/key").unwrap_err();
        assert!(problem.message.contains("key"), "{problem:?}");
    }
}
