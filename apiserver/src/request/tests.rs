//! Paths and headers of real clients.

use super::*;

fn resource(path: &str) -> ResourcePath {
    match Target::parse(path).unwrap() {
        Target::Resource(resource) => resource,
        Target::Other(other) => panic!("{other} is no resource path"),
    }
}

#[test]
fn paths_are_read_as_kubernetes_reads_them() {
    let cases = [
        ("/api/v1/pods", ("", "v1", "", "pods", "", "")),
        (
            "/api/v1/namespaces/a/pods/",
            ("", "v1", "a", "pods", "", ""),
        ),
        (
            "/api/v1/namespaces/a/pods/b/log",
            ("", "v1", "a", "pods", "b", "log"),
        ),
        (
            "/apis/apps/v1/namespaces/a/deployments/b",
            ("apps", "v1", "a", "deployments", "b", ""),
        ),
        ("/api/v1/namespaces", ("", "v1", "", "namespaces", "", "")),
        (
            "/api/v1/namespaces/a",
            ("", "v1", "a", "namespaces", "a", ""),
        ),
        (
            "/api/v1/namespaces/a/finalize",
            ("", "v1", "a", "namespaces", "a", "finalize"),
        ),
        (
            "/api/v1/nodes/n/status",
            ("", "v1", "", "nodes", "n", "status"),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            (
                "rbac.authorization.k8s.io",
                "v1",
                "",
                "clusterroles",
                "system:node",
                "",
            ),
        ),
    ];
    for (path, (group, version, namespace, plural, name, subresource)) in cases {
        let found = resource(path);
        let found = (
            found.group.as_str(),
            found.version.as_str(),
            found.namespace.as_str(),
            found.resource.as_str(),
            found.name.as_str(),
            found.subresource.as_str(),
        );
        assert_eq!(
            found,
            (group, version, namespace, plural, name, subresource),
            "{path}"
        );
    }
    assert!(resource("/api/v1/watch/pods").watch);
    assert_eq!(resource("/api/v1/nodes/n/proxy/a/b").rest, "a/b");
}

#[test]
fn other_paths_stay_whole() {
    for path in ["/api", "/apis", "/apis/apps/v1", "/api/v1", "/healthz", ""] {
        assert_eq!(Target::parse(path).unwrap(), Target::Other(path.to_owned()));
    }
}

#[test]
fn segments_that_would_leave_their_place_are_refused() {
    for path in [
        "/api/v1/namespaces/%2e%2e/pods/x",
        "/api/v1/namespaces/a/pods/b%2Fc",
        "/api/v1/pods/%00",
        "/api/v1/pods/%ff",
        "/api/v1/namespaces/a/pods/b/log/more",
    ] {
        assert!(Target::parse(path).is_err(), "{path}");
    }
}

#[test]
fn the_best_acceptable_form_is_chosen() {
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;\
                 v=v1beta1;g=meta.k8s.io,application/json";
    let cases = [
        ("", Some(Form::Plain)),
        ("*/*", Some(Form::Plain)),
        ("application/json", Some(Form::Plain)),
        (table, Some(Form::Table)),
        (
            "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
            Some(Form::Table),
        ),
        ("application/json;as=Table;v=v2;g=meta.k8s.io", None),
        (
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
            Some(Form::Partial),
        ),
        (
            "application/vnd.kubernetes.protobuf, application/json;q=0.5",
            Some(Form::Plain),
        ),
        ("application/yaml", Some(Form::Plain)),
        ("application/vnd.kubernetes.protobuf", None),
        ("application/vnd.kubernetes.protobuf;as=Table", None),
        ("image/png", None),
    ];
    for (header, form) in cases {
        assert_eq!(
            Accept::parse(header, false).ok().map(|accept| accept.form),
            form,
            "{header}"
        );
    }
    let syntax = |header: &str| Accept::parse(header, true).unwrap().syntax;
    assert_eq!(syntax("application/yaml"), Syntax::Yaml);
    assert_eq!(
        syntax("application/vnd.kubernetes.protobuf"),
        Syntax::Protobuf
    );
    let both = "application/vnd.kubernetes.protobuf,application/json";
    assert_eq!(syntax(both), Syntax::Json);
    assert_eq!(syntax(&format!("{both};q=0.9")), Syntax::Protobuf);
}

#[test]
fn options_are_read_from_the_query() {
    let options = Options::parse(
        "labelSelector=app%3Dweb&limit=500&watch=true&resourceVersion=7&dryRun=All&force=1",
    )
    .unwrap();
    assert_eq!(options.label_selector, "app=web");
    assert_eq!(
        (options.limit, options.watch, options.dry_run, options.force),
        (500, true, true, Some(true))
    );
    assert_eq!(options.resource_version.as_deref(), Some("7"));
    for wrong in ["limit=x", "timeoutSeconds=a", "gracePeriodSeconds=1s"] {
        assert_eq!(Options::parse(wrong).unwrap_err().code(), 400, "{wrong}");
    }
    for (query, wanted) in [
        ("watch", true),
        ("watch=", true),
        ("watch=F", true),
        ("watch=False", false),
        ("watch=0", false),
        ("", false),
    ] {
        assert_eq!(Options::parse(query).unwrap().watch, wanted, "{query}");
    }
    let endless = Options::parse("limit=-1&dryRun=Maybe").unwrap();
    assert!(endless.limit == 0 && endless.dry_run);
}

#[test]
fn a_list_of_one_name_is_authorized_by_that_name() {
    let cases = [
        ("list", "fieldSelector=metadata.name%3Da", Some("a")),
        (
            "watch",
            "fieldSelector=spec.x%3Dy,metadata.name%3D%3Da",
            Some("a"),
        ),
        ("list", "fieldSelector=metadata.name%21%3Da", None),
        ("list", "fieldSelector=metadata.name%3D", None),
        ("deletecollection", "fieldSelector=metadata.name%3Da", None),
        ("list", "", None),
    ];
    for (verb, query, expected) in cases {
        let options = Options::parse(query).unwrap();
        assert_eq!(
            options.pinned_name(verb).as_deref(),
            expected,
            "{verb} {query}"
        );
    }
    let path = resource("/api/v1/namespaces/a/secrets/own");
    let crate::auth::Target::Resource(target) = path.attributes("get", Some("other")).target else {
        panic!("not a resource")
    };
    assert_eq!(target.name, "own");
}
