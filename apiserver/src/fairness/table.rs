//! Which flow and level a request belongs to, as a function of the schemas and the request.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use http::HeaderValue;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, NonResourcePolicyRule, PolicyRulesWithSubjects, PriorityLevelConfiguration,
    ResourcePolicyRule, Subject,
};
use serde::de::DeserializeOwned;

use super::seats::{Limits, Refusal};
use super::{FLOW_SCHEMAS, PRIORITY_LEVELS, bootstrap};
use crate::auth::{Attributes, Kind, ObjectSource, Target, UserInfo};

const DEFAULT_PRECEDENCE: i32 = 1000;

/// All schemas in the order they are tried, and all levels.
#[derive(Debug, Default)]
pub(super) struct Table {
    schemas: Vec<Arc<Schema>>,
    levels: HashMap<String, Arc<Level>>,
}

/// A priority level.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) name: String,
    pub(super) uid: HeaderValue,
    pub(super) exempt: bool,
    pub(super) limits: Limits,
}

/// A flow schema whose level exists.
#[derive(Debug)]
pub(super) struct Schema {
    name: String,
    level: String,
    pub(super) uid: HeaderValue,
    precedence: i32,
    distinguisher: Distinguisher,
    rules: Vec<PolicyRulesWithSubjects>,
    counts: Arc<Counts>,
}

/// What tells the flows of a schema apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distinguisher {
    None,
    User,
    Namespace,
}

#[derive(Debug, Default)]
struct Counts {
    dispatched: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

/// A request's place in the table.
pub(super) struct Flow {
    pub(super) schema: Arc<Schema>,
    pub(super) level: Arc<Level>,
    /// Of the schema and what tells its flows apart.
    pub(super) hash: u64,
}

impl Table {
    /// The table of now; counts go on where `before` left them.
    pub(super) fn read(source: &dyn ObjectSource, before: &Self) -> Self {
        let mut levels: HashMap<String, Arc<Level>> = parse(source, PRIORITY_LEVELS)
            .filter_map(Level::new)
            .map(|level| (level.name.clone(), Arc::new(level)))
            .collect();
        let mut schemas: Vec<Schema> = parse(source, FLOW_SCHEMAS)
            .filter_map(Schema::new)
            .collect();
        // These two are always there, whatever happens to their objects.
        for object in bootstrap::objects() {
            let name = object.object["metadata"]["name"]
                .as_str()
                .unwrap_or_default();
            if !matches!(name, "exempt" | "catch-all") {
                continue;
            }
            if object.plural == PRIORITY_LEVELS.plural && !levels.contains_key(name) {
                let level = serde_json::from_value(object.object)
                    .ok()
                    .and_then(Level::new);
                levels.extend(level.map(|level| (level.name.clone(), Arc::new(level))));
            } else if object.plural == FLOW_SCHEMAS.plural
                && !schemas.iter().any(|schema| schema.name == name)
            {
                schemas.extend(
                    serde_json::from_value(object.object)
                        .ok()
                        .and_then(Schema::new),
                );
            }
        }
        // A schema whose level is missing classifies nothing.
        schemas.retain(|schema| levels.contains_key(&schema.level));
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        for schema in &mut schemas {
            let same = |have: &&Arc<Schema>| have.name == schema.name && have.level == schema.level;
            if let Some(have) = before.schemas.iter().find(same) {
                schema.counts = have.counts.clone();
            }
        }
        let schemas = schemas.into_iter().map(Arc::new).collect();
        Self { schemas, levels }
    }

    /// The limits of all levels that have limits.
    pub(super) fn levels(&self) -> impl Iterator<Item = (&str, Limits)> {
        let limited = self.levels.values().filter(|level| !level.exempt);
        limited.map(|level| (level.name.as_str(), level.limits))
    }

    pub(super) fn schemas(&self) -> &[Arc<Schema>] {
        &self.schemas
    }

    /// The first schema that matches; the last one, catch-all, matches everything.
    pub(super) fn classify(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Flow {
        static NOTHING: LazyLock<(Arc<Schema>, Arc<Level>)> =
            LazyLock::new(|| (Schema::unlimited().into(), Level::unlimited().into()));
        let matching = self
            .schemas
            .iter()
            .find(|schema| schema.matches(user, attributes));
        let found = matching.or(self.schemas.last());
        let found = found.and_then(|schema| Some((schema, self.levels.get(&schema.level)?)));
        let (schema, level) = found.unwrap_or((&NOTHING.0, &NOTHING.1));
        let (schema, level) = (schema.clone(), level.clone());
        let hash = schema.hash(user, attributes);
        Flow {
            schema,
            level,
            hash,
        }
    }
}

impl Level {
    fn new(object: PriorityLevelConfiguration) -> Option<Self> {
        let spec = object.spec;
        let limited = spec.limited.unwrap_or_default();
        let queuing = limited.limit_response.queuing;
        let is_exempt = spec.type_ == "Exempt";
        let positive = |value: Option<i32>, default: u32| {
            value.map_or(default, |value| u32::try_from(value).unwrap_or_default())
        };
        let limits = Limits {
            shares: positive(limited.nominal_concurrency_shares, 30),
            lendable_percent: positive(limited.lendable_percent, 0),
            borrowing_percent: limited
                .borrowing_limit_percent
                .map(|percent| u32::try_from(percent).unwrap_or_default()),
            queues: queuing.as_ref().map_or(0, |q| positive(q.queues, 64)),
            hand: queuing.as_ref().map_or(0, |q| positive(q.hand_size, 8)),
            queue_length: queuing
                .as_ref()
                .map_or(0, |q| positive(q.queue_length_limit, 50)),
        };
        Some(Self {
            name: object.metadata.name?,
            uid: uid(object.metadata.uid),
            exempt: is_exempt,
            limits,
        })
    }

    fn unlimited() -> Self {
        Self {
            name: String::new(),
            uid: HeaderValue::from_static(""),
            exempt: true,
            limits: Limits::default(),
        }
    }
}

impl Schema {
    fn new(object: FlowSchema) -> Option<Self> {
        let spec = object.spec;
        let method = spec.distinguisher_method.map(|method| method.type_);
        Some(Self {
            name: object.metadata.name?,
            level: spec.priority_level_configuration.name,
            uid: uid(object.metadata.uid),
            precedence: spec.matching_precedence.unwrap_or(DEFAULT_PRECEDENCE),
            distinguisher: match method.as_deref() {
                Some("ByUser") => Distinguisher::User,
                Some("ByNamespace") => Distinguisher::Namespace,
                _ => Distinguisher::None,
            },
            rules: spec.rules.unwrap_or_default(),
            counts: Arc::default(),
        })
    }

    fn unlimited() -> Self {
        Self {
            name: String::new(),
            level: String::new(),
            uid: HeaderValue::from_static(""),
            precedence: 0,
            distinguisher: Distinguisher::None,
            rules: Vec::new(),
            counts: Arc::default(),
        }
    }

    fn matches(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects
                .iter()
                .any(|subject| is_subject(subject, user))
                && match attributes.target {
                    Target::Resource(_) => {
                        let rules = rule.resource_rules.iter().flatten();
                        rules.into_iter().any(|rule| covers(rule, attributes))
                    }
                    Target::Path(path) => {
                        let rules = rule.non_resource_rules.iter().flatten();
                        rules
                            .into_iter()
                            .any(|rule| reaches(rule, attributes.verb, path))
                    }
                }
        })
    }

    fn hash(&self, user: &UserInfo, attributes: &Attributes<'_>) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        match (self.distinguisher, attributes.target) {
            (Distinguisher::User, _) => user.name.hash(&mut hasher),
            (Distinguisher::Namespace, Target::Resource(target)) => {
                target.namespace.hash(&mut hasher);
            }
            _ => {}
        }
        hasher.finish()
    }

    pub(super) fn count_dispatched(&self) {
        self.counts.dispatched.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refused(&self, refusal: Refusal) {
        if let Some(count) = self.counts.refused.get(refusal as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn dispatched(&self) -> u64 {
        self.counts.dispatched.load(Ordering::Relaxed)
    }

    /// Refusals by reason, those that happened.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.refused.iter();
        let counts = Refusal::ALL.into_iter().zip(counts);
        let counts = counts.map(|(reason, count)| (reason.name(), count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0)
    }

    pub(super) fn labels(&self) -> String {
        let (level, name) = (&self.level, &self.name);
        format!("flow_schema=\"{name}\",priority_level=\"{level}\"")
    }
}

fn uid(uid: Option<String>) -> HeaderValue {
    HeaderValue::from_str(&uid.unwrap_or_default()).unwrap_or(HeaderValue::from_static(""))
}

fn is_subject(subject: &Subject, user: &UserInfo) -> bool {
    let is = |wanted: &str, name: &str| wanted == "*" || wanted == name;
    match subject.kind.as_str() {
        "User" => subject
            .user
            .as_ref()
            .is_some_and(|u| is(&u.name, &user.name)),
        "Group" => subject
            .group
            .as_ref()
            .is_some_and(|group| group.name == "*" || user.in_group(&group.name)),
        "ServiceAccount" => match (&subject.service_account, user.as_service_account()) {
            (Some(account), Some((namespace, name))) => {
                account.namespace == namespace && is(&account.name, name)
            }
            _ => false,
        },
        _ => false,
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn covers(rule: &ResourcePolicyRule, attributes: &Attributes<'_>) -> bool {
    let Target::Resource(target) = attributes.target else {
        return false;
    };
    let namespaces = rule.namespaces.as_deref().unwrap_or_default();
    let in_scope = if target.namespace.is_empty() {
        rule.cluster_scope == Some(true)
    } else {
        has(namespaces, target.namespace)
    };
    in_scope
        && has(&rule.verbs, attributes.verb)
        && has(&rule.api_groups, target.group)
        && has(&rule.resources, &target.qualified())
}

fn reaches(rule: &NonResourcePolicyRule, verb: &str, path: &str) -> bool {
    has(&rule.verbs, verb)
        && rule.non_resource_urls.iter().any(|pattern| {
            let prefix = pattern.strip_suffix('*');
            pattern == path || prefix.is_some_and(|prefix| path.starts_with(prefix))
        })
}

fn parse<T: DeserializeOwned>(source: &dyn ObjectSource, kind: Kind) -> impl Iterator<Item = T> {
    let objects = source.list(kind, "").into_iter();
    objects.filter_map(move |bytes| match serde_json::from_slice(&bytes) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(kind = kind.plural, %error, "an object in the store cannot be read");
            None
        }
    })
}
