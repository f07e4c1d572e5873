//! From a user and an action to a decision.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::node::NodeAuthorizer;
use super::rbac::{PolicyRule, Rbac, RoleRef};
use super::{Attributes, Decision, Error, ObjectSource, Step, UserInfo, groups};

/// Decides what users may do: `system:masters` everything, nodes what the node authorizer says, all
/// others what roles and bindings grant.
pub struct Authorizer {
    nodes: NodeAuthorizer,
    rbac: Rbac,
    steps: ArcSwap<Vec<Step>>,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorizer").finish_non_exhaustive()
    }
}

impl Authorizer {
    /// An authorizer for the roles and bindings of `source`.
    pub fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self::with(source, vec![Step::Node, Step::Rbac])
    }

    /// An authorizer that asks these in order.
    pub(crate) fn with(source: Arc<dyn ObjectSource>, steps: Vec<Step>) -> Self {
        Self {
            steps: ArcSwap::from_pointee(steps),
            nodes: NodeAuthorizer::new(source.clone()),
            rbac: Rbac::new(source),
        }
    }

    /// Asks these from now on.
    pub(crate) fn set_steps(&self, steps: Vec<Step>) {
        self.steps.store(Arc::new(steps));
    }

    /// Whether `user` may do this. The first authorizer that allows or denies decides.
    pub async fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        if user.in_group(groups::MASTERS) {
            return Decision::Allow {
                reason: String::new(),
            };
        }
        let mut reasons = String::new();
        for step in &*self.steps.load_full() {
            let decision = match step {
                Step::Node => self.nodes.authorize(user, attributes),
                Step::Rbac => match self.rbac.allow(user, attributes) {
                    Some(reason) => Decision::Allow { reason },
                    None => continue,
                },
                Step::Webhook(webhook) => webhook.authorize(user, attributes).await,
            };
            match decision {
                Decision::NoOpinion { reason } if reason.is_empty() => {}
                Decision::NoOpinion { reason } => {
                    if !reasons.is_empty() {
                        reasons.push_str(", ");
                    }
                    reasons.push_str(&reason);
                }
                decided => return decided,
            }
        }
        Decision::NoOpinion { reason: reasons }
    }

    /// [`Authorizer::authorize`], as a 403 when it is not allowed.
    pub async fn require(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Result<(), Error> {
        match self.authorize(user, attributes).await {
            Decision::Allow { .. } => Ok(()),
            Decision::NoOpinion { reason } | Decision::Deny { reason } => {
                Err(Error::forbidden(user, attributes, &reason))
            }
        }
    }

    /// Everything `user` may do in `namespace`, as rules; and whether there is more that rules cannot
    /// express.
    pub(crate) fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<PolicyRule>, bool) {
        if user.in_group(groups::MASTERS) {
            let all = || vec!["*".to_owned()];
            let resources = PolicyRule {
                verbs: all(),
                api_groups: all(),
                resources: all(),
                ..PolicyRule::default()
            };
            let paths = PolicyRule {
                verbs: all(),
                non_resource_urls: all(),
                ..PolicyRule::default()
            };
            return (vec![resources, paths], false);
        }
        let mut rules = self.rbac.rules_for(user, namespace);
        let is_node = user.as_node().is_some();
        if is_node {
            rules.extend_from_slice(self.nodes.rules());
        }
        let asks = self
            .steps
            .load()
            .iter()
            .any(|step| matches!(step, Step::Webhook(_)));
        (rules, is_node || asks)
    }

    /// The rules a binding in `namespace` to `role` would grant; `None` if there is no such role.
    pub(crate) fn role_rules(&self, role: &RoleRef, namespace: &str) -> Option<Arc<[PolicyRule]>> {
        self.rbac.role_rules(role, namespace)
    }
}
