//! Container images: named, fetched, verified, unpacked once, and given to containers as root file systems.
//!
//! [`ImageStore`] is the whole of it for callers; [`Reference`] and [`Keyring`] are pure.

mod auth;
mod digest;
mod error;
mod progress;
mod reference;
mod store;
mod unpack;

pub use auth::{Credentials, CredentialsError, Keyring};
pub use digest::{Algorithm, Digest, DigestError};
pub use error::Error;
pub use progress::{Progress, PullEvent, Silent};
pub use reference::{ParseError, Reference};
pub use store::{Collected, GarbagePolicy, Image, ImageStore, Limits, Options, build_self};
pub use unpack::UnpackError;
