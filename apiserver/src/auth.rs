//! Who a request comes from (authentication) and what it may do (authorization).
//!
//! The request path uses three calls, in this order: [`Authenticator::authenticate`],
//! `impersonate::resolve` and [`Authorizer::authorize`]. All objects they need (service accounts,
//! roles, bindings) are read through [`ObjectSource`], which the watch cache implements.

mod attributes;
mod authenticate;
mod authorize;
mod error;
mod source;
mod user;

pub use attributes::{Attributes, Decision, ResourceAttributes, Target};
pub use authenticate::{Authenticator, AuthenticatorConfig, is_public_path};
pub use authorize::Authorizer;
pub use error::Error;
pub use source::{Kind, ObjectSource};
pub use user::{InProcessUser, UserInfo, groups, users};
