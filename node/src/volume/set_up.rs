//! Making planned volumes real, and taking them back.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::error::{Cause, Error};
use super::ownership::{self, Access};
use super::{
    File, FsGroup, Kind, SetUp, Token, TokenFile, TokenSource, Volume, atomic, host_path, mounts,
};
use crate::beneath;

const EMPTY_DIR: &str = "kubernetes.io~empty-dir";
/// All directories that [`Volumes`] makes; the agent keeps those of drivers elsewhere.
const PLUGINS: [&str; 5] = [
    EMPTY_DIR,
    "kubernetes.io~configmap",
    "kubernetes.io~secret",
    "kubernetes.io~downward-api",
    "kubernetes.io~projected",
];
/// A token is renewed at this age at the latest.
const MAX_TOKEN_AGE: SignedDuration = SignedDuration::from_hours(24);

/// Makes planned volumes real beneath the pods' directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Volumes {
    pods_dir: PathBuf,
    secrets_dir: PathBuf,
    tokens: Arc<Mutex<HashMap<TokenKey, Fetched>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TokenKey {
    pod_uid: String,
    audience: String,
    expiration_seconds: i64,
}

#[derive(Clone, Debug)]
struct Fetched {
    token: Token,
    refresh_at: Timestamp,
}

impl Volumes {
    /// Volumes live in `<pods_dir>/<uid>/volumes/<plugin>/<name>`.
    pub fn new(pods_dir: &Path) -> Self {
        let (pods_dir, secrets_dir) = (pods_dir.to_owned(), pods_dir.to_owned());
        Self {
            pods_dir,
            secrets_dir,
            tokens: Arc::default(),
        }
    }

    /// Keeps secrets and tokens in `dir`, which should be a tmpfs, so that they are never written to a disk. They are
    /// made again after a reboot.
    #[must_use]
    pub fn with_secrets_in(mut self, dir: &Path) -> Self {
        dir.clone_into(&mut self.secrets_dir);
        self
    }

    /// Makes or updates one volume; calling it again with the same plan changes nothing.
    ///
    /// # Errors
    /// See [`Error`]. [`Kind::Claim`] and [`Kind::Image`] are not made here.
    pub async fn set_up(
        &self,
        pod_uid: &str,
        volume: &Volume,
        tokens: &dyn TokenSource,
    ) -> Result<SetUp, Error> {
        let made = self.make(pod_uid, volume, tokens).await;
        made.map_err(|source| Error::SetUp {
            volume: volume.name.clone(),
            source,
        })
    }

    async fn make(
        &self,
        pod_uid: &str,
        volume: &Volume,
        tokens: &dyn TokenSource,
    ) -> Result<SetUp, Cause> {
        if !mounts::is_name(&volume.name) || !mounts::is_name(pod_uid) {
            return Err(Cause::Spec("a name must be one part of a path".to_owned()));
        }
        let fs_group = volume.fs_group;
        match &volume.kind {
            Kind::EmptyDir { memory, size_limit } => {
                let path = self.dir(&self.pods_dir, pod_uid, EMPTY_DIR, &volume.name);
                let (dir, memory, size) = (path.clone(), *memory, *size_limit);
                let make = move || {
                    empty_dir(&dir, memory, size)?;
                    match fs_group {
                        Some(group) => {
                            // Once only: what is in it later is the containers' own.
                            let once = FsGroup {
                                on_root_mismatch: true,
                                ..group
                            };
                            ownership::apply(&dir, once, Access::Write)
                        }
                        None => Ok(()),
                    }
                };
                blocking("make", path.clone(), make).await?;
                Ok(SetUp {
                    path,
                    refresh_at: None,
                })
            }
            Kind::Files {
                plugin,
                secret,
                files,
                tokens: wanted,
            } => {
                let top = if *secret {
                    &self.secrets_dir
                } else {
                    &self.pods_dir
                };
                let path = self.dir(top, pod_uid, plugin, &volume.name);
                let mut files = files.clone();
                let refresh_at = self.add_tokens(pod_uid, wanted, tokens, &mut files).await?;
                let dir = path.clone();
                let write = move || {
                    make_dirs(&dir, 0o755)?;
                    atomic::write(&dir, &files, fs_group)
                };
                blocking("write", path.clone(), write).await?;
                Ok(SetUp { path, refresh_at })
            }
            Kind::HostPath { path, check } => {
                let (host, check) = (path.clone(), *check);
                let checked = tokio::task::spawn_blocking(move || host_path::check(&host, check));
                checked.await.map_err(|_panic| Cause::Worker)??;
                Ok(SetUp {
                    path: path.clone(),
                    refresh_at: None,
                })
            }
            Kind::Claim { .. } | Kind::Image { .. } => Err(Cause::Spec(
                "it is a volume of a driver or an image".to_owned(),
            )),
        }
    }

    /// Adds the tokens to the files, and tells when the first of them is to be renewed.
    async fn add_tokens(
        &self,
        pod_uid: &str,
        wanted: &[TokenFile],
        source: &dyn TokenSource,
        files: &mut BTreeMap<String, File>,
    ) -> Result<Option<Timestamp>, Cause> {
        let mut refresh_at: Option<Timestamp> = None;
        for file in wanted {
            let fetched = self.token(pod_uid, file, source).await?;
            let first = refresh_at.map_or(fetched.refresh_at, |at| at.min(fetched.refresh_at));
            refresh_at = Some(first);
            let data = fetched.token.token.into_bytes().into();
            files.insert(
                file.path.clone(),
                File {
                    data,
                    mode: file.mode,
                    owner: file.owner,
                },
            );
        }
        Ok(refresh_at)
    }

    /// The token kept from before, or a new one when that is due.
    async fn token(
        &self,
        pod_uid: &str,
        file: &TokenFile,
        source: &dyn TokenSource,
    ) -> Result<Fetched, Cause> {
        let key = TokenKey {
            pod_uid: pod_uid.to_owned(),
            audience: file.audience.clone(),
            expiration_seconds: file.expiration_seconds,
        };
        let now = Timestamp::now();
        let known = self.tokens.lock().get(&key).cloned();
        if let Some(known) = &known
            && known.refresh_at > now
        {
            return Ok(known.clone());
        }
        match source.token(&file.audience, file.expiration_seconds).await {
            Ok(token) => {
                let refresh_at = refresh_at(now, token.expires_at);
                let fetched = Fetched { token, refresh_at };
                self.tokens.lock().insert(key, fetched.clone());
                Ok(fetched)
            }
            // The old one serves until it expires; the caller asks again soon.
            Err(error) => match known.filter(|known| known.token.expires_at > now) {
                Some(known) => {
                    tracing::warn!(pod_uid, %error, "cannot renew a service account token yet");
                    let soon = now + SignedDuration::from_secs(60);
                    Ok(Fetched {
                        refresh_at: soon,
                        ..known
                    })
                }
                None => Err(Cause::Token(error)),
            },
        }
    }

    /// Unmounts and removes all volumes of a pod that [`Self::set_up`] made; fine if there are none.
    ///
    /// # Errors
    /// Something cannot be unmounted or removed.
    pub async fn tear_down(&self, pod_uid: &str) -> Result<(), Error> {
        let failed = |source| Error::TearDown {
            pod_uid: pod_uid.to_owned(),
            source,
        };
        if !mounts::is_name(pod_uid) {
            let reason = "its uid must be one part of a path".to_owned();
            return Err(failed(Cause::Spec(reason)));
        }
        self.tokens.lock().retain(|key, _| key.pod_uid != pod_uid);
        let tops = [&self.pods_dir, &self.secrets_dir];
        let volumes = tops.map(|top| top.join(pod_uid).join("volumes"));
        let shared = self.secrets_dir == self.pods_dir;
        let secrets = (!shared).then(|| self.secrets_dir.join(pod_uid));
        let remove = move || {
            for path in volumes
                .iter()
                .flat_map(|dir| PLUGINS.map(|plugin| dir.join(plugin)))
            {
                mounts::unmount_all(&path)?;
                beneath::remove_tree(&path)?;
            }
            for dir in volumes.iter().chain(&secrets) {
                remove_empty(dir)?;
            }
            Ok(())
        };
        let path = self.pods_dir.join(pod_uid).join("volumes");
        blocking("remove", path, remove).await.map_err(failed)
    }

    fn dir(&self, top: &Path, pod_uid: &str, plugin: &str, name: &str) -> PathBuf {
        top.join(pod_uid).join("volumes").join(plugin).join(name)
    }
}

/// As kubelet: at four fifths of a token's life, and at least once a day.
fn refresh_at(now: Timestamp, expires_at: Timestamp) -> Timestamp {
    let life = expires_at.duration_since(now).max(SignedDuration::ZERO);
    now + (life / 5 * 4).min(MAX_TOKEN_AGE)
}

fn empty_dir(dir: &Path, memory: bool, size: Option<u64>) -> io::Result<()> {
    let is_new = !dir.exists();
    make_dirs(dir, 0o777)?;
    if memory {
        return mounts::mount_tmpfs(dir, size);
    }
    if is_new {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777))?;
    }
    Ok(())
}

/// Makes a volume's directory; those above it only root may enter, so that nobody on the host reaches a volume.
fn make_dirs(dir: &Path, mode: u32) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(parent)?;
    }
    match DirBuilder::new().mode(mode).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(mode))
}

/// Removes a directory unless somebody else has something in it.
fn remove_empty(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    operation: &'static str,
    path: PathBuf,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Cause> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_panic| Cause::Worker)?
        .map_err(Cause::io(operation, &path))
}
