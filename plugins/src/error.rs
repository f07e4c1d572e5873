//! The error of a driver call: a gRPC canonical code, so that the recovery rules of CSI carry over.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// gRPC canonical codes, without `ok`, `cancelled`, `unknown` and `data-loss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request cannot succeed as it is.
    InvalidArgument,
    /// A thing it names does not exist.
    NotFound,
    /// It exists with other properties, or belongs to another.
    AlreadyExists,
    /// A grant is missing.
    PermissionDenied,
    /// No addresses, space or quota left.
    ResourceExhausted,
    /// The system is not in the state the call needs.
    FailedPrecondition,
    /// Another call on the same thing won; retry.
    Aborted,
    /// A size or offset outside what is possible.
    OutOfRange,
    /// The driver or this version of davit does not offer it.
    Unimplemented,
    /// A defect of the driver or the host: traps land here.
    Internal,
    /// Not now; retry later.
    Unavailable,
    /// It took longer than allowed.
    DeadlineExceeded,
    /// No valid credentials for a remote system.
    Unauthenticated,
}

impl Code {
    /// Whether the same call may succeed later without a change of the request.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::ResourceExhausted
                | Self::Aborted
                | Self::Internal
                | Self::Unavailable
                | Self::DeadlineExceeded
        )
    }

    /// The code in the kebab case of the WIT.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid-argument",
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::PermissionDenied => "permission-denied",
            Self::ResourceExhausted => "resource-exhausted",
            Self::FailedPrecondition => "failed-precondition",
            Self::Aborted => "aborted",
            Self::OutOfRange => "out-of-range",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Unauthenticated => "unauthenticated",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One driver operation failed. Nothing it planned is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CallError {
    /// What kind of failure, and so whether a retry helps.
    pub code: Code,
    /// Object, field, cause and remedy, for the user.
    pub message: String,
    /// The driver's wish when to retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
}

impl CallError {
    /// An error without a wish when to retry.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The same failure, with what was being done put in front.
    #[must_use]
    pub(crate) fn within(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}
