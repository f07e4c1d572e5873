//! All in one process: the API server, the controllers and the node agent, joined by in-process clients.

use std::path::Path;

use davit_apiserver::auth::UserInfo;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::runtime::wait::await_condition;
use tokio_util::sync::CancellationToken;

use crate::cli::apply_documents;
use crate::connect::kubeconfig_path;
use crate::fault::Fault;
use crate::manifest::Document;
use crate::output::Output;
use crate::parts::Parts;
use crate::progress::Progress;
use crate::server::Running;
use crate::{agent, server};

/// What to run.
pub(crate) struct Plan<'a> {
    /// A data directory whose locks the caller holds.
    pub(crate) data_dir: &'a Path,
    /// The API server.
    pub(crate) server: &'a server::Settings,
    /// The node.
    pub(crate) agent: &'a agent::Settings,
    /// What to apply once the server runs.
    pub(crate) manifests: &'a [Document],
}

impl Plan<'_> {
    /// Runs everything until `shutdown`, then stops it in order. Pods run on.
    pub(crate) async fn run(&self, shutdown: CancellationToken) -> Result<(), Fault> {
        let mut parts = Parts::new();
        let result = tokio::select! {
            result = self.work(&mut parts) => result,
            () = shutdown.cancelled() => Ok(()),
        };
        result.and(parts.stop().await)
    }

    /// Brings everything up, then waits for a part to fail.
    async fn work(&self, parts: &mut Parts) -> Result<(), Fault> {
        let progress = Progress::new();
        let shared = server::Shared {
            domain: &self.agent.cluster_domain,
            external_ips: &self.agent.external_ips,
        };
        let running = self
            .server
            .start(self.data_dir, shared, parts, &progress)
            .await?;
        progress.step("starting the node");
        self.start_agent(&running, parts).await?;
        parts.during(self.settle(&running, &progress)).await?;
        progress.finish();
        self.announce(&running)?;
        parts.during(std::future::pending()).await
    }

    async fn start_agent(&self, running: &Running, parts: &mut Parts) -> Result<(), Fault> {
        let name = self.agent.node_name()?;
        let authority = running.server.authority();
        let identities = agent::identities(authority, &name, self.agent.node_ip)?;
        let client = running.server.client(UserInfo::node(&name));
        self.agent
            .start(
                self.data_dir,
                client,
                &running.url,
                identities.serving,
                parts,
            )
            .await
    }

    /// Applies the manifests and waits for the node.
    async fn settle(&self, running: &Running, progress: &Progress) -> Result<(), Fault> {
        let connection = running.admin();
        if !self.manifests.is_empty() {
            progress.step("applying the manifests");
            let mut output = Output::new();
            let report = |line: &str| progress.suspend(|| output.line(line));
            apply_documents(&connection, self.manifests, false, report).await?;
        }
        let name = self.agent.node_name()?;
        progress.step(&format!("waiting for node {name}"));
        let nodes = Api::<Node>::all(connection.client);
        let ready = |node: Option<&Node>| node.is_some_and(is_ready);
        await_condition(nodes, &name, ready)
            .await
            .map_err(|error| Fault::new(format!("waiting for node {name}"), error, ""))?;
        progress.done(&format!("node {name}"));
        Ok(())
    }

    /// Tells how to go on.
    fn announce(&self, running: &Running) -> Result<(), Fault> {
        let kubeconfig = kubeconfig_path(self.data_dir);
        let mut output = Output::new();
        if !output.is_terminal() {
            let (url, file) = (&running.url, kubeconfig.display());
            return output.line(&format!("davit is ready at {url}, kubeconfig {file}"));
        }
        let file = kubeconfig.display().to_string();
        let data_dir = self.data_dir.display();
        for line in [
            "",
            "davit is ready. In another terminal:",
            &format!("    export KUBECONFIG={}", quoted(&file)),
            "    kubectl get nodes",
            "or, without kubectl:",
            &format!(
                "    davit get pods -A --data-dir {}",
                quoted(&data_dir.to_string())
            ),
            "Ctrl-C stops davit; the pods run on. `davit down` removes everything.",
        ] {
            output.line(line)?;
        }
        Ok(())
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@%".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_the_shell() {
        assert_eq!(quoted("/var/lib/davit"), "/var/lib/davit");
        assert_eq!(quoted("/tmp/a b"), "'/tmp/a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
