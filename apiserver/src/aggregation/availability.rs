//! The condition `Available` of API services.

use serde_json::{Value, json};

use crate::auth::ObjectSource;
use crate::callout::{Resolved, Unresolved, resolve};

/// Whether an API service can be used, why, and in which words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) available: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    pub(super) fn local() -> Self {
        Self {
            available: true,
            reason: "Local",
            message: "Local APIServices are always available".to_owned(),
        }
    }

    pub(super) fn passed() -> Self {
        Self {
            available: true,
            reason: "Passed",
            message: "all checks passed".to_owned(),
        }
    }

    pub(super) fn failed(reason: &'static str, message: String) -> Self {
        Self {
            available: false,
            reason,
            message,
        }
    }

    /// The conditions with this verdict among them; `None` when they say so already.
    pub(super) fn conditions(&self, service: &Value, now: &str) -> Option<Value> {
        let status = if self.available { "True" } else { "False" };
        let conditions = service["status"]["conditions"].as_array();
        let mut conditions = conditions.cloned().unwrap_or_default();
        let at = conditions.iter().position(|c| c["type"] == "Available");
        let before = at.and_then(|at| conditions.get(at));
        let same = before.is_some_and(|c| {
            c["status"] == status
                && c["reason"] == self.reason
                && c["message"] == self.message.as_str()
        });
        if same {
            return None;
        }
        let since = before
            .filter(|c| c["status"] == status)
            .and_then(|c| c["lastTransitionTime"].as_str())
            .unwrap_or(now);
        let condition = json!({
            "type": "Available", "status": status, "lastTransitionTime": since,
            "reason": self.reason, "message": self.message,
        });
        match at.and_then(|at| conditions.get_mut(at)) {
            Some(own) => *own = condition,
            None => conditions.push(condition),
        }
        Some(Value::Array(conditions))
    }
}

/// Whether there is somebody to call behind the Service; the verdict if not.
pub(super) fn reachable(source: &dyn ObjectSource, service: &Value) -> Result<(), Verdict> {
    let reference = &service["spec"]["service"];
    let text = |key: &str| reference[key].as_str().unwrap_or_default();
    let (name, namespace) = (text("name"), text("namespace"));
    let port = reference["port"].as_u64().unwrap_or(443);
    let port = u16::try_from(port).unwrap_or(443);
    let what = format!("service/{name} in {namespace:?}");
    match resolve(source, namespace, name, port) {
        Ok(Resolved::Endpoints(_) | Resolved::Name(_)) => Ok(()),
        Err(Unresolved::Service(_)) => Err(Verdict::failed(
            "ServiceNotFound",
            format!("{what} is not present"),
        )),
        Err(Unresolved::Port(..)) => Err(Verdict::failed(
            "ServicePortError",
            format!("{what} is not listening on port {port}"),
        )),
        Err(Unresolved::Endpoints(_, port_name)) => Err(Verdict::failed(
            "MissingEndpoints",
            format!("endpointslices for {what} have no addresses with port name {port_name:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_the_status_changes() {
        let passed = Verdict::passed();
        let first = passed.conditions(&json!({}), "t1").unwrap();
        let service = json!({"status": {"conditions": first}});
        assert_eq!(passed.conditions(&service, "t2"), None);
        let local = Verdict::local().conditions(&service, "t2").unwrap();
        assert_eq!(local[0]["lastTransitionTime"], "t1");
        let failed = Verdict::failed("ServiceNotFound", String::new());
        let failed = failed.conditions(&service, "t2").unwrap();
        assert_eq!(
            (&failed[0]["status"], &failed[0]["lastTransitionTime"]),
            (&json!("False"), &json!("t2"))
        );
    }
}
