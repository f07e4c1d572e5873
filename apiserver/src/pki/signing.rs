//! The key that signs ServiceAccount tokens.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use rcgen::{KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};

use super::{Error, file};

/// An ECDSA P-256 key for `ES256` tokens. It never changes, so tokens survive restarts.
pub struct SigningKey {
    /// Signs.
    pub(crate) private: EncodingKey,
    /// Checks signatures.
    pub(crate) public: DecodingKey,
    /// Names the key in the head of a token: the hash of the public key, as Kubernetes makes it.
    pub(crate) id: String,
    /// The public key as the two coordinates of a JWK, base64url.
    pub(crate) coordinates: (String, String),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Loads the key of `path`, or makes it.
    pub(super) fn load_or_create(path: &Path) -> Result<Self, Error> {
        let damaged = |what: String| Error::Damaged {
            path: path.to_owned(),
            what,
        };
        let pair = match file::read(path)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|error| damaged(error.to_string()))?,
            None => {
                let pair = KeyPair::generate().map_err(|source| Error::Issue {
                    subject: "service account tokens".into(),
                    source,
                })?;
                file::replace(path, &pair.serialize_pem())?;
                pair
            }
        };
        Self::from_pair(&pair).map_err(damaged)
    }

    fn from_pair(pair: &KeyPair) -> Result<Self, String> {
        let point = pair.public_key_raw();
        let (Some(x), Some(y), 65) = (point.get(1..33), point.get(33..65), point.len()) else {
            return Err("not an ECDSA P-256 key".into());
        };
        let coordinates = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let public = DecodingKey::from_ec_components(&coordinates.0, &coordinates.1)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            private: EncodingKey::from_ec_der(pair.serialized_der()),
            public,
            id: URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info())),
            coordinates,
        })
    }
}
