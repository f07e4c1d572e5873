//! Volumes of this node, and volumes given to pods.

use super::carry_out::Prepared;
use super::networks::{answer, json};
use super::{Host, Phase, digest};
use crate::capabilities::{Exposed, ObjectRef};
use crate::error::{CallError, Code};
use crate::network::Pod;
use crate::plan::{ScopeId, StorageOp};
use crate::registry::{CallInput, Planned};
use crate::scope::{Record, ScopePlan, Session};
use crate::storage::{
    AccessMode, CreateRequest, Driver, Expanded, NodeInfo, PublishRequest, StageRequest, Topology,
    UseMode, Volume, VolumeRef, VolumeStats,
};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Host {
    /// Makes a volume on this node. The same name and request give the same volume again.
    ///
    /// # Errors
    /// The driver's refusal; `already-exists` for the same name with another request.
    pub async fn create_volume(
        &self,
        driver: &str,
        request: CreateRequest,
    ) -> Result<Volume, CallError> {
        check_id(&request.name)?;
        let _lock = self.locks.volume(&request.name).await;
        let scope = ScopeId::volume(&request.name);
        let wanted = digest(driver, &identity(&request));
        if let Some(record) = self.settle(&scope).await? {
            if record.request == wanted && record.driver == driver {
                self.confirm(&record).await?;
                return answer(&record);
            }
            let message = format!(
                "volume {} exists with driver {} and another size, source or parameters",
                request.name, record.driver
            );
            return Err(CallError::new(Code::AlreadyExists, message));
        }
        let serving = Driver::new(self.registry.get(driver)?)?;
        let input = self.input(scope.clone(), &wanted, Some(volume_subject(&request.name)));
        let planned = serving.create(input, &request).await?;
        check_made(driver, &request, &planned.answer)?;
        let volume = planned.answer.clone();
        self.carry_out_storage(driver, scope, wanted, planned, None)
            .await?;
        Ok(volume)
    }

    /// Deletes a volume and its data. Unknown volumes count as deleted.
    ///
    /// # Errors
    /// `failed-precondition` while a pod uses it; `unavailable` while its driver is not loaded.
    pub async fn delete_volume(&self, driver: &str, volume: VolumeRef) -> Result<(), CallError> {
        check_id(&volume.id)?;
        let _lock = self.locks.volume(&volume.id).await;
        let scope = ScopeId::volume(&volume.id);
        let users = self.store.list(&format!("publish/{}/", volume.id));
        if let Some(user) = users.first() {
            let message = format!("volume {} is in use: {}", volume.id, user.scope);
            return Err(CallError::new(Code::FailedPrecondition, message));
        }
        self.release_scope(&ScopeId::stage(&volume.id)).await?;
        let Some(record) = self.store.get(&scope) else {
            return Ok(());
        };
        if record.driver != driver {
            let message = format!("volume {} belongs to driver {}", volume.id, record.driver);
            return Err(CallError::new(Code::PermissionDenied, message));
        }
        let serving = Driver::new(self.registry.get(driver)?)?;
        let input = self.input(scope.clone(), "delete", Some(volume_subject(&volume.id)));
        match serving.delete(input, &volume).await {
            Err(error) if error.code != Code::NotFound => return Err(error),
            _ => {}
        }
        self.release_scope(&scope).await
    }

    /// Grows a volume.
    ///
    /// # Errors
    /// `out-of-range` for a smaller size, `unimplemented` where the driver cannot.
    pub async fn expand_volume(
        &self,
        driver: &str,
        volume: VolumeRef,
        required_bytes: u64,
        limit_bytes: Option<u64>,
        used_as: UseMode,
    ) -> Result<Expanded, CallError> {
        check_id(&volume.id)?;
        let _lock = self.locks.volume(&volume.id).await;
        let scope = ScopeId::volume(&volume.id);
        let unknown = || {
            CallError::new(
                Code::NotFound,
                format!("volume {} is not on this node", volume.id),
            )
        };
        let before = self.settle(&scope).await?.ok_or_else(unknown)?;
        let mut made: Volume = answer(&before)?;
        if required_bytes <= made.capacity_bytes {
            let capacity_bytes = made.capacity_bytes;
            return Ok(Expanded {
                capacity_bytes,
                node_expansion: false,
            });
        }
        let serving = Driver::new(self.registry.get(driver)?)?;
        let now = VolumeRef {
            capacity_bytes: made.capacity_bytes,
            ..volume
        };
        let input = self.input(scope.clone(), &format!("expand {required_bytes}"), None);
        let sizes = (required_bytes, limit_bytes);
        let Planned {
            plan,
            answer: expanded,
            session,
            revision,
        } = serving.expand(input, &now, sizes, &used_as).await?;
        made.capacity_bytes = expanded.capacity_bytes;
        let planned = Planned {
            plan,
            answer: made,
            session,
            revision,
        };
        let wanted = before.request.clone();
        self.carry_out_storage(driver, scope, wanted, planned, Some(before))
            .await?;
        Ok(expanded)
    }

    /// Bytes that new volumes of a class can have in a segment.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn capacity(
        &self,
        driver: &str,
        parameters: &BTreeMap<String, String>,
        segment: &Topology,
    ) -> Result<u64, CallError> {
        let serving = Driver::new(self.registry.get(driver)?)?;
        serving
            .capacity(self.question(driver), parameters, segment)
            .await
    }

    /// What a driver says about this node.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn node_info(&self, driver: &str) -> Result<NodeInfo, CallError> {
        let serving = Driver::new(self.registry.get(driver)?)?;
        serving.info(self.question(driver)).await
    }

    /// How full a volume is, if its driver knows better than `statfs`.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn volume_stats(
        &self,
        driver: &str,
        volume: VolumeRef,
    ) -> Result<Option<VolumeStats>, CallError> {
        let serving = Driver::new(self.registry.get(driver)?)?;
        serving.stats(self.question(driver), &volume).await
    }

    /// Makes a volume usable on this node if it is not yet, and gives it to a pod.
    ///
    /// # Errors
    /// The driver's or the kernel's refusal; `failed-precondition` when another pod holds a
    /// `ReadWriteOncePod` volume.
    pub async fn publish_volume(
        &self,
        driver: &str,
        request: PublishRequest,
    ) -> Result<Exposed, CallError> {
        let id = request.volume.id.clone();
        check_id(&id)?;
        let _lock = self.locks.volume(&id).await;
        let scope = ScopeId::publish(&id, &request.pod.uid);
        self.check_single_pod(&request, &scope)?;
        let wanted = digest(driver, &publish_identity(&request));
        let before = self.settle(&scope).await?;
        if let Some(record) = before.as_ref().filter(|record| record.request == wanted) {
            self.confirm(record).await?;
            return self.exposed(record).await;
        }
        let serving = Driver::new(self.registry.get(driver)?)?;
        let staged = self.stage(&serving, driver, &request).await?;
        let mut input = self.input(scope.clone(), &wanted, Some(pod_subject(&request.pod)));
        input.labels.clone_from(&request.pod.labels);
        input.annotations.clone_from(&request.pod.annotations);
        let outcome = match serving.publish(input, &request).await {
            Ok(planned) => {
                self.carry_out_storage(driver, scope.clone(), wanted, planned, before)
                    .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            if staged && let Err(left) = self.release_scope(&ScopeId::stage(&id)).await {
                tracing::warn!(volume = id, error = %left, "a volume stays staged");
            }
            return Err(error);
        }
        let record = self.store.get(&scope);
        let record = record.ok_or_else(|| CallError::internal(format!("{scope} has no record")))?;
        self.exposed(&record).await
    }

    /// Takes a volume from a pod; with the last pod it is no longer staged.
    ///
    /// # Errors
    /// When something on the host could not be removed; it can be retried.
    pub async fn unpublish_volume(&self, volume_id: &str, pod_uid: &str) -> Result<(), CallError> {
        let _lock = self.locks.volume(volume_id).await;
        self.release_scope(&ScopeId::publish(volume_id, pod_uid))
            .await?;
        if self.store.list(&format!("publish/{volume_id}/")).is_empty() {
            self.release_scope(&ScopeId::stage(volume_id)).await?;
        }
        Ok(())
    }

    /// Makes a volume usable on this node; says whether it was not before.
    async fn stage(
        &self,
        serving: &Driver,
        driver: &str,
        request: &PublishRequest,
    ) -> Result<bool, CallError> {
        let scope = ScopeId::stage(&request.volume.id);
        let stage = StageRequest {
            volume: request.volume.clone(),
            use_as: request.use_as.clone(),
            publish_context: request.publish_context.clone(),
            read_only: request.read_only,
        };
        let wanted = digest(driver, &stage);
        let before = self.settle(&scope).await?;
        if let Some(record) = &before
            && (record.request == wanted
                || !self
                    .store
                    .list(&format!("publish/{}/", request.volume.id))
                    .is_empty())
        {
            self.confirm(record).await?;
            return Ok(false);
        }
        let input = self.input(scope.clone(), &wanted, None);
        let planned = serving.stage(input, &stage).await?;
        let fresh = before.is_none();
        self.carry_out_storage(driver, scope, wanted, planned, before)
            .await?;
        Ok(fresh)
    }

    async fn carry_out_storage<R: serde::Serialize>(
        &self,
        driver: &str,
        scope: ScopeId,
        wanted: String,
        planned: Planned<crate::plan::StoragePlan, R>,
        before: Option<Arc<Record>>,
    ) -> Result<(), CallError> {
        let Planned {
            plan,
            answer,
            session,
            revision,
        } = planned;
        let record = Record {
            scope,
            driver: driver.to_owned(),
            phase: Phase::Pending,
            error: None,
            request: wanted,
            revision: revision.to_string(),
            plan: ScopePlan::Storage(plan),
            previous: None,
            leases: Session::leases(&session).to_vec(),
            answer: json(&answer)?,
            netns: None,
        };
        self.carry_out(vec![Prepared {
            record,
            before,
            session,
        }])
        .await
    }

    /// What the pod gets of a published volume.
    async fn exposed(&self, record: &Record) -> Result<Exposed, CallError> {
        let ScopePlan::Storage(plan) = &record.plan else {
            return Err(CallError::internal(format!(
                "{} is not a volume's",
                record.scope
            )));
        };
        for op in &plan.ops {
            let (sub_path, read_only, block) = match op {
                StorageOp::Expose {
                    sub_path,
                    read_only,
                    ..
                } => (sub_path.clone(), *read_only, false),
                StorageOp::ExposeBlock { read_only, .. } => (String::new(), *read_only, true),
                _ => continue,
            };
            let path = self.hands.storage.exposed(&record.context(), op).await?;
            return Ok(Exposed {
                path,
                sub_path,
                read_only,
                block,
            });
        }
        let message = format!(
            "driver {} exposed nothing for {}",
            record.driver, record.scope
        );
        Err(CallError::internal(message))
    }

    fn check_single_pod(&self, request: &PublishRequest, scope: &ScopeId) -> Result<(), CallError> {
        if !request
            .use_as
            .access
            .contains(&AccessMode::ReadWriteOncePod)
        {
            return Ok(());
        }
        let users = self.store.list(&format!("publish/{}/", request.volume.id));
        match users.into_iter().find(|record| record.scope != *scope) {
            None => Ok(()),
            Some(user) => {
                let message = format!(
                    "volume {} is ReadWriteOncePod and held by {}",
                    request.volume.id, user.scope
                );
                Err(CallError::new(Code::FailedPrecondition, message))
            }
        }
    }

    /// A call that plans nothing.
    pub(super) fn question(&self, driver: &str) -> CallInput<'_> {
        let scope = ScopeId::from_text(&format!("question/{driver}"));
        let input = self.input(scope.clone(), "", None);
        self.settled(&scope);
        input
    }
}

/// An id that can be part of a scope's name and of a path.
fn check_id(id: &str) -> Result<(), CallError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if id.is_empty() || id.len() > 128 || !id.bytes().all(plain) || id.starts_with('.') {
        return Err(CallError::invalid(format!(
            "{id:?} is no id of a volume: 1 to 128 letters, digits, '.', '_' and '-'"
        )));
    }
    Ok(())
}

/// What a driver on a node answers must fit what was asked for.
fn check_made(driver: &str, request: &CreateRequest, volume: &Volume) -> Result<(), CallError> {
    let wrong = |what: String| Err(CallError::internal(format!("driver {driver}: {what}")));
    if volume.id != request.name {
        return wrong(format!(
            "made volume {:?} when asked for {:?}: volumes of a node have the name they are asked by",
            volume.id, request.name
        ));
    }
    let fits = volume.capacity_bytes >= request.required_bytes
        && request
            .limit_bytes
            .is_none_or(|limit| volume.capacity_bytes <= limit);
    if !fits {
        return wrong(format!(
            "volume {} has {} bytes, which is outside what was asked for",
            volume.id, volume.capacity_bytes
        ));
    }
    Ok(())
}

/// What makes a volume another one: not where it would best be.
fn identity(request: &CreateRequest) -> CreateRequest {
    CreateRequest {
        requisite: Vec::new(),
        preferred: Vec::new(),
        ..request.clone()
    }
}

fn publish_identity(request: &PublishRequest) -> PublishRequest {
    let mut identity = request.clone();
    identity.pod.labels = BTreeMap::new();
    identity.pod.annotations = BTreeMap::new();
    identity
}

fn volume_subject(name: &str) -> ObjectRef {
    ObjectRef {
        api_version: "v1".to_owned(),
        kind: "PersistentVolume".to_owned(),
        name: name.to_owned(),
        ..ObjectRef::default()
    }
}

pub(super) fn pod_subject(pod: &Pod) -> ObjectRef {
    ObjectRef {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    }
}
