//! From the watch of this node's pods to one worker a pod.
use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::pod::files::PodDir;
use crate::pod::members;
use crate::pod::observed::Observed;
use crate::pod::record::Record;
use crate::pod::services::{Services, Severity};
use crate::pod::worker::{Ended, PodView, Worker};
use crate::proxy::closed_host_ports;

/// How long a worker that broke down is left alone before it is started again.
const RECOVERY: Duration = Duration::from_secs(5);

/// A pod of this node and what its worker knows of it.
#[derive(Debug, Clone)]
pub(crate) struct LivePod {
    pub(crate) pod: Arc<Pod>,
    pub(crate) seen: watch::Receiver<Arc<Observed>>,
}

/// The pods of this node as others of the agent may read them, by UID.
pub(crate) type Pods = Arc<RwLock<HashMap<String, LivePod>>>;

/// Keeps the workers.
pub(super) struct Dispatcher {
    services: Services,
    workers: HashMap<String, watch::Sender<PodView>>,
    tasks: JoinSet<(String, Ended)>,
    pods: Pods,
    /// Tells that `pods` changed; whether the first list is there.
    news: watch::Sender<bool>,
    shutdown: CancellationToken,
    /// UIDs of a list in progress.
    listed: HashSet<String>,
}

impl Dispatcher {
    pub(super) fn new(
        services: Services,
        pods: Pods,
        news: watch::Sender<bool>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            news,
            services,
            workers: HashMap::new(),
            tasks: JoinSet::new(),
            pods,
            shutdown,
            listed: HashSet::new(),
        }
    }

    /// Starts a worker for every pod an earlier agent left a record of, before the API server has said anything.
    pub(super) fn resume(&mut self) {
        for record in Record::load_all(&self.services.node.pods_dir) {
            self.apply(record.pod);
        }
    }

    /// Follows the watch until shutdown, then waits for the workers to leave their pods.
    pub(super) async fn run(
        mut self,
        changes: impl Stream<Item = watcher::Result<watcher::Event<Pod>>> + Send,
    ) {
        let mut changes = std::pin::pin!(changes);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                Some(change) = changes.next() => match change {
                    Ok(event) => self.take(event),
                    Err(error) => tracing::warn!(%error, "the watch of this node's pods was interrupted"),
                },
                Some(Ok((uid, ended))) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if ended == Ended::Gone {
                        self.workers.remove(&uid);
                        self.pods.write().remove(&uid);
                        self.tell(false);
                    }
                }
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    fn take(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Apply(pod) => self.apply(pod),
            watcher::Event::Delete(pod) => self.remove(pod),
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.insert(members::uid(&pod).to_owned());
                self.apply(pod);
            }
            watcher::Event::InitDone => {
                self.sweep();
                self.tell(true);
            }
        }
    }

    /// Tells others that the pods changed.
    fn tell(&self, listed: bool) {
        self.news.send_modify(|known| *known |= listed);
    }

    fn apply(&mut self, pod: Pod) {
        let uid = members::uid(&pod).to_owned();
        let pod = Arc::new(pod);
        if let Some(live) = self.pods.write().get_mut(&uid) {
            live.pod = Arc::clone(&pod);
        }
        let view = PodView {
            pod,
            removed: false,
        };
        match self.workers.get(&uid) {
            Some(worker) => drop(worker.send_replace(view)),
            None => {
                self.warn_of_ports(&view.pod);
                self.start(uid, view);
            }
        }
        self.tell(false);
    }

    /// Says what of a new pod's ports is not opened.
    fn warn_of_ports(&self, pod: &Pod) {
        let closed = closed_host_ports(pod);
        if !closed.is_empty() {
            let message = format!(
                "host ports on loopback addresses are not opened: {}; leave hostIP out",
                closed.join(", ")
            );
            let events = &self.services.events;
            events.event(pod, None, Severity::Warning, "HostPortNotOpened", message);
        }
    }

    fn remove(&mut self, pod: Pod) {
        let uid = members::uid(&pod);
        if let Some(worker) = self.workers.get(uid) {
            worker.send_replace(PodView {
                pod: Arc::new(pod),
                removed: true,
            });
        }
    }

    /// After a list, workers of pods that were not in it end them; directories nobody works for go.
    fn sweep(&mut self) {
        for (uid, worker) in &self.workers {
            if !self.listed.contains(uid) {
                worker.send_modify(|view| view.removed = true);
            }
        }
        for entry in std::fs::read_dir(&self.services.node.pods_dir)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let Some(uid) = name.to_str().filter(|uid| !self.workers.contains_key(*uid)) else {
                continue;
            };
            self.orphan(uid.to_owned());
        }
    }

    /// A pod's directory without a record: what may run in it is ended, then it goes.
    fn orphan(&self, uid: String) {
        let services = self.services.clone();
        tokio::spawn(async move {
            let pod = Pod {
                metadata: kube::api::ObjectMeta {
                    uid: Some(uid.clone()),
                    ..Default::default()
                },
                ..Pod::default()
            };
            if let Err(error) = services.runtime.stop_sandbox(&uid).await {
                tracing::warn!(uid, %error, "a pod without record could not be ended");
                return;
            }
            let network = services.network.release(&uid).await;
            let volumes = services.volumes.release(&pod).await;
            if let Err(problem) = network.and(volumes) {
                tracing::warn!(
                    uid,
                    problem = problem.message,
                    "a pod without record could not be cleaned up"
                );
                return;
            }
            let dir = PodDir::new(&services.node.pods_dir, &uid);
            if let Err(error) = crate::beneath::remove_tree(dir.path()) {
                tracing::warn!(uid, %error, "a pod directory could not be removed");
            }
        });
    }

    fn start(&mut self, uid: String, view: PodView) {
        let (published, seen) = watch::channel(Arc::default());
        self.pods.write().insert(
            uid.clone(),
            LivePod {
                pod: Arc::clone(&view.pod),
                seen,
            },
        );
        let (sender, receiver) = watch::channel(view);
        self.workers.insert(uid.clone(), sender);
        let (services, shutdown) = (self.services.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            (
                uid,
                supervise(services, receiver, published, shutdown).await,
            )
        });
    }
}

/// Runs a pod's worker; one that panics is a defect, is told, and is started again from its record.
async fn supervise(
    services: Services,
    view: watch::Receiver<PodView>,
    published: watch::Sender<Arc<Observed>>,
    shutdown: CancellationToken,
) -> Ended {
    loop {
        let worker = Worker::new(services.clone(), view.clone(), published.clone());
        let life = async { worker.await.run(shutdown.clone()).await };
        match AssertUnwindSafe(life).catch_unwind().await {
            Ok(ended) => return ended,
            Err(_) => {
                let pod = members::display(&view.borrow().pod);
                tracing::error!(
                    pod,
                    "the worker of this pod broke down and is started again"
                );
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ended::Left,
            () = tokio::time::sleep(RECOVERY) => {}
        }
    }
}
