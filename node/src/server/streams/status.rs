//! How a session ended, as clients are told on the error channel.
use bytes::Bytes;
use serde_json::json;

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// As it should.
    Success,
    /// The command ended with another code than 0; in words and as a number.
    Exited(String, i32),
    /// It could not be carried out.
    Failed(String),
}

/// How an end is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A `Status` of `meta/v1`: from the fourth version of the protocol on.
    Status,
    /// Text, and nothing on success: older versions.
    Text,
}

impl End {
    /// The bytes for the error channel; none if there is nothing to say.
    pub(super) fn write(&self, form: Form) -> Option<Bytes> {
        match form {
            Form::Status => Some(self.status().into()),
            Form::Text => match self {
                Self::Success => None,
                _ => Some(self.message().into()),
            },
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::Exited(what, _) => format!("command terminated with non-zero exit code: {what}"),
            Self::Failed(why) => format!("Internal error occurred: {why}"),
        }
    }

    fn status(&self) -> String {
        let status = match self {
            Self::Success => json!({ "metadata": {}, "status": "Success" }),
            Self::Exited(_, code) => json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": self.message(),
                "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
            }),
            Self::Failed(why) => json!({
                "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
                "message": self.message(), "details": { "causes": [{ "message": why }] },
            }),
        };
        status.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_a_cause_of_the_status() {
        let end = End::Exited("error executing command [false], exit code 1".into(), 1);
        let status: serde_json::Value =
            serde_json::from_slice(&end.write(Form::Status).unwrap()).unwrap();
        assert_eq!(status["reason"], "NonZeroExitCode");
        let cause = json!({ "reason": "ExitCode", "message": "1" });
        assert_eq!(status["details"]["causes"][0], cause);
        assert_eq!(End::Success.write(Form::Text), None);
        let success = End::Success.write(Form::Status).unwrap();
        assert_eq!(&success[..], br#"{"metadata":{},"status":"Success"}"#);
        let text = End::Failed("no".into()).write(Form::Text).unwrap();
        assert_eq!(&text[..], b"Internal error occurred: no");
    }
}
