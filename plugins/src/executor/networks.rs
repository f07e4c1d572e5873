//! Networks on the node and pods on networks.

use super::carry_out::Prepared;
use super::{AttachPod, Attached, Host, NetworkAttachment, NodeUp, Phase, digest};
use crate::capabilities::ObjectRef;
use crate::error::{CallError, Code};
use crate::network::{AttachResult, Attachment, Driver, NodeResult};
use crate::plan::{NetworkOp, NetworkPlan, Place, ScopeId};
use crate::registry::Planned;
use crate::scope::{Record, ScopePlan};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Times a call is made again because values it read were changed by another one.
const RETRIES: u32 = 3;

/// What is recorded of an attachment besides its plan.
#[derive(Debug, Serialize, Deserialize)]
struct AttachAnswer {
    network: String,
    ifname: String,
    default_route: bool,
    result: AttachResult,
}

impl Host {
    /// Brings a network up on this node, or adapts it to changed peers or slices, and to another version, other grants or
    /// another configuration of its driver. Repeated with the same request it looks whether the network is still in
    /// force, and mends it.
    ///
    /// # Errors
    /// The driver's or the kernel's refusal; the former state stays in force.
    pub async fn node_up(&self, request: NodeUp) -> Result<NodeResult, CallError> {
        let NodeUp {
            network,
            node,
            peers,
        } = &request;
        let _lock = self.locks.network(&network.name).await;
        let scope = ScopeId::node(&network.name);
        let wanted = digest(&network.driver, &(network, node, peers));
        let before = self.settle(&scope).await?;
        let same =
            |record: &&Arc<Record>| record.request == wanted && self.is_of_this_driver(record);
        if let Some(record) = before.as_ref().filter(same) {
            self.confirm(record).await?;
            return answer(record);
        }
        if let Some(record) = before
            .as_ref()
            .filter(|record| record.driver != network.driver)
        {
            return Err(CallError::new(
                Code::FailedPrecondition,
                format!(
                    "network {} is up with driver {}: it must come down before {} can serve it",
                    network.name, record.driver, network.driver
                ),
            ));
        }
        let mut tries = 0;
        loop {
            let driver = Driver::new(self.registry.get(&network.driver)?)?;
            let subject = network_subject(&network.name, &network.uid);
            let input = self.input(scope.clone(), &wanted, Some(subject));
            let Planned {
                plan,
                answer,
                session,
                revision,
            } = driver.node_up(input, network, node, peers).await?;
            let record = Record {
                scope: scope.clone(),
                driver: network.driver.clone(),
                phase: Phase::Pending,
                error: None,
                request: wanted.clone(),
                revision: revision.to_string(),
                plan: ScopePlan::Network(plan),
                previous: None,
                leases: session.leases().to_vec(),
                answer: json(&answer)?,
                netns: None,
            };
            let prepared = vec![Prepared {
                record,
                before: before.clone(),
                session,
            }];
            match self.carry_out(prepared).await {
                Err(error) if error.code == Code::Aborted && tries < RETRIES => tries += 1,
                outcome => return outcome.map(|()| answer),
            }
        }
    }

    /// Removes a network from this node.
    ///
    /// # Errors
    /// `failed-precondition` while pods are attached to it.
    pub async fn node_down(&self, network: &str) -> Result<(), CallError> {
        let _lock = self.locks.network(network).await;
        let on_it = |record: &Arc<Record>| record.answer["network"] == network;
        if let Some(pod) = self.store.list("net/").into_iter().find(on_it) {
            let message = format!("network {network} is in use by {}", pod.scope);
            return Err(CallError::new(Code::FailedPrecondition, message));
        }
        self.release_scope(&ScopeId::node(network)).await
    }

    /// Attaches a pod to its networks: all of them or none. Repeated for the same pod and namespace
    /// it returns what is in force, mended where needed.
    ///
    /// # Errors
    /// The driver's or the kernel's refusal.
    pub async fn attach_pod(&self, request: AttachPod) -> Result<Vec<Attached>, CallError> {
        let AttachPod { netns, attachments } = &request;
        let Some(uid) = attachments
            .first()
            .map(|first| first.attachment.pod.uid.clone())
        else {
            return Ok(Vec::new());
        };
        let _lock = self.locks.pod(&uid).await;
        for tries in 0..=RETRIES {
            let mut prepared = Vec::new();
            for one in attachments {
                prepared.extend(self.prepare(one, netns).await?);
            }
            match self.carry_out(prepared).await {
                Err(error) if error.code == Code::Aborted && tries < RETRIES => {}
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        let mut attached = Vec::new();
        for one in attachments {
            attached.push(self.attached(&one.attachment).await?);
        }
        Ok(attached)
    }

    /// Asks the driver for the plan of one attachment, unless it is in force already.
    async fn prepare(
        &self,
        one: &NetworkAttachment,
        netns: &Path,
    ) -> Result<Option<Prepared>, CallError> {
        let NetworkAttachment { attachment, node } = one;
        let network = &attachment.network;
        let scope = ScopeId::net(&attachment.pod.uid, &attachment.ifname);
        if let Some(record) = self.settle(&scope).await? {
            let same = record.netns.as_deref() == Some(netns)
                && record.driver == network.driver
                && record.answer["network"] == network.name.as_str();
            if same {
                self.confirm(&record).await?;
                return Ok(None);
            }
            self.release_scope(&scope).await?;
        }
        let driver = Driver::new(self.registry.get(&network.driver)?)?;
        let wanted = digest(&network.driver, &identity(attachment));
        let mut input = self.input(scope.clone(), &wanted, Some(pod_subject(attachment)));
        input.labels.clone_from(&attachment.pod.labels);
        input.annotations.clone_from(&attachment.pod.annotations);
        let Planned {
            plan,
            answer,
            session,
            revision,
        } = driver.attach(input, attachment, node).await?;
        let answer = AttachAnswer {
            network: network.name.clone(),
            ifname: attachment.ifname.clone(),
            default_route: attachment.default_route,
            result: answer,
        };
        let record = Record {
            scope,
            driver: network.driver.clone(),
            phase: Phase::Pending,
            error: None,
            request: wanted,
            revision: revision.to_string(),
            plan: ScopePlan::Network(plan),
            previous: None,
            leases: session.leases().to_vec(),
            answer: json(&answer)?,
            netns: Some(netns.to_owned()),
        };
        Ok(Some(Prepared {
            record,
            before: None,
            session,
        }))
    }

    /// What would be done to attach a pod, step by step. Nothing is done, and no address is kept.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn plan_attachment(&self, one: &NetworkAttachment) -> Result<NetworkPlan, CallError> {
        let NetworkAttachment { attachment, node } = one;
        let driver = Driver::new(self.registry.get(&attachment.network.driver)?)?;
        let scope = ScopeId::net(&attachment.pod.uid, &attachment.ifname);
        let mut input = self.input(scope.clone(), "dry-run", Some(pod_subject(attachment)));
        self.settled(&scope);
        input.dry_run = true;
        Ok(driver.attach(input, attachment, node).await?.plan)
    }

    /// Whether what is recorded is what the driver that serves now, with its grants of now, was asked for. One that is not
    /// loaded cannot be asked, and what it said before counts.
    fn is_of_this_driver(&self, record: &Record) -> bool {
        let now = self.registry.revision(&record.driver);
        now.is_none_or(|now| now == record.revision)
    }

    /// What is in force for an attachment.
    async fn attached(&self, attachment: &Attachment) -> Result<Attached, CallError> {
        let scope = ScopeId::net(&attachment.pod.uid, &attachment.ifname);
        let record = self.store.get(&scope);
        let record = record.ok_or_else(|| CallError::internal(format!("{scope} has no record")))?;
        let said: AttachAnswer = answer(&record)?;
        let ScopePlan::Network(plan) = &record.plan else {
            return Err(CallError::internal(format!("{scope} is not a network's")));
        };
        let address = |op: &NetworkOp| match op {
            NetworkOp::Address { dev, cidr, .. }
                if dev.place == Place::Pod && dev.name == said.ifname =>
            {
                Some(*cidr)
            }
            _ => None,
        };
        let mac = self
            .hands
            .network
            .mac(&record.context(), &said.ifname)
            .await?;
        Ok(Attached {
            addresses: plan.ops.iter().filter_map(address).collect(),
            network: said.network,
            ifname: said.ifname,
            mac,
            default_route: said.default_route,
            dns: said.result.dns,
            published: said.result.published,
        })
    }

    /// The record of a scope that is in force. What an earlier call left half done is put back to
    /// the plan before it, or released where there was none: nobody was told that it exists.
    pub(super) async fn settle(&self, scope: &ScopeId) -> Result<Option<Arc<Record>>, CallError> {
        match self.store.get(scope) {
            Some(record) if record.phase == Phase::Applied => Ok(Some(record)),
            Some(record) if record.phase != Phase::Releasing && record.previous.is_some() => {
                self.go_back(&record).await.map(Some)
            }
            Some(_) => self.release_scope(scope).await.map(|()| None),
            None => Ok(None),
        }
    }
}

/// What makes an attachment another one: not the pod's metadata, which may change while it runs.
fn identity(attachment: &Attachment) -> Attachment {
    let mut identity = attachment.clone();
    identity.pod.labels = BTreeMap::new();
    identity.pod.annotations = BTreeMap::new();
    identity
}

fn network_subject(name: &str, uid: &str) -> ObjectRef {
    ObjectRef {
        api_version: format!("{}/{}", davit_api::GROUP, davit_api::VERSION),
        kind: "Network".to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

fn pod_subject(attachment: &Attachment) -> ObjectRef {
    super::volumes::pod_subject(&attachment.pod)
}

pub(super) fn json(value: &impl Serialize) -> Result<serde_json::Value, CallError> {
    serde_json::to_value(value).map_err(|error| CallError::internal(error.to_string()))
}

/// The recorded answer of a driver.
pub(super) fn answer<T: for<'de> Deserialize<'de>>(record: &Record) -> Result<T, CallError> {
    T::deserialize(&record.answer)
        .map_err(|error| CallError::internal(format!("record of {}: {error}", record.scope)))
}
