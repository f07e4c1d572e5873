//! Label and field selectors: reading, printing and matching as Kubernetes does.

mod field;
mod label;
mod lexer;
mod parser;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelSelector, Operator, Requirement};

/// The text or structure is not a selector. Retrying does not help; the message names the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSelectorError {
    /// A token stands where another is needed.
    #[error("found {found:?}, expected: {expected}")]
    Unexpected {
        /// The token; empty at the end of the text.
        found: String,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// A requirement's key, operator or values are not allowed.
    #[error("unable to parse requirement: {0}")]
    Requirement(String),
    /// A field selector's term has no operator or a bad escape.
    #[error("invalid selector: {text:?}; {reason}")]
    Field {
        /// The term.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}
