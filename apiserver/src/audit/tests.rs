//! Policies as tables, and rotation of the file.

use super::file::LogFile;
use super::policy::{Level, Policy, Stage};
use super::*;
use crate::auth::ResourceAttributes;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: [system:kube-proxy]
  verbs: [watch]
  resources:
  - group: ''
    resources: [endpoints, services]
- level: None
  nonResourceURLs: ['/healthz*', /version]
- level: Request
  resources:
  - group: ''
    resources: [configmaps]
    resourceNames: [controller]
  namespaces: [kube-system]
- level: Metadata
  omitStages: [ResponseStarted]
  omitManagedFields: false
  resources:
  - resources: [secrets, pods/log, '*/status']
  - group: apps
- level: RequestResponse
  userGroups: [dev]
- level: Metadata
  namespaces: ['']
";

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = Policy::parse(POLICY).unwrap();
    let level = |user: &str, group: &str, verb: &str, target: ResourceAttributes<'_>| {
        let user = UserInfo::new(user, [group]);
        let attributes = Attributes::resource(verb, target);
        policy.choose(&user, &attributes).map(|choice| choice.level)
    };
    let of = |group, resource, subresource, namespace, name| ResourceAttributes {
        group,
        version: "v1",
        resource,
        subresource,
        namespace,
        name,
        ..Default::default()
    };
    let services = of("", "services", "", "a", "");
    assert_eq!(level("system:kube-proxy", "x", "watch", services), None);
    assert_eq!(
        level("system:kube-proxy", "dev", "list", services),
        Some(Level::RequestResponse)
    );
    let controller = of("", "configmaps", "", "kube-system", "controller");
    assert_eq!(level("a", "x", "update", controller), Some(Level::Request));
    assert_eq!(
        level(
            "a",
            "x",
            "update",
            of("", "configmaps", "", "kube-system", "o")
        ),
        None
    );
    assert_eq!(
        level("a", "dev", "get", of("", "secrets", "", "a", "")),
        Some(Level::Metadata)
    );
    assert_eq!(
        level("a", "dev", "get", of("", "pods", "log", "a", "p")),
        Some(Level::Metadata)
    );
    assert_eq!(
        level("a", "dev", "get", of("", "pods", "", "a", "p")),
        Some(Level::RequestResponse)
    );
    assert_eq!(
        level("a", "x", "get", of("", "nodes", "status", "", "n")),
        Some(Level::Metadata)
    );
    assert_eq!(
        level("a", "x", "get", of("apps", "deployments", "", "a", "n")),
        Some(Level::Metadata)
    );
    assert_eq!(level("a", "x", "get", of("", "pods", "", "a", "p")), None);
    assert_eq!(
        level("a", "x", "list", of("", "nodes", "", "", "")),
        Some(Level::Metadata)
    );
    let user = UserInfo::new("a", ["dev"]);
    let path = |path| {
        policy
            .choose(&user, &Attributes::path("get", path))
            .is_some()
    };
    assert!(!path("/healthz/etcd") && !path("/version") && path("/version/x"));
    let secret = Attributes::resource("get", of("", "secrets", "", "a", ""));
    let choice = policy.choose(&user, &secret).unwrap();
    assert_eq!(
        choice.omitted,
        [Stage::RequestReceived, Stage::ResponseStarted]
    );
    assert!(!choice.omit_managed_fields);
}

#[test]
fn a_policy_that_cannot_be_followed_is_refused() {
    let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
    let cases = [
        ("rules: []", "it has no rules"),
        ("rules: [{level: All}]", "All"),
        ("rules: [{level: None, user: x}]", "user"),
        (
            "rules: [{level: None, nonResourceURLs: [healthz]}]",
            "must begin with /",
        ),
        (
            "rules: [{level: None, namespaces: [a], nonResourceURLs: [/a]}]",
            "cannot apply to both",
        ),
        (
            "rules: [{level: None, resources: [{resourceNames: [a]}]}]",
            "requires at least one",
        ),
        (
            "rules: [{level: None, resources: [{group: apps/v1}]}]",
            "without its version",
        ),
    ];
    for (rules, expected) in cases {
        let error = Policy::parse(&format!("{head}{rules}")).unwrap_err();
        assert!(error.contains(expected), "{rules}: {error}");
    }
    let error =
        Policy::parse("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]");
    assert!(error.unwrap_err().contains("is not audit.k8s.io/v1 Policy"));
}

#[test]
fn a_full_log_is_put_aside_and_old_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let other = dir.path().join("audit-notes.log");
    std::fs::write(&other, "").unwrap();
    let mut settings = Settings::new(PathBuf::new(), path.clone());
    settings.max_bytes = 20;
    settings.max_files = 2;
    let mut file = LogFile::open(&settings).unwrap();
    for number in 0..5 {
        file.append(&format!("line number {number}\n")).unwrap();
    }
    file.flush().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "line number 4\n");
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(
        std::fs::read_to_string(&names[1]).unwrap(),
        "line number 3\n"
    );
    assert!(other.exists());
}
