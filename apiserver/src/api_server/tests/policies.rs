//! Admission policies: expressions in objects decide about and change other objects.

use serde_json::json;

use super::*;

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

fn rules(group: &str, resource: &str) -> Value {
    json!({"resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [group],
        "apiVersions": ["v1"], "resources": [resource]}]})
}

async fn policy(rig: &Rig, kind: &str, name: &str, spec: Value) {
    let plural = format!("{}admissionpolicies", kind.to_ascii_lowercase());
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": format!("{kind}AdmissionPolicy"), "metadata": {"name": name}, "spec": spec});
    rig.make(&format!("{ADMISSION}/{plural}"), object).await;
}

async fn bind(rig: &Rig, kind: &str, policy: &str, name: &str, mut spec: Value) {
    let plural = format!("{}admissionpolicybindings", kind.to_ascii_lowercase());
    spec["policyName"] = policy.into();
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": format!("{kind}AdmissionPolicyBinding"), "metadata": {"name": name}, "spec": spec});
    rig.make(&format!("{ADMISSION}/{plural}"), object).await;
}

fn deployment(name: &str, replicas: i64) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

#[tokio::test]
async fn what_does_not_hold_is_denied_with_the_policys_words() {
    let rig = Rig::new().await;
    let spec = json!({
        "failurePolicy": "Fail", "matchConstraints": rules("apps", "deployments"),
        "variables": [
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "many", "expression": "variables.replicas > 5"},
        ],
        "validations": [
            {"expression": "!variables.many", "messageExpression": "'at most 5, not ' + string(variables.replicas)", "reason": "Forbidden"},
            {"expression": "object.metadata.name != 'bad'"},
            {"expression": "namespaceObject.metadata.name == 'default' && request.userInfo.username == 'tester'"},
        ],
    });
    policy(&rig, "Validating", "small", spec).await;
    // Without a binding nothing happens.
    rig.make(DEPLOYMENTS, deployment("free", 9)).await;
    bind(
        &rig,
        "Validating",
        "small",
        "all",
        json!({"validationActions": ["Deny"]}),
    )
    .await;
    let status = rig
        .post(DEPLOYMENTS, deployment("d", 6))
        .await
        .refused(403, "");
    let message = "deployments.apps \"d\" is forbidden: ValidatingAdmissionPolicy 'small' with binding 'all' \
                   denied request: at most 5, not 6";
    assert_eq!(status["message"], message);
    assert_eq!(status["reason"], "Forbidden");
    assert_eq!(status["details"]["kind"], "deployments");
    let message = "ValidatingAdmissionPolicy 'small' with binding 'all' denied request: failed expression: \
                   object.metadata.name != 'bad'";
    rig.post(DEPLOYMENTS, deployment("bad", 1))
        .await
        .refused(422, message);
    rig.make(DEPLOYMENTS, deployment("d", 5)).await;
}

#[tokio::test]
async fn bindings_warn_audit_and_choose_parameters() {
    let rig = Rig::new().await;
    let spec = json!({
        "matchConstraints": rules("", "configmaps"), "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "not-a-param", "expression": "!object.metadata.name.startsWith('param')"}],
        "validations": [{"expression": "object.data.key != params.data.key", "message": "same as the parameter"}],
    });
    policy(&rig, "Validating", "p", spec).await;
    rig.make(CONFIG_MAPS, config_map("param", "x")).await;
    let param = json!({"name": "param", "parameterNotFoundAction": "Deny"});
    bind(
        &rig,
        "Validating",
        "p",
        "warns",
        json!({"validationActions": ["Warn", "Audit"], "paramRef": param}),
    )
    .await;
    let made = rig.post(CONFIG_MAPS, config_map("a", "x")).await;
    let warning = "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'warns': same as the \
                   parameter\"";
    assert_eq!(made.headers["warning"], warning);
    made.ok();
    let missing =
        json!({"selector": {"matchLabels": {"no": "such"}}, "parameterNotFoundAction": "Deny"});
    bind(
        &rig,
        "Validating",
        "p",
        "zz",
        json!({"validationActions": ["Deny"], "paramRef": missing}),
    )
    .await;
    let message = "ValidatingAdmissionPolicy 'p' with binding 'zz' denied request: failed to configure binding: no \
                   params found for policy binding with `Deny` parameterNotFoundAction";
    rig.post(CONFIG_MAPS, config_map("b", "y"))
        .await
        .refused(422, message);
    let path = format!("{ADMISSION}/validatingadmissionpolicybindings/zz");
    let allow = json!({"spec": {"paramRef": {"parameterNotFoundAction": "Allow"}}});
    rig.patch(&path, "merge-patch+json", allow).await.ok();
    rig.make(CONFIG_MAPS, config_map("b", "y")).await;
}

#[tokio::test]
async fn errors_fail_or_not_as_the_policy_says_and_bad_expressions_are_not_stored() {
    let rig = Rig::new().await;
    let spec = |failure: &str, name: &str| {
        json!({
            "failurePolicy": failure, "matchConstraints": rules("", "configmaps"),
            "matchConditions": [{"name": "own", "expression": format!("object.metadata.name == '{name}'")}],
            "variables": [{"name": "v", "expression": "object.data.missing"}],
            "validations": [{"expression": "variables.v == 'x'"}],
        })
    };
    for (failure, name) in [("Fail", "fails"), ("Ignore", "passes")] {
        policy(&rig, "Validating", name, spec(failure, name)).await;
        bind(
            &rig,
            "Validating",
            name,
            name,
            json!({"validationActions": ["Deny"]}),
        )
        .await;
    }
    let message = "denied request: expression 'variables.v == 'x'' resulted in error: composited variable \"v\" fails \
                   to evaluate: no such key: missing";
    rig.post(CONFIG_MAPS, config_map("fails", "v"))
        .await
        .refused(422, message);
    rig.make(CONFIG_MAPS, config_map("passes", "v")).await;
    let bad = json!({"metadata": {"name": "bad"}, "spec": {"matchConstraints": rules("", "pods"),
        "validations": [{"expression": "objekt.x"}]}});
    rig.post(&format!("{ADMISSION}/validatingadmissionpolicies"), bad)
        .await
        .refused(
            422,
            "compilation failed: undeclared reference to 'objekt' (in container '')",
        );
}

#[tokio::test]
async fn mutating_policies_merge_and_patch_and_see_each_other() {
    let rig = Rig::new().await;
    let spec = |mutation: Value, reinvoked: &str| {
        json!({"failurePolicy": "Fail", "reinvocationPolicy": reinvoked,
            "matchConstraints": rules("", "configmaps"), "mutations": [mutation]})
    };
    let merge = "Object{metadata: Object.metadata{labels: {'size': string(size(object.data))}}}";
    let merge =
        json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": merge}});
    policy(&rig, "Mutating", "a", spec(merge, "IfNeeded")).await;
    bind(&rig, "Mutating", "a", "a", json!({})).await;
    let patch = "has(object.data.more) ? [] : [JSONPatch{op: 'add', path: '/data/more', value: object.metadata.name + '!'}]";
    let patch = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": patch}});
    policy(&rig, "Mutating", "b", spec(patch, "Never")).await;
    bind(&rig, "Mutating", "b", "b", json!({})).await;
    let made = rig.make(CONFIG_MAPS, config_map("x", "v")).await;
    assert_eq!(made["data"], json!({"key": "v", "more": "x!"}));
    assert_eq!(
        made["metadata"]["labels"]["size"], "2",
        "asked again after the patch"
    );
    let wrong = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/nope'}]"}});
    policy(&rig, "Mutating", "c", spec(wrong, "Never")).await;
    bind(&rig, "Mutating", "c", "c", json!({})).await;
    rig.post(CONFIG_MAPS, config_map("y", "v")).await.refused(
        403,
        "policy 'c' with binding 'c' denied request: JSON Patch: ",
    );
}

#[tokio::test]
async fn expressions_ask_for_rights() {
    let rig = Rig::new().await;
    let spec = json!({"matchConstraints": rules("", "configmaps"), "validations": [{
        "expression": "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()",
        "message": "who may not read secrets may not write this",
    }]});
    policy(&rig, "Validating", "rights", spec).await;
    bind(
        &rig,
        "Validating",
        "rights",
        "rights",
        json!({"validationActions": ["Deny"]}),
    )
    .await;
    let rights = json!({"metadata": {"name": "maps"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]});
    rig.make("/apis/rbac.authorization.k8s.io/v1/clusterroles", rights)
        .await;
    let binding = json!({"metadata": {"name": "maps"}, "subjects": [{"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "maps"}});
    rig.make(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        binding,
    )
    .await;
    let bob = Some(UserInfo::new("bob", ["people"]));
    let body = config_map("x", "v").to_string();
    rig.send_as(bob, "POST", CONFIG_MAPS, &[], body)
        .await
        .refused(422, "who may not read secrets may not write this");
    rig.make(CONFIG_MAPS, config_map("x", "v")).await;
}

#[tokio::test]
async fn the_status_says_what_the_types_say() {
    let rig = Rig::new().await;
    let spec = json!({"matchConstraints": rules("apps", "deployments"), "validations": [
        {"expression": "object.spec.replicas > '1'", "messageExpression": "'got ' + object.spec.replicas"},
        {"expression": "object.spec.replicas > 1"},
    ]});
    policy(&rig, "Validating", "types", spec).await;
    let made = rig
        .get(&format!("{ADMISSION}/validatingadmissionpolicies/types"))
        .await
        .ok();
    assert_eq!(made["status"]["observedGeneration"], 1);
    let warnings = made["status"]["typeChecking"]["expressionWarnings"]
        .as_array()
        .unwrap();
    let fields: Vec<&str> = warnings
        .iter()
        .map(|w| w["fieldRef"].as_str().unwrap())
        .collect();
    assert_eq!(
        fields,
        [
            "spec.validations[0].expression",
            "spec.validations[0].messageExpression"
        ]
    );
    let warning = warnings[0]["warning"].as_str().unwrap();
    assert!(
        warning.starts_with("apps/v1, Kind=Deployment: ERROR: <input>: found no matching overload"),
        "{warning}"
    );
}

/// An expression that would take gigabytes and minutes ends at its limits, which is a failure like any other: the policy says
/// what follows.
#[tokio::test]
async fn an_expression_over_its_limits_is_a_failure_of_its_policy() {
    let rig = Rig::new().await;
    let hostile = "object.data.text.replace('a', object.data.text).size() >= 0";
    let many = "object.data.text.split('').all(x, object.data.text.split('').all(y, x == y))";
    let constraints = || rules("", "configmaps");
    let constraints = |name: &str| {
        let mut constraints = constraints();
        constraints["resourceRules"][0]["resourceNames"] = json!([name]);
        constraints
    };
    for failure in ["Fail", "Ignore"] {
        let lower = failure.to_ascii_lowercase();
        let name = |what: &str| format!("{what}-{lower}");
        for (what, validation, condition) in [
            ("validation", hostile, "true"),
            ("loop", many, "true"),
            ("condition", "true", hostile),
        ] {
            let name = name(what);
            let spec = json!({"failurePolicy": failure, "matchConstraints": constraints(&name),
                "matchConditions": [{"name": "c", "expression": condition}], "validations": [{"expression": validation}]});
            policy(&rig, "Validating", &name, spec).await;
            let deny = json!({"validationActions": ["Deny"]});
            bind(&rig, "Validating", &name, &name, deny).await;
        }
        let text = "object.data.text.replace('a', object.data.text)";
        let config = format!("Object{{metadata: Object.metadata{{labels: {{'a': {text}}}}}}}");
        let spec = json!({"failurePolicy": failure, "reinvocationPolicy": "Never", "matchConstraints": constraints(&name("mutation")),
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": config}}]});
        policy(&rig, "Mutating", &name("mutation"), spec).await;
        bind(
            &rig,
            "Mutating",
            &name("mutation"),
            &name("mutation"),
            json!({}),
        )
        .await;
        // Nobody is called at this address: the condition fails first.
        let hook = json!({"name": "a.example.com", "clientConfig": {"url": "https://127.0.0.1:1/"}, "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "failurePolicy": failure, "rules": [{"operations": ["CREATE"], "apiGroups": [""],
            "apiVersions": ["v1"], "resources": ["configmaps"]}],
            "matchConditions": [{"name": "own", "expression": format!("object.metadata.name == '{}'", name("hook"))},
                {"name": "c", "expression": hostile}]});
        let hooks = json!({"metadata": {"name": name("hooks")}, "webhooks": [hook]});
        rig.make(
            &format!("{ADMISSION}/validatingwebhookconfigurations"),
            hooks,
        )
        .await;
        for what in ["validation", "loop", "condition", "mutation", "hook"] {
            let mut map = config_map(&name(what), "v");
            map["data"]["text"] = "a".repeat(150_000).into();
            let reply = rig.post(CONFIG_MAPS, map).await;
            if failure == "Ignore" {
                assert_eq!(reply.code, 201, "{what}: {:.500}", reply.body.to_string());
                continue;
            }
            assert!((400..500).contains(&reply.code), "{what}: {}", reply.code);
            let message = reply.body["message"].as_str().unwrap();
            assert!(message.contains("limit exceeded"), "{what}: {message:.500}");
        }
    }
}
