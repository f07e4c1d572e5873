//! `ram.example.com`: volumes in memory, shared by the pods of a node and gone with the last of them.

use davit_plugin::storage::*;

struct Ram;

/// Size of a volume when the claim asks for none.
const DEFAULT_BYTES: u64 = 64 << 20;

impl StorageDriver for Ram {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        Manifest::new("ram.example.com", env!("CARGO_PKG_VERSION"))
            .description("Volumes in memory.")
            .want("mounts.fsTypes", "tmpfs", "the volumes")
            .feature("storage.placement", "node")
    }

    /// Nothing is made before a pod needs it, so the plan is empty.
    fn create(cx: &Cx<Self>, request: &CreateRequest) -> Result<(Volume, Plan)> {
        if !matches!(request.source, Source::Empty) {
            return Err(Error::unimplemented("volumes in memory start empty"));
        }
        let volume = Volume {
            id: request.name.clone(),
            capacity_bytes: match request.required_bytes {
                0 => DEFAULT_BYTES,
                bytes => bytes,
            },
            context: Vec::new(),
            topology: vec![vec![("kubernetes.io/hostname".to_owned(), cx.node_name())]],
        };
        Ok((volume, Plan::new()))
    }

    fn capacity(_: &Cx<Self>, _: &[(String, String)], _: &[(String, String)]) -> Result<u64> {
        Ok(u64::MAX)
    }

    /// Once for all pods of the node.
    fn stage(_: &Cx<Self>, request: &StageRequest) -> Result<Plan> {
        Ok(Plan::new().with(Op::Tmpfs {
            key: "memory".into(),
            bytes: request.volume.capacity_bytes,
            options: Vec::new(),
        }))
    }

    /// Once for each pod.
    fn publish(_: &Cx<Self>, request: &PublishRequest) -> Result<Plan> {
        let memory = format!("stage/{}#memory", request.volume.id);
        Ok(Plan::new().expose(memory, request.read_only))
    }
}

davit_plugin::storage_driver!(Ram);

#[cfg(test)]
mod tests {
    use super::*;
    use davit_plugin::FakeHost;

    #[test]
    fn a_volume_has_the_size_of_its_claim() {
        let request = CreateRequest {
            name: "pvc-1".into(),
            required_bytes: 0,
            limit_bytes: None,
            parameters: vec![],
            uses: vec![],
            source: Source::Empty,
            requisite: vec![],
            preferred: vec![],
        };
        let (volume, plan) = Ram::create(&FakeHost::new().cx().unwrap(), &request).unwrap();
        assert_eq!((volume.capacity_bytes, plan), (DEFAULT_BYTES, Plan::new()));
    }
}
