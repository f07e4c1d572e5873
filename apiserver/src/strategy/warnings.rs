//! Warnings about valid objects that are probably not meant so.

use serde_json::Value;

use super::access::Fields;
use super::pod::LISTS;

/// What is odd about a pod.
pub(super) fn pod(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_some() {
        return out;
    }
    if new.at("metadata").text("name").contains('.') {
        out.push(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising \
             behavior; a DNS label is recommended: [must not contain dots]"
                .to_owned(),
        );
    }
    spec(new.at("spec"), "spec", &mut out);
    out
}

/// What is odd about the pods of a workload.
pub(super) fn workload(new: &Value, old: Option<&Value>) -> Vec<String> {
    let template = |object: &Value| object.at("spec").at("template").at("spec").clone();
    templated(template(new), old.map(template), "spec.template.spec")
}

/// What is odd about the pods of a CronJob.
pub(super) fn cron_job(new: &Value, old: Option<&Value>) -> Vec<String> {
    let template = |object: &Value| {
        object
            .at("spec")
            .at("jobTemplate")
            .at("spec")
            .at("template")
            .at("spec")
            .clone()
    };
    templated(
        template(new),
        old.map(template),
        "spec.jobTemplate.spec.template.spec",
    )
}

fn templated(new: Value, old: Option<Value>, at: &str) -> Vec<String> {
    let mut out = Vec::new();
    if old.as_ref() != Some(&new) {
        spec(&new, at, &mut out);
    }
    out
}

fn spec(spec: &Value, at: &str, out: &mut Vec<String>) {
    for list in LISTS {
        for (index, container) in spec.items(list).iter().enumerate() {
            let path = format!("{at}.{list}[{index}]");
            environment(container, &path, out);
            ports(container, &path, out);
            fractions(container, &path, out);
        }
    }
    for (index, volume) in spec.items("volumes").iter().enumerate() {
        if volume.has("gitRepo") {
            out.push(format!(
                "{at}.volumes[{index}].gitRepo: deprecated in v1.11"
            ));
        }
    }
    for (key, value) in [
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ] {
        if spec.at("nodeSelector").has(key) {
            out.push(format!(
                "{at}.nodeSelector[{key}]: deprecated since v1.14; use \"{value}\" instead"
            ));
        }
    }
    if spec
        .int("terminationGracePeriodSeconds")
        .is_some_and(|s| s < 0)
    {
        out.push(format!(
            "{at}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and \
             will be treated as 1"
        ));
    }
}

fn environment(container: &Value, path: &str, out: &mut Vec<String>) {
    let variables = container.items("env");
    for (index, variable) in variables.iter().enumerate() {
        let name = variable.text("name");
        let earlier = variables.iter().take(index).any(|v| v.text("name") == name);
        let refers = variable.text("value").contains(&format!("$({name})"));
        if earlier && !refers {
            out.push(format!(
                "{path}.env[{index}]: hides previous definition of {name:?}, which may be dropped \
                 when using apply"
            ));
        }
    }
}

fn ports(container: &Value, path: &str, out: &mut Vec<String>) {
    let ports = container.items("ports");
    let key = |p: &Value| (p.int("containerPort"), p.text("protocol").to_owned());
    for (index, port) in ports.iter().enumerate() {
        let earlier = ports.iter().take(index).position(|p| key(p) == key(port));
        if let Some(first) = earlier {
            out.push(format!(
                "{path}.ports[{index}]: duplicate port definition with {path}.ports[{first}]"
            ));
        }
    }
}

fn fractions(container: &Value, path: &str, out: &mut Vec<String>) {
    for list in ["limits", "requests"] {
        for name in ["memory", "ephemeral-storage"] {
            let value = container.at("resources").at(list).text(name);
            if value.ends_with('m') {
                out.push(format!(
                    "{path}.resources.{list}[{name}]: fractional byte value {value:?} is invalid, \
                     must be an integer"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn odd_pods_are_warned_about() {
        let pod = json!({"metadata": {"name": "a.b"}, "spec": {
            "containers": [{"name": "c", "env": [{"name": "A"}, {"name": "A", "value": "x"}],
                "ports": [{"containerPort": 1, "protocol": "TCP"}, {"containerPort": 1, "protocol": "TCP", "name": "x"}],
                "resources": {"limits": {"memory": "100m"}}}],
            "nodeSelector": {"beta.kubernetes.io/os": "linux"}, "terminationGracePeriodSeconds": -1}});
        let warnings = super::pod(&pod, None);
        assert_eq!(warnings.len(), 6, "{warnings:#?}");
        assert!(warnings.contains(&"spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply".to_owned()));
        let deployment = json!({"spec": {"template": {"spec": pod["spec"]}}});
        assert_eq!(super::workload(&deployment, None).len(), 5);
        assert!(super::workload(&deployment, Some(&deployment)).is_empty());
    }
}
