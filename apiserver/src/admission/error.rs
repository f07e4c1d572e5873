//! Why a write was refused.

use crate::schema::FieldError;

/// A refusal. The HTTP conversion of the server turns it into a `Status` object for the request's
/// resource and name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 403, as `<resource> "<name>" is forbidden: <message>`.
    #[error("{message}")]
    Forbidden {
        /// What is not allowed, and why.
        message: String,
        /// Cause to put into the details of the status, such as `NamespaceTerminating`.
        cause: Option<Cause>,
    },
    /// 404: an object the request needs does not exist.
    #[error("{resource} \"{name}\" not found")]
    NotFound {
        /// API group of the missing object.
        group: String,
        /// Plural name of its kind.
        resource: String,
        /// Its name.
        name: String,
    },
    /// 422: fields of the object are not as they must be.
    #[error("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Invalid {
        /// What is wrong with which field.
        errors: Vec<FieldError>,
    },
    /// Whatever an extension of the server answered: a whole `Status` object with its code.
    #[error("{}", .0["message"].as_str().unwrap_or_default())]
    Status(Box<serde_json::Value>),
    /// 500: the plugin could not decide; a retry may help.
    #[error("{message}")]
    Internal {
        /// What failed.
        message: String,
    },
}

/// One entry of `status.details.causes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Path of the field it is about; may be empty.
    pub field: String,
}

impl Error {
    /// A 403 without a cause.
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::Forbidden {
            message: message.into(),
            cause: None,
        }
    }
}
