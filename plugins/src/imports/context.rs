//! `davit:plugin/context`: facts of the call.

use super::CallState;
use crate::engine::bindings::davit::plugin::{context, types};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes that one `random` call gives at most.
const RANDOM_BYTES: u32 = 1 << 16;

impl types::Host for CallState {}

impl context::Host for CallState {
    fn operation_id(&mut self) -> String {
        self.facts.operation_id.clone()
    }

    fn attempt(&mut self) -> u32 {
        self.facts.attempt
    }

    fn dry_run(&mut self) -> bool {
        self.facts.dry_run
    }

    /// A caller that gives up drops the call, which ends the guest; so a running guest is wanted.
    fn wanted(&mut self) -> bool {
        true
    }

    fn node_name(&mut self) -> String {
        self.facts.node.to_string()
    }

    fn config(&mut self) -> String {
        self.facts.config.to_string()
    }

    fn subject(&mut self) -> Option<types::ObjectRef> {
        self.facts.subject.as_ref().map(|subject| types::ObjectRef {
            api_version: subject.api_version.clone(),
            kind: subject.kind.clone(),
            namespace: subject.namespace.clone(),
            name: subject.name.clone(),
            uid: subject.uid.clone(),
        })
    }

    fn labels(&mut self) -> Vec<(String, String)> {
        self.metadata(&self.facts.labels)
    }

    fn annotations(&mut self) -> Vec<(String, String)> {
        self.metadata(&self.facts.annotations)
    }

    fn now_ms(&mut self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn random(&mut self, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len.min(RANDOM_BYTES) as usize];
        rand::fill(bytes.as_mut_slice());
        bytes
    }
}

impl CallState {
    /// Metadata of the subject, for plugins with the grant `subjectMetadata`.
    fn metadata(&self, values: &BTreeMap<String, String>) -> Vec<(String, String)> {
        if !self.grants.subject_metadata {
            return Vec::new();
        }
        values
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}
