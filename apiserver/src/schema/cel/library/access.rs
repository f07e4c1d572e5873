//! `authorizer`: questions about rights, as `authorizer.group('apps').resource('deployments').check('create')`.

use std::fmt;
use std::sync::Arc;

use cel::Value;
use cel::objects::Opaque;

use super::{Metered, Native, string, text};

/// Answers questions about rights in the name of a request's user.
pub(crate) trait Access: Send + Sync {
    /// Whether it may be done.
    fn decide(&self, question: &Question) -> Verdict;
}

/// What somebody may want to do. Empty texts mean "none".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Question {
    /// Asks for another than the request's user: namespace and name of a service account.
    pub(crate) service_account: Option<(String, String)>,
    /// A path that is no resource's.
    pub(crate) path: Option<String>,
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed(String),
    NotAllowed(String),
}

/// A question that is being put together.
#[derive(Clone)]
struct Asking {
    access: Arc<dyn Access>,
    question: Question,
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.question.fmt(f)
    }
}

impl PartialEq for Asking {
    fn eq(&self, other: &Self) -> bool {
        self.question == other.question
    }
}

impl Eq for Asking {}

impl Opaque for Asking {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.authorization.Authorizer"
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Decision(Verdict);

impl Opaque for Decision {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.authorization.Decision"
    }
}

/// The value expressions ask.
pub(crate) fn authorizer(access: Arc<dyn Access>, question: Question) -> Value {
    wrap(Asking { access, question })
}

fn wrap(value: impl Opaque) -> Value {
    Value::Opaque(Arc::new(value) as Arc<dyn Opaque>)
}

pub(super) const FUNCTIONS: &[(&str, Native)] = &[
    ("path", |v| with(v, |q, t| q.path = Some(t))),
    ("group", |v| with(v, |q, t| q.group = t)),
    ("resource", |v| with(v, |q, t| q.resource = t)),
    ("subresource", |v| with(v, |q, t| q.subresource = t)),
    ("namespace", |v| with(v, |q, t| q.namespace = t)),
    ("name", |v| with(v, |q, t| q.name = t)),
    // Selectors narrow what is asked for; rights that do not depend on them cover them too.
    ("fieldSelector", |v| with(v, |_, _| ())),
    ("labelSelector", |v| with(v, |_, _| ())),
    ("serviceAccount", |v| {
        let name = text(v, 2)?.to_owned();
        with(v, |q, namespace| {
            q.service_account = Some((namespace, name));
        })
    }),
    ("allowed", |v| {
        Ok(Value::Bool(matches!(decision(v)?, Verdict::Allowed(_))))
    }),
    ("reason", |v| {
        let (Verdict::Allowed(reason) | Verdict::NotAllowed(reason)) = decision(v)?;
        Ok(string(reason.clone()))
    }),
    ("errored", |v| decision(v).map(|_| Value::Bool(false))),
    ("error", |v| decision(v).map(|_| string(""))),
];

/// What Kubernetes charges for a question.
const CHECK: u64 = 350_000;

pub(super) const METERED: &[(&str, Metered)] = &[("check", |v, m| {
    m.charge(CHECK)?;
    let Asking {
        access,
        mut question,
    } = asking(v)?.clone();
    text(v, 1)?.clone_into(&mut question.verb);
    Ok(wrap(Decision(access.decide(&question))))
})];

fn with(values: &[Value], set: impl FnOnce(&mut Question, String)) -> Result<Value, String> {
    let mut asking = asking(values)?.clone();
    set(&mut asking.question, text(values, 1)?.to_owned());
    Ok(wrap(asking))
}

fn asking(values: &[Value]) -> Result<&Asking, String> {
    target(values)
}

fn decision(values: &[Value]) -> Result<&Verdict, String> {
    target::<Decision>(values).map(|decision| &decision.0)
}

fn target<T: 'static>(values: &[Value]) -> Result<&T, String> {
    let found = match values.first() {
        Some(Value::Opaque(opaque)) => opaque.downcast_ref(),
        _ => None,
    };
    found.ok_or_else(|| "no such overload".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::cel::{Expression, Scope};

    struct OnlyPods;

    impl Access for OnlyPods {
        fn decide(&self, question: &Question) -> Verdict {
            let fits = question.resource == "pods" && question.verb == "create";
            if fits && question.namespace == "a" || question.path.as_deref() == Some("/healthz") {
                Verdict::Allowed("rule".to_owned())
            } else {
                Verdict::NotAllowed(String::new())
            }
        }
    }

    #[test]
    fn questions_are_put_together_and_answered() {
        let mut scope = Scope::default();
        let own = Question {
            resource: "pods".to_owned(),
            namespace: "a".to_owned(),
            ..Question::default()
        };
        scope.set_authorizer(Arc::new(OnlyPods), own);
        let table = [
            (
                "authorizer.group('').resource('pods').namespace('a').check('create').allowed()",
                true,
            ),
            (
                "authorizer.group('').resource('pods').namespace('b').check('create').allowed()",
                false,
            ),
            (
                "authorizer.group('').resource('nodes').check('create').allowed()",
                false,
            ),
            ("authorizer.requestResource.check('create').allowed()", true),
            (
                "authorizer.requestResource.check('create').reason() == 'rule'",
                true,
            ),
            ("authorizer.path('/healthz').check('get').allowed()", true),
            (
                "authorizer.requestResource.check('delete').errored()",
                false,
            ),
        ];
        for (source, expected) in table {
            let expression = Expression::compile(source, &["authorizer"]).unwrap();
            let found = expression.evaluate(&scope);
            assert_eq!(found, Ok(Value::Bool(expected)), "{source}");
        }
    }
}
