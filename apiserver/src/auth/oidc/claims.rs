//! From the claims of a token to a user.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::config::{Jwt, Prefixed};
use crate::auth::{UserInfo, groups};
use crate::schema::cel::{Expression, Scope, to_json};

/// How a user is made of claims.
#[derive(Debug)]
pub(super) struct Mapping {
    username: Part,
    groups: Part,
    uid: Part,
    extra: Vec<(String, Expression)>,
    claim_rules: Vec<Rule>,
    user_rules: Vec<Rule>,
}

/// Where a part of the user comes from.
#[derive(Debug)]
enum Part {
    Nothing,
    Claim { name: String, prefix: String },
    Expression(Expression),
}

#[derive(Debug)]
enum Rule {
    Value {
        claim: String,
        required: String,
    },
    Expression {
        expression: Expression,
        message: String,
    },
}

impl Mapping {
    pub(super) fn new(jwt: &Jwt) -> Result<Self, String> {
        let mappings = &jwt.claim_mappings;
        let compile = |source: &str, name: &str, at: String| {
            Expression::compile(source, &[name]).map_err(|error| format!("{at}: {error}"))
        };
        let part = |mapping: &Prefixed, at: &str| {
            if !mapping.expression.is_empty() {
                let at = format!("claimMappings.{at}.expression");
                return compile(&mapping.expression, "claims", at).map(Part::Expression);
            }
            if mapping.claim.is_empty() {
                return Ok(Part::Nothing);
            }
            Ok(Part::Claim {
                name: mapping.claim.clone(),
                prefix: mapping.prefix.clone().unwrap_or_default(),
            })
        };
        let extra = mappings.extra.iter().map(|extra| {
            let at = format!("claimMappings.extra[{}]", extra.key);
            Ok((
                extra.key.clone(),
                compile(&extra.value_expression, "claims", at)?,
            ))
        });
        let claim_rules = jwt.claim_validation_rules.iter().map(|rule| {
            if rule.expression.is_empty() {
                let (claim, required) = (rule.claim.clone(), rule.required_value.clone());
                return Ok(Rule::Value { claim, required });
            }
            let expression = compile(&rule.expression, "claims", "claimValidationRules".into())?;
            let message = rule.message.clone();
            Ok(Rule::Expression {
                expression,
                message,
            })
        });
        let user_rules = jwt.user_validation_rules.iter().map(|rule| {
            let expression = compile(&rule.expression, "user", "userValidationRules".into())?;
            let message = rule.message.clone();
            Ok(Rule::Expression {
                expression,
                message,
            })
        });
        Ok(Self {
            username: part(&mappings.username, "username")?,
            groups: part(&mappings.groups, "groups")?,
            uid: part(&mappings.uid, "uid")?,
            extra: extra.collect::<Result<_, String>>()?,
            claim_rules: claim_rules.collect::<Result<_, String>>()?,
            user_rules: user_rules.collect::<Result<_, String>>()?,
        })
    }

    /// The user; or why the claims make none.
    pub(super) fn user(&self, claims: &Value) -> Result<UserInfo, String> {
        let mut scope = Scope::default();
        scope.set("claims", claims);
        self.claim_rules
            .iter()
            .try_for_each(|rule| rule.check(claims, &scope))?;
        let username = one(
            "username",
            self.username.values("username", claims, &scope)?,
        )?;
        if username.is_empty() {
            return Err("oidc: the username is empty".to_owned());
        }
        if let Part::Claim { name, .. } = &self.username
            && name == "email"
            && claims
                .get("email_verified")
                .is_some_and(|verified| *verified != true)
        {
            return Err("oidc: email not verified".to_owned());
        }
        let mut user = UserInfo::new(username, self.groups.values("groups", claims, &scope)?);
        user.uid = match &self.uid {
            Part::Nothing => String::new(),
            part => one("uid", part.values("uid", claims, &scope)?)?,
        };
        for (key, expression) in &self.extra {
            let values = texts(key, &evaluate(expression, &scope)?)?;
            let values: Vec<String> = values.into_iter().filter(|v| !v.is_empty()).collect();
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        self.check_user(&user)?;
        Ok(user)
    }

    fn check_user(&self, user: &UserInfo) -> Result<(), String> {
        if self.user_rules.is_empty() {
            return Ok(());
        }
        let own = user
            .groups
            .iter()
            .filter(|group| *group != groups::AUTHENTICATED);
        let extra: BTreeMap<_, _> = user.extra.iter().collect();
        let value = json!({
            "username": user.name, "uid": user.uid, "groups": own.collect::<Vec<_>>(),
            "extra": extra,
        });
        let mut scope = Scope::default();
        scope.set("user", &value);
        self.user_rules
            .iter()
            .try_for_each(|rule| rule.check(&value, &scope))
    }
}

impl Part {
    fn values(&self, what: &str, claims: &Value, scope: &Scope) -> Result<Vec<String>, String> {
        match self {
            Self::Nothing => Ok(Vec::new()),
            Self::Expression(expression) => texts(what, &evaluate(expression, scope)?),
            Self::Claim { name, prefix } => match claims.get(name) {
                None if what == "groups" => Ok(Vec::new()),
                None => Err(format!(
                    "oidc: parse {what} claims {name:?}: claim not present"
                )),
                Some(value) => {
                    let values = texts(what, value)?.into_iter();
                    Ok(values.map(|value| format!("{prefix}{value}")).collect())
                }
            },
        }
    }
}

impl Rule {
    fn check(&self, claims: &Value, scope: &Scope) -> Result<(), String> {
        match self {
            Self::Value { claim, required } => {
                let found = claims.get(claim);
                match found.and_then(Value::as_str) {
                    Some(found) if found == required => Ok(()),
                    _ if found.is_none() => Err(format!(
                        "oidc: required claim {claim} not present in ID token"
                    )),
                    _ => Err(format!("oidc: required claim {claim} value does not match")),
                }
            }
            Self::Expression {
                expression,
                message,
            } => {
                if evaluate(expression, scope)? == true {
                    return Ok(());
                }
                let source = expression.source();
                Err(if message.is_empty() {
                    format!("oidc: validation expression '{source}' failed")
                } else {
                    format!("oidc: validation expression '{source}' failed: {message}")
                })
            }
        }
    }
}

fn evaluate(expression: &Expression, scope: &Scope) -> Result<Value, String> {
    let outcome = expression.evaluate(scope).and_then(|value| to_json(&value));
    outcome.map_err(|error| format!("oidc: error evaluating {:?}: {error}", expression.source()))
}

/// A text, or a list of texts; null is none.
fn texts(what: &str, value: &Value) -> Result<Vec<String>, String> {
    let wrong = || format!("oidc: {what} must be a string or a list of strings");
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect(),
        _ => Err(wrong()),
    }
}

fn one(what: &str, values: Vec<String>) -> Result<String, String> {
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(format!("oidc: {what} must be one string")),
    }
}
