//! The one shape every failure of the command line has: what failed, why, and what to do about it.

use std::error::Error;
use std::fmt;

/// A failure, printed as `davit: <what>: <cause>; <remedy>` on one line.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A failure to tell the user about.
    Told {
        /// The command or step that failed.
        what: String,
        /// Why, the whole chain of causes.
        cause: String,
        /// What the user can do; may be empty where the cause says it.
        remedy: String,
    },
    /// Whoever read the output went away, as in `davit get pods | head -1`. Not an error.
    ClosedPipe,
    /// `davit diff` found differences and printed them.
    Differs,
}

impl Fault {
    /// A failure with an error as its cause.
    pub(crate) fn new(
        what: impl Into<String>,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
        remedy: impl Into<String>,
    ) -> Self {
        let cause = cause.into();
        Self::Told {
            what: what.into(),
            cause: chain(&*cause),
            remedy: remedy.into(),
        }
    }

    /// A failed request to the API server at `server`.
    pub(crate) fn request(what: impl Into<String>, error: &kube::Error) -> Self {
        let what = what.into();
        match error {
            kube::Error::Api(status) if status.code == 401 => Self::told(
                what,
                "the server does not accept the credentials",
                "use the kubeconfig of this cluster (`davit kubeconfig`)",
            ),
            kube::Error::Api(status) => Self::told(what, one_line(&status.message), ""),
            error if is_unreachable(error) => Self::told(
                what,
                format!("cannot reach the API server: {}", root_cause(error)),
                "start it with `davit up`, or point --data-dir or --kubeconfig at a running one",
            ),
            error => Self::told(what, chain(error), ""),
        }
    }

    /// A failure in words.
    pub(crate) fn told(
        what: impl Into<String>,
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Told {
            what: what.into(),
            cause: cause.into(),
            remedy: remedy.into(),
        }
    }

    /// Puts the command's name in front, unless it is there.
    pub(crate) fn within(self, command: &str) -> Self {
        match self {
            Self::Told {
                what,
                cause,
                remedy,
            } if !what.starts_with(command) => {
                let what = if what.is_empty() {
                    command.to_owned()
                } else {
                    format!("{command}: {what}")
                };
                Self::Told {
                    what,
                    cause,
                    remedy,
                }
            }
            same => same,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Told {
            what,
            cause,
            remedy,
        } = self
        else {
            return f.write_str(match self {
                Self::Differs => "there are differences",
                _ => "closed pipe",
            });
        };
        let mut parts = [what, cause].into_iter().filter(|part| !part.is_empty());
        f.write_str(&one_line(parts.next().map_or("", |part| part)))?;
        for part in parts {
            write!(f, ": {}", one_line(part))?;
        }
        if !remedy.is_empty() {
            write!(f, "; {}", one_line(remedy))?;
        }
        Ok(())
    }
}

impl Error for Fault {}

/// An error and its causes, outermost first. A layer that repeats what the next one says is left out.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut layers = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        match layers.last_mut() {
            Some(last) if last.ends_with(&text) => {}
            _ => layers.push(text),
        }
        source = error.source();
    }
    layers.join(": ")
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn is_unreachable(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|layer| layer as &dyn Error)
        }
    }

    #[test]
    fn a_fault_is_one_line_with_cause_and_remedy() {
        let inner = Layer("no such\nfile", None);
        let outer = Layer("cannot open x", Some(Box::new(inner)));
        let fault = Fault::new("opening the store", outer, "check the path").within("up");
        assert_eq!(
            fault.to_string(),
            "up: opening the store: cannot open x: no such file; check the path"
        );
        assert_eq!(
            Fault::told("up: port", "taken", "")
                .within("up")
                .to_string(),
            "up: port: taken"
        );
    }

    #[test]
    fn repeated_layers_are_told_once() {
        let error = Layer("HttpError: refused", Some(Box::new(Layer("refused", None))));
        assert_eq!(chain(&error), "HttpError: refused");
    }
}
