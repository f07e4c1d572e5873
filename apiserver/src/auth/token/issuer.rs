//! Signing tokens and checking signatures.

use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, Header, Validation};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::pki::SigningKey;

/// How many tokens are remembered so that their signature is checked once only.
const REMEMBERED: usize = 4096;

/// The claims of a ServiceAccount token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who may be shown the token.
    pub aud: Vec<String>,
    /// Second after 1970 from which the token is void.
    pub exp: i64,
    /// Second when it was made.
    pub iat: i64,
    /// Second before which it is void.
    pub nbf: i64,
    /// Who made it.
    pub iss: String,
    /// Identifies the token.
    pub jti: String,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
    /// What the token is bound to.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Kubernetes,
}

impl Claims {
    /// The claims of a new token for these audiences, good from second `now` until `exp`.
    pub(super) fn new(
        issuer: &TokenIssuer,
        aud: Vec<String>,
        now: i64,
        exp: i64,
        kubernetes: Kubernetes,
    ) -> Self {
        let (namespace, account) = (&kubernetes.namespace, &kubernetes.serviceaccount.name);
        Self {
            aud,
            exp,
            iat: now,
            nbf: now,
            iss: issuer.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: format!("system:serviceaccount:{namespace}:{account}"),
            kubernetes,
        }
    }
}

/// The private claims: the objects without which the token is void.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubernetes {
    /// Namespace of the account and of what the token is bound to.
    pub namespace: String,
    /// The account.
    pub serviceaccount: Reference,
    /// The pod that uses the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The Secret that the token depends on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The node of the pod, or the node the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
}

/// One particular object, not a later one of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// A token whose signature and issuer are right. Time, audience and binding are not checked yet.
pub(crate) type Verified = Arc<Claims>;

/// Makes and checks the tokens of one cluster.
pub struct TokenIssuer {
    issuer: String,
    key: Arc<SigningKey>,
    validation: Validation,
    verified: Mutex<HashMap<[u8; 32], Verified>>,
    /// Dates the tokens, and says whether they are over.
    pub(in crate::auth) clock: Clock,
}

impl std::fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenIssuer")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl TokenIssuer {
    /// An issuer called `issuer` (a URL) that signs with `key`.
    pub fn new(issuer: String, key: Arc<SigningKey>, clock: Clock) -> Self {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        // Times, audience and issuer are checked for every request, also when the signature is cached.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Self {
            issuer,
            key,
            validation,
            verified: Mutex::default(),
            clock,
        }
    }

    /// The issuer's URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The signed token of these claims.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key.id.clone());
        header.typ = None;
        jsonwebtoken::encode(&header, claims, &self.key.private)
    }

    /// The claims of a token this issuer signed; `Ok(None)` when the token is some other kind.
    ///
    /// # Errors
    /// The reason why a token that claims to be of this issuer is not.
    pub(crate) fn verify(&self, token: &str) -> Result<Option<Verified>, String> {
        let fingerprint: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.verified.lock().get(&fingerprint) {
            return Ok(Some(known.clone()));
        }
        if !self.claims_to_be_ours(token) {
            return Ok(None);
        }
        let claims: Claims = jsonwebtoken::decode(token, &self.key.public, &self.validation)
            .map_err(|error| error.to_string())?
            .claims;
        let verified = Arc::new(claims);
        let mut remembered = self.verified.lock();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(fingerprint, verified.clone());
        Ok(Some(verified))
    }

    /// Reads the issuer a token names without trusting it.
    fn claims_to_be_ours(&self, token: &str) -> bool {
        #[derive(Deserialize)]
        struct IssuerOnly {
            iss: String,
        }
        jsonwebtoken::dangerous::insecure_decode_claims::<IssuerOnly>(token)
            .is_ok_and(|claims| claims.iss == self.issuer)
    }

    /// The document at `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0 §3).
    pub fn discovery_document(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", self.issuer.trim_end_matches('/')),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// The document at `/openid/v1/jwks` (RFC 7517): the key that checks the tokens.
    pub fn key_set(&self) -> Value {
        let (x, y) = &self.key.coordinates;
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key.id, "alg": "ES256", "crv": "P-256", "x": x, "y": y,
        }]})
    }
}
