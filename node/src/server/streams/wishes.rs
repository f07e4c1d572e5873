//! What a client wants to have connected, from the query of its request.
use crate::server::Refusal;
use http::StatusCode;

/// The streams of a session, and the command of an exec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) command: Vec<String>,
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Wishes {
    /// Reads kubelet's parameters: `input`, `output`, `error`, `tty`, and `command` once for each word.
    ///
    /// # Errors
    /// Nothing is to be connected.
    pub(super) fn parse(query: &str) -> Result<Self, Refusal> {
        let mut wishes = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let on = value == "1" || value == "true";
            match &*key {
                "command" => wishes.command.push(value.into_owned()),
                "input" => wishes.stdin |= on,
                "output" => wishes.stdout |= on,
                "error" => wishes.stderr |= on,
                "tty" => wishes.tty |= on,
                _ => {}
            }
        }
        // A terminal has one output for both.
        wishes.stderr &= !wishes.tty;
        if wishes.stdin || wishes.stdout || wishes.stderr {
            return Ok(wishes);
        }
        Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "you must specify at least 1 of stdin, stdout, stderr",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_says_what_is_wanted() {
        let wishes = Wishes::parse("command=ls&command=-l&input=1&output=1&error=1&tty=1").unwrap();
        let expected = Wishes {
            command: vec!["ls".into(), "-l".into()],
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
        };
        assert_eq!(wishes, expected);
        assert!(Wishes::parse("error=1").unwrap().stderr);
        for nothing in ["", "command=ls", "tty=1&error=1", "input=0"] {
            assert!(Wishes::parse(nothing).is_err(), "{nothing}");
        }
    }
}
