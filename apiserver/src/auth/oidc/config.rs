//! AuthenticationConfiguration (apiserver.config.k8s.io/v1).

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AuthenticationConfiguration {
    api_version: String,
    kind: String,
    #[serde(default)]
    pub(super) jwt: Vec<Jwt>,
    #[serde(default)]
    anonymous: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Jwt {
    pub(super) issuer: IssuerConfig,
    #[serde(default)]
    pub(super) claim_validation_rules: Vec<ClaimRule>,
    pub(super) claim_mappings: Mappings,
    #[serde(default)]
    pub(super) user_validation_rules: Vec<UserRule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct IssuerConfig {
    pub(super) url: String,
    #[serde(default, rename = "discoveryURL")]
    pub(super) discovery_url: String,
    #[serde(default)]
    pub(super) certificate_authority: String,
    #[serde(default)]
    pub(super) audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ClaimRule {
    #[serde(default)]
    pub(super) claim: String,
    #[serde(default)]
    pub(super) required_value: String,
    #[serde(default)]
    pub(super) expression: String,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct UserRule {
    pub(super) expression: String,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mappings {
    pub(super) username: Prefixed,
    #[serde(default)]
    pub(super) groups: Prefixed,
    #[serde(default)]
    pub(super) uid: Prefixed,
    #[serde(default)]
    pub(super) extra: Vec<Extra>,
}

/// A claim with its prefix, or an expression.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Prefixed {
    #[serde(default)]
    pub(super) claim: String,
    pub(super) prefix: Option<String>,
    #[serde(default)]
    pub(super) expression: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Extra {
    pub(super) key: String,
    pub(super) value_expression: String,
}

impl AuthenticationConfiguration {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let config: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let (version, kind) = (&config.api_version, &config.kind);
        if version != "apiserver.config.k8s.io/v1" || kind != "AuthenticationConfiguration" {
            return Err(format!(
                "{version} {kind} is not apiserver.config.k8s.io/v1 AuthenticationConfiguration"
            ));
        }
        if !config.anonymous.is_null() {
            return Err(
                "anonymous: davit serves health and version to anybody and nothing else; \
                        remove the field"
                    .to_owned(),
            );
        }
        for (number, jwt) in config.jwt.iter().enumerate() {
            jwt.check()
                .map_err(|what| format!("jwt[{number}].{what}"))?;
            let same = |other: &Jwt| other.issuer.url == jwt.issuer.url;
            if config.jwt.iter().take(number).any(same) {
                let url = &jwt.issuer.url;
                return Err(format!(
                    "jwt[{number}].issuer.url: Duplicate value: {url:?}"
                ));
            }
        }
        Ok(config)
    }
}

impl Jwt {
    fn check(&self) -> Result<(), String> {
        let issuer = &self.issuer;
        check_url(&issuer.url).map_err(|what| format!("issuer.url: {what}"))?;
        if !issuer.discovery_url.is_empty() {
            check_url(&issuer.discovery_url)
                .map_err(|what| format!("issuer.discoveryURL: {what}"))?;
            if issuer.discovery_url.trim_end_matches('/') == issuer.url.trim_end_matches('/') {
                return Err("issuer.discoveryURL: discoveryURL must be different from url".into());
            }
        }
        if issuer.audiences.is_empty() {
            return Err(
                "issuer.audiences: Required value: at least one jwt[].issuer.audiences is required"
                    .into(),
            );
        }
        if !matches!(&*issuer.audience_match_policy, "" | "MatchAny") {
            return Err("issuer.audienceMatchPolicy: must be MatchAny or empty".into());
        }
        let mappings = &self.claim_mappings;
        mappings.username.check("username", true)?;
        if mappings.username.claim.is_empty() && mappings.username.expression.is_empty() {
            return Err(
                "claimMappings.username: Required value: claim or expression is required".into(),
            );
        }
        mappings.groups.check("groups", true)?;
        mappings.uid.check("uid", false)?;
        for (number, extra) in mappings.extra.iter().enumerate() {
            let key = &extra.key;
            let reserved = key.split('/').next().is_some_and(|domain| {
                ["kubernetes.io", "k8s.io"]
                    .iter()
                    .any(|own| domain == *own || domain.ends_with(&format!(".{own}")))
            });
            if !key.contains('/') || key.to_lowercase() != *key || reserved {
                return Err(format!(
                    "claimMappings.extra[{number}].key: {key:?} must be a lower-case domain-prefixed path of a domain of your own"
                ));
            }
        }
        for (number, rule) in self.claim_validation_rules.iter().enumerate() {
            if rule.claim.is_empty() == rule.expression.is_empty() {
                return Err(format!(
                    "claimValidationRules[{number}]: either claim or expression is required"
                ));
            }
        }
        Ok(())
    }
}

impl Prefixed {
    fn check(&self, name: &str, prefixes: bool) -> Result<(), String> {
        if !self.claim.is_empty() && !self.expression.is_empty() {
            return Err(format!(
                "claimMappings.{name}: claim and expression can't both be set"
            ));
        }
        if self.prefix.is_some() && (!self.expression.is_empty() || !prefixes) {
            return Err(format!(
                "claimMappings.{name}.prefix: prefix can't be set here"
            ));
        }
        if prefixes && !self.claim.is_empty() && self.prefix.is_none() {
            return Err(format!(
                "claimMappings.{name}.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing"
            ));
        }
        Ok(())
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("{url:?}: {error}"))?;
    if uri.scheme_str() != Some("https") {
        return Err(format!("Invalid value: {url:?}: URL scheme must be https"));
    }
    if uri.query().is_some() || url.contains('#') || url.contains('@') {
        return Err(format!(
            "Invalid value: {url:?}: URL must not contain a username, password, query or fragment"
        ));
    }
    Ok(())
}
