//! Statuses of several nodes, put together by each of them.

use super::*;
use davit_api::{PluginNode, Risk};

fn object(nodes: &[(&str, bool)]) -> Plugin {
    let mut plugin = Plugin::new("p", PluginSpec::default());
    plugin.metadata.generation = Some(3);
    let entry = |(name, ready): &(&str, bool)| PluginNode {
        name: (*name).into(),
        ready: *ready,
        reason: "Ready".into(),
        message: String::new(),
    };
    let nodes = nodes.iter().map(entry).collect();
    plugin.status = Some(PluginStatus {
        nodes,
        ..PluginStatus::default()
    });
    plugin
}

fn service(degraded: bool) -> Service {
    Service {
        driver: "d.example.com".into(),
        version: "1.0.0".into(),
        digest: "ab".into(),
        exports: vec!["davit:network/driver@0.1.0".into()],
        risk: Risk::Scoped,
        degraded,
        note: None,
    }
}

fn line(status: &PluginStatus) -> String {
    let ready = &status.conditions[0];
    let nodes: Vec<_> = status
        .nodes
        .iter()
        .map(|n| format!("{}={}", n.name, n.ready))
        .collect();
    format!("{} {} {}", ready.status, ready.reason, nodes.join(","))
}

fn failed() -> Outcome {
    Outcome::Failed {
        error: LoadError::NotWasm,
        missing: None,
        service: None,
    }
}

#[test]
fn every_node_counts() {
    let serving = || Outcome::Serving(service(false));
    for (before, outcome, expected) in [
        (object(&[]), serving(), "True Ready b=true"),
        (
            object(&[("a", true)]),
            serving(),
            "True Ready a=true,b=true",
        ),
        (
            object(&[("a", false)]),
            serving(),
            "False Ready a=false,b=true",
        ),
        (
            object(&[("a", true)]),
            failed(),
            "False InvalidComponent a=true,b=false",
        ),
        (
            object(&[("a", true), ("b", true)]),
            Outcome::Elsewhere,
            "True Ready a=true",
        ),
        (object(&[("b", true)]), Outcome::Elsewhere, "False NoNodes "),
        (
            object(&[]),
            Outcome::Serving(service(true)),
            "False Degraded b=false",
        ),
    ] {
        assert_eq!(line(&status(&before, "b", outcome)), expected);
    }
}

#[test]
fn a_lone_failing_node_describes_nothing() {
    let mut plugin = object(&[]);
    plugin.status = Some(status(&plugin, "b", Outcome::Serving(service(false))));
    let kept = status(&plugin, "b", failed());
    assert_eq!(kept.driver, None);
    assert_eq!(kept.observed_generation, Some(3));
    let old = Outcome::Failed {
        error: LoadError::NotWasm,
        missing: None,
        service: Some(service(false)),
    };
    let kept = status(&plugin, "b", old);
    assert_eq!(kept.version.as_deref(), Some("1.0.0"));
    assert!(
        kept.nodes[0]
            .message
            .ends_with("version 1.0.0 keeps serving")
    );
}

#[test]
fn times_change_with_the_status_only() {
    let mut plugin = object(&[]);
    let first = status(&plugin, "b", Outcome::Serving(service(false)));
    plugin.status = Some(first.clone());
    let second = status(&plugin, "b", Outcome::Serving(service(false)));
    assert_eq!(second, first);
}
