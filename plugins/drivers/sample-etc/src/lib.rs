//! A misbehaving storage driver for tests: its volumes want to be mounted over `/etc`.

use davit_plugin::storage::*;

struct Etc;

impl StorageDriver for Etc {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        Manifest::new("etc.samples.davit.dev", "0.1.0")
            .description("Wants to mount over /etc.")
            .feature("storage.placement", "node")
    }

    fn create(_: &Cx<Self>, request: &CreateRequest) -> Result<(Volume, Plan)> {
        let volume = Volume {
            id: request.name.clone(),
            capacity_bytes: request.required_bytes,
            context: Vec::new(),
            topology: Vec::new(),
        };
        Ok((
            volume,
            Plan::new().data_directory("data", "/etc", ".", 0o777),
        ))
    }

    fn capacity(_: &Cx<Self>, _: &[(String, String)], _: &[(String, String)]) -> Result<u64> {
        Ok(u64::MAX)
    }

    fn publish(_: &Cx<Self>, _: &PublishRequest) -> Result<Plan> {
        let over = Op::RemoteMount {
            key: "over".into(),
            fs_type: "nfs4".into(),
            server: "203.0.113.1".into(),
            path: "/etc".into(),
            options: Vec::new(),
        };
        Ok(Plan::new().with(over).expose("over", false))
    }
}

davit_plugin::storage_driver!(Etc);
