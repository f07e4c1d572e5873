//! ServiceAccount tokens: signed statements bound to an account and, mostly, to a pod.

mod bound;
mod issuer;
mod request;

pub(crate) use bound::check_binding;
pub use issuer::{Claims, Kubernetes, Reference, TokenIssuer};
pub use request::request_token;

#[cfg(test)]
mod tests;
