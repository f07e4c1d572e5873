//! Calls of a storage driver's exports.

use super::convert::pairs;
use super::{
    ContentSource, CreateRequest, Expanded, NodeInfo, PublishRequest, StageRequest, Topology,
    UseMode, Volume, VolumeRef, VolumeStats,
};
use crate::engine::Answer;
use crate::engine::bindings::davit::storage::types as wit;
use crate::engine::bindings::exports::davit::storage::controller::Guest as Controller;
use crate::engine::bindings::exports::davit::storage::node::Guest as Node;
use crate::error::{CallError, Code};
use crate::imports::{CallState, StoragePlanHandle};
use crate::network::missing;
use crate::plan::{ScopeId, StoragePlan};
use crate::registry::{CallInput, Planned, Serving, kept};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::Store;
use wasmtime::component::Resource;

/// A storage driver in service.
#[derive(Debug)]
pub(crate) struct Driver(Arc<Serving>);

fn handle() -> Resource<StoragePlanHandle> {
    Resource::new_borrow(0)
}

impl Driver {
    pub(crate) fn new(serving: Arc<Serving>) -> Result<Self, CallError> {
        if serving.loaded.node.is_some() {
            return Ok(Self(serving));
        }
        let message = format!("driver {} serves no volumes", serving.driver());
        Err(CallError::new(Code::FailedPrecondition, message))
    }

    fn limits(&self) -> &crate::grants::CallLimits {
        &self.0.granted.grants.limits
    }

    pub(crate) async fn create(
        &self,
        input: CallInput<'_>,
        request: &CreateRequest,
    ) -> Result<Planned<StoragePlan, Volume>, CallError> {
        let content = match &request.source {
            ContentSource::Volume(id) => Some(ScopeId::volume(id)),
            ContentSource::Snapshot(_) | ContentSource::Empty => None,
        };
        let request = wit::CreateRequest::from(request);
        let mut state = self.0.state(input);
        state.storage.content = content;
        let (volume, state) = self
            .controller(state, "create", move |guest, store| {
                async move { guest.call_create(store, &request, handle()).await }.boxed()
            })
            .await?;
        Ok(planned(state, volume.into()))
    }

    pub(crate) async fn delete(
        &self,
        input: CallInput<'_>,
        volume: &VolumeRef,
    ) -> Result<(), CallError> {
        let volume = wit::VolumeRef::from(volume);
        let call = self.controller(self.0.state(input), "delete", move |guest, store| {
            async move { guest.call_delete(store, &volume).await }.boxed()
        });
        kept(call.await?).await
    }

    pub(crate) async fn expand(
        &self,
        input: CallInput<'_>,
        volume: &VolumeRef,
        sizes: (u64, Option<u64>),
        used_as: &UseMode,
    ) -> Result<Planned<StoragePlan, Expanded>, CallError> {
        let (volume, used_as) = (wit::VolumeRef::from(volume), wit::UseMode::from(used_as));
        let (required, limit) = sizes;
        let state = self.0.state(input);
        let (expanded, state) = self
            .controller(state, "expand", move |guest, store| {
                async move {
                    guest
                        .call_expand(store, &volume, required, limit, &used_as, handle())
                        .await
                }
                .boxed()
            })
            .await?;
        Ok(planned(state, expanded.into()))
    }

    pub(crate) async fn capacity(
        &self,
        input: CallInput<'_>,
        parameters: &BTreeMap<String, String>,
        segment: &Topology,
    ) -> Result<u64, CallError> {
        let (parameters, segment) = (pairs(parameters), pairs(segment));
        let call = self.controller(self.0.state(input), "capacity", move |guest, store| {
            async move { guest.call_capacity(store, &parameters, &segment).await }.boxed()
        });
        kept(call.await?).await
    }

    pub(crate) async fn info(&self, input: CallInput<'_>) -> Result<NodeInfo, CallError> {
        let wall = self.limits().attach;
        let call = self.node(self.0.state(input), "info", wall, move |guest, store| {
            async move { guest.call_info(store).await }.boxed()
        });
        Ok(kept(call.await?).await?.into())
    }

    pub(crate) async fn stage(
        &self,
        input: CallInput<'_>,
        request: &StageRequest,
    ) -> Result<Planned<StoragePlan, ()>, CallError> {
        let (request, wall) = (wit::StageRequest::from(request), self.limits().attach);
        let call = self.node(self.0.state(input), "stage", wall, move |guest, store| {
            async move { guest.call_stage(store, &request, handle()).await }.boxed()
        });
        Ok(planned(call.await?.1, ()))
    }

    pub(crate) async fn publish(
        &self,
        input: CallInput<'_>,
        request: &PublishRequest,
    ) -> Result<Planned<StoragePlan, ()>, CallError> {
        let (request, wall) = (wit::PublishRequest::from(request), self.limits().attach);
        let call = self.node(self.0.state(input), "publish", wall, move |guest, store| {
            async move { guest.call_publish(store, &request, handle()).await }.boxed()
        });
        Ok(planned(call.await?.1, ()))
    }

    pub(crate) async fn stats(
        &self,
        input: CallInput<'_>,
        volume: &VolumeRef,
    ) -> Result<Option<VolumeStats>, CallError> {
        let (volume, wall) = (wit::VolumeRef::from(volume), self.limits().attach);
        let call = self.node(self.0.state(input), "stats", wall, move |guest, store| {
            async move { guest.call_stats(store, &volume).await }.boxed()
        });
        Ok(kept(call.await?).await?.map(Into::into))
    }

    /// Tells the driver that the host tore a scope down.
    pub(crate) async fn released(
        &self,
        input: CallInput<'_>,
        scope: &ScopeId,
    ) -> Result<(), CallError> {
        let (scope, wall) = (scope.to_string(), self.limits().attach);
        let call = self.node(
            self.0.state(input),
            "released",
            wall,
            move |guest, store| async move { guest.call_released(store, &scope).await }.boxed(),
        );
        kept(call.await?).await
    }

    async fn controller<R: Send>(
        &self,
        state: CallState,
        what: &str,
        call: impl for<'a> FnOnce(Controller, &'a mut Store<CallState>) -> BoxFuture<'a, Answer<R>>
        + Send
        + 'static,
    ) -> Result<(R, CallState), CallError> {
        let Some(indices) = self.0.loaded.controller.clone() else {
            let message = format!("driver {} makes no volumes", self.0.driver());
            return Err(CallError::new(Code::Unimplemented, message));
        };
        let wall = self.limits().create;
        let work = self.0.call(state, what, wall, move |store, instance| {
            async move {
                let guest = indices.load(&mut *store, &instance)?;
                call(guest, store).await
            }
            .boxed()
        });
        work.await
    }

    async fn node<R: Send>(
        &self,
        state: CallState,
        what: &str,
        wall: Duration,
        call: impl for<'a> FnOnce(Node, &'a mut Store<CallState>) -> BoxFuture<'a, Answer<R>>
        + Send
        + 'static,
    ) -> Result<(R, CallState), CallError> {
        let indices = self.0.loaded.node.clone();
        let work = self.0.call(state, what, wall, move |store, instance| {
            async move {
                let guest = indices.ok_or_else(missing)?.load(&mut *store, &instance)?;
                call(guest, store).await
            }
            .boxed()
        });
        work.await
    }
}

fn planned<R>(mut state: CallState, answer: R) -> Planned<StoragePlan, R> {
    let plan = std::mem::take(&mut state.storage.plan);
    Planned {
        plan,
        answer,
        revision: state.facts.revision,
        session: state.session,
    }
}
