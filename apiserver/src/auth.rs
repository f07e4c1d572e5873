//! Who a request comes from (authentication) and what it may do (authorization).
//!
//! The request path calls [`Authenticator::authenticate`], [`impersonate::resolve`] and
//! [`Authorizer::require`], in this order. All objects they need (service accounts, roles, bindings) are
//! read through [`ObjectSource`], which the watch cache implements.

mod attributes;
mod authenticate;
mod authorize;
pub mod bootstrap;
mod bootstrap_tokens;
mod config_error;
mod error;
pub mod impersonate;
#[cfg(test)]
pub(crate) mod memory;
mod node;
mod oidc;
pub(crate) mod protocol_token;
pub(crate) mod rbac;
mod review;
mod snapshot;
mod source;
mod static_tokens;
pub mod token;
mod user;
mod webhook;

pub use attributes::{Attributes, Decision, ResourceAttributes, Target};
pub use authenticate::{Authenticator, AuthenticatorConfig, is_public_path};
pub use authorize::Authorizer;
pub use config_error::ConfigError;
pub use error::Error;
pub(crate) use oidc::Issuers;
pub use review::Reviews;
pub use source::{Kind, ObjectSource};
pub use static_tokens::{StaticTokens, StaticTokensError};
pub(crate) use token::TokenSecrets;
pub use user::{InProcessUser, UserInfo, groups, users};
pub(crate) use webhook::{Step, TokenWebhook, load_steps};

#[cfg(test)]
mod tests;
