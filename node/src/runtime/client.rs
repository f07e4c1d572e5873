//! The agent's side of a conversation with one shim.
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Error, SandboxConfig, SandboxEvent};
use crate::kernel::process::pidfd_open;
use crate::kernel::socket;
use crate::shim::protocol::{Begin, Call, Decoder, Message, Refusal, Reply, Request, encode};
use crate::shim::record::Records;

type Answer = (Result<Reply, Refusal>, Vec<OwnedFd>);

/// How long a shim may take to set up its sandbox and say hello.
const HELLO_LIMIT: Duration = Duration::from_secs(30);

/// A conversation with a shim; its task ends when the shim does, or when the last handle is dropped.
#[derive(Debug)]
pub(super) struct Client {
    shared: Arc<Shared>,
    /// Of the shim's protocol.
    version: u32,
    /// Readable once the shim's process is gone.
    process: AsyncFd<OwnedFd>,
    task: tokio::task::AbortHandle,
}

/// Who a shim says it is.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) version: u32,
    pub(super) pid: i32,
    pub(super) sandbox: SandboxConfig,
}

#[derive(Debug)]
struct Shared {
    pod: String,
    socket: AsyncFd<OwnedFd>,
    next: AtomicU64,
    alive: AtomicBool,
    outgoing: Mutex<VecDeque<Outgoing>>,
    more_to_send: Notify,
    pending: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    execs: Mutex<HashMap<u64, oneshot::Sender<i32>>>,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<SandboxEvent>>>,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

/// Connects to the shim of a sandbox, if one lives.
pub(super) fn dial(records: &Records) -> io::Result<OwnedFd> {
    let directory = std::fs::File::open(records.dir())?;
    let path = format!(
        "/proc/self/fd/{}/{}",
        directory.as_raw_fd(),
        Records::SOCKET
    );
    Ok(UnixStream::connect(Path::new(&path))?.into())
}

impl Client {
    /// Goes on with a connected socket: tells a new shim what to set up, and waits until it says hello.
    pub(super) async fn greet(
        pod: &str,
        socket: OwnedFd,
        begin: Option<&Begin>,
    ) -> Result<(Self, Greeting), Error> {
        let spawn_failure = |source| Error::Spawn {
            pod: pod.to_owned(),
            source,
        };
        nix::fcntl::fcntl(
            &socket,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )
        .map_err(|errno| spawn_failure(errno.into()))?;
        let socket = socket::watch(socket, Interest::READABLE | Interest::WRITABLE)
            .map_err(spawn_failure)?;
        let shared = Arc::new(Shared {
            pod: pod.to_owned(),
            socket,
            next: AtomicU64::new(1),
            alive: AtomicBool::new(true),
            outgoing: Mutex::new(VecDeque::new()),
            more_to_send: Notify::new(),
            pending: Mutex::new(HashMap::new()),
            execs: Mutex::new(HashMap::new()),
            subscribers: Mutex::new(Vec::new()),
        });
        if let Some(begin) = begin {
            shared.send(begin, Vec::new())?;
        }
        let mut decoder = Decoder::default();
        let greeting = tokio::time::timeout(HELLO_LIMIT, shared.hear_hello(&mut decoder))
            .await
            .map_err(|_| shared.timeout(HELLO_LIMIT))??;
        let process = pidfd_open(Pid::from_raw(greeting.pid))
            .map_err(io::Error::from)
            .and_then(|pidfd| socket::watch(pidfd, Interest::READABLE))
            .map_err(spawn_failure)?;
        let task = tokio::spawn(Arc::clone(&shared).serve(decoder)).abort_handle();
        Ok((
            Self {
                shared,
                version: greeting.version,
                process,
                task,
            },
            greeting,
        ))
    }

    /// Whether the shim lives.
    pub(super) fn is_alive(&self) -> bool {
        self.shared.alive.load(Ordering::Acquire)
    }

    /// Which version of the protocol the shim speaks.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// What happens from now on.
    pub(super) fn subscribe(&self) -> mpsc::UnboundedReceiver<SandboxEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut subscribers = self.shared.subscribers.lock();
        if self.is_alive() {
            subscribers.push(sender);
        } else {
            // The receiver is held, so this cannot fail.
            let _ = sender.send(SandboxEvent::Lost);
        }
        receiver
    }

    /// Asks for something and waits for the answer.
    pub(super) async fn call(
        &self,
        request: Request,
        fds: Vec<OwnedFd>,
        limit: Duration,
    ) -> Result<Answer, Error> {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        self.numbered_call(number, request, fds, limit).await
    }

    /// Like [`Client::call`] for an exec: also gives the call's number, and what resolves to the exit code.
    pub(super) async fn call_exec(
        &self,
        request: Request,
        fds: Vec<OwnedFd>,
        limit: Duration,
    ) -> Result<(Answer, u64, oneshot::Receiver<i32>), Error> {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.shared.execs.lock().insert(number, sender);
        let answer = self.numbered_call(number, request, fds, limit).await;
        if !matches!(answer, Ok((Ok(_), _))) {
            self.shared.execs.lock().remove(&number);
        }
        Ok((answer?, number, receiver))
    }

    async fn numbered_call(
        &self,
        number: u64,
        request: Request,
        fds: Vec<OwnedFd>,
        limit: Duration,
    ) -> Result<Answer, Error> {
        let (sender, receiver) = oneshot::channel();
        self.shared.pending.lock().insert(number, sender);
        if !self.is_alive() {
            self.shared.pending.lock().remove(&number);
            return Err(self.shared.lost());
        }
        self.shared.send(&Call { number, request }, fds)?;
        match tokio::time::timeout(limit, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(self.shared.lost()),
            Err(_) => {
                self.shared.pending.lock().remove(&number);
                Err(self.shared.timeout(limit))
            }
        }
    }

    /// Waits until the shim's process is gone.
    pub(super) async fn ended(&self, limit: Duration) -> Result<(), Error> {
        match tokio::time::timeout(limit, self.process.readable()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.shared.timeout(limit)),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lost(&self) -> Error {
        Error::Lost {
            pod: self.pod.clone(),
        }
    }

    fn timeout(&self, limit: Duration) -> Error {
        Error::Timeout {
            pod: self.pod.clone(),
            seconds: limit.as_secs(),
        }
    }

    fn protocol(&self, problem: impl ToString) -> Error {
        Error::Protocol {
            pod: self.pod.clone(),
            problem: problem.to_string(),
        }
    }

    fn send(&self, message: &impl serde::Serialize, fds: Vec<OwnedFd>) -> Result<(), Error> {
        let bytes = encode(message, fds.len()).map_err(|error| self.protocol(error))?;
        self.outgoing.lock().push_back(Outgoing {
            bytes,
            sent: 0,
            fds,
        });
        match self.flush() {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.more_to_send.notify_one();
                Ok(())
            }
            // The reading side finds out what is wrong and tells everybody.
            Err(_) => Ok(()),
        }
    }

    /// Sends what waits; false if the socket takes no more now.
    fn flush(&self) -> nix::Result<bool> {
        let mut queue = self.outgoing.lock();
        while let Some(out) = queue.front_mut() {
            let rest = out.bytes.get(out.sent..).unwrap_or_default();
            match socket::send(self.socket.get_ref(), rest, &out.fds) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(errno) => return Err(errno),
                Ok(count) => {
                    out.fds.clear();
                    out.sent += count;
                    if out.sent == out.bytes.len() {
                        queue.pop_front();
                    }
                }
            }
        }
        Ok(true)
    }

    /// Receives once; false at the end.
    async fn receive(&self, decoder: &mut Decoder) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        loop {
            let mut ready = self.socket.readable().await?;
            let received = ready.try_io(|socket| {
                socket::receive(socket.get_ref(), &mut buffer, &mut decoder.fds)
                    .map_err(io::Error::from)
            });
            match received {
                Err(_would_block) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Ok(Ok(0)) => return Ok(false),
                Ok(Ok(length)) => {
                    decoder.feed(buffer.get(..length).unwrap_or_default());
                    return Ok(true);
                }
            }
        }
    }

    async fn hear_hello(&self, decoder: &mut Decoder) -> Result<Greeting, Error> {
        loop {
            match decoder
                .next::<Message>()
                .map_err(|error| self.protocol(error))?
            {
                Some((
                    Message::Hello {
                        version,
                        pid,
                        sandbox,
                    },
                    _,
                )) => {
                    return Ok(Greeting {
                        version,
                        pid,
                        sandbox: *sandbox,
                    });
                }
                Some((Message::Failed(source), _)) => {
                    let object = format!("pod {}", self.pod);
                    return Err(Error::Step {
                        action: "set up the sandbox of",
                        object,
                        source,
                    });
                }
                Some((other, _)) => {
                    return Err(self.protocol(format!("{other:?} instead of hello")));
                }
                None => {}
            }
            let more = self.receive(decoder).await;
            if !more.map_err(|source| Error::Spawn {
                pod: self.pod.clone(),
                source,
            })? {
                let source = io::Error::other("it ended at once; its log is runtime/shim.log");
                return Err(Error::Spawn {
                    pod: self.pod.clone(),
                    source,
                });
            }
        }
    }

    async fn serve(self: Arc<Self>, mut decoder: Decoder) {
        loop {
            loop {
                match decoder.next::<Message>() {
                    Ok(Some((message, fds))) => self.dispatch(message, fds),
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(pod = self.pod, %error, "the shim cannot be understood");
                        return self.finish();
                    }
                }
            }
            tokio::select! {
                more = self.receive(&mut decoder) => match more {
                    Ok(true) => {}
                    Ok(false) => return self.finish(),
                    Err(error) => {
                        tracing::warn!(pod = self.pod, %error, "the shim cannot be heard");
                        return self.finish();
                    }
                },
                () = self.send_rest() => {}
            }
        }
    }

    /// Sends what the socket did not take at once, as soon as it takes more.
    async fn send_rest(&self) {
        self.more_to_send.notified().await;
        while matches!(self.flush(), Ok(false)) {
            match self.socket.writable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return,
            }
        }
    }

    fn dispatch(&self, message: Message, fds: Vec<OwnedFd>) {
        match message {
            Message::Reply { number, result } => {
                if let Some(waiting) = self.pending.lock().remove(&number) {
                    // Who asked may have stopped waiting.
                    let _ = waiting.send((result, fds));
                }
            }
            Message::ExecExited { call, exit_code } => {
                if let Some(waiting) = self.execs.lock().remove(&call) {
                    let _ = waiting.send(exit_code);
                }
            }
            Message::Exited(exit) => self.publish(&SandboxEvent::Exited(exit)),
            Message::Hello { .. } | Message::Failed(_) => {}
        }
    }

    fn publish(&self, event: &SandboxEvent) {
        self.subscribers
            .lock()
            .retain(|subscriber| subscriber.send(event.clone()).is_ok());
    }

    /// The shim is gone: everybody who waits for it is told.
    fn finish(&self) {
        let mut subscribers = self.subscribers.lock();
        self.alive.store(false, Ordering::Release);
        for subscriber in subscribers.drain(..) {
            let _ = subscriber.send(SandboxEvent::Lost);
        }
        drop(subscribers);
        self.pending.lock().clear();
        self.execs.lock().clear();
    }
}
