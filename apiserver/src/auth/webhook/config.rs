//! AuthorizationConfiguration (apiserver.config.k8s.io/v1): who is asked, in which order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::{AccessWebhook, Answers, Remote};
use crate::auth::ConfigError;
use crate::callout::Callouts;
use crate::schema::cel::Expression;

/// One authorizer of the chain.
#[derive(Debug)]
pub(crate) enum Step {
    /// What nodes may do.
    Node,
    /// Roles and bindings.
    Rbac,
    /// Another server.
    Webhook(Box<AccessWebhook>),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuthorizationConfiguration {
    api_version: String,
    kind: String,
    authorizers: Vec<AuthorizerConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuthorizerConfig {
    r#type: String,
    #[serde(default)]
    name: String,
    webhook: Option<WebhookConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WebhookConfig {
    #[serde(default, rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    #[serde(default = "yes")]
    cache_authorized_requests: bool,
    #[serde(default, rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    #[serde(default = "yes")]
    cache_unauthorized_requests: bool,
    timeout: String,
    subject_access_review_version: String,
    #[serde(default)]
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: Connection,
    #[serde(default)]
    match_conditions: Vec<Condition>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Connection {
    r#type: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    expression: String,
}

/// The chain that a file says.
pub(crate) fn load_steps(path: &Path, callouts: &Arc<Callouts>) -> Result<Vec<Step>, ConfigError> {
    let text = ConfigError::read(path)?;
    let invalid = |what: String| ConfigError::invalid(path, what);
    let config = parse(&text).map_err(invalid)?;
    let mut steps = Vec::new();
    for (number, authorizer) in config.authorizers.into_iter().enumerate() {
        let at = |what: String| invalid(format!("authorizers[{number}]: {what}"));
        steps.push(match (&*authorizer.r#type, authorizer.webhook) {
            ("Node", None) => Step::Node,
            ("RBAC", None) => Step::Rbac,
            ("Webhook", Some(webhook)) => {
                let (settings, file) = settings(&webhook).map_err(at)?;
                let remote = Remote::load(&file, callouts.clone())?;
                Step::Webhook(Box::new(settings.webhook(authorizer.name, remote)))
            }
            ("Webhook", None) => return Err(at("webhook: Required value".to_owned())),
            (other, _) => {
                return Err(at(format!(
                    "{other:?} must be Node, RBAC or Webhook (with webhook)"
                )));
            }
        });
    }
    Ok(steps)
}

fn parse(text: &str) -> Result<AuthorizationConfiguration, String> {
    let config: AuthorizationConfiguration =
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let (version, kind) = (&config.api_version, &config.kind);
    if version != "apiserver.config.k8s.io/v1" || kind != "AuthorizationConfiguration" {
        return Err(format!(
            "{version} {kind} is not apiserver.config.k8s.io/v1 AuthorizationConfiguration"
        ));
    }
    if config.authorizers.is_empty() {
        return Err(
            "authorizers: Required value: at least one authorization mode must be defined".into(),
        );
    }
    for (number, one) in config.authorizers.iter().enumerate() {
        if one.name.is_empty() {
            return Err(format!("authorizers[{number}].name: Required value"));
        }
        let before = config.authorizers.iter().take(number);
        if before.clone().any(|other| other.name == one.name) {
            return Err(format!(
                "authorizers[{number}].name: Duplicate value: {:?}",
                one.name
            ));
        }
        if one.r#type != "Webhook" && before.clone().any(|other| other.r#type == one.r#type) {
            return Err(format!(
                "authorizers[{number}].type: Duplicate value: {:?}",
                one.r#type
            ));
        }
    }
    Ok(config)
}

/// A webhook's settings but for its name and place.
struct Settings {
    timeout: Duration,
    allowed_ttl: Duration,
    other_ttl: Duration,
    fails_closed: bool,
    conditions: Vec<Expression>,
}

impl Settings {
    fn webhook(self, name: String, remote: Remote) -> AccessWebhook {
        AccessWebhook {
            name,
            remote,
            timeout: self.timeout,
            allowed_ttl: self.allowed_ttl,
            other_ttl: self.other_ttl,
            fails_closed: self.fails_closed,
            conditions: self.conditions,
            answers: Answers::default(),
        }
    }
}

fn settings(config: &WebhookConfig) -> Result<(Settings, PathBuf), String> {
    let ttl = |text: &Option<String>, cached: bool, default: u64, name: &str| match text {
        _ if !cached => Ok(Duration::ZERO),
        None => Ok(Duration::from_secs(default)),
        Some(text) => duration(text).ok_or(format!("{name}: {text:?} is no duration")),
    };
    let timeout = duration(&config.timeout)
        .filter(|timeout| !timeout.is_zero() && *timeout <= Duration::from_secs(30))
        .ok_or("timeout: must be over 0s and at most 30s")?;
    if config.subject_access_review_version != "v1" {
        return Err("subjectAccessReviewVersion: must be v1".to_owned());
    }
    let conditions = &config.match_conditions;
    if !conditions.is_empty() && config.match_condition_subject_access_review_version != "v1" {
        return Err("matchConditionSubjectAccessReviewVersion: must be v1".to_owned());
    }
    let fails_closed = match &*config.failure_policy {
        "NoOpinion" => false,
        "Deny" => true,
        _ => return Err("failurePolicy: must be NoOpinion or Deny".to_owned()),
    };
    let compiled = conditions.iter().enumerate().map(|(number, condition)| {
        let compiled = Expression::compile(&condition.expression, &["request"]);
        compiled.map_err(|error| format!("matchConditions[{number}].expression: {error}"))
    });
    let file = match (
        &*config.connection_info.r#type,
        &config.connection_info.kube_config_file,
    ) {
        ("KubeConfigFile", Some(file)) => file.clone(),
        _ => {
            return Err(
                "connectionInfo: must be of type KubeConfigFile with kubeConfigFile".into(),
            );
        }
    };
    let settings = Settings {
        timeout,
        allowed_ttl: ttl(
            &config.authorized_ttl,
            config.cache_authorized_requests,
            300,
            "authorizedTTL",
        )?,
        other_ttl: ttl(
            &config.unauthorized_ttl,
            config.cache_unauthorized_requests,
            30,
            "unauthorizedTTL",
        )?,
        fails_closed,
        conditions: compiled.collect::<Result<_, _>>()?,
    };
    Ok((settings, file))
}

/// A duration as Go writes it: `1m30s`, `300ms`, `2h`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = rest.split_at(digits);
        let end = unit
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit.len());
        let (unit, more) = unit.split_at(end);
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        sum += Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?);
        rest = more;
    }
    (!text.is_empty()).then_some(sum)
}
