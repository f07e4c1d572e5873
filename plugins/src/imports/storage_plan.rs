//! `davit:storage/plan`: steps are read, resolved and checked as the driver names them, so that a
//! refusal is the driver's own error.

use super::CallState;
use crate::engine::bindings::davit::plugin::types::Error;
use crate::engine::bindings::davit::storage::plan as wit;
use crate::error::{CallError, Code};
use crate::grants::StorageView;
use crate::plan::{CopyMode, Op, Owner, Root, ScopeId, Source, StorageOp, StoragePlan};
use crate::scope::ScopePlan;
use std::collections::BTreeSet;
use wasmtime::component::Resource;

/// What a guest holds of its plan. There is one plan a call, so the handle says nothing.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct StoragePlanHandle;

/// The plan so far.
#[derive(Debug, Default)]
pub(crate) struct StorageBuilder {
    pub(crate) plan: StoragePlan,
    /// A volume that a new one is filled from, which its plan may name.
    pub(crate) content: Option<ScopeId>,
    keys: BTreeSet<String>,
}

impl CallState {
    fn granted_root(&self, name: &str) -> Result<Root, CallError> {
        let denied = |denied: crate::grants::Denied| {
            CallError::new(Code::PermissionDenied, denied.to_string())
        };
        Ok(self.grants.root(name).map_err(denied)?.root.clone())
    }

    /// What a key stands for: `data` in this plan, `volume/<id>#data` in another scope.
    fn source(&self, text: &str) -> Result<Source, CallError> {
        let Some((scope, key)) = text.split_once('#') else {
            let scope = self.session.scope().clone();
            return found(&self.storage.plan, scope, text);
        };
        let scope = ScopeId::from_text(scope);
        let record = self.session.store().get(&scope);
        let record = record.filter(|record| *record.driver == *self.facts.driver);
        match record.as_ref().map(|record| &record.plan) {
            Some(ScopePlan::Storage(plan)) => found(plan, scope, key),
            _ => Err(CallError::new(
                Code::NotFound,
                format!("{scope} does not exist on this node, so {text:?} is nothing"),
            )),
        }
    }

    fn push_storage(&mut self, op: StorageOp) -> Result<(), Error> {
        let key = op.key();
        self.try_push_storage(op, &key)
            .map_err(|error| error.within(&key).into())
    }

    fn try_push_storage(&mut self, op: StorageOp, key: &str) -> Result<(), CallError> {
        let most = self.grants.limits.plan_ops;
        if self.storage.plan.ops.len() >= most {
            return Err(CallError::new(
                Code::ResourceExhausted,
                format!("the plan has more than {most} steps (spec.grants.limits.planOps)"),
            ));
        }
        let content = self.storage.content.as_ref();
        let view = StorageView {
            scope: self.session.scope(),
            content,
        };
        self.grants.check_storage(&op, &view)?;
        if !self.storage.keys.insert(key.to_owned()) {
            return Err(CallError::invalid("the step is in the plan already"));
        }
        self.storage.plan.ops.push(op);
        Ok(())
    }
}

fn found(plan: &StoragePlan, scope: ScopeId, key: &str) -> Result<Source, CallError> {
    let op = plan.ops.iter().find(|op| op.made() == Some(key));
    let location = op
        .and_then(StorageOp::location)
        .ok_or_else(|| CallError::invalid(format!("{key:?} is not made by a step of {scope}")))?;
    Ok(Source {
        scope,
        key: key.to_owned(),
        location,
    })
}

fn copy_mode(mode: wit::CopyMode) -> CopyMode {
    match mode {
        wit::CopyMode::Auto => CopyMode::Auto,
        wit::CopyMode::Reflink => CopyMode::Reflink,
        wit::CopyMode::Full => CopyMode::Full,
    }
}

type Handle = Resource<StoragePlanHandle>;

impl wit::Host for CallState {}

impl wit::HostPlan for CallState {
    fn directory(
        &mut self,
        _: Handle,
        key: String,
        root: String,
        path: String,
        owner: wit::Owner,
        data: bool,
    ) -> Result<(), Error> {
        let root = self.granted_root(&root)?;
        let owner = Owner {
            uid: owner.uid,
            gid: owner.gid,
            mode: owner.mode,
        };
        self.push_storage(StorageOp::Directory {
            key,
            root,
            path,
            owner,
            data,
        })
    }

    fn quota(
        &mut self,
        _: Handle,
        key: String,
        directory: String,
        bytes: u64,
        inodes: u64,
    ) -> Result<(), Error> {
        let directory = self.source(&directory)?;
        self.push_storage(StorageOp::Quota {
            key,
            directory,
            bytes,
            inodes,
        })
    }

    fn image(
        &mut self,
        _: Handle,
        key: String,
        root: String,
        path: String,
        bytes: u64,
        preallocate: bool,
    ) -> Result<(), Error> {
        let root = self.granted_root(&root)?;
        self.push_storage(StorageOp::Image {
            key,
            root,
            path,
            bytes,
            preallocate,
        })
    }

    fn image_copy(
        &mut self,
        _: Handle,
        key: String,
        root: String,
        path: String,
        source: String,
        bytes: u64,
        mode: wit::CopyMode,
    ) -> Result<(), Error> {
        let (root, source) = (self.granted_root(&root)?, self.source(&source)?);
        let mode = copy_mode(mode);
        self.push_storage(StorageOp::ImageCopy {
            key,
            root,
            path,
            source,
            bytes,
            mode,
        })
    }

    fn tree_copy(
        &mut self,
        _: Handle,
        key: String,
        root: String,
        path: String,
        source: String,
        mode: wit::CopyMode,
    ) -> Result<(), Error> {
        let (root, source) = (self.granted_root(&root)?, self.source(&source)?);
        let mode = copy_mode(mode);
        self.push_storage(StorageOp::TreeCopy {
            key,
            root,
            path,
            source,
            mode,
        })
    }

    fn loop_device(
        &mut self,
        _: Handle,
        key: String,
        image: String,
        sector_bytes: u32,
        direct_io: bool,
        read_only: bool,
    ) -> Result<(), Error> {
        let image = self.source(&image)?;
        self.push_storage(StorageOp::LoopDevice {
            key,
            image,
            sector_bytes,
            direct_io,
            read_only,
        })
    }

    fn device(&mut self, _: Handle, key: String, path_glob: String) -> Result<(), Error> {
        self.push_storage(StorageOp::Device { key, path_glob })
    }

    fn crypt(&mut self, _: Handle, _: String, _: String, _: String) -> Result<(), Error> {
        let message = "crypt is not offered by this version of davit";
        Err(CallError::new(Code::Unimplemented, message).into())
    }

    fn filesystem(
        &mut self,
        _: Handle,
        key: String,
        device: String,
        fs_type: String,
        label: String,
        mkfs_options: Vec<String>,
    ) -> Result<(), Error> {
        let device = self.source(&device)?;
        self.push_storage(StorageOp::Filesystem {
            key,
            device,
            fs_type,
            label,
            mkfs_options,
        })
    }

    fn mount(
        &mut self,
        _: Handle,
        key: String,
        filesystem: String,
        options: Vec<String>,
    ) -> Result<(), Error> {
        let filesystem = self.source(&filesystem)?;
        self.push_storage(StorageOp::Mount {
            key,
            filesystem,
            options,
        })
    }

    fn tmpfs(
        &mut self,
        _: Handle,
        key: String,
        bytes: u64,
        options: Vec<String>,
    ) -> Result<(), Error> {
        self.push_storage(StorageOp::Tmpfs {
            key,
            bytes,
            options,
        })
    }

    fn remote_mount(
        &mut self,
        _: Handle,
        key: String,
        fs_type: String,
        server: String,
        path: String,
        options: Vec<String>,
        secret: Option<String>,
    ) -> Result<(), Error> {
        if secret.is_some() {
            let message = "secrets of mounts are not offered by this version of davit";
            return Err(CallError::new(Code::Unimplemented, message).into());
        }
        self.push_storage(StorageOp::RemoteMount {
            key,
            fs_type,
            server,
            path,
            options,
        })
    }

    fn overlay(
        &mut self,
        _: Handle,
        key: String,
        lower: Vec<String>,
        upper: String,
        work: String,
    ) -> Result<(), Error> {
        let lower = lower
            .iter()
            .map(|text| self.source(text))
            .collect::<Result<_, _>>()?;
        let (upper, work) = (self.source(&upper)?, self.source(&work)?);
        self.push_storage(StorageOp::Overlay {
            key,
            lower,
            upper,
            work,
        })
    }

    fn expose(
        &mut self,
        _: Handle,
        source: String,
        sub_path: String,
        read_only: bool,
    ) -> Result<(), Error> {
        let source = self.source(&source)?;
        self.push_storage(StorageOp::Expose {
            source,
            sub_path,
            read_only,
        })
    }

    fn expose_block(&mut self, _: Handle, source: String, read_only: bool) -> Result<(), Error> {
        let source = self.source(&source)?;
        self.push_storage(StorageOp::ExposeBlock { source, read_only })
    }

    /// Guests only borrow the plan.
    fn drop(&mut self, _: Handle) -> wasmtime::Result<()> {
        Ok(())
    }
}
