//! Looks at a file before any of its code runs, so that what is wrong can be said in plain words.

use davit_api::Interface;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeSet;
use wit_component::{ComponentEncoder, DecodedWasm};

/// Largest file that is looked at.
pub(crate) const MAX_FILE_BYTES: usize = 16 << 20;
/// Versions of davit's packages that this davit speaks: `0.1.x`.
const SPOKEN: (u64, u64) = (0, 1);
const NO_WASI: &str = "davit offers no WASI; build for wasm32-unknown-unknown";

/// What is wrong with a plugin file or with what it was given. Loading it again does not help
/// before the file or the `Plugin` is changed, except where noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LoadError {
    /// The spec does not say where the file is, or says it twice.
    #[error("spec.source needs exactly one of file and bundled")]
    Source,
    /// No such driver comes with this version of davit.
    #[error("this davit has no bundled driver {name}, only {known}")]
    NotBundled {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The file cannot be read. It may appear later.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's answer.
        cause: String,
    },
    /// The file is not the one that was meant.
    #[error("the file has digest sha256:{found}, spec.source.digest says {wanted}")]
    Digest {
        /// Digest of the file, hexadecimal.
        found: String,
        /// Digest in the spec.
        wanted: String,
    },
    /// The file is too large.
    #[error("the file has {0} bytes, at most {MAX_FILE_BYTES} are allowed")]
    TooLarge(usize),
    /// The file is something else.
    #[error("the file is not WebAssembly: it does not begin with \\0asm")]
    NotWasm,
    /// The file is cut short or damaged.
    #[error("the file is not a valid component: {0}")]
    Invalid(String),
    /// A core module that was not made with davit's interfaces.
    #[error(
        "the module has no davit interfaces: build it with the davit-plugin crate for wasm32-unknown-unknown"
    )]
    NoInterfaces,
    /// The component implements nothing that davit calls.
    #[error("the component exports neither davit:network/driver nor davit:storage/node, but {0}")]
    NoDriver(String),
    /// The component imports something that davit does not have.
    #[error("the component imports {import}: {hint}")]
    UnknownImport {
        /// The import.
        import: String,
        /// What to do about it.
        hint: Cow<'static, str>,
    },
    /// The component speaks another version of davit's interfaces.
    #[error(
        "the component uses {name}, this davit speaks version 0.1: use a matching version of davit-plugin"
    )]
    Version {
        /// The interface with its version.
        name: String,
    },
    /// The component imports something that it was not granted.
    #[error(
        "the component imports {import}, which is not granted: add {grant} to spec.grants.interfaces"
    )]
    NotGranted {
        /// The import.
        import: String,
        /// The grant that is missing.
        grant: Cow<'static, str>,
    },
    /// The component cannot do without something that it was not granted.
    #[error("the driver needs grants that it does not have: {0}")]
    Wants(String),
    /// The component needs a function that this davit does not have.
    #[error("the component was built for a newer davit: {0}")]
    HostTooOld(String),
    /// Compiling failed or ran into its limits.
    #[error("cannot compile the component: {0}")]
    Compile(String),
    /// Asking the component who it is failed.
    #[error("the component cannot describe itself: {0}")]
    Describe(String),
    /// What the component says about itself cannot be.
    #[error("the component's manifest is wrong: {0}")]
    Manifest(String),
    /// A value in the grants cannot be used.
    #[error(transparent)]
    Grant(#[from] crate::grants::InvalidGrant),
    /// The object is no `Plugin`, although the API server took it.
    #[error("the spec cannot be read: {0}")]
    Spec(String),
    /// The plugin refuses its configuration.
    #[error("spec.config is refused: {0}")]
    Config(String),
    /// The driver itself says that it cannot serve here, or cannot say anything. It is asked again later.
    #[error("the driver says that it cannot serve: {0}")]
    Probe(String),
    /// Another plugin serves a driver of this name.
    #[error("driver {driver} is already served by Plugin {plugin}: delete one of them")]
    Taken {
        /// The driver.
        driver: String,
        /// The other plugin.
        plugin: String,
    },
}

impl LoadError {
    /// The condition's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Source | Self::NotBundled { .. } => "InvalidSource",
            Self::Unreadable { .. } => "FileUnreadable",
            Self::Digest { .. } => "DigestMismatch",
            Self::TooLarge(_) | Self::NotWasm | Self::Invalid(_) | Self::NoInterfaces => {
                "InvalidComponent"
            }
            Self::NoDriver(_) => "NoDriver",
            Self::UnknownImport { .. } => "UnknownImport",
            Self::Version { .. } => "VersionMismatch",
            Self::NotGranted { .. } | Self::Wants(_) => "GrantsMissing",
            Self::HostTooOld(_) => "HostTooOld",
            Self::Compile(_) => "CompileFailed",
            Self::Describe(_) | Self::Manifest(_) => "DescribeFailed",
            Self::Grant(_) => "InvalidGrants",
            Self::Spec(_) => "InvalidSpec",
            Self::Config(_) => "InvalidConfig",
            Self::Probe(_) => "ProbeFailed",
            Self::Taken { .. } => "DriverTaken",
        }
    }
}

/// The interfaces that a component names.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Inspected {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

/// What can be said of a file without reading it.
pub(super) fn glance(file: &[u8]) -> Result<(), LoadError> {
    if file.len() > MAX_FILE_BYTES {
        return Err(LoadError::TooLarge(file.len()));
    }
    if !file.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm);
    }
    Ok(())
}

/// Reads a component, or makes one of a core module that carries davit's interfaces.
///
/// The readers are meant for trusted files: some crafted ones make them overflow the stack, so this
/// is for a process that may die.
pub(super) fn inspect(file: &[u8]) -> Result<(Inspected, Vec<u8>), LoadError> {
    glance(file)?;
    let read = std::panic::catch_unwind(|| read(file));
    read.unwrap_or_else(|_| Err(LoadError::Invalid("it cannot be decoded".to_owned())))
}

fn read(file: &[u8]) -> Result<(Inspected, Vec<u8>), LoadError> {
    let invalid = |error: &dyn std::fmt::Display| LoadError::Invalid(format!("{error:#}"));
    let is_core_module = file.get(4..8) == Some(&[1, 0, 0, 0]);
    let component = if is_core_module {
        let encode = || {
            ComponentEncoder::default()
                .validate(true)
                .module(file)?
                .encode()
        };
        encode().map_err(|error| core_module_error(file, &error))?
    } else {
        file.to_vec()
    };
    let decoded = wit_component::decode(&component).map_err(|error| invalid(&error))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err(LoadError::Invalid(
            "it is a package of interfaces, not a component".to_owned(),
        ));
    };
    let world = resolve
        .worlds
        .get(world)
        .ok_or_else(|| invalid(&"it has no world"))?;
    let imports = world
        .imports
        .keys()
        .map(|key| resolve.name_world_key(key))
        .collect();
    let exports: Vec<String> = world
        .exports
        .keys()
        .map(|key| resolve.name_world_key(key))
        .collect();
    if is_core_module && exports.is_empty() {
        return Err(LoadError::NoInterfaces);
    }
    Ok((Inspected { imports, exports }, component))
}

/// What a core module lacks, if it is one of the usual things.
fn core_module_error(file: &[u8], error: &dyn std::fmt::Display) -> LoadError {
    let contains = |text: &str| {
        file.windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    if contains("wasi_snapshot_preview1") {
        return LoadError::UnknownImport {
            import: "wasi_snapshot_preview1".to_owned(),
            hint: NO_WASI.into(),
        };
    }
    if !contains("component-type") {
        return LoadError::NoInterfaces;
    }
    LoadError::Invalid(format!("{error:#}"))
}

/// `davit:plugin/log@0.1.0` into name and version.
fn split(name: &str) -> (&str, Option<(u64, u64)>) {
    let Some((interface, version)) = name.split_once('@') else {
        return (name, None);
    };
    let mut numbers = version.split('.').map_while(|part| part.parse().ok());
    (interface, numbers.next().zip(numbers.next()))
}

impl Inspected {
    pub(super) fn exports_interface(&self, wanted: &str) -> bool {
        self.exports.iter().any(|name| split(name).0 == wanted)
    }

    /// That everything it names of davit's is of a version spoken here, and that it is a driver.
    pub(super) fn check_versions(&self) -> Result<(), LoadError> {
        for name in self.imports.iter().chain(&self.exports) {
            let (interface, version) = split(name);
            if interface.starts_with("davit:") && version != Some(SPOKEN) {
                return Err(LoadError::Version { name: name.clone() });
            }
        }
        let driver = ["davit:network/driver", "davit:storage/node"];
        if !driver.iter().any(|name| self.exports_interface(name)) {
            let exports = self.exports.join(", ");
            let exports = if exports.is_empty() {
                "nothing".to_owned()
            } else {
                exports
            };
            return Err(LoadError::NoDriver(exports));
        }
        if !self.exports_interface("davit:plugin/lifecycle") {
            return Err(LoadError::Describe(
                "it does not export davit:plugin/lifecycle".to_owned(),
            ));
        }
        Ok(())
    }
}

/// That every import is known and granted.
pub(super) fn check_imports(
    imports: &[String],
    granted: &BTreeSet<Interface>,
) -> Result<(), LoadError> {
    let mut imports = imports.iter();
    imports.try_for_each(|import| check_import(import, granted))
}

fn check_import(import: &str, granted: &BTreeSet<Interface>) -> Result<(), LoadError> {
    let unknown = |hint: &'static str| LoadError::UnknownImport {
        import: import.to_owned(),
        hint: hint.into(),
    };
    let gate = match split(import).0 {
        "davit:plugin/types"
        | "davit:plugin/context"
        | "davit:plugin/log"
        | "davit:network/types"
        | "davit:network/plan"
        | "davit:storage/types"
        | "davit:storage/plan" => return Ok(()),
        "davit:plugin/state" => Interface::State,
        "davit:network/ipam" => Interface::NetworkIpam,
        "davit:network/inspect" => Interface::NetworkInspect,
        "davit:storage/inspect" => Interface::StorageInspect,
        "davit:plugin/http" | "davit:plugin/secrets" | "davit:plugin/objects" => {
            return Err(unknown(
                "this version of davit does not offer it to drivers on a node",
            ));
        }
        name if name.starts_with("wasi:") => {
            return Err(unknown(NO_WASI));
        }
        _ => return Err(unknown("davit has no such interface")),
    };
    if granted.contains(&gate) {
        return Ok(());
    }
    Err(LoadError::NotGranted {
        import: import.to_owned(),
        grant: gate.as_str().into(),
    })
}

/// An import that is known by name but lacks a function or has another type here.
pub(super) fn too_old(error: &wasmtime::Error) -> LoadError {
    LoadError::HostTooOld(format!("{error:#}"))
}
