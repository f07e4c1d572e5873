//! Joining the streams of a running container.
use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::sandbox::ANSWER_LIMIT;
use super::{Error, Sandbox};
use crate::shim::protocol::{AttachPlan, Reply, Request};

/// The first version of the shim's protocol with this.
const SINCE: u32 = 2;

/// Streams of a running container, with others who may have them too.
#[derive(Debug, Default)]
pub struct AttachStreams {
    /// Its standard input, if it has one; or its terminal.
    pub stdin: Option<OwnedFd>,
    /// What it writes from now on, with a terminal all of it; ends with the container.
    pub stdout: Option<OwnedFd>,
    /// What it writes to its standard error from now on.
    pub stderr: Option<OwnedFd>,
    /// [`Self::stdin`] is a terminal.
    pub terminal: bool,
}

impl Sandbox {
    /// Joins the streams of a running container. Who reads slowly holds the container up.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::WrongState`] if it does not run or its shim is of a davit that could not do this.
    pub async fn attach(
        &self,
        id: &str,
        stdout: bool,
        stderr: bool,
    ) -> Result<AttachStreams, Error> {
        let client = self.client()?;
        if client.version() < SINCE {
            return Err(Error::WrongState {
                id: id.to_owned(),
                problem:
                    "was started by an older davit and cannot be attached to; start its pod anew"
                        .to_owned(),
            });
        }
        let mut theirs = Vec::new();
        let mut end = |wanted: bool| -> Result<Option<OwnedFd>, Error> {
            if !wanted {
                return Ok(None);
            }
            let made = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK);
            let (ours, other) = made.map_err(|errno| Error::Spawn {
                pod: self.inner.config.pod_uid.clone(),
                source: errno.into(),
            })?;
            theirs.push(other);
            Ok(Some(ours))
        };
        let (out, err) = (end(stdout)?, end(stderr)?);
        let plan = AttachPlan {
            id: id.to_owned(),
            stdout,
            stderr,
        };
        let (result, fds) = client
            .call(Request::Attach(plan), theirs, ANSWER_LIMIT)
            .await?;
        match result {
            Ok(Reply::Attached { terminal }) => Ok(AttachStreams {
                stdin: fds.into_iter().next(),
                stdout: out,
                stderr: err,
                terminal,
            }),
            Ok(other) => Err(self.unexpected(&other)),
            Err(refusal) => {
                let object = format!("container {id}");
                Err(self.refused(refusal, id, "attach to", object))
            }
        }
    }

    /// Ends a container's standard input; those who hold it from [`Sandbox::attach`] must let it go as well.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Lost`].
    pub async fn close_stdin(&self, id: &str) -> Result<(), Error> {
        if self.client()?.version() < SINCE {
            return Ok(());
        }
        let request = Request::CloseStdin { id: id.to_owned() };
        self.simple(request, id, ANSWER_LIMIT).await
    }
}
