//! The drivers that come inside davit. They are ordinary plugins: written with the SDK, loaded, granted and bounded by
//! a `Plugin` object like any other. Only their files need no place on the node.

use davit_api::{
    Access, Grants, HostPath, Interface, Limits, LinkGrants, LinkKind, NftGrants, Plugin,
    PluginSource, PluginSpec, RouteGrants, SysctlGrants,
};

/// In `hostPaths[].path`: the node's directory of volumes.
pub(crate) const VOLUMES: &str = "$(VOLUMES)";

/// A driver inside davit; its name is what `spec.source.bundled` says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bundled {
    pub(crate) name: &'static str,
    pub(crate) file: &'static [u8],
    grants: fn() -> Grants,
}

/// Every bundled driver.
pub(crate) const BUNDLED: [Bundled; 2] = [
    Bundled {
        name: "bridge",
        file: include_bytes!(concat!(env!("OUT_DIR"), "/bridge.wasm")),
        grants: bridge,
    },
    Bundled {
        name: "local-path",
        file: include_bytes!(concat!(env!("OUT_DIR"), "/local_path.wasm")),
        grants: local_path,
    },
];

/// The `Plugin` objects that a new cluster has: one for each bundled driver, granted what it needs.
#[must_use]
pub fn bundled_plugins() -> Vec<Plugin> {
    let object = |bundled: Bundled| {
        let source = PluginSource {
            bundled: Some(bundled.name.to_owned()),
            ..PluginSource::default()
        };
        let spec = PluginSpec {
            source,
            grants: (bundled.grants)(),
            ..PluginSpec::default()
        };
        Plugin::new(bundled.name, spec)
    };
    BUNDLED.map(object).into()
}

/// Which addresses it may use is bounded by its networks: what is in their ranges must be leased.
fn bridge() -> Grants {
    let any = || vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
    Grants {
        interfaces: vec![Interface::NetworkIpam],
        links: LinkGrants {
            create: vec!["davit-*".to_owned(), "dv*".to_owned()],
            parents: Vec::new(),
            kinds: vec![LinkKind::Bridge, LinkKind::Veth],
        },
        addresses: any(),
        routes: RouteGrants {
            host: Vec::new(),
            pod: vec!["any".to_owned()],
        },
        nft: NftGrants {
            masquerade: any(),
            ..NftGrants::default()
        },
        sysctls: SysctlGrants {
            pod: Vec::new(),
            host: vec![
                "net.ipv4.ip_forward".to_owned(),
                "net.ipv6.conf.all.forwarding".to_owned(),
            ],
        },
        limits: Limits {
            concurrency: Some(32),
            ..Limits::default()
        },
        ..Grants::default()
    }
}

fn local_path() -> Grants {
    Grants {
        interfaces: vec![Interface::StorageInspect],
        host_paths: vec![HostPath {
            name: "volumes".to_owned(),
            path: VOLUMES.to_owned(),
            access: Access::ReadWrite,
            max_bytes: None,
        }],
        ..Grants::default()
    }
}

/// Misbehaving drivers, as files for tests of what the host does about them.
pub mod samples {
    /// A network driver that never answers `attach` (`spin.samples.davit.dev`).
    pub const SPIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sample_spin.wasm"));
    /// A network driver that plans whatever its networks say (`script.samples.davit.dev`).
    pub const SCRIPT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sample_script.wasm"));
    /// A storage driver whose volumes want to be mounted over `/etc` (`etc.samples.davit.dev`).
    pub const ETC: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sample_etc.wasm"));
}
