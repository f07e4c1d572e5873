//! The socket through which `davit images` asks a running agent.
//!
//! A connection carries one request and its answers, each a line of JSON. Only the owner of the data
//! directory can connect.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use davit_listen::{Acceptor, Bounds, Connection};
use davit_node::image::ImageStore;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Answer, Request, perform};
use crate::fault::Fault;

/// The longest request, in bytes: a name and a credentials file.
const LONGEST: u64 = 1 << 20;
/// How many parts of the process's descriptors there are for each that requests may take, and most of them.
const PARTS: u64 = 64;
const MOST_CONNECTIONS: usize = 64;

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("images.sock")
}

/// Listens in `data_dir`. The caller holds the agent's lock, so a socket that is there is a dead one.
pub(crate) fn listen(data_dir: &Path) -> Result<UnixListener, Fault> {
    let path = path(data_dir);
    let failed = |error| Fault::new(format!("listening on {}", path.display()), error, "");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Answers requests until `stop`.
pub(crate) async fn serve(listener: UnixListener, store: ImageStore, stop: CancellationToken) {
    let bounds = Bounds::share(PARTS).at_most(MOST_CONNECTIONS);
    let mut acceptor = Acceptor::new("the image service", listener, bounds);
    while let Some(stream) = stop.run_until_cancelled(acceptor.next()).await {
        let (store, stop) = (store.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                result = answer(stream, &store) => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a request for images broke off");
                    }
                }
            }
        });
    }
}

async fn answer(stream: Connection<UnixStream>, store: &ImageStore) -> std::io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut line = String::new();
    BufReader::new(read.take(LONGEST))
        .read_line(&mut line)
        .await?;
    let request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            let cause = format!("the request is not understood: {error}");
            return send(&mut write, &Answer::Failed { cause }).await;
        }
    };
    let (sender, mut progress) = mpsc::channel(16);
    // Progress that is not read in time is left out.
    let report = move |answer| drop(sender.try_send(answer));
    let mut work = std::pin::pin!(perform(store, request, report));
    let last = loop {
        tokio::select! {
            last = &mut work => break last,
            Some(step) = progress.recv() => send(&mut write, &step).await?,
        }
    };
    send(&mut write, &last).await
}

async fn send(
    to: &mut (impl AsyncWriteExt + Unpin),
    message: &impl Serialize,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line).await
}

/// Asks the agent of `data_dir`; `None` when none listens.
pub(crate) async fn ask(
    data_dir: &Path,
    request: &Request,
    report: impl Fn(Answer),
) -> Result<Option<Answer>, Fault> {
    let failed = |error| Fault::new("asking the running agent", error, "see its log");
    let Ok(mut stream) = UnixStream::connect(path(data_dir)).await else {
        return Ok(None);
    };
    send(&mut stream, request).await.map_err(failed)?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        match serde_json::from_str(&line).map_err(|error| failed(error.into()))? {
            step @ Answer::Progress { .. } => report(step),
            last => return Ok(Some(last)),
        }
    }
    Err(Fault::told(
        "asking the running agent",
        "it broke off",
        "see its log",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_node::image::Options;

    #[tokio::test]
    async fn a_running_agent_answers_through_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let nobody = ask(dir.path(), &Request::List, drop).await.unwrap();
        assert_eq!(nobody, None);
        let store = ImageStore::open(&dir.path().join("images"), Options::default()).unwrap();
        let stop = CancellationToken::new();
        let listener = listen(dir.path()).unwrap();
        let server = tokio::spawn(serve(listener, store, stop.clone()));
        let list = ask(dir.path(), &Request::List, drop).await.unwrap();
        assert_eq!(list, Some(Answer::Images(Vec::new())));
        let unknown = Request::Remove {
            name: "no/such:image".into(),
        };
        let answer = ask(dir.path(), &unknown, drop).await.unwrap();
        assert!(matches!(answer, Some(Answer::Failed { .. })), "{answer:?}");
        stop.cancel();
        server.await.unwrap();
        listen(dir.path()).unwrap();
    }
}
