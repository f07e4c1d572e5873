//! ServiceAccount tokens: signed statements bound to an account and, mostly, to a pod.

mod bound;
mod issuer;
mod request;
mod secret;

pub(crate) use bound::check_binding;
pub use issuer::{Claims, Kubernetes, Reference, TokenIssuer};
pub use request::request_token;
pub(crate) use secret::TokenSecrets;

#[cfg(test)]
mod tests;
