//! Requests and answers of storage drivers to and from their WIT forms.

use super::{
    AccessMode, ContentSource, CreateRequest, Expanded, NodeInfo, PublishRequest, StageRequest,
    Topology, UseMode, Volume, VolumeMode, VolumeRef, VolumeStats,
};
use crate::engine::bindings::davit::storage::types as wit;
use std::collections::BTreeMap;

pub(super) fn pairs(map: &BTreeMap<String, String>) -> Vec<(String, String)> {
    map.iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn map(list: Vec<(String, String)>) -> BTreeMap<String, String> {
    list.into_iter().collect()
}

impl From<&UseMode> for wit::UseMode {
    fn from(how: &UseMode) -> Self {
        let access = |mode: &AccessMode| match mode {
            AccessMode::ReadWriteOnce => wit::AccessMode::Rwo,
            AccessMode::ReadOnlyMany => wit::AccessMode::Rox,
            AccessMode::ReadWriteMany => wit::AccessMode::Rwx,
            AccessMode::ReadWriteOncePod => wit::AccessMode::Rwop,
        };
        Self {
            mode: match how.mode {
                VolumeMode::Filesystem => wit::VolumeMode::Filesystem,
                VolumeMode::Block => wit::VolumeMode::Block,
            },
            access: how.access.iter().map(access).collect(),
            fs_type: how.fs_type.clone(),
            mount_options: how.mount_options.clone(),
        }
    }
}

impl From<&CreateRequest> for wit::CreateRequest {
    fn from(request: &CreateRequest) -> Self {
        let segments = |list: &[Topology]| list.iter().map(pairs).collect();
        Self {
            name: request.name.clone(),
            required_bytes: request.required_bytes,
            limit_bytes: request.limit_bytes,
            parameters: pairs(&request.parameters),
            uses: request.uses.iter().map(Into::into).collect(),
            source: match &request.source {
                ContentSource::Empty => wit::Source::Empty,
                ContentSource::Snapshot(id) => wit::Source::Snapshot(id.clone()),
                ContentSource::Volume(id) => wit::Source::Volume(id.clone()),
            },
            requisite: segments(&request.requisite),
            preferred: segments(&request.preferred),
        }
    }
}

impl From<&VolumeRef> for wit::VolumeRef {
    fn from(volume: &VolumeRef) -> Self {
        Self {
            id: volume.id.clone(),
            capacity_bytes: volume.capacity_bytes,
            context: pairs(&volume.context),
        }
    }
}

impl From<&StageRequest> for wit::StageRequest {
    fn from(request: &StageRequest) -> Self {
        Self {
            volume: (&request.volume).into(),
            use_as: (&request.use_as).into(),
            publish_context: pairs(&request.publish_context),
            read_only: request.read_only,
        }
    }
}

impl From<&PublishRequest> for wit::PublishRequest {
    fn from(request: &PublishRequest) -> Self {
        let pod = &request.pod;
        Self {
            volume: (&request.volume).into(),
            use_as: (&request.use_as).into(),
            publish_context: pairs(&request.publish_context),
            read_only: request.read_only,
            pod: Some((pod.namespace.clone(), pod.name.clone(), pod.uid.clone())),
            fs_group: request.fs_group,
        }
    }
}

impl From<wit::Volume> for Volume {
    fn from(volume: wit::Volume) -> Self {
        Self {
            id: volume.id,
            capacity_bytes: volume.capacity_bytes,
            context: map(volume.context),
            topology: volume.topology.into_iter().map(map).collect(),
        }
    }
}

impl From<wit::Expanded> for Expanded {
    fn from(expanded: wit::Expanded) -> Self {
        Self {
            capacity_bytes: expanded.capacity_bytes,
            node_expansion: expanded.node_expansion,
        }
    }
}

impl From<wit::NodeInfo> for NodeInfo {
    fn from(info: wit::NodeInfo) -> Self {
        Self {
            node_id: info.node_id,
            max_volumes: info.max_volumes,
            topology: map(info.topology),
        }
    }
}

impl From<wit::VolumeStats> for VolumeStats {
    fn from(stats: wit::VolumeStats) -> Self {
        Self {
            bytes_used: stats.bytes_used,
            bytes_total: stats.bytes_total,
            inodes_used: stats.inodes_used,
            inodes_total: stats.inodes_total,
            abnormal: stats.abnormal,
        }
    }
}
