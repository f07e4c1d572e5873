//! The component's exports, made of a [`StorageDriver`]: plans are replayed to the host.

use super::{Op, Plan, StorageDriver};
use crate::bindings::base::exports::davit::plugin::lifecycle;
use crate::bindings::storage::davit::storage::plan as wit;
use crate::bindings::storage::davit::storage::types as vol;
use crate::bindings::storage::exports::davit::storage::{controller, node};
use crate::context::{Context, parse_config};
use crate::host::Host;
use crate::host::wasm::report_panics;
use crate::{Error, ErrorExt, Health, Manifest, Result};
use std::marker::PhantomData;

/// Carries the exports of one driver.
#[derive(Debug)]
pub struct Export<D>(PhantomData<D>);

fn context<C: serde::de::DeserializeOwned>() -> Result<Context<C>> {
    report_panics();
    Context::new(Host)
}

impl<D: StorageDriver + 'static> controller::Guest for Export<D> {
    fn create(request: vol::CreateRequest, plan: &wit::Plan) -> Result<vol::Volume> {
        let (volume, planned) = D::create(&context()?, &request)?;
        replay(planned, plan)?;
        Ok(volume)
    }

    fn delete(volume: vol::VolumeRef) -> Result<()> {
        D::delete(&context()?, &volume)
    }

    fn expand(
        volume: vol::VolumeRef,
        required_bytes: u64,
        limit_bytes: Option<u64>,
        used_as: vol::UseMode,
        plan: &wit::Plan,
    ) -> Result<vol::Expanded> {
        let cx = context()?;
        let (expanded, planned) = D::expand(&cx, &volume, required_bytes, limit_bytes, &used_as)?;
        replay(planned, plan)?;
        Ok(expanded)
    }

    fn modify(
        volume: vol::VolumeRef,
        _parameters: Vec<(String, String)>,
        _plan: &wit::Plan,
    ) -> Result<Vec<(String, String)>> {
        let message = format!("volume {}: the driver cannot change volumes", volume.id);
        Err(Error::unimplemented(message))
    }

    fn get(id: String) -> Result<vol::Volume> {
        Err(Error::unimplemented(format!(
            "volume {id}: the driver keeps no list of volumes"
        )))
    }

    fn list_volumes(_after: Option<String>, _limit: u32) -> Result<Vec<vol::Volume>> {
        Err(Error::unimplemented("the driver keeps no list of volumes"))
    }

    fn capacity(parameters: Vec<(String, String)>, segment: vol::Topology) -> Result<u64> {
        D::capacity(&context()?, &parameters, &segment)
    }
}

impl<D: StorageDriver + 'static> node::Guest for Export<D> {
    fn info() -> Result<vol::NodeInfo> {
        D::node_info(&context()?)
    }

    fn stage(request: vol::StageRequest, plan: &wit::Plan) -> Result<()> {
        replay(D::stage(&context()?, &request)?, plan)
    }

    fn publish(request: vol::PublishRequest, plan: &wit::Plan) -> Result<()> {
        replay(D::publish(&context()?, &request)?, plan)
    }

    fn stats(volume: vol::VolumeRef) -> Result<Option<vol::VolumeStats>> {
        D::stats(&context()?, &volume)
    }

    fn released(scope: String) -> Result<()> {
        D::released(&context()?, &scope)
    }
}

impl<D: StorageDriver + 'static> lifecycle::Guest for Export<D> {
    fn describe() -> lifecycle::Manifest {
        let Manifest {
            driver,
            version,
            description,
            state_version,
            schemas,
            wants,
            features,
        } = D::manifest();
        let wants = wants.into_iter().map(|want| lifecycle::Want {
            capability: want.capability,
            value: want.value,
            required: want.required,
            why: want.why,
        });
        let wants = wants.collect();
        lifecycle::Manifest {
            driver,
            version,
            description,
            state_version,
            schemas,
            wants,
            features,
        }
    }

    fn validate(kind: String, config: String) -> Result<()> {
        report_panics();
        match kind.as_str() {
            "plugin" => parse_config::<D::Config>("Plugin spec.config", &config).map(drop),
            _ => Ok(()),
        }
    }

    fn probe() -> Result<lifecycle::Health> {
        let Health { ready, message } = D::probe(&context()?)?;
        Ok(lifecycle::Health { ready, message })
    }

    fn migrate(_from_version: u32) -> Result<()> {
        Ok(())
    }
}

/// Tells the host every step; the first refusal is the driver's error.
fn replay(planned: Plan, plan: &wit::Plan) -> Result<()> {
    planned.ops.into_iter().try_for_each(|op| step(op, plan))
}

fn step(op: Op, plan: &wit::Plan) -> Result<()> {
    match op {
        Op::Directory {
            key,
            root,
            path,
            owner,
            data,
        } => plan.directory(&key, &root, &path, owner, data),
        Op::Quota {
            key,
            directory,
            bytes,
            inodes,
        } => plan.quota(&key, &directory, bytes, inodes),
        Op::Image {
            key,
            root,
            path,
            bytes,
            preallocate,
        } => plan.image(&key, &root, &path, bytes, preallocate),
        Op::ImageCopy {
            key,
            root,
            path,
            source,
            bytes,
            mode,
        } => plan.image_copy(&key, &root, &path, &source, bytes, mode),
        Op::TreeCopy {
            key,
            root,
            path,
            source,
            mode,
        } => plan.tree_copy(&key, &root, &path, &source, mode),
        Op::LoopDevice {
            key,
            image,
            sector_bytes,
            direct_io,
            read_only,
        } => plan.loop_device(&key, &image, sector_bytes, direct_io, read_only),
        Op::Device { key, path_glob } => plan.device(&key, &path_glob),
        Op::Filesystem {
            key,
            device,
            fs_type,
            label,
            options,
        } => plan.filesystem(&key, &device, &fs_type, &label, &options),
        Op::Mount {
            key,
            filesystem,
            options,
        } => plan.mount(&key, &filesystem, &options),
        Op::Tmpfs {
            key,
            bytes,
            options,
        } => plan.tmpfs(&key, bytes, &options),
        Op::RemoteMount {
            key,
            fs_type,
            server,
            path,
            options,
        } => plan.remote_mount(&key, &fs_type, &server, &path, &options, None),
        Op::Overlay {
            key,
            lower,
            upper,
            work,
        } => plan.overlay(&key, &lower, &upper, &work),
        Op::Expose {
            source,
            sub_path,
            read_only,
        } => plan.expose(&source, &sub_path, read_only),
        Op::ExposeBlock { source, read_only } => plan.expose_block(&source, read_only),
    }
}
