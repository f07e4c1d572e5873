//! The field manager of requests that name none.

/// `kubectl` of `kubectl/v1.37.0 (linux/amd64) …`, as Kubernetes derives it.
pub(crate) fn name(option: Option<&str>, user_agent: &str) -> String {
    if let Some(manager) = option.filter(|manager| !manager.is_empty()) {
        return manager.to_owned();
    }
    let first = user_agent.split('/').next().unwrap_or_default();
    let name: String = first
        .chars()
        .filter(|c| !c.is_control())
        .take(128)
        .collect();
    if name.is_empty() {
        "unknown".to_owned()
    } else {
        name
    }
}
