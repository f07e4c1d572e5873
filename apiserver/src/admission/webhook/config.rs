//! Webhook configurations, compiled once a change.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use k8s_openapi::api::admissionregistration::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde::Deserialize;
use serde_json::Value;

use crate::admission::facts::Conditions;
use crate::admission::matching::Matcher;
use crate::auth::{Kind, ObjectSource};
use crate::callout::Target;
use crate::schema::cel::WEBHOOK_NAMES;

pub(super) const MUTATING: Kind = Kind {
    group: "admissionregistration.k8s.io",
    plural: "mutatingwebhookconfigurations",
};
pub(super) const VALIDATING: Kind = Kind {
    group: "admissionregistration.k8s.io",
    plural: "validatingwebhookconfigurations",
};

/// What both kinds of configurations hold.
#[derive(Deserialize)]
struct Configuration {
    metadata: meta::ObjectMeta,
    #[serde(default)]
    webhooks: Vec<Written>,
}

/// One webhook as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    name: String,
    #[serde(default)]
    client_config: Value,
    #[serde(default)]
    rules: Vec<api::RuleWithOperations>,
    failure_policy: Option<String>,
    match_policy: Option<String>,
    namespace_selector: Option<meta::LabelSelector>,
    object_selector: Option<meta::LabelSelector>,
    side_effects: Option<String>,
    timeout_seconds: Option<u64>,
    #[serde(default)]
    admission_review_versions: Vec<String>,
    match_conditions: Option<Vec<api::MatchCondition>>,
    reinvocation_policy: Option<String>,
}

/// One webhook, ready to be asked.
#[derive(Debug)]
pub(super) struct Webhook {
    /// Name of the configuration it is in.
    pub(super) configuration: String,
    pub(super) name: String,
    /// Tells it apart from all others.
    pub(super) id: String,
    /// Or why nothing can be matched.
    pub(super) matcher: Result<Matcher, String>,
    pub(super) conditions: Result<Conditions, String>,
    /// Or why it cannot be called.
    pub(super) target: Result<Target, String>,
    /// A failure to call it does not count (`failurePolicy: Ignore`).
    pub(super) ignores: bool,
    /// A call that stores nothing in the end does no harm.
    pub(super) dry_runs: bool,
    pub(super) timeout: Duration,
    /// The version of AdmissionReview it is sent; `None` when it knows none that is spoken here.
    pub(super) version: Option<&'static str>,
    /// It wants to see what others changed after it.
    pub(super) reinvoked: bool,
}

impl Webhook {
    fn compile(configuration: &str, index: usize, written: Written) -> Self {
        let versions = &written.admission_review_versions;
        let version = versions.iter().find_map(|version| match version.as_str() {
            "v1" => Some("v1"),
            "v1beta1" => Some("v1beta1"),
            _ => None,
        });
        Self {
            configuration: configuration.to_owned(),
            id: format!("{configuration}/{}/{index}", written.name),
            matcher: Matcher::of_webhook(
                &written.rules,
                written.match_policy.as_deref(),
                written.namespace_selector.as_ref(),
                written.object_selector.as_ref(),
            ),
            conditions: Conditions::compile(written.match_conditions.as_ref(), WEBHOOK_NAMES),
            target: Target::from_client_config(&written.client_config),
            ignores: written.failure_policy.as_deref() == Some("Ignore"),
            dry_runs: matches!(
                written.side_effects.as_deref(),
                Some("None" | "NoneOnDryRun")
            ),
            timeout: Duration::from_secs(written.timeout_seconds.unwrap_or(10).clamp(1, 30)),
            version,
            reinvoked: written.reinvocation_policy.as_deref() == Some("IfNeeded"),
            name: written.name,
        }
    }
}

struct Compiled {
    version: Option<u64>,
    webhooks: Arc<[Webhook]>,
}

/// The webhooks of all configurations of a kind, in the order they are called.
pub(super) struct Configurations {
    kind: Kind,
    current: ArcSwap<Compiled>,
}

impl Configurations {
    pub(super) fn new(kind: Kind) -> Self {
        let current = ArcSwap::from_pointee(Compiled {
            version: None,
            webhooks: Arc::new([]),
        });
        Self { kind, current }
    }

    /// Compiles anew only after a configuration changed.
    pub(super) fn current(&self, source: &dyn ObjectSource) -> Arc<[Webhook]> {
        // Read before the list: a change in between is then seen as a new version later.
        let version = Some(source.version(self.kind));
        let current = self.current.load();
        if current.version == version {
            return current.webhooks.clone();
        }
        let mut configurations: Vec<Configuration> = source
            .list(self.kind, "")
            .iter()
            .filter_map(|bytes| {
                let read = serde_json::from_slice(bytes);
                read.inspect_err(
                    |error| tracing::error!(%error, "a webhook configuration cannot be read"),
                )
                .ok()
            })
            .collect();
        configurations.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let webhooks = configurations.into_iter().flat_map(|configuration| {
            let name = configuration.metadata.name.unwrap_or_default();
            let written = configuration.webhooks.into_iter().enumerate();
            let compiled: Vec<Webhook> = written
                .map(|(index, written)| Webhook::compile(&name, index, written))
                .collect();
            compiled
        });
        let webhooks: Arc<[Webhook]> = webhooks.collect();
        self.current.store(Arc::new(Compiled {
            version,
            webhooks: webhooks.clone(),
        }));
        webhooks
    }
}
