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
    let name = new.at("metadata").text("name");
    if name.contains('.') {
        out.push(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising \
             behavior; a DNS label is recommended: [must not contain dots]"
                .to_owned(),
        );
    }
    let spec = new.at("spec");
    for list in LISTS {
        for (index, container) in spec.items(list).iter().enumerate() {
            let path = format!("spec.{list}[{index}]");
            environment(container, &path, &mut out);
            ports(container, &path, &mut out);
            fractions(container, &path, &mut out);
        }
    }
    for (index, volume) in spec.items("volumes").iter().enumerate() {
        if volume.has("gitRepo") {
            out.push(format!(
                "spec.volumes[{index}].gitRepo: deprecated in v1.11"
            ));
        }
    }
    if spec
        .int("terminationGracePeriodSeconds")
        .is_some_and(|s| s < 0)
    {
        out.push(
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid \
                  and will be treated as 1"
                .to_owned(),
        );
    }
    out
}

fn environment(container: &Value, path: &str, out: &mut Vec<String>) {
    let variables = container.items("env");
    for (index, variable) in variables.iter().enumerate() {
        let name = variable.text("name");
        let earlier = variables
            .iter()
            .take(index)
            .position(|v| v.text("name") == name);
        if let Some(first) = earlier.filter(|_| !variable.text("value").contains("$(")) {
            out.push(format!(
                "{path}.env[{index}]: hides previous definition of {name:?}, which may be dropped \
                 when using apply"
            ));
            let _ = first;
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
