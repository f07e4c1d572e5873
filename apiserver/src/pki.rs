//! The cluster's own certificate authority and everything it issues.
//!
//! All files lie in `<data-dir>/pki` (directory 0700, files 0600) and are replaced atomically:
//! `ca.key` and `ca.crt`, one `<name>.pem` for each identity (key and certificate together, so that
//! they can never disagree), and `service-account.key`. Whatever is missing is made; whatever is near
//! its end, or was made for other names, is issued anew while the server runs.

mod authority;
mod error;
pub(crate) mod file;
mod issue;
mod kubeconfig;
mod leaf;
mod names;
mod request;
mod signing;
mod tls;

pub use authority::Authority;
pub use error::Error;
pub use issue::{KeyPairPem, Purpose};
pub use kubeconfig::Kubeconfig;
pub use leaf::Leaf;
pub use names::{NameFacts, node_names, server_names};
pub(crate) use request::end_of;
pub use request::{AlternativeNames, CertificateRequest};
pub use signing::SigningKey;
pub use tls::Peer;

#[cfg(test)]
mod tests;
