//! `local-path.davit.dev`: a directory of the node for every volume.
//!
//! Volumes live where they were made; their topology keeps pods on that node. Sizes are enforced
//! where the file system has project quotas, and are a promise elsewhere.

use davit_plugin::storage::*;

struct LocalPath;

/// The granted root that volumes are made in.
const ROOT: &str = "volumes";
/// Size of a volume when the claim asks for none.
const DEFAULT_BYTES: u64 = 1 << 30;

impl StorageDriver for LocalPath {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        Manifest::new("local-path.davit.dev", env!("CARGO_PKG_VERSION"))
            .description("A directory of the node for every volume.")
            .want("hostPaths", ROOT, "the directories of the volumes")
            .want("interfaces", "storage.inspect", "free space and quotas")
            .feature("storage.placement", "node")
    }

    fn create(cx: &Cx<Self>, request: &CreateRequest) -> Result<(Volume, Plan)> {
        check(request)?;
        let space = cx.space(ROOT)?;
        let bytes = if request.required_bytes == 0 {
            request
                .limit_bytes
                .map_or(DEFAULT_BYTES, |limit| limit.min(DEFAULT_BYTES))
        } else {
            request.required_bytes
        };
        if bytes > space.available_bytes {
            return Err(Error::exhausted(format!(
                "volume {}: {bytes} bytes are asked for, {} are free on node {}",
                request.name,
                space.available_bytes,
                cx.node_name()
            )));
        }
        let node = vec![("kubernetes.io/hostname".to_owned(), cx.node_name())];
        let volume = Volume {
            id: request.name.clone(),
            capacity_bytes: bytes,
            context: Vec::new(),
            topology: vec![node],
        };
        Ok((volume, plan(&request.name, bytes, &space)))
    }

    fn expand(
        cx: &Cx<Self>,
        volume: &VolumeRef,
        required_bytes: u64,
        _: Option<u64>,
        _: &UseMode,
    ) -> Result<(Expanded, Plan)> {
        let space = cx.space(ROOT)?;
        let bytes = required_bytes.max(volume.capacity_bytes);
        if bytes - volume.capacity_bytes > space.available_bytes {
            return Err(Error::exhausted(format!(
                "volume {}: {} bytes are free",
                volume.id, space.available_bytes
            )));
        }
        let expanded = Expanded {
            capacity_bytes: bytes,
            node_expansion: false,
        };
        Ok((expanded, plan(&volume.id, bytes, &space)))
    }

    fn capacity(
        cx: &Cx<Self>,
        _: &[(String, String)],
        segment: &[(String, String)],
    ) -> Result<u64> {
        let elsewhere = segment
            .iter()
            .any(|(k, v)| k == "kubernetes.io/hostname" && *v != cx.node_name());
        if elsewhere {
            Ok(0)
        } else {
            Ok(cx.space(ROOT)?.available_bytes)
        }
    }

    fn publish(_: &Cx<Self>, request: &PublishRequest) -> Result<Plan> {
        Ok(Plan::new().expose(
            format!("volume/{}#data", request.volume.id),
            request.read_only,
        ))
    }
}

davit_plugin::storage_driver!(LocalPath);

/// What a directory cannot do is refused before anything is made.
fn check(request: &CreateRequest) -> Result<()> {
    let name = &request.name;
    if name.is_empty() {
        return Err(Error::invalid("a volume needs a name"));
    }
    if !matches!(request.source, Source::Empty) {
        return Err(Error::unimplemented(format!(
            "volume {name}: local-path volumes start empty; remove dataSource from the claim"
        )));
    }
    if request.uses.iter().any(|how| how.mode == VolumeMode::Block) {
        return Err(Error::invalid(format!(
            "volume {name}: local-path volumes are directories; set volumeMode: Filesystem"
        )));
    }
    if request
        .limit_bytes
        .is_some_and(|limit| limit < request.required_bytes)
    {
        return Err(Error::new(
            Code::OutOfRange,
            format!("volume {name}: the limit is below the size asked for"),
        ));
    }
    match request.parameters.first() {
        Some((key, _)) => Err(Error::invalid(format!(
            "volume {name}: StorageClass parameter {key:?} is not known to local-path.davit.dev"
        ))),
        None => Ok(()),
    }
}

fn plan(id: &str, bytes: u64, space: &SpaceInfo) -> Plan {
    // Pods of any user write here, as they do in an emptyDir.
    let plan = Plan::new().data_directory("data", ROOT, id, 0o777);
    if space.project_quota {
        plan.quota("quota", "data", bytes)
    } else {
        plan
    }
}

#[cfg(test)]
mod tests;
