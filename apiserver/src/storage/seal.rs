//! Sealing: the values of confidential keys are encrypted before they reach a disk and opened when they are read back.
//!
//! Each value has a key and a nonce of its own, derived from a key of the ring and 24 random bytes (HKDF-SHA256, RFC 5869), and is
//! encrypted with AES-256-GCM. The store's key, the revisions of the value and its version are authenticated with it, so a sealed
//! value opens in no other place and stands for no other version. Sealed values are not compressed: their length would tell
//! about their content.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, KeyType, Prk};
use ring::rand::{SecureRandom, SystemRandom};

use super::{Error, KeyValue};
use crate::pki;

mod file;
#[cfg(test)]
mod tests;

/// Bytes that sealing adds to a value: the key's number, what key and nonce are derived from, and the tag.
pub(super) const OVERHEAD: usize = 4 + SALT_BYTES + 16;

const SALT_BYTES: usize = 24;
const SECRET_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const CONTEXT: &[u8] = b"davit sealed value 1";

/// The keys that values are sealed with, newest first, in a file of mode 0600 that is replaced atomically.
///
/// # Guarantees
/// - New values are sealed with the newest key; values of every key in the ring can be opened.
/// - A new ring is written to its file only when a store was opened or made with it, so a missing file never becomes a wrong one.
#[derive(Debug)]
pub struct Keyring {
    path: PathBuf,
    prefixes: Vec<String>,
    keys: ArcSwap<Vec<Key>>,
    saved: AtomicBool,
    /// Held while the ring changes.
    changing: Mutex<()>,
}

/// One key of a ring.
#[derive(Clone)]
struct Key {
    /// Random, so that a ring without the key of a value says so instead of failing to open it.
    id: u32,
    made: Timestamp,
    secret: [u8; SECRET_BYTES],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:08x} of {})", self.id, self.made)
    }
}

impl Keyring {
    /// The ring of a file for the store's keys with these prefixes; a new one when there is no file.
    ///
    /// # Errors
    /// [`Error::Keys`] when the file cannot be read or is damaged. It is never replaced then: what its keys sealed could
    /// not be opened any more.
    pub fn load_or_create(path: &Path, prefixes: Vec<String>) -> Result<Arc<Self>, Error> {
        let found = pki::file::read(path).map_err(Error::keys)?;
        let keys = match &found {
            Some(text) => file::parse(text).map_err(|what| {
                Error::keys(pki::Error::DamagedKeys {
                    path: path.to_owned(),
                    what,
                })
            })?,
            None => vec![Key::random()?],
        };
        Ok(Arc::new(Self {
            path: path.to_owned(),
            prefixes,
            keys: ArcSwap::from_pointee(keys),
            saved: AtomicBool::new(found.is_some()),
            changing: Mutex::default(),
        }))
    }

    /// Makes a new key that all values are sealed with from now on. Older keys stay, for what is sealed already and for backups.
    ///
    /// # Errors
    /// [`Error::Keys`] when the file cannot be written; nothing has changed then.
    pub fn rotate(&self) -> Result<(), Error> {
        let _changing = self.changing.lock();
        let mut keys = vec![Key::random()?];
        keys.extend(self.keys.load().iter().cloned());
        self.write(&keys)?;
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    /// How long the newest key has been in use.
    pub fn age(&self) -> Duration {
        let made = self
            .keys
            .load()
            .first()
            .map_or(Timestamp::UNIX_EPOCH, |key| key.made);
        Duration::try_from(made.until(Timestamp::now()).map_or_else(
            |_| jiff::SignedDuration::ZERO,
            |span| jiff::SignedDuration::from_secs(span.get_seconds()),
        ))
        .unwrap_or_default()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.load().len()
    }

    /// Never: a ring has a key from its making on.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes a ring that was just made to its file.
    pub(super) fn save(&self) -> Result<(), Error> {
        let _changing = self.changing.lock();
        if !self.saved.load(Ordering::Acquire) {
            self.write(&self.keys.load())?;
        }
        Ok(())
    }

    fn write(&self, keys: &[Key]) -> Result<(), Error> {
        if let Some(dir) = self.path.parent() {
            pki::file::make_private_dir(dir).map_err(Error::keys)?;
        }
        pki::file::replace(&self.path, &file::render(keys)).map_err(Error::keys)?;
        self.saved.store(true, Ordering::Release);
        Ok(())
    }

    /// The file of the ring.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether values of this key are to be sealed.
    pub(super) fn covers(&self, key: &str) -> bool {
        self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    /// The value sealed with the newest key.
    pub(super) fn seal(&self, kv: &KeyValue) -> Result<Vec<u8>, Error> {
        let failed = |_: Unspecified| Error::io("seal a value", std::io::Error::other("no key"));
        let keys = self.keys.load();
        let newest = keys.first().ok_or(Unspecified).map_err(failed)?;
        let mut salt = [0; SALT_BYTES];
        random(&mut salt)?;
        let (key, nonce) = newest.derive(&salt).map_err(failed)?;
        let mut out = Vec::with_capacity(kv.value.len() + OVERHEAD);
        out.extend(newest.id.to_le_bytes());
        out.extend(salt);
        let mut content = kv.value.to_vec();
        key.seal_in_place_append_tag(nonce, Aad::from(place(kv)), &mut content)
            .map_err(failed)?;
        out.extend(content);
        Ok(out)
    }

    /// The value that was sealed as that of `kv` (whose own value does not matter), and whether the newest key sealed it.
    /// Otherwise what is wrong, in words.
    pub(super) fn open(&self, kv: &KeyValue, sealed: &[u8]) -> Result<(Vec<u8>, bool), String> {
        let short = || "a sealed value is cut short".to_owned();
        let (id, rest) = sealed.split_first_chunk().ok_or_else(short)?;
        let (salt, content) = rest.split_first_chunk().ok_or_else(short)?;
        let id = u32::from_le_bytes(*id);
        let keys = self.keys.load();
        let found = keys.iter().position(|key| key.id == id);
        let (at, key) = found
            .and_then(|at| Some((at, keys.get(at)?)))
            .ok_or_else(|| format!("key {id:08x} is not in it"))?;
        let opened = || {
            let (key, nonce) = key.derive(salt)?;
            let mut content = content.to_vec();
            let length = key
                .open_in_place(nonce, Aad::from(place(kv)), &mut content)?
                .len();
            content.truncate(length);
            Ok(content)
        };
        let opened: Result<Vec<u8>, Unspecified> = opened();
        let value = opened.map_err(|_| {
            format!(
                "{} does not open with key {id:08x}: one of both was changed",
                kv.key
            )
        })?;
        Ok((value, at == 0))
    }
}

impl Key {
    fn random() -> Result<Self, Error> {
        let (mut id, mut secret) = ([0; 4], [0; SECRET_BYTES]);
        random(&mut id)?;
        random(&mut secret)?;
        let now = Timestamp::now();
        Ok(Self {
            id: u32::from_le_bytes(id),
            made: Timestamp::from_second(now.as_second()).unwrap_or(now),
            secret,
        })
    }

    /// Key and nonce for one value. The secret is uniformly random, so it needs no extraction (RFC 5869 §3.3).
    fn derive(&self, salt: &[u8; SALT_BYTES]) -> Result<(LessSafeKey, Nonce), Unspecified> {
        let prk = Prk::new_less_safe(HKDF_SHA256, &self.secret);
        let info = [CONTEXT, salt];
        let mut derived = [0; SECRET_BYTES + NONCE_BYTES];
        prk.expand(&info, Length(derived.len()))?
            .fill(&mut derived)?;
        let (key, nonce) = derived.split_at(SECRET_BYTES);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?);
        Ok((key, Nonce::try_assume_unique_for_key(nonce)?))
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// What is authenticated with a value: where it stands.
fn place(kv: &KeyValue) -> Vec<u8> {
    let numbers = [kv.create_revision, kv.mod_revision, kv.version];
    [&numbers.map(u64::to_le_bytes).concat(), kv.key.as_bytes()].concat()
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| Error::io("get random bytes", std::io::Error::other("none are there")))
}
