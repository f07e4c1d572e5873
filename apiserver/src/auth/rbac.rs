//! Role-based access control, `rbac.authorization.k8s.io/v1`.

mod escalation;
mod index;
mod rule;

pub(crate) use escalation::uncovered;
pub(super) use index::Rbac;
pub(crate) use rule::{PolicyRule, RoleRef};

#[cfg(test)]
mod tests;
