//! What admission has to say beside yes and no: warnings for the client, annotations for the audit log.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Notes of one request. Plugins add to them while they decide; making them costs nothing.
#[derive(Debug, Default)]
pub struct Notes {
    warnings: Mutex<Vec<String>>,
    annotations: Mutex<BTreeMap<String, String>>,
}

impl Notes {
    /// Warns the client, once for each text however often the request is tried.
    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// Adds to the request's entry in the audit log; `key` is qualified, such as `pod-security.kubernetes.io/exempt`.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.annotations.lock().insert(key.into(), value.into());
    }

    /// The warnings, in the order they were given. They are given out once.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock())
    }

    /// The annotations so far.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.annotations.lock().clone()
    }
}
