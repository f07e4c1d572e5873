//! What agent and shim say to each other: length-prefixed JSON over a unix stream socket, descriptors beside it.
//!
//! An agent may talk to the shim of an older or newer davit: fields are only ever added, with defaults.
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::DeviceRule;
use crate::runtime::{
    ContainerExit, ContainerState, Resources, RootFs, SandboxConfig, Started, StepError, User,
};

/// Version of this protocol, told by the shim when somebody connects.
pub(crate) const VERSION: u32 = 3;

/// Longest message; a pod's whole environment and all its mounts are far below it.
const MAX_BODY: usize = 16 << 20;

/// Length of the body and number of descriptors, both little-endian.
const HEADER: usize = 8;

/// The first message of the agent to a shim it has just started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// The sandbox to set up.
    pub(crate) sandbox: SandboxConfig,
    /// Cgroup of the pod.
    pub(crate) pod_group: String,
    /// Cgroup that the shim itself goes to.
    pub(crate) shim_group: String,
}

/// A request of the agent, answered by one [`Message::Reply`] with the same number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    /// Chosen by the agent, unique on its connection.
    pub(crate) number: u64,
    /// What is wanted.
    pub(crate) request: Request,
}

/// What an agent can ask of a shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start a container. Descriptors: its seccomp programs. Answered by [`Reply::Started`].
    Start(Box<Launch>),
    /// Start a process in a running container. Descriptors: standard input, output and error unless it gets a terminal.
    /// Answered by [`Reply::ExecStarted`], later by [`Message::ExecExited`] with the same number.
    Exec(ExecLaunch),
    /// Join the streams of a running container, since version 2. Descriptors: pipes for its standard output and error,
    /// as far as they are wanted. Answered by [`Reply::Attached`].
    Attach(AttachPlan),
    /// End a container's standard input, since version 2.
    CloseStdin {
        /// Which container.
        id: String,
    },
    /// Kill the exec that was started by this call.
    KillExec {
        /// Number of the [`Request::Exec`].
        call: u64,
    },
    /// Send a signal to a container's first process.
    Signal {
        /// Which container.
        id: String,
        /// Signal number.
        signal: i32,
    },
    /// Kill all processes of a container. Answered at once; the exit follows.
    Kill {
        /// Which container.
        id: String,
    },
    /// Forget a container, killing it if it runs. Answered when its cgroup is gone.
    Remove {
        /// Which container.
        id: String,
    },
    /// List the containers.
    List,
    /// Kill everything, remove the pod's cgroup, and end. Answered when all is gone.
    Shutdown,
}

/// What a shim says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Said first on every connection, once the sandbox is set up.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// Process id of the shim.
        pid: i32,
        /// What it holds.
        sandbox: Box<SandboxConfig>,
    },
    /// Said instead of hello when the sandbox cannot be set up; the shim ends.
    Failed(StepError),
    /// The answer to a call.
    Reply {
        /// The call's number.
        number: u64,
        /// What came of it.
        result: Result<Reply, Refusal>,
    },
    /// A container ended. Told to everybody connected.
    Exited(ContainerExit),
    /// An exec ended. Told to who started it.
    ExecExited {
        /// Number of the [`Request::Exec`].
        call: u64,
        /// Exit code, 128 + signal if one ended it.
        exit_code: i32,
    },
}

/// The good answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Nothing to say.
    Done,
    /// The container's program runs.
    Started(Started),
    /// The exec's program runs. Descriptor: its terminal if it got one.
    ExecStarted,
    /// The pipes are connected. Descriptor: the container's standard input, if it has one, or its terminal.
    Attached {
        /// It is a terminal.
        terminal: bool,
    },
    /// All containers in order of start.
    Containers(Vec<ContainerState>),
}

/// The bad answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// A step failed.
    Step(StepError),
    /// No such container.
    NotFound,
    /// The container's state does not allow it; in words that go on after its name.
    WrongState(String),
}

/// Everything a shim needs to start one container, decided beforehand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// Its id.
    pub(crate) id: String,
    /// Its name in the pod.
    pub(crate) name: String,
    /// Which attempt this is.
    pub(crate) attempt: u32,
    /// Directory for its records; the root is mounted on it in the container's own mount namespace.
    pub(crate) bundle: PathBuf,
    /// Its root.
    pub(crate) rootfs: RootFs,
    /// Mounts in order.
    pub(crate) mounts: Vec<MountStep>,
    /// Device nodes.
    pub(crate) devices: Vec<DeviceNode>,
    /// Paths hidden.
    pub(crate) masked_paths: Vec<String>,
    /// Paths made read-only.
    pub(crate) readonly_paths: Vec<String>,
    /// A pid namespace of its own; otherwise that of `among`, the pod's or the host's.
    pub(crate) own_pid_namespace: bool,
    /// A container whose pid namespace it is born in.
    #[serde(default)]
    pub(crate) among: Option<String>,
    /// Its cgroup.
    pub(crate) group: String,
    /// Limits of its cgroup.
    pub(crate) resources: Resources,
    /// Devices its cgroup may use; all if absent.
    pub(crate) device_rules: Option<Vec<DeviceRule>>,
    /// Its first process.
    pub(crate) process: ProcessPlan,
    /// Its log.
    pub(crate) log: LogPlan,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountStep {
    /// Where, from the container's root.
    pub(crate) target: String,
    /// What.
    pub(crate) source: MountSource,
    /// Attributes to set, by the kernel's numbers.
    pub(crate) attributes: u64,
    /// Set them on all mounts beneath it too.
    pub(crate) recursive: bool,
    /// How mounts made later travel.
    pub(crate) spread: SpreadPlan,
}

/// How mounts made later travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SpreadPlan {
    /// Neither way.
    #[default]
    Private,
    /// From the host into the container.
    Slave,
    /// Both ways.
    Shared,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MountSource {
    /// A part of the host's file tree with all that is mounted beneath it.
    Bind {
        /// On the host.
        source: PathBuf,
        /// Beneath `source`, never leaving it.
        sub_path: Option<PathBuf>,
        /// Only this mount, not those beneath it.
        alone: bool,
    },
    /// What the container's own root has at the target, before anything is mounted in it.
    OwnRoot,
    /// A new file system.
    FileSystem {
        /// Its type.
        kind: String,
        /// Its parameters, with or without a value.
        parameters: Vec<(String, Option<String>)>,
    },
    /// The memory file system that the pod's containers share.
    SharedMemory,
    /// The container's cgroups.
    Cgroups,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceNode {
    /// Path from the container's root.
    pub(crate) path: String,
    /// A block device; otherwise a character device.
    pub(crate) block: bool,
    /// Major number.
    pub(crate) major: u32,
    /// Minor number.
    pub(crate) minor: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
}

/// A process to be started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessPlan {
    /// Command line.
    pub(crate) args: Vec<String>,
    /// Environment.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory.
    pub(crate) cwd: String,
    /// Who.
    pub(crate) user: User,
    /// What it may do.
    pub(crate) capabilities: CapabilityBits,
    /// It and its children never gain privileges.
    pub(crate) no_new_privileges: bool,
    /// Resource number, soft and hard limit.
    pub(crate) rlimits: Vec<(u32, u64, u64)>,
    /// Its place in the order of killing when memory runs out.
    pub(crate) oom_score_adj: Option<i32>,
    /// It gets a terminal.
    pub(crate) terminal: bool,
    /// Its standard input stays open.
    pub(crate) stdin: bool,
}

/// Capabilities of a process that runs as root, one bit each; other users keep only what files give them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CapabilityBits {
    /// Never to be had beyond these.
    pub(crate) bounding: u64,
    /// In force, and permitted.
    pub(crate) effective: u64,
    /// Kept over exec.
    pub(crate) inheritable: u64,
    /// Given to programs of users other than root.
    pub(crate) ambient: u64,
}

/// Where a container's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogPlan {
    /// The current file.
    pub(crate) path: PathBuf,
    /// Put aside when it would grow beyond this; never if 0.
    pub(crate) max_bytes: u64,
    /// Files kept, the current one counted.
    pub(crate) max_files: u32,
}

/// A process to be started in a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExecLaunch {
    /// The container.
    pub(crate) id: String,
    /// Command line.
    pub(crate) args: Vec<String>,
    /// Added to the container's environment.
    pub(crate) env: Vec<(String, String)>,
    /// Instead of the container's working directory.
    pub(crate) cwd: Option<String>,
    /// Instead of the container's user.
    pub(crate) user: Option<User>,
    /// It gets a terminal.
    pub(crate) terminal: bool,
}

/// Whose streams are joined, and which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttachPlan {
    /// The container.
    pub(crate) id: String,
    /// Its standard output.
    pub(crate) stdout: bool,
    /// Its standard error.
    pub(crate) stderr: bool,
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// Longer than any message may be.
    #[error("a message of {0} bytes is longer than any can be")]
    TooLong(usize),
    /// Not the JSON expected.
    #[error("a message cannot be read")]
    Json(#[from] serde_json::Error),
    /// Fewer descriptors than announced.
    #[error("a message came without its descriptors")]
    Descriptors,
}

/// One message as bytes for the socket. `fds` is how many descriptors are sent with the first byte.
pub(crate) fn encode(message: &impl Serialize, fds: usize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - HEADER;
    if length > MAX_BODY {
        return Err(FrameError::TooLong(length));
    }
    let header = (length as u64) | (fds as u64) << 32;
    if let Some(place) = bytes.first_chunk_mut::<HEADER>() {
        *place = header.to_le_bytes();
    }
    Ok(bytes)
}

/// Puts messages together from what a socket delivers.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    /// Received and not yet claimed by a message.
    pub(crate) fds: Vec<OwnedFd>,
}

impl Decoder {
    /// Takes what was received.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message with its descriptors, if it is there.
    pub(crate) fn next<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, FrameError> {
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let header = u64::from_le_bytes(*header);
        let length = (header & 0xffff_ffff) as usize;
        let fds = (header >> 32) as usize;
        if length > MAX_BODY {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        if self.fds.len() < fds {
            return Err(FrameError::Descriptors);
        }
        let message = serde_json::from_slice(body)?;
        self.bytes.drain(..HEADER + length);
        Ok(Some((message, self.fds.drain(..fds).collect())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_survive_any_splitting(
            texts in prop::collection::vec(".{0,40}", 0..8),
            cut in 1usize..17,
        ) {
            let mut wire = Vec::new();
            for text in &texts {
                wire.extend(encode(text, 0).unwrap());
            }
            let mut decoder = Decoder::default();
            let mut received = Vec::new();
            for part in wire.chunks(cut) {
                decoder.feed(part);
                while let Some((text, _)) = decoder.next::<String>().unwrap() {
                    received.push(text);
                }
            }
            prop_assert_eq!(received, texts);
        }

        #[test]
        fn garbage_is_an_error_or_waits_for_more(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut decoder = Decoder::default();
            decoder.feed(&bytes);
            let _ = decoder.next::<Call>();
        }
    }
}
