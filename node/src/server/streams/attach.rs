//! A container's own streams, connected with a client.
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use http::Response;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::pump;
use super::remote::{self, Remote};
use super::status::End;
use super::target::Target;
use super::wishes::Wishes;
use crate::pod::services::chain;
use crate::runtime::AttachStreams;
use crate::server::{NodeApi, Refusal};

/// `/attach/<namespace>/<pod>/<container>`.
pub(in crate::server) async fn attach(
    State(api): State<Arc<NodeApi>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    request: axum::extract::Request,
) -> Result<Response<Body>, Refusal> {
    let (parts, _) = request.into_parts();
    let mut wishes = Wishes::parse(parts.uri.query().unwrap_or_default())?;
    let target = Target::find(&api, &namespace, &pod, &container)?;
    // The container's terminal decides, whatever the client thinks.
    wishes.tty &= target.tty;
    let shutdown = api.shutdown.clone();
    remote::connect(parts, wishes.clone(), shutdown, async move |remote| {
        run(target, &wishes, remote).await;
    })
    .await
}

async fn run(target: Target, wishes: &Wishes, mut remote: Remote) {
    let attached = target
        .runtime
        .attach(&target.pod_uid, &target.id, wishes.stdout, wishes.stderr)
        .await;
    let end = match attached {
        Ok(streams) => connect(&target, streams, &mut remote).await,
        Err(error) => Some(End::Failed(format!(
            "error attaching to container: {}",
            chain(&error)
        ))),
    };
    if let Some(end) = end {
        remote.finish(&end).await;
    }
}

/// Carries bytes until the container ends or the client has nothing more to say to one that goes on listening. None
/// when the client left.
async fn connect(target: &Target, streams: AttachStreams, remote: &mut Remote) -> Option<End> {
    let never = CancellationToken::new();
    let mut outputs = JoinSet::new();
    let mut inputs = JoinSet::new();
    let outs = [
        (streams.stdout, remote.stdout.take()),
        (streams.stderr, remote.stderr.take()),
    ];
    for (from, to) in outs {
        if let Some(from) = from {
            outputs.spawn(pump::output(from, to, never.clone()));
        }
    }
    if let Some(sizes) = remote.resize.take() {
        let terminal = streams.stdin.as_ref().filter(|_| streams.terminal);
        match terminal.and_then(|terminal| terminal.try_clone().ok()) {
            Some(terminal) => inputs.spawn(pump::sizes(sizes, terminal)),
            None => inputs.spawn(pump::discard(sizes)),
        };
    }
    let said = remote.stdin.take().map(|from| {
        let (target, to) = (target.clone(), streams.stdin);
        tokio::spawn(async move {
            match to {
                Some(to) => pump::input(from, to).await,
                None => pump::discard(from).await,
            }
            if target.ends_input() {
                // A container that is gone has no input any more.
                let _ = target
                    .runtime
                    .close_stdin(&target.pod_uid, &target.id)
                    .await;
            }
        })
    });
    let detached = async {
        match said {
            Some(said) => drop(said.await),
            None => std::future::pending().await,
        }
        // One that reads only this session's input is listened to until it ends.
        if target.ends_input() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = remote.gone.cancelled() => None,
        () = async { while outputs.join_next().await.is_some() {} } => Some(End::Success),
        () = detached => Some(End::Success),
    }
}
