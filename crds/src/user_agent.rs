//! Clients that say who they are. A server names writers that name no field manager by the first word of their user agent,
//! and its audit log shows the whole.

use http::header::{HeaderValue, USER_AGENT};
use kube::Client;
use kube::client::Body;

/// The version of Kubernetes' API that davit speaks.
const VERSION: &str = concat!("v1.37.0+davit-", env!("CARGO_PKG_VERSION"));

/// `client`, whose requests say that they come from `part` of `component`, in the words of Kubernetes' own components:
/// `kube-controller-manager/v1.37.0 (linux/amd64) kubernetes/davit/replicaset-controller`. A request that says already where
/// it comes from stays as it is.
///
/// # Assumptions
/// It is called within a runtime, as any client is made.
pub fn named(client: &Client, component: &str, part: &str) -> Client {
    let agent = user_agent(component, part);
    let namespace = client.default_namespace().to_owned();
    let client = client.clone();
    let service = tower::service_fn(move |mut request: http::Request<Body>| {
        let client = client.clone();
        if let Some(agent) = &agent {
            let headers = request.headers_mut();
            headers.entry(USER_AGENT).or_insert_with(|| agent.clone());
        }
        async move { client.send(request).await }
    });
    Client::new(service, namespace)
}

fn user_agent(component: &str, part: &str) -> Option<HeaderValue> {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let slash = if part.is_empty() { "" } else { "/" };
    let text = format!("{component}/{VERSION} (linux/{machine}) kubernetes/davit{slash}{part}");
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_the_component() {
        let agent = user_agent("kube-controller-manager", "job-controller").unwrap();
        let agent = agent.to_str().unwrap();
        assert!(agent.starts_with("kube-controller-manager/v1."), "{agent}");
        assert!(
            agent.ends_with(" kubernetes/davit/job-controller"),
            "{agent}"
        );
        let alone = user_agent("kubelet", "").unwrap();
        assert!(alone.to_str().unwrap().ends_with(" kubernetes/davit"));
    }
}
