//! The worker of one pod: wakes on whatever may have changed, plans, starts the steps, and takes in what came of them.
//!
//! Guarantees: one worker a pod UID; every wake leads to a plan of everything known, so that a missed or doubled wake does no
//! harm; steps run beside each other and never hold up the loop; what is known is saved before the next wait.
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::act::{Act, Ground, Subject};
use super::files::PodDir;
use super::members;
use super::observed::{Failure, ImagePhase, Observed, Phase, Problem};
use super::plan::{is_complete, is_ending, plan};
use super::record::Record;
use super::services::{HOOK_LIMIT, Services};
use super::step::{Outcome, Step};
use crate::probe;
use crate::runtime::{ContainerExit, SandboxEvent};

mod adopt;
mod exits;
mod probing;
mod report;
#[cfg(test)]
mod tests;

/// A pod as the agent sees it on the API server.
#[derive(Debug, Clone)]
pub struct PodView {
    /// Its newest object, or the last one before it was gone.
    pub pod: Arc<Pod>,
    /// It is gone from the API server.
    pub removed: bool,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nothing of the pod is left.
    Gone,
    /// The agent shuts down; the pod runs on.
    Left,
}

/// What the worker's own futures report.
enum Done {
    Step(Option<Outcome>),
    Status(Result<Option<Pod>, Problem>),
}

/// The worker of one pod.
pub struct Worker {
    ground: Arc<Ground>,
    view: watch::Receiver<PodView>,
    /// The pod with the newest status known.
    pod: Arc<Pod>,
    seen: Observed,
    /// What was last saved and told to others.
    saved: Option<Arc<Pod>>,
    /// What is known, for others to read; they wake when it changes.
    published: watch::Sender<Arc<Observed>>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    sandbox: Option<BoxStream<'static, SandboxEvent>>,
    changes: BoxStream<'static, ()>,
    /// Exits of containers whose start has not reported yet.
    early: HashMap<String, ContainerExit>,
    probes: probing::Probes,
    reports: mpsc::UnboundedReceiver<(probe::Key, probe::Report)>,
    writer: report::Writer,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("pod", &members::display(&self.pod))
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker for the pod in `view`; goes on with what an earlier agent saved, and tells `published` what it knows.
    pub async fn new(
        services: Services,
        view: watch::Receiver<PodView>,
        published: watch::Sender<Arc<Observed>>,
    ) -> Self {
        let pod = Arc::clone(&view.borrow().pod);
        let dir = PodDir::new(&services.node.pods_dir, members::uid(&pod));
        let seen =
            Record::load(&dir).map_or_else(|| adopt::from_status(&pod), |record| record.seen);
        let changes = services.api.changes(&pod);
        let (sender, reports) = mpsc::unbounded_channel();
        let ground = Ground {
            services,
            dir,
            volumes: Mutex::default(),
            network: Mutex::default(),
        };
        let mut worker = Self {
            ground: Arc::new(ground),
            view,
            pod,
            seen,
            saved: None,
            published,
            running: FuturesUnordered::new(),
            sandbox: None,
            changes,
            early: HashMap::new(),
            probes: probing::Probes::new(sender),
            reports,
            writer: report::Writer::default(),
        };
        worker.adopt().await;
        worker
    }

    /// Works until the pod is gone or the agent shuts down.
    pub async fn run(mut self, shutdown: CancellationToken) -> Ended {
        loop {
            self.observe();
            let steps = self.place().map_or_else(|| self.plan(), |step| vec![step]);
            if steps.contains(&Step::Forget) {
                return self.forget().await;
            }
            let wake = wake_time(&steps);
            for step in steps {
                self.start(step);
            }
            self.report();
            self.save();
            self.probe();
            if !self.wait(wake, &shutdown).await {
                return Ended::Left;
            }
        }
    }

    fn observe(&mut self) {
        let PodView { pod, removed } = self.view.borrow_and_update().clone();
        self.pod = report::newest(&self.pod, pod);
        self.seen.removed |= removed;
        self.seen.note(&self.pod, Timestamp::now());
    }

    /// Takes the pod's room on the node, or gives it back; the step of a pod that finds none.
    fn place(&self) -> Option<Step> {
        let room = &self.ground.services.room;
        let is_over = self.seen.failure.is_some() || is_complete(&self.pod, &self.seen);
        if is_over {
            room.leave(members::uid(&self.pod));
            return None;
        }
        if self.seen.sandbox_attempts > 0 || is_ending(&self.pod, &self.seen) {
            room.count(&self.seen.as_allotted(&self.pod));
            return None;
        }
        let Failure { reason, message } = room.take(&self.pod).err()?;
        Some(Step::Fail { reason, message })
    }

    fn plan(&self) -> Vec<Step> {
        let steps = plan(&self.pod, &self.seen, Timestamp::now());
        tracing::debug!(pod = members::display(&self.pod), ?steps, "plan");
        steps
    }

    fn start(&mut self, step: Step) {
        if matches!(step, Step::WakeAt(_)) || (step == Step::DeleteObject && !self.is_reported()) {
            return;
        }
        let subject = self.subject(&step);
        self.seen.begin(&self.pod, &step, Timestamp::now());
        let act = self.act(&step);
        self.running.push(Box::pin(async move {
            Done::Step(act.perform(step, subject).await)
        }));
    }

    /// All steps but a resize see the pod with the resources that its containers were given.
    fn act(&self, step: &Step) -> Act {
        let pod = match self.seen.as_allotted(&self.pod) {
            Cow::Owned(allotted) if *step != Step::Resize => Arc::new(allotted),
            _ => Arc::clone(&self.pod),
        };
        Act {
            ground: Arc::clone(&self.ground),
            pod,
        }
    }

    /// Ids of the containers that run, by name.
    fn running_ids(&self) -> BTreeMap<String, String> {
        let running = self.seen.containers.iter().filter_map(|(name, known)| {
            let running = known.running().filter(|running| running.stop.is_none())?;
            Some((name.clone(), running.id.clone()))
        });
        running.collect()
    }

    /// What the step needs to know, before it is marked as begun.
    fn subject(&self, step: &Step) -> Subject {
        let mut subject = Subject {
            ips: self.seen.ips.clone(),
            limit: HOOK_LIMIT,
            running: self.running_ids(),
            ..Subject::default()
        };
        let (Step::StartContainer { container, .. }
        | Step::PostStart { container }
        | Step::PreStop { container }
        | Step::Terminate { container }
        | Step::Kill { container }
        | Step::RemoveContainer { container, .. }) = step
        else {
            return subject;
        };
        let Some(known) = self.seen.containers.get(container) else {
            return subject;
        };
        subject.attempts = known.attempts;
        subject.target = self.target_of(container);
        if let ImagePhase::Present(image) = &known.image.phase {
            subject.image = image.clone();
        }
        if let Phase::Running(running) = &known.phase {
            subject.id = running.id.clone();
            subject.image = running.image.clone();
            if let Some(stop) = running
                .stop
                .as_ref()
                .filter(|_| matches!(step, Step::PreStop { .. }))
            {
                subject.limit = until(stop.deadline);
            }
        }
        subject
    }

    /// The id of the container that an ephemeral one is to live among, if that runs.
    fn target_of(&self, container: &str) -> Option<String> {
        let target = members::target(&self.pod, container)?;
        let running = self.seen.containers.get(target)?.running()?;
        Some(running.id.clone())
    }

    /// Waits until something may have changed; false when the agent shuts down.
    async fn wait(&mut self, wake: Option<Timestamp>, shutdown: &CancellationToken) -> bool {
        let wake = wake.into_iter().chain(self.writer.retry_at()).min();
        let timer = async {
            match wake {
                Some(wake) => tokio::time::sleep(until(wake)).await,
                None => std::future::pending().await,
            }
        };
        let sandbox = async {
            match &mut self.sandbox {
                Some(events) => events.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return false,
            Some(done) = self.running.next() => self.done(done).await,
            event = sandbox => self.happened(event).await,
            Some((key, report)) = self.reports.recv() => self.probed(key, report),
            Some(()) = self.changes.next() => self.finish(Outcome::ObjectsChanged),
            changed = self.view.changed() => return changed.is_ok(),
            () = timer => {}
        }
        true
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Step(None) => {}
            Done::Step(Some(outcome)) => self.step_done(outcome).await,
            Done::Status(result) => self.status_written(result),
        }
    }

    async fn step_done(&mut self, outcome: Outcome) {
        let started = match &outcome {
            Outcome::Started {
                result: Ok(started),
                ..
            } => Some(started.id.clone()),
            _ => None,
        };
        let created = matches!(&outcome, Outcome::SandboxCreated(Ok(_)));
        let stopped = matches!(&outcome, Outcome::SandboxStopped(Ok(())));
        self.finish(outcome);
        if created {
            self.sandbox = self.ground.services.runtime.events(members::uid(&self.pod));
        }
        if stopped {
            self.sandbox = None;
        }
        if let Some(exit) = started.and_then(|id| self.early.remove(&id)) {
            self.container_exited(exit).await;
        }
    }

    /// Something happened in the sandbox; the end of its events means that it is gone.
    async fn happened(&mut self, event: Option<SandboxEvent>) {
        match event {
            Some(SandboxEvent::Exited(exit)) => self.container_exited(exit).await,
            Some(SandboxEvent::Lost) | None => {
                self.sandbox = None;
                self.sandbox_lost().await;
            }
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        tracing::debug!(pod = members::display(&self.pod), ?outcome, "outcome");
        self.seen.finish(&self.pod, outcome, Timestamp::now());
    }

    /// Saves and publishes what is known if it changed.
    fn save(&mut self) {
        let same_pod = self
            .saved
            .as_ref()
            .is_some_and(|saved| Arc::ptr_eq(saved, &self.pod));
        if same_pod && **self.published.borrow() == self.seen {
            return;
        }
        if let Err(error) = Record::save(&self.ground.dir, &self.pod, &self.seen) {
            tracing::warn!(pod = members::display(&self.pod), %error, "record not saved");
        }
        self.saved = Some(Arc::clone(&self.pod));
        self.published.send_replace(Arc::new(self.seen.clone()));
    }

    /// Drops the pod's directory with its logs and record.
    async fn forget(self) -> Ended {
        self.ground.services.room.leave(members::uid(&self.pod));
        let dir = self.ground.dir.path().to_owned();
        let removed = tokio::task::spawn_blocking(move || crate::beneath::remove_tree(&dir)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(pod = members::display(&self.pod), %error, "pod directory not removed");
        }
        Ended::Gone
    }
}

fn wake_time(steps: &[Step]) -> Option<Timestamp> {
    let times = steps.iter().filter_map(|step| match step {
        Step::WakeAt(time) => Some(*time),
        _ => None,
    });
    times.min()
}

fn until(time: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default()
}
