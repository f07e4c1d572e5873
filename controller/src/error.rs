//! What can stop a controller's run over one object.

/// Failure of one reconcile run or of the whole group of controllers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer; the run is retried with backoff.
    #[error("{action} {object}")]
    Api {
        /// What was being done, e.g. `create pod for`.
        action: &'static str,
        /// `namespace/name` of the object concerned.
        object: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object lacks a field that every stored object has; a retry helps once it is rewritten.
    #[error("{object}: {field} is missing; apply the object again")]
    Missing {
        /// `namespace/name` of the object concerned.
        object: String,
        /// Path of the field.
        field: &'static str,
    },
    /// A field of the object cannot be used; a retry helps only after the object was changed.
    #[error("{object}: {field}: {problem}")]
    Invalid {
        /// `namespace/name` of the object concerned.
        object: String,
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The caches did not show this controller's own writes in time; retried with backoff.
    #[error("{object}: the watch has not caught up with this controller's own writes")]
    Behind {
        /// `namespace/name` of the object concerned.
        object: String,
    },
    /// Another process holds the controllers' lease.
    #[error("leadership was taken by {holder}; this process stops its controllers")]
    LeadershipLost {
        /// Identity of the new holder.
        holder: String,
    },
}

impl Error {
    /// Wraps a client error with what was being done to which object.
    pub(crate) fn api(
        action: &'static str,
        object: impl Into<String>,
    ) -> impl FnOnce(kube::Error) -> Self {
        let object = object.into();
        move |source| Self::Api {
            action,
            object,
            source: Box::new(source),
        }
    }

    /// True when the failure is an ordinary race: the object changed or vanished under the run.
    pub(crate) fn is_race(&self) -> bool {
        match self {
            Self::Api { source, .. } => is_conflict(source) || is_not_found(source),
            Self::Behind { .. } => true,
            _ => false,
        }
    }

    /// True when the namespace is being emptied: nothing new is made in it, and its end is no failure of the controller.
    pub(crate) fn is_namespace_ending(&self) -> bool {
        let Self::Api { source, .. } = self else {
            return false;
        };
        let kube::Error::Api(status) = &**source else {
            return false;
        };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes
            .into_iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// The error and its causes in one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

/// The server said the object does not exist.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// The server said the write raced with another (409).
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Turns "does not exist" into `None`, since it was already what the caller wanted.
pub(crate) fn ignore_not_found<T>(
    result: Result<T, kube::Error>,
) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
