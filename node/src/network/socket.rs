//! A route netlink socket inside one network namespace, and the questions everybody asks it.

use std::path::Path;

use davit_plugins::capabilities::{ActError, ActErrorKind};
use davit_plugins::plan::MacAddr;
use futures::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo as Info, LinkMessage,
};
use rtnetlink::sys::{AsyncSocket, TokioSocket, protocols::NETLINK_ROUTE};
use rtnetlink::{Handle, LinkUnspec};
use tokio::task::JoinHandle;

use super::namespace;

/// See the module's first lines. The socket closes when this is dropped.
#[derive(Debug)]
pub(super) struct Netlink {
    pub(super) handle: Handle,
    driver: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A link as the kernel reports it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) alias: Option<String>,
    pub(super) group: u32,
    pub(super) mac: MacAddr,
    pub(super) mtu: u32,
    pub(super) up: bool,
    pub(super) master: Option<u32>,
}

impl Netlink {
    /// Opens a socket in the namespace at `netns`, or the node's own.
    pub(super) async fn open(netns: Option<&Path>) -> Result<Self, ActError> {
        let socket = namespace::inside(netns, || TokioSocket::new(NETLINK_ROUTE)).await?;
        let (connection, handle, _) = rtnetlink::from_socket(socket);
        Ok(Self {
            handle,
            driver: tokio::spawn(connection),
        })
    }

    /// The link of this name, if there is one.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Found>, ActError> {
        let mut answer = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        match answer.try_next().await {
            Ok(message) => Ok(message.map(|message| found(&message))),
            Err(error) if matches!(errno(&error), Some(Errno::ENODEV | Errno::ENOENT)) => Ok(None),
            Err(error) => Err(refused("look up link", name, &error)),
        }
    }

    /// The index of a link that has to be there.
    pub(super) async fn index(&self, name: &str) -> Result<u32, ActError> {
        let found = self.find(name).await?;
        found.map(|found| found.index).ok_or_else(|| {
            ActError::new(ActErrorKind::Missing, format!("link {name} does not exist"))
        })
    }

    /// Every link of the namespace.
    pub(super) async fn list(&self) -> Result<Vec<Found>, ActError> {
        let answer = self.handle.link().get().execute();
        let messages: Vec<LinkMessage> = answer
            .try_collect()
            .await
            .map_err(|error| refused("list", "links", &error))?;
        Ok(messages.iter().map(found).collect())
    }

    pub(super) async fn set_up(&self, index: u32, name: &str) -> Result<(), ActError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        let outcome = self.handle.link().set(message).execute().await;
        outcome.map_err(|error| refused("bring up link", name, &error))
    }

    /// Deletes a link; one that is gone is fine.
    pub(super) async fn delete(&self, index: u32, name: &str) -> Result<(), ActError> {
        match self.handle.link().del(index).execute().await {
            Err(error) if !matches!(errno(&error), Some(Errno::ENODEV)) => {
                Err(refused("delete link", name, &error))
            }
            _ => Ok(()),
        }
    }
}

/// A link in the kernel's words.
pub(super) fn found(message: &LinkMessage) -> Found {
    let mut link = Found {
        index: message.header.index,
        name: String::new(),
        kind: String::new(),
        alias: None,
        group: 0,
        mac: MacAddr([0; 6]),
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        master: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.master = Some(*index),
            LinkAttribute::Address(bytes) => {
                link.mac = MacAddr(bytes.as_slice().try_into().unwrap_or_default());
            }
            LinkAttribute::LinkInfo(infos) => {
                let kind = infos.iter().find_map(|info| match info {
                    Info::Kind(kind) => Some(kind_name(kind)),
                    _ => None,
                });
                link.kind = kind.unwrap_or_default();
            }
            _ => {}
        }
    }
    link
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}

/// The kernel's error number in an rtnetlink error.
pub(super) fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            message.code.map(|code| Errno::from_raw(code.get().abs()))
        }
        _ => None,
    }
}

/// Words for a refused request, with what a caller can do about it.
pub(super) fn refused(action: &str, what: &str, error: &rtnetlink::Error) -> ActError {
    let number = errno(error);
    let kind = match number {
        Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT) => ActErrorKind::Unsupported,
        Some(Errno::EEXIST | Errno::EBUSY) => ActErrorKind::Occupied,
        Some(Errno::ENODEV | Errno::ENOENT | Errno::ESRCH | Errno::ENETUNREACH) => {
            ActErrorKind::Missing
        }
        Some(Errno::ENOSPC | Errno::ENOMEM | Errno::ENOBUFS) => ActErrorKind::Exhausted,
        _ => ActErrorKind::Failed,
    };
    let cause = number.map_or_else(|| error.to_string(), |number| number.desc().to_owned());
    let hint = if kind == ActErrorKind::Unsupported {
        "; this kernel lacks it"
    } else {
        ""
    };
    ActError::new(kind, format!("cannot {action} {what}: {cause}{hint}"))
}
