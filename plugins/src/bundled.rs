//! The drivers that come inside davit. They are ordinary plugins: written with the SDK, loaded and
//! bounded like any other, replaced by a `Plugin` object whose driver has the same name.

use davit_api::{
    Access, Grants, HostPath, Interface, Limits, LinkGrants, LinkKind, NftGrants, RouteGrants,
    SysctlGrants,
};
use std::path::Path;

/// A driver inside davit, with what it is granted.
pub(crate) struct Bundled {
    pub(crate) driver: &'static str,
    pub(crate) file: &'static [u8],
    pub(crate) grants: Grants,
}

/// Every bundled driver; volumes of `local-path` are made in `volumes`.
pub(crate) fn bundled(volumes: &Path) -> Vec<Bundled> {
    vec![
        Bundled {
            driver: "bridge.davit.dev",
            file: include_bytes!(concat!(env!("OUT_DIR"), "/bridge.wasm")),
            grants: bridge(),
        },
        Bundled {
            driver: "local-path.davit.dev",
            file: include_bytes!(concat!(env!("OUT_DIR"), "/local_path.wasm")),
            grants: local_path(volumes),
        },
    ]
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

fn local_path(volumes: &Path) -> Grants {
    Grants {
        interfaces: vec![Interface::StorageInspect],
        host_paths: vec![HostPath {
            name: "volumes".to_owned(),
            path: volumes.to_string_lossy().into_owned(),
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
    /// A storage driver whose volumes want to be mounted over `/etc` (`etc.samples.davit.dev`).
    pub const ETC: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sample_etc.wasm"));
}
