//! `davit:network/inspect` and `davit:storage/inspect`: reads of the machine, within the grants.

use super::CallState;
use crate::capabilities::{ActError, ActErrorKind, LinkInfo, SpaceInfo};
use crate::engine::bindings::davit::network::inspect as network;
use crate::engine::bindings::davit::plugin::types::Error;
use crate::engine::bindings::davit::storage::{inspect as storage, types};
use crate::error::{CallError, Code};
use crate::executor::promised;
use crate::grants::{Glob, RootGrant};

impl network::Host for CallState {
    async fn links(&mut self, name_glob: String) -> Result<Vec<network::LinkInfo>, Error> {
        let links = self.eyes.links(&name_glob).await.map_err(CallError::from)?;
        Ok(links.into_iter().map(link_info).collect())
    }

    async fn default_route_link(&mut self, family: u8) -> Result<Option<network::LinkInfo>, Error> {
        if family != 4 && family != 6 {
            return Err(CallError::invalid(format!("family {family} is not 4 or 6")).into());
        }
        let link = self
            .eyes
            .default_route_link(family)
            .await
            .map_err(CallError::from)?;
        Ok(link.map(link_info))
    }
}

fn link_info(link: LinkInfo) -> network::LinkInfo {
    network::LinkInfo {
        name: link.name,
        index: link.index,
        kind: link.kind,
        mac: link.mac.to_string(),
        mtu: link.mtu,
        up: link.up,
        addresses: link.addresses.iter().map(ToString::to_string).collect(),
    }
}

impl types::Host for CallState {}

impl storage::Host for CallState {
    async fn roots(&mut self) -> Result<Vec<String>, Error> {
        Ok(self.grants.roots().map(|(name, _)| name.clone()).collect())
    }

    async fn space(&mut self, root: String) -> Result<storage::SpaceInfo, Error> {
        let grants = self.grants.clone();
        let grant = grants.root(&root).map_err(|denied| denied_error(&denied))?;
        let space = self
            .eyes
            .space(&grant.root)
            .await
            .map_err(CallError::from)?;
        let taken = match grant.max_bytes {
            Some(_) => {
                let used = self.eyes.used_bytes(&grant.root, &[]).await;
                self.promised(grant).max(used.map_err(CallError::from)?)
            }
            None => 0,
        };
        let SpaceInfo {
            total_bytes,
            available_bytes,
            fs_type,
            reflink,
            project_quota,
        } = bounded(space, grant, taken);
        Ok(storage::SpaceInfo {
            total_bytes,
            available_bytes,
            fs_type,
            reflink,
            project_quota,
        })
    }

    async fn devices(
        &mut self,
        glob: String,
    ) -> Result<Vec<(String, Vec<(String, String)>)>, Error> {
        let devices = self.eyes.devices(&glob).await.map_err(CallError::from)?;
        let wanted = Glob::new(glob);
        let granted = devices.into_iter().filter(|device| {
            wanted.matches(&device.path) && self.grants.grants_device(&device.path)
        });
        Ok(granted
            .map(|device| (device.path, device.properties))
            .collect())
    }
}

impl CallState {
    /// Bytes that other scopes were promised beneath a root.
    fn promised(&self, grant: &RootGrant) -> u64 {
        let records = self.session.store().list("").into_iter();
        let others = records.filter(|record| record.scope != *self.session.scope());
        others
            .map(|record| promised(&record, &grant.root))
            .fold(0, u64::saturating_add)
    }
}

/// Space within the grant's `maxBytes`.
fn bounded(mut space: SpaceInfo, grant: &RootGrant, taken: u64) -> SpaceInfo {
    if let Some(most) = grant.max_bytes {
        space.total_bytes = space.total_bytes.min(most);
        space.available_bytes = space.available_bytes.min(most.saturating_sub(taken));
    }
    space
}

fn denied_error(denied: &crate::grants::Denied) -> CallError {
    CallError::new(Code::PermissionDenied, denied.to_string())
}

impl From<ActError> for CallError {
    fn from(error: ActError) -> Self {
        let code = match error.kind {
            ActErrorKind::Unsupported => Code::Unimplemented,
            ActErrorKind::Occupied => Code::AlreadyExists,
            ActErrorKind::Missing => Code::FailedPrecondition,
            ActErrorKind::Exhausted => Code::ResourceExhausted,
            ActErrorKind::Failed => Code::Unavailable,
        };
        Self::new(code, error.message)
    }
}
