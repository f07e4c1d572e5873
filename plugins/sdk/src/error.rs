//! Errors that drivers return: a gRPC code and a message for the user.

pub use crate::bindings::base::davit::plugin::types::{Code, Error};

/// What every driver function returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Short ways to make an [`Error`].
pub trait ErrorExt {
    /// An error of any code.
    fn new(code: Code, message: impl Into<String>) -> Self;
    /// The request cannot succeed as it is.
    fn invalid(message: impl Into<String>) -> Self;
    /// A thing it names does not exist.
    fn not_found(message: impl Into<String>) -> Self;
    /// No addresses, space or quota left.
    fn exhausted(message: impl Into<String>) -> Self;
    /// The driver does not offer it.
    fn unimplemented(message: impl Into<String>) -> Self;
}

impl ErrorExt for Error {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_ms: None,
        }
    }
    fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }
    fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }
    fn exhausted(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, message)
    }
    fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Code::Unimplemented, message)
    }
}
