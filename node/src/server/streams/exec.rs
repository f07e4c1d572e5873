//! A command in a running container, connected with a client.
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use http::{Response, StatusCode};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::pump;
use super::remote::{self, Remote};
use super::status::End;
use super::target::Target;
use super::wishes::Wishes;
use crate::pod::services::chain;
use crate::runtime::{ExecConfig, ExecStreams};
use crate::server::{NodeApi, Refusal};

/// `/exec/<namespace>/<pod>/<container>`.
pub(in crate::server) async fn exec(
    State(api): State<Arc<NodeApi>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    request: axum::extract::Request,
) -> Result<Response<Body>, Refusal> {
    let (parts, _) = request.into_parts();
    let wishes = Wishes::parse(parts.uri.query().unwrap_or_default())?;
    if wishes.command.is_empty() {
        let message = "you must specify at least one command for the container";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, message));
    }
    let target = Target::find(&api, &namespace, &pod, &container)?;
    let shutdown = api.shutdown.clone();
    remote::connect(parts, wishes.clone(), shutdown, async move |remote| {
        run(&target, &wishes, remote).await;
    })
    .await
}

async fn run(target: &Target, wishes: &Wishes, mut remote: Remote) {
    let config = ExecConfig {
        args: wishes.command.clone(),
        tty: wishes.tty,
        stdin: wishes.stdin,
        ..ExecConfig::default()
    };
    let started = target
        .runtime
        .exec_stream(&target.pod_uid, &target.id, config)
        .await;
    let end = match started {
        Ok(streams) => connect(streams, &mut remote)
            .await
            .map(|code| ended(code, &wishes.command)),
        Err(error) => Some(End::Failed(format!(
            "error executing command in container: {}",
            chain(&error)
        ))),
    };
    if let Some(end) = end {
        remote.finish(&end).await;
    }
}

fn ended(code: Option<i32>, command: &[String]) -> End {
    match code {
        Some(0) => End::Success,
        Some(code) => End::Exited(
            format!(
                "error executing command [{}], exit code {code}",
                command.join(" ")
            ),
            code,
        ),
        None => End::Failed(
            "error executing command in container: the container's shim ended".to_owned(),
        ),
    }
}

/// Carries bytes until the command has ended and all it wrote is sent; its exit code, if it is known. None when the
/// client left before: the command then reads the end of its input, cannot write any more, and loses its terminal.
async fn connect(streams: ExecStreams, remote: &mut Remote) -> Option<Option<i32>> {
    let ended = CancellationToken::new();
    let mut inputs = JoinSet::new();
    let mut outputs = JoinSet::new();
    if let Some(sizes) = remote.resize.take()
        && let Ok(terminal) = streams.stdout.try_clone()
    {
        inputs.spawn(pump::sizes(sizes, terminal));
    }
    if let Some(from) = remote.stdin.take() {
        match streams.stdin {
            Some(to) => inputs.spawn(pump::input(from, to)),
            None => inputs.spawn(pump::discard(from)),
        };
    }
    let stdout = remote.stdout.take();
    outputs.spawn(pump::output(streams.stdout, stdout, ended.clone()));
    if let Some(from) = streams.stderr {
        outputs.spawn(pump::output(from, remote.stderr.take(), ended.clone()));
    }
    let code = tokio::select! {
        code = streams.exit => code.ok(),
        () = remote.gone.cancelled() => return None,
    };
    ended.cancel();
    while outputs.join_next().await.is_some() {}
    Some(code)
}
