//! Container images: named, fetched, verified, unpacked once, and given to containers as root file systems.
//!
//! [`ImageStore`] is the whole of it for callers; [`Reference`] and [`Keyring`] are pure.

mod auth;
mod client;
mod config;
mod digest;
mod error;
mod manifest;
mod progress;
mod reference;
mod store;
mod tar;
mod unpack;

pub use auth::{Credentials, CredentialsError, Keyring};
pub use config::{ImageUser, process_args};
pub use digest::{Algorithm, Digest, DigestError};
pub use error::Error;
pub use progress::{Progress, PullEvent, Silent};
pub use reference::{ParseError, Reference};
pub use store::{Collected, GarbagePolicy, Image, ImageStore, Limits, Options, build_self};
pub use tar::TarError;
pub use unpack::UnpackError;
