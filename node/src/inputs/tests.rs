//! Which objects a pod refers to.
use super::*;

#[test]
fn finds_every_reference_and_whether_it_is_optional() {
    let pod: Pod = serde_json::from_value(serde_json::json!({
        "metadata": { "name": "p" },
        "spec": {
            "imagePullSecrets": [{ "name": "pull" }],
            "initContainers": [{ "name": "i", "envFrom": [{ "configMapRef": { "name": "init" } }] }],
            "containers": [{
                "name": "c",
                "envFrom": [{ "secretRef": { "name": "all", "optional": true } }],
                "env": [
                    { "name": "A", "valueFrom": { "configMapKeyRef": { "name": "cm", "key": "k", "optional": true } } },
                    { "name": "B", "valueFrom": { "secretKeyRef": { "name": "all", "key": "k" } } },
                ],
            }],
            "volumes": [
                { "name": "v", "configMap": { "name": "cm" } },
                { "name": "w", "secret": { "secretName": "vol", "optional": true } },
                { "name": "x", "projected": { "sources": [
                    { "configMap": { "name": "proj", "optional": true } },
                    { "secret": { "name": "" } },
                    { "serviceAccountToken": { "path": "token" } },
                ] } },
            ],
        },
    }))
    .unwrap();
    let map = |pairs: &[(&str, bool)]| {
        pairs
            .iter()
            .map(|(name, optional)| ((*name).to_owned(), *optional))
            .collect()
    };
    let expected = References {
        config_maps: map(&[("init", false), ("cm", false), ("proj", true)]),
        secrets: map(&[("all", false), ("vol", true), ("pull", true)]),
    };
    assert_eq!(References::of(&pod), expected);
    assert_eq!(References::of(&Pod::default()), References::default());
}
